//! `bourn inbox`, `approve` and `signal`: steps that wait, and what they wait for.

use bourn_engine::Engine;
use bourn_engine::journal::{History, RunState};
use bourn_journal::{Filter, Run, Sqlite};
use comfy_table::{Table, presets};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::args::{Approve, Inbox, One, Signal};
use super::task::Wait;
use super::{Place, go_on};
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;
use crate::{given, prepare};

/// How often somebody looks whether a signal was heard.
const LOOKS: usize = 50;

/// The steps of a run that wait, or are tried again later, by id.
pub(super) fn waits(journal: &Sqlite, run: &Run) -> Result<Vec<(String, Wait)>, Failure> {
    let History(known) = journal.history(run).map_err(Failure::Failed)?;
    let open = known.iter().filter_map(|(name, data)| {
        Some((name.strip_prefix(History::WAIT).or_else(|| name.strip_prefix(History::BACKOFF))?, data))
    });
    let open = open.filter(|(step, _)| !known.contains_key(*step));
    let read = open.map(|(step, data)| {
        let wait = serde_json::from_str(data.get()).map_err(|e| Failure::Failed(e.into()))?;
        Ok((step.to_owned(), wait))
    });
    read.collect()
}

/// Lists what waits.
///
/// # Errors
/// When the journal can't be read.
pub fn inbox(args: &Inbox, screen: &Screen) -> Result<Exit, Failure> {
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let filter = Filter { status: Some(RunState::Waiting), limit: args.limit, ..Filter::default() };
    let mut tasks = Vec::new();
    let runs = journal.runs(&filter).map_err(Failure::Failed)?;
    if runs.len() == args.limit {
        screen.tell(&format!("these are the newest {} runs that wait: `--limit` shows more", args.limit));
    }
    for run in runs.into_iter().rev() {
        for (step, wait) in waits(&journal, &run)? {
            tasks.push((format!("{}/{step}", run.id), run.workflow.clone(), wait));
        }
    }
    if screen.form == Form::Json {
        let one = |(task, workflow, wait): &(String, String, Wait)| wait.document(task, workflow);
        answer::print(&format!("{:#}", tasks.iter().map(one).collect::<Value>()))?;
        return Ok(Exit::Ok);
    }
    if tasks.is_empty() {
        answer::print("nothing waits")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["task", "workflow", "waits for", "since", "until"]);
    for (task, workflow, wait) in &tasks {
        let until = wait.until().unwrap_or_default();
        table.add_row([task.clone(), workflow.clone(), wait.what(), wait.began(), until]);
    }
    answer::print(&table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}

/// Sends what a step waits for, by the name of the step.
///
/// # Errors
/// When it waits for no signal, or the run can't go on.
pub fn approve(args: &Approve, screen: &Screen) -> Result<Exit, Failure> {
    let (run, step) = split(args)?;
    let data = match (&args.data, &args.reject) {
        _ if args.retry => serde_json::from_str(History::RETRY).map_err(|e| Failure::Failed(e.into()))?,
        (Some(data), _) => given::input(data)?,
        (None, Some(reason)) => json!({ "approved": false, "reason": reason }),
        (None, None) => json!({ "approved": true }),
    };
    let one = One { run: run.to_owned(), journal: args.journal.clone(), routing: args.routing.clone() };
    at(&one, screen, |place, run| {
        let waits = waits(place.journal, run)?;
        let wait = waits.iter().find(|(waiting, _)| waiting == step).map(|(_, wait)| wait);
        let is_decision = wait.is_some_and(|wait| wait.decide.is_some());
        if args.data.is_none() && args.reject.is_none() && !args.retry && is_decision {
            let message = format!(
                "step `{step}` of run `{}` has failed: `--data` says what it gives instead, `--retry` tries it again, `--reject` lets it fail",
                run.id
            );
            return Err(Failure::invalid(message));
        }
        if args.data.is_some() && is_decision {
            let (chain, _) = place.spec(run)?;
            let output = chain.step(step).and_then(|step| step.output.as_ref());
            let faults = output.map(|output| output.faults(&data)).unwrap_or_default();
            if !faults.is_empty() {
                let message =
                    format!("--data: it does not fit the `output.schema` of step `{step}`: {}", faults.join("; "));
                return Err(Failure::invalid(message));
            }
        }
        if args.retry && wait.is_some() && !is_decision {
            let message = format!("step `{step}` of run `{}` has not failed, so there is nothing to try again", run.id);
            return Err(Failure::invalid(message));
        }
        let signal = wait.and_then(|wait| wait.signal.clone());
        let signal = signal.ok_or_else(|| {
            Failure::invalid(format!("step `{step}` of run `{}` waits for no signal; see `bourn inbox`", run.id))
        })?;
        send(place, run, (&signal, &data), args.by.as_deref())
    })
}

/// The run and the step of a task. A run may have a `/` in its id, and a step of a workflow within another one has one.
fn split(args: &Approve) -> Result<(&str, &str), Failure> {
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let splits = args.task.match_indices('/').map(|(at, _)| (&args.task[..at], &args.task[at + 1..]));
    let mut splits = splits.collect::<Vec<_>>();
    let is_it = |(id, step): &(&str, &str)| {
        let run = journal.run(id).ok()?;
        waits(&journal, &run).ok()?.iter().any(|(waiting, _)| waiting == step).then_some(())
    };
    let found = splits.iter().copied().find(|split| is_it(split).is_some());
    // What is wrong is told of the last one: most steps have no such name.
    found.or_else(|| splits.pop()).ok_or_else(|| {
        Failure::invalid(format!("`{}` is no task: write RUN/STEP, as `bourn inbox` says it", args.task))
    })
}

/// Sends a signal to a run.
///
/// # Errors
/// When the run has ended, or can't go on.
pub fn signal(args: &Signal, screen: &Screen) -> Result<Exit, Failure> {
    let data = args.data.as_deref().map(given::input).transpose()?.unwrap_or_default();
    at(&args.one, screen, |place, run| send(place, run, (&args.name, &data), args.by.as_deref()))
}

fn at(one: &One, screen: &Screen, act: impl Fn(&Place<'_>, &Run) -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&one.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let run = journal.run(&one.run).map_err(Failure::Invalid)?;
    act(&Place { engine: &engine, journal: &journal, one, screen }, &run)
}

/// The signal is in the journal before the run goes on, and stays there when it can't.
fn send(place: &Place<'_>, run: &Run, (name, data): (&str, &Value), by: Option<&str>) -> Result<Exit, Failure> {
    let env = place.engine.env();
    let who =
        by.map(str::to_owned).or_else(|| ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| env.variable(name)));
    let known = place.journal.history(run).map_err(Failure::Failed)?;
    place.journal.signal(run, name, data, who.as_deref()).map_err(Failure::Invalid)?;
    // One that was taken by a wait which has ended has done what it was for.
    let is_taken_up = |step: &str, wait: &RawValue| {
        let signal = serde_json::from_str::<Value>(wait.get())
            .ok()
            .and_then(|wait| wait.get("signal")?.as_str().map(str::to_owned));
        known.0.contains_key(step) && signal.as_deref() == Some(name)
    };
    let mut waits = known.0.iter().filter_map(|(of, wait)| Some((of.strip_prefix(History::WAIT)?, wait)));
    let was_taken = waits.any(|(step, wait)| is_taken_up(step, wait));
    if known.0.contains_key(&History::signal(name)) && !was_taken {
        place.screen.warn(&format!("run {}: a signal `{name}` has come before: this one takes its place", run.id));
    }
    loop {
        if is_taken(place, run, name)? {
            place.screen.tell(&format!(
                "run {}: the signal `{name}` is kept; the process that runs its job goes on with it",
                run.id
            ));
            return Ok(Exit::Ok);
        }
        match go_on::pass(place, run) {
            // Another one was quicker.
            Err(Failure::Failed(_)) if place.journal.is_claimed(run).map_err(Failure::Failed)? => {}
            passed => return passed,
        }
    }
}

/// Whether the process that runs the job of a run goes on with it. One that is at its end does not; and one that has not come to the
/// wait yet finds the signal there.
fn is_taken(place: &Place<'_>, run: &Run, name: &str) -> Result<bool, Failure> {
    let runtime = prepare::runtime()?;
    for _ in 0..LOOKS {
        if !place.journal.is_claimed(run).map_err(Failure::Failed)? {
            return Ok(false);
        }
        if !waits(place.journal, run)?.iter().any(|(_, wait)| wait.signal.as_deref() == Some(name)) {
            return Ok(true);
        }
        super::pause(&runtime, place.engine);
    }
    Ok(true)
}
