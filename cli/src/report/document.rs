//! The document of a run, for people: its steps, what came out, what went wrong and what can be done about it.

use std::fmt::Write;

use bourn_engine::journal::RunState;
use bourn_engine::spec::{Chain, Loaded, Spec};
use bourn_engine::workflow::record::Status;
use bourn_engine::workflow::result::{ResultDocument, StepMetrics};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use crate::args::Form;
use crate::failure::Failure;

/// The document in the form that was asked for.
///
/// # Errors
/// When it is no document.
pub fn show(document: &str, loaded: &Loaded, form: Form) -> Result<String, Failure> {
    let broken = |e: serde_json::Error| Failure::Failed(e.into());
    if form == Form::Json {
        let value: Value = serde_json::from_str(document).map_err(broken)?;
        return Ok(format!("{value:#}"));
    }
    let steps = match &loaded.spec {
        Spec::Chain(chain) => chain.steps.iter().map(|step| step.id.as_str()).collect(),
        Spec::Pipeline(_) => Vec::new(),
    };
    let document = serde_json::from_str(document).map_err(broken)?;
    Ok(text(&document, &steps))
}

/// The document for people.
pub fn text_of(document: &ResultDocument, spec: &Chain) -> String {
    text(document, &spec.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>())
}

/// `steps` are the ids in the order of the spec.
fn text(document: &ResultDocument, steps: &[&str]) -> String {
    let metrics = &document.execution_metrics;
    let status = word(&document.status);
    let mut text = format!("{} {}: {status} in {} ms\n\n", document.workflow, document.run_id, metrics.duration_ms);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["step", "status", "ms", "attempts", ""]);
    for (id, step) in steps.iter().filter_map(|id| metrics.steps.get_key_value(*id)) {
        table.add_row(row(id, step, document));
    }
    for column in table.column_iter_mut().skip(2).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim());
    }
    if let Some(error) = &document.error_analysis {
        let _ = write!(text, "\nerror: {}: {} ({})\n", error.instance, error.detail, error.class);
        let actions = document.recovery_plan.iter().flat_map(|plan| &plan.actions);
        for action in actions {
            let _ = writeln!(text, "  to {}: {}", action.kind.replace('_', " "), action.command);
        }
    } else if document.status == RunState::Completed {
        let _ = write!(text, "\n{}\n", output(&document.final_output));
    }
    tell_degraded(&mut text, document);
    text
}

/// Says which steps gave something else than they were to, and which did not pass all of their gates.
fn tell_degraded(text: &mut String, document: &ResultDocument) {
    // One that blocks has failed its step.
    let warned = |step: &StepMetrics| {
        let gates = step.quality_gates.iter().filter(|gate| !gate.passed && step.status == Status::Completed);
        gates.map(|gate| (gate.name.clone(), gate.reason.clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    let steps = &document.execution_metrics.steps;
    let gates = steps.iter().flat_map(|(id, step)| warned(step).into_iter().map(move |gate| (id, gate)));
    for (at, (id, (name, reason))) in gates.enumerate() {
        let _ = writeln!(text, "{}degraded: {id} did not pass `{name}`: {reason}", if at == 0 { "\n" } else { "" });
    }
    let items = |id: &String| steps.get(id).and_then(|step| step.items.as_ref());
    let failed: Vec<&str> = (document.degraded.iter())
        .filter(|id| steps.get(*id).is_none_or(|step| warned(step).is_empty()) && items(id).is_none())
        .map(String::as_str)
        .collect();
    // Of a workflow within, what was taken instead was decided there.
    let is_own = |id: &&str| document.decision_path.iter().any(|taken| taken.step == *id && taken.kind == "default");
    let (own, within): (Vec<&str>, Vec<&str>) = failed.into_iter().partition(is_own);
    for (ids, what) in [(own, "failed"), (within, "completed, though a part of it failed")] {
        if !ids.is_empty() {
            let ids = ids.join(", ");
            let _ = writeln!(text, "\ndegraded: {ids} {what}, and the spec says what to take instead");
        }
    }
    for (at, (id, items)) in document.degraded.iter().filter_map(|id| Some((id, items(id)?))).enumerate() {
        let count = items.failed + items.degraded;
        let why = items.failures.first().map(|first| format!("; item {}: {}", first.item, first.message));
        let _ = writeln!(
            text,
            "{}degraded: {count} of {} items of {id} failed{}",
            if at == 0 { "\n" } else { "" },
            items.total,
            why.unwrap_or_default()
        );
    }
}

fn row(id: &str, step: &StepMetrics, document: &ResultDocument) -> Vec<String> {
    let failed_here = document.error_analysis.as_ref().filter(|e| e.instance == format!("/steps/{id}"));
    let why = step.reason.clone().or_else(|| failed_here.map(|e| e.class.clone()));
    vec![
        id.to_owned(),
        word(&step.status),
        step.duration_ms.map_or_else(|| "-".into(), |ms| ms.to_string()),
        if step.status == Status::Skipped { "-".into() } else { step.attempts.to_string() },
        why.unwrap_or_default(),
    ]
}

/// A state as it stands in the document.
fn word(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A text as it is, anything else as JSON.
fn output(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("{value:#}"), str::to_owned)
}
