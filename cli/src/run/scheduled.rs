//! `bourn run` of a workflow with a `schedule`: a run whenever it is time, until a signal comes.

use std::time::Duration;

use bourn_engine::spec::Spec;
use bourn_engine::spec::schedule::{CatchUp, Schedule};
use bourn_engine::time::Timestamp;
use bourn_engine::{Engine, Kind};
use bourn_journal::{Filter, Sqlite};
use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::{FutureExt, StreamExt};

use super::args::{OnConflict, Run};
use super::job::Ending;
use super::once;
use crate::failure::{Exit, Failure};
use crate::given::Text;
use crate::prepare;
use crate::report::diagnostics;
use crate::runs::due;
use crate::runs::existing::existing;
use crate::screen::Screen;
use crate::signals::Signals;

/// How often it is looked for runs whose time to wait is over.
const LOOK: Duration = Duration::from_secs(1);
/// Runs of the past that are made up for, at most.
const MISSED_MAX: usize = 1_000;
/// Newest runs among which the last one of the schedule is looked for.
const LOOKED_AT: usize = 10_000;

/// The schedule of the spec and the name of its workflow, when the command line gives no input of its own.
///
/// # Errors
/// Every problem of the spec.
pub fn schedule(args: &Run) -> Result<Option<(String, Schedule)>, Failure> {
    let is_by_hand = args.input.is_some() || args.inputs.is_some() || args.id.is_some();
    // Stdin is read once. Most specs have no such word, and need not be read twice.
    if is_by_hand || args.spec.path == "-" || !Text::read(&args.spec.path)?.text.contains("schedule") {
        return Ok(None);
    }
    let engine = Engine::new(prepare::registry());
    let loaded = prepare::load(&args.spec, &engine)?;
    let Spec::Chain(spec) = loaded.spec else { return Ok(None) };
    let name = spec.name.clone();
    Ok(spec.schedule.map(|schedule| (name, schedule)))
}

/// Runs it until a signal comes, or nobody reads what it writes any more. How a run ends is told, and ends nothing.
///
/// # Errors
/// When the journal can't be read, or a run can't begin.
pub fn run(args: &Run, (workflow, schedule): &(String, Schedule), screen: &Screen) -> Result<Exit, Failure> {
    let engine = Engine::new(prepare::registry());
    let env = engine.env();
    let signals = Signals::take(args.drain_timeout, screen.clone(), engine.env().clone())
        .map_err(|e| Failure::Failed(e.into()))?;
    let (interrupt, mut interrupted) = mpsc::channel::<()>(0);
    let came = signals.stop_with(move || {
        let _again = interrupt.clone().try_send(());
    });
    let interrupted = async move { interrupted.next().await }.map(drop).boxed().shared();
    let is_over = || came.load(std::sync::atomic::Ordering::Relaxed);
    let runtime = prepare::runtime()?;
    // How a run ends is told, and ends nothing; false when nobody reads it.
    let tell = |ended: Result<Exit, Failure>| -> Result<bool, Failure> {
        match ended {
            Ok(_) => Ok(true),
            Err(Failure::Unread) => Ok(false),
            Err(failure @ Failure::Problems(_)) => Err(failure),
            Err(failure) => {
                screen.say(&diagnostics::failure(&failure, screen));
                Ok(true)
            }
        }
    };
    let fire = |at: Timestamp| -> Result<bool, Failure> {
        let id = Schedule::run_id(workflow, at);
        let one = Run {
            id: Some(id),
            input: Some(schedule.input(at).to_string()),
            on_conflict: OnConflict::UseExisting,
            ..args.clone()
        };
        // One that is there was begun before: it is gone on with, and never begun twice.
        tell(match existing(&one, screen) {
            Ok(None) => match once(&one, screen, env.clone(), Ending::Elsewhere(interrupted.clone())) {
                Err(Failure::Failed(error)) if error.kind() == Kind::Conflict => {
                    let id = one.id.as_deref().unwrap_or_default();
                    screen.tell(&format!("run {id}: another process of this schedule has begun it"));
                    Ok(Exit::Ok)
                }
                ended => ended,
            },
            other => other.map(|exit| exit.unwrap_or(Exit::Ok)),
        })
    };
    let mut last = env.wall();
    for at in missed(args, workflow, schedule, last, &engine)? {
        if is_over() || !fire(at)? {
            return Ok(Exit::Ok);
        }
    }
    while let Some(next) = schedule.next(last) {
        screen.tell(&format!("the next run is at {next}; Ctrl-C ends"));
        loop {
            // Nobody else would go on with those that wait for a time.
            for run in due::runs(args, workflow, LOOKED_AT, env)? {
                if is_over() || !tell(due::go_on(args, &run, &engine, screen))? {
                    return Ok(Exit::Ok);
                }
            }
            let wait = next.since(env.wall());
            if wait.is_zero() {
                break;
            }
            let (sleep, stop) = (|| env.sleep(wait.min(LOOK)).boxed(), interrupted.clone());
            let slept = runtime.block_on(async { select(sleep(), stop).await });
            if matches!(slept, Either::Right(_)) || is_over() {
                return Ok(Exit::Ok);
            }
        }
        if is_over() || !fire(next)? || is_over() {
            return Ok(Exit::Ok);
        }
        // A run that took longer than the time between two has let some pass.
        let passed = times(schedule, next, env.wall());
        for at in caught_up(schedule.catch_up, &passed) {
            if !fire(at)? || is_over() {
                return Ok(Exit::Ok);
            }
        }
        last = passed.last().copied().unwrap_or(next);
    }
    screen.tell("the schedule has no other time");
    Ok(Exit::Ok)
}

/// The times that passed since the newest run of the schedule, as far as they are made up for.
fn missed(
    args: &Run,
    workflow: &str,
    schedule: &Schedule,
    now: Timestamp,
    engine: &Engine,
) -> Result<Vec<Timestamp>, Failure> {
    if !args.journal.journal.exists() {
        return Ok(Vec::new());
    }
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let filter = Filter { workflow: Some(workflow.to_owned()), limit: LOOKED_AT, ..Filter::default() };
    let runs = journal.runs(&filter).map_err(Failure::Failed)?;
    let newest =
        runs.iter().filter_map(|run| Some((Schedule::time_of(workflow, &run.id)?, run.status))).max_by_key(|r| r.0);
    let Some((newest, status)) = newest else { return Ok(Vec::new()) };
    // One that was cut off is gone on with, whatever is said of those that never began.
    let cut_off = (!status.has_ended()).then_some(newest);
    Ok(cut_off.into_iter().chain(caught_up(schedule.catch_up, &times(schedule, newest, now))).collect())
}

/// The times behind `after` and not behind `until`; the newest of very many.
fn times(schedule: &Schedule, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut times = std::collections::VecDeque::new();
    let mut last = after;
    while let Some(next) = schedule.next(last).filter(|next| *next <= until) {
        times.push_back(next);
        if times.len() > MISSED_MAX {
            times.pop_front();
        }
        last = next;
    }
    times.into()
}

fn caught_up(catch_up: CatchUp, times: &[Timestamp]) -> Vec<Timestamp> {
    match catch_up {
        CatchUp::Skip => Vec::new(),
        CatchUp::One => times.last().copied().into_iter().collect(),
        CatchUp::All => times.to_vec(),
    }
}
