//! Runs that wait for a time that has come, and that no process runs: whoever begins runs of their workflow goes on with them.

use bourn_engine::Engine;
use bourn_engine::env::Env;
use bourn_engine::journal::RunState;
use bourn_engine::time::Timestamp;
use bourn_journal::{Filter, Run, Sqlite};

use super::args::One;
use super::go_on::pass;
use super::signal::waits;
use super::{Place, args};
use crate::failure::{Exit, Failure};
use crate::run::args::Run as Options;
use crate::screen::Screen;

/// Those of this workflow, among its newest runs that wait.
///
/// # Errors
/// When the journal can't be read.
pub fn runs(options: &Options, workflow: &str, limit: usize, env: &Env) -> Result<Vec<Run>, Failure> {
    let args::Journal { journal } = &options.journal;
    if !journal.exists() {
        return Ok(Vec::new());
    }
    let journal = Sqlite::existing(journal, env).map_err(Failure::Invalid)?;
    due(&journal, workflow, limit, env.wall())
}

fn due(journal: &Sqlite, workflow: &str, limit: usize, now: Timestamp) -> Result<Vec<Run>, Failure> {
    let (workflow, status) = (Some(workflow.to_owned()), Some(RunState::Waiting));
    let waiting = Filter { workflow, status, limit, ..Filter::default() };
    let mut due = Vec::new();
    for run in journal.runs(&waiting).map_err(Failure::Failed)? {
        let is_over = run.deadline.is_some_and(|deadline| deadline <= now);
        let is_due = is_over || waits(journal, &run)?.iter().any(|(_, wait)| wait.due.is_some_and(|due| due <= now.0));
        if is_due && !journal.is_claimed(&run).map_err(Failure::Failed)? {
            due.push(run);
        }
    }
    Ok(due)
}

/// Goes on with one of them.
///
/// # Errors
/// When it can't pass.
pub fn go_on(options: &Options, run: &Run, engine: &Engine, screen: &Screen) -> Result<Exit, Failure> {
    let journal = Sqlite::existing(&options.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let (routing, one) = (options.spec.routing.clone(), options.journal.clone());
    let one = One { run: run.id.clone(), journal: one, routing };
    pass(&Place { engine, journal: &journal, one: &one, screen }, run)
}

#[cfg(test)]
mod tests {
    use bourn_engine::journal::{Ends, Entries, Journal as _, Started, Wait, Waiting};
    use bourn_journal::Begin;
    use futures::executor::block_on;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_run_is_due_when_its_time_has_come_and_nobody_runs_it() {
        let (folder, env) = (TempDir::new().unwrap(), Env::system());
        let journal = Sqlite::open(folder.path().join("journal.db"), &env).unwrap();
        let begin = Begin {
            workflow: "asks".into(),
            file: "asks.yaml".into(),
            text: "steps: []".into(),
            included: std::collections::BTreeMap::new(),
            source: None,
            mock: false,
            fresh: false,
            r#type: "chain".into(),
            labels: std::collections::BTreeMap::new(),
            run_key: None,
        };
        let job = journal.begin(&begin).unwrap().job;
        let (ids, inputs) = (vec![Some("a"), Some("b"), Some("c")], vec![Some("{}"); 3]);
        let (numbers, returned) = (vec![0, 1, 2], Vec::new());
        let started = Started {
            ids: ids.into(),
            numbers,
            inputs: inputs.into(),
            wait: Wait::Durable,
            returned,
            at: Timestamp(1),
            deadlines: vec![None, None, Some(Timestamp(15_000_000))],
        };
        block_on(job.start(started)).unwrap();
        let wait = |(number, data): (u64, &str)| Waiting { number, step: "held".into(), data: data.into() };
        let waits = [r#"{"due":5000000,"since":1}"#, r#"{"due":9000000,"since":1}"#, r#"{"signal":"go","since":1}"#];
        let waits = (0..).zip(waits).map(wait).collect();
        let ends = Ends { numbers: vec![0, 1, 2], states: vec![RunState::Waiting; 3] };
        block_on(job.append(Entries { waits, ends, ..Entries::default() }, Wait::Durable)).unwrap();
        let due = |seconds: i64| -> Vec<String> {
            due(&journal, "asks", 10, Timestamp(seconds * 1_000_000)).unwrap().into_iter().map(|run| run.id).collect()
        };
        assert!(due(20).is_empty(), "this process runs their job");
        drop(job);
        assert_eq!((due(4), due(5)), (vec![], vec!["a".to_owned()]));
        let sorted = |mut due: Vec<String>| {
            due.sort();
            due
        };
        // The time of the last one is over, whatever it waits for.
        assert_eq!(
            (sorted(due(14)), sorted(due(15))),
            (vec!["a".into(), "b".into()], vec!["a".into(), "b".into(), "c".into()])
        );
    }
}
