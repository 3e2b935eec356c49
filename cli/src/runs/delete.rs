//! `bourn runs delete`: runs are let go of, by name or by age.

use std::collections::HashMap;

use bourn_journal::{Filter, Run, Sqlite};

use super::args::Delete;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// Deletes what the command line says, and says how many.
///
/// # Errors
/// When a run that was named is not there or has not ended, or the journal can't be written.
pub fn delete(
    journal: &Sqlite,
    args: &Delete,
    now: bourn_engine::time::Timestamp,
    screen: &Screen,
) -> Result<Exit, Failure> {
    let runs = if args.runs.is_empty() { chosen(journal, args, now)? } else { named(journal, args)? };
    if args.dry_run {
        let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
        answer::print(&match screen.form {
            Form::Json => serde_json::json!(ids).to_string(),
            Form::Text if ids.is_empty() => "would delete nothing".to_owned(),
            Form::Text => format!("would delete\n{}", ids.join("\n")),
        })?;
        return Ok(Exit::Ok);
    }
    let deleted = journal.delete(&runs, args.force).map_err(Failure::Failed)?;
    if screen.form == Form::Json {
        answer::print(&serde_json::to_string(&deleted).map_err(|e| Failure::Failed(e.into()))?)?;
    } else {
        let count = |count: usize| if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
        let mut lines = vec![format!("{} deleted", count(deleted.runs))];
        lines.extend(deleted.left.iter().map(|(why, left)| format!("{} left: each {why}", count(*left))));
        answer::print(&lines.join("\n"))?;
    }
    // Who names one wants it gone.
    Ok(if args.runs.is_empty() || deleted.left.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn named(journal: &Sqlite, args: &Delete) -> Result<Vec<Run>, Failure> {
    let one = |id: &String| {
        let run = journal.find(id).map_err(Failure::Failed)?;
        let run = run.ok_or_else(|| Failure::invalid(format!("there is no run `{id}`; write its whole id")))?;
        if run.status.has_ended() || args.force {
            return Ok(run);
        }
        let message =
            format!("run `{id}` is {}: `bourn runs cancel` ends it, `--force` deletes it as it is", run.status.name());
        Err(Failure::invalid(message))
    };
    args.runs.iter().map(one).collect()
}

/// Those that have ended, and are old enough, and are not among the newest of their workflow.
fn chosen(journal: &Sqlite, args: &Delete, now: bourn_engine::time::Timestamp) -> Result<Vec<Run>, Failure> {
    let filter =
        Filter { workflow: args.workflow.clone(), status: args.status, limit: usize::MAX, ..Filter::default() };
    let mut newer: HashMap<String, usize> = HashMap::new();
    let mut chosen = journal.runs(&filter).map_err(Failure::Failed)?;
    chosen.retain(|run| {
        let before = newer.entry(run.workflow.clone()).or_default();
        *before += 1;
        let is_kept = args.keep_latest.is_some_and(|keep| *before <= keep);
        let age = now.since(run.ended.unwrap_or(run.started));
        (run.status.has_ended() || args.force) && !is_kept && args.older_than.is_none_or(|old| age > old)
    });
    Ok(chosen)
}
