//! `bourn runs list`.

use bourn_journal::{Filter, Run, Sqlite};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// Lists runs, the newest first.
///
/// # Errors
/// When the journal can't be read.
pub fn list(journal: &Sqlite, filter: &Filter, screen: &Screen) -> Result<Exit, Failure> {
    let invalid =
        |e: bourn_engine::Error| if filter.query.is_some() { Failure::Invalid(e) } else { Failure::Failed(e) };
    let runs = journal.runs(filter).map_err(invalid)?;
    answer::print(&match screen.form {
        Form::Json => format!("{:#}", runs.iter().map(json).collect::<Value>()),
        Form::Text if runs.is_empty() => "no such runs".to_owned(),
        Form::Text => text(&runs),
    })?;
    Ok(Exit::Ok)
}

fn json(run: &Run) -> Value {
    json!({
        "run_id": run.id, "workflow": run.workflow, "workflow_type": run.workflow_type, "status": run.status, "started_at": run.started.to_string(),
        "ended_at": run.ended.map(|t| t.to_string()), "forked_from": run.forked_from, "mock": run.mock, "job": run.job,
        "labels": run.labels,
    })
}

fn text(runs: &[Run]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["run", "workflow", "status", "started", "ms", ""]);
    for run in runs {
        let took = run.ended.map_or_else(|| "-".into(), |end| ((end.0 - run.started.0) / 1_000).to_string());
        let labels = run.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let from = run.forked_from.as_ref().map(|from| format!("forked from {from}"));
        let remarks = run.mock.then(|| "mock".to_owned()).into_iter().chain(labels).chain(from);
        let remark = remarks.collect::<Vec<_>>().join(" ");
        let started = run.started.to_string();
        let started = started.split('.').next().map(|t| format!("{t}Z")).unwrap_or_default();
        let cells = [run.id.clone(), run.workflow.clone(), run.status.name().to_owned(), started, took, remark];
        table.add_row(cells);
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
