//! `bourn runs show` and `result`.

use std::fmt::Write as _;
use std::time::Duration;

use bourn_engine::workflow::context::ExecutionContext;
use bourn_engine::workflow::result::document_of;
use bourn_journal::Run;
use serde_json::{Value, json};

use super::{Place, insights};
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::monitoring::ids;
use crate::prepare;
use crate::report::document;
use bourn_engine::journal::RunState;

/// How long the process that runs a run may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows a run.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn show(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let (chain, spec) = place.spec(run)?;
    let records = place.journal.history(run).map_err(Failure::Failed)?;
    let context = ExecutionContext::of(&chain, run.status, &records).map_err(Failure::Failed)?;
    if place.screen.form == Form::Text {
        let shown = document_of(&chain, &spec.file, (&run.id, run.status), &records, &place.flags())
            .map_err(Failure::Failed)?;
        let mut text = document::text_of(&shown, &chain);
        let _ = writeln!(text, "\ninput: {}", run.input.as_deref().unwrap_or("none that is valid"));
        if let Some(from) = &run.forked_from {
            let _ = writeln!(text, "forked from {from}");
        }
        answer::print(&text)?;
        return Ok(Exit::Ok);
    }
    let input: Value = run.input.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let described = json!({
        "workflow_id": run.id,
        "execution_metadata": {
            "workflow": run.workflow, "workflow_type": run.workflow_type, "status": run.status,
            "start_time": run.started.to_string(), "end_time": run.ended.map(|t| t.to_string()),
            "deadline": run.deadline.map(|t| t.to_string()),
            "execution_strategy": { "parallel_where_possible": chain.optimization.parallel_where_possible,
                "durability": chain.durability },
            "input": input, "file": spec.file, "spec_hash": spec.hash, "job": run.job, "source": spec.source,
            "trace_id": ids::of_run(&run.workflow, run.key.as_deref().unwrap_or(&run.id)).to_string(),
            "mock": run.mock, "labels": run.labels, "forked_from": run.forked_from, "engine_version": env!("CARGO_PKG_VERSION"),
        },
        "execution_context": context,
        "resource_state": resources(place, run, chain.optimization.max_concurrency)?,
    });
    answer::print(&format!("{described:#}"))?;
    Ok(Exit::Ok)
}

/// What a run holds: as the process that runs it says, or nothing if nobody does.
fn resources(place: &Place<'_>, run: &Run, capacity: usize) -> Result<Value, Failure> {
    let is_live = !run.status.has_ended() && place.journal.is_claimed(run).map_err(Failure::Failed)?;
    let runtime = prepare::runtime()?;
    let seen =
        if is_live { runtime.block_on(place.journal.look(run, PATIENCE)).map_err(Failure::Failed)? } else { None };
    let bytes = place.journal.bytes_of(run).map_err(Failure::Failed)?;
    let of = |name: &str, otherwise: Value| seen.as_ref().map_or(otherwise, |seen| seen[name].clone());
    Ok(json!({
        "live": seen.is_some(),
        "allocated_tools": of("allocated_tools", json!([])),
        "memory_usage": { "row_bytes": bytes, "buffer_bytes": of("buffer_bytes", json!(0)) },
        "parallel_capacity": capacity,
        "rate_limits": of("rate_limits", json!({})),
    }))
}

/// Prints the document of a run.
///
/// # Errors
/// When it has not completed and that was not said to be enough, or the journal can't be read.
pub fn result(place: &Place<'_>, run: &Run, partial: bool) -> Result<Exit, Failure> {
    if run.status != RunState::Completed && !partial {
        let message = format!("run `{}` is {}: `--partial` shows what there is", run.id, run.status.name());
        return Err(Failure::invalid(message));
    }
    let (chain, spec) = place.spec(run)?;
    let history = place.journal.history(run).map_err(Failure::Failed)?;
    let mut shown =
        document_of(&chain, &spec.file, (&run.id, run.status), &history, &place.flags()).map_err(Failure::Failed)?;
    answer::print(&match place.screen.form {
        Form::Json if chain.steps.iter().any(|step| !step.chosen_by.is_empty()) => {
            shown.learning_insights = Some(insights::of_ways(place.journal, &chain)?);
            serde_json::to_string_pretty(&shown).map_err(|e| Failure::Failed(e.into()))?
        }
        Form::Json => serde_json::to_string_pretty(&shown).map_err(|e| Failure::Failed(e.into()))?,
        Form::Text => document::text_of(&shown, &chain),
    })?;
    Ok(Exit::Ok)
}
