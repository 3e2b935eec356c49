//! `bourn inbox`, `approve` and `signal`: steps that wait, and what they wait for.

use bourn_engine::Engine;
use bourn_engine::journal::{History, RunState};
use bourn_engine::workflow::anew::done_anew_within;
use bourn_engine::workflow::is_taken;
use bourn_journal::{Filter, Run, Sqlite};
use comfy_table::{Table, presets};
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
        _ if args.retry => History::retry(Vec::new()),
        (Some(data), _) => given::json("--data", data)?,
        (None, Some(reason)) => json!({ "approved": false, "reason": reason }),
        (None, None) => json!({ "approved": true }),
    };
    let one = One { run: run.to_owned(), journal: args.journal.clone(), routing: args.routing.clone() };
    at(&one, screen, |place, run| {
        let waits = waits(place.journal, run)?;
        let wait = waits.iter().find(|(waiting, _)| waiting == step).map(|(_, wait)| wait);
        let is_decision = wait.is_some_and(|wait| wait.decide.is_some());
        let mut data = data.clone();
        if is_decision && History::decided_again(&History::decision(step), &data.to_string()).is_some() {
            let history = place.journal.history(run).map_err(Failure::Failed)?;
            data = History::retry(done_anew_within(&place.spec(run)?.0, &history, step));
        }
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
        let is_open = |waits: &[(String, Wait)]| waits.iter().any(|(waiting, _)| waiting == step);
        if wait.is_none()
            && let Some(earlier) = answered(place, run, step)?
        {
            // Whoever said that has not come to let it go on.
            place.screen.tell(&format!("step `{step}` of run `{}` has been answered before, with {earlier}", run.id));
            return heard(place, run, &format!("run {}: it goes on with that", run.id), is_open);
        }
        if wait.is_none_or(|wait| wait.signal.is_none()) {
            let message = format!("step `{step}` of run `{}` waits for no signal; see `bourn inbox`", run.id);
            return Err(Failure::invalid(message));
        }
        let who = who(place, args.by.as_deref());
        let earlier = place.journal.answer(run, step, &data, who.as_deref()).map_err(Failure::Invalid)?;
        let is_same = |earlier: &String| serde_json::from_str::<Value>(earlier).is_ok_and(|earlier| earlier == data);
        let other = earlier.filter(|earlier| !is_same(earlier));
        let told = other.map(|earlier| {
            format!("step `{step}` of run `{}` has been answered before, with {earlier}: that counts", run.id)
        });
        if let Some(told) = &told {
            place.screen.warn(told);
        }
        let kept =
            format!("run {}: the answer to `{step}` is kept; the process that runs its job goes on with it", run.id);
        let exit = heard(place, run, &kept, is_open)?;
        // Whoever was first has been heard, whoever makes the run go on.
        told.map_or(Ok(exit), |_| Ok(Exit::Failed))
    })
}

/// What was said to a step last, if nothing has come of that.
fn answered(place: &Place<'_>, run: &Run, step: &str) -> Result<Option<String>, Failure> {
    let decision = History::decision(step);
    let mut said = None;
    for event in place.journal.events(run).map_err(Failure::Failed)? {
        match (event.kind.as_str(), event.step.as_deref()) {
            ("signal", Some(name)) if name == decision => said = event.data,
            ("step" | "wait" | "backoff", Some(name)) if name == step => said = None,
            ("retried", _) => said = None,
            _ => {}
        }
    }
    Ok(said.filter(|_| !run.status.has_ended()))
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
    let data = args.data.as_deref().map(|data| given::json("--data", data)).transpose()?.unwrap_or_default();
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
    let who = who(place, by);
    let known = place.journal.history(run).map_err(Failure::Failed)?;
    let is_waited_for = |waits: &[(String, Wait)]| waits.iter().any(|(_, wait)| wait.signal.as_deref() == Some(name));
    let was_waited_for = is_waited_for(&waits(place.journal, run)?);
    place.journal.signal(run, name, data, who.as_deref()).map_err(Failure::Invalid)?;
    if known.0.contains_key(&History::signal(name)) && !is_taken(&known, name).map_err(Failure::Failed)? {
        place.screen.warn(&format!("run {}: a signal `{name}` has come before: this one takes its place", run.id));
    }
    if !was_waited_for {
        let (chain, _) = place.spec(run)?;
        let names = chain.signals();
        if !names.iter().any(|known| known == name || known.contains("${")) {
            let all = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let none = if all.is_empty() { "it waits for none".into() } else { format!("it waits for {all}") };
            place.screen.warn(&format!("workflow `{}` has no step that waits for `{name}`: {none}", run.workflow));
        }
    }
    if was_waited_for {
        let kept =
            format!("run {}: the signal `{name}` is kept; the process that runs its job goes on with it", run.id);
        return heard(place, run, &kept, is_waited_for);
    }
    let kept = format!("run {}: no step waits for `{name}` now: it is kept for the first one that will", run.id);
    if place.journal.is_claimed(run).map_err(Failure::Failed)? {
        // Whoever runs it comes to that wait, or has just come to it.
        return heard(place, run, &kept, is_waited_for);
    }
    place.screen.tell(&kept);
    go_on::pass(place, run)
}

/// Who says something.
fn who(place: &Place<'_>, by: Option<&str>) -> Option<String> {
    let env = place.engine.env();
    by.map(str::to_owned).or_else(|| ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| env.variable(name)))
}

/// Lets a run go on that has heard something, unless somebody else does: then that is told.
fn heard(
    place: &Place<'_>,
    run: &Run,
    kept: &str,
    is_open: impl Fn(&[(String, Wait)]) -> bool,
) -> Result<Exit, Failure> {
    let mut again = true;
    loop {
        if is_heard(place, run, &is_open)? {
            place.screen.tell(kept);
            return Ok(Exit::Ok);
        }
        match go_on::pass(place, run) {
            // Another one was quicker, and may have come to the end by now.
            Err(Failure::Failed(_)) if place.journal.is_claimed(run).map_err(Failure::Failed)? => {}
            Err(Failure::Failed(_)) if again => again = false,
            passed => return passed,
        }
    }
}

/// Whether the process that runs the job of a run goes on with it. One that is at its end does not; and one that has not come to the
/// wait yet finds the signal there.
fn is_heard(place: &Place<'_>, run: &Run, is_open: impl Fn(&[(String, Wait)]) -> bool) -> Result<bool, Failure> {
    let runtime = prepare::runtime()?;
    for _ in 0..LOOKS {
        if !place.journal.is_claimed(run).map_err(Failure::Failed)? {
            return Ok(false);
        }
        if !is_open(&waits(place.journal, run)?) {
            return Ok(true);
        }
        super::pause(&runtime, place.engine);
    }
    Ok(true)
}
