//! `bourn runs show` and `result`.

use std::fmt::Write as _;

use bourn_engine::workflow::context::ExecutionContext;
use bourn_engine::workflow::result::document_of;
use bourn_journal::Run;
use serde_json::{Value, json};

use super::Place;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::report::document;
use bourn_engine::journal::RunState;

/// Shows a run.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn show(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let (chain, spec) = place.spec(run)?;
    let records = place.journal.history(run).map_err(Failure::Failed)?;
    let context = ExecutionContext::of(&chain, run.status, &records).map_err(Failure::Failed)?;
    if place.screen.form == Form::Text {
        let shown = document_of(&chain, &spec.file, (&run.id, run.status), &records).map_err(Failure::Failed)?;
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
            "execution_strategy": { "parallel_where_possible": chain.optimization.parallel_where_possible,
                "durability": chain.durability },
            "input": input, "file": spec.file, "spec_hash": spec.hash, "job": run.job, "source": spec.source,
            "mock": run.mock, "labels": run.labels, "forked_from": run.forked_from, "engine_version": env!("CARGO_PKG_VERSION"),
        },
        "execution_context": context,
        "resource_state": { "parallel_capacity": chain.optimization.max_concurrency,
            "rate_limits": chain.rate_limits.keys().collect::<Vec<_>>() },
    });
    answer::print(&format!("{described:#}"))?;
    Ok(Exit::Ok)
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
    let shown = document_of(&chain, &spec.file, (&run.id, run.status), &history).map_err(Failure::Failed)?;
    answer::print(&match place.screen.form {
        Form::Json => serde_json::to_string_pretty(&shown).map_err(|e| Failure::Failed(e.into()))?,
        Form::Text => document::text_of(&shown, &chain),
    })?;
    Ok(Exit::Ok)
}
