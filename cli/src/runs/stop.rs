//! `bourn runs cancel` and `pause`: asked in the journal, done by the process that runs the run, or here when none does.

use std::time::Duration;

use bourn_engine::journal::{Ask, RunState};
use bourn_engine::spec::model::Starts;
use bourn_journal::Run;
use futures::executor::block_on;

use super::{Place, go_on, pause};
use crate::answer;
use crate::failure::{Exit, Failure};
use crate::prepare;

/// Ends a run, and says how it has ended.
///
/// # Errors
/// When it ended otherwise before, or nobody has answered in this time.
pub fn cancel(place: &Place<'_>, run: &Run, patience: Duration) -> Result<Exit, Failure> {
    stop(place, run, Ask::Cancel, patience)
}

/// Pauses a run: what is in flight ends, nothing else is started.
///
/// # Errors
/// When it has ended, or nobody has answered in this time.
pub fn hold(place: &Place<'_>, run: &Run, patience: Duration) -> Result<Exit, Failure> {
    stop(place, run, Ask::Pause, patience)
}

fn stop(place: &Place<'_>, run: &Run, ask: Ask, patience: Duration) -> Result<Exit, Failure> {
    let (wanted, word) = words(ask);
    if run.status.has_ended() {
        return Err(Failure::invalid(format!("run `{}` is {} already", run.id, run.status.name())));
    }
    let now = stopped(place, run, ask, patience)?;
    if now.status == wanted {
        answer::print(&format!("{} is {word}", run.id))?;
        return Ok(Exit::Ok);
    }
    let message = format!("run `{}` was {} before it could be {word}", run.id, now.status.name());
    Err(Failure::Failed(bourn_engine::Error::validation(message)))
}

fn words(ask: Ask) -> (RunState, &'static str) {
    match ask {
        Ask::Cancel => (RunState::Canceled, "canceled"),
        Ask::Pause | Ask::Resume => (RunState::Paused, "paused"),
    }
}

/// So often it fails though nobody has the job, and that is why.
const TRIES: u32 = 3;

/// Asks it of a run that has not ended, and waits until it is so, or the run has ended otherwise.
///
/// # Errors
/// When nobody has answered in this time, or the journal can't be written.
pub fn stopped(place: &Place<'_>, run: &Run, ask: Ask, patience: Duration) -> Result<Run, Failure> {
    let (wanted, word) = words(ask);
    block_on(place.journal.ask(run, ask)).map_err(Failure::Invalid)?;
    let (runtime, env) = (prepare::runtime()?, place.engine.env());
    let (begin, mut failed) = (env.monotonic(), 0);
    loop {
        let now = place.journal.run(&run.id).map_err(Failure::Failed)?;
        if now.status == wanted || now.status.has_ended() {
            return Ok(now);
        }
        if !place.journal.is_claimed(&now).map_err(Failure::Failed)? {
            let cleans_up = ask == Ask::Cancel && has_cleanup(place, &now);
            let done = if cleans_up {
                // What undoes and what comes at the end is done here.
                go_on::passed(place, &now, &[]).map(drop)
            } else {
                place.journal.settle(&now, wanted).map(drop).map_err(Failure::Failed)
            };
            // Somebody may have begun to run it meanwhile, and have ended again: then they have heard.
            failed += u32::from(done.is_err());
            match done {
                Err(e) if failed >= TRIES && !place.journal.is_claimed(&now).map_err(Failure::Failed)? => {
                    return Err(e);
                }
                Err(_) => {}
                Ok(()) => continue,
            }
        }
        if env.monotonic().saturating_sub(begin) > patience {
            let process = now.process.map_or_else(String::new, |pid| format!(" {pid}"));
            let message = format!(
                "the process{process} that runs `{}` has not ended within {patience:?} what it is at; it is to be {word} and stays so",
                run.id
            );
            return Err(Failure::Failed(bourn_engine::Error::new(bourn_engine::Kind::Timeout, message)));
        }
        pause(&runtime, place.engine);
    }
}

/// Whether it has steps that undo, or come at the end. One whose spec can't be read any more is ended without them.
fn has_cleanup(place: &Place<'_>, run: &Run) -> bool {
    place.spec(run).is_ok_and(|(chain, _)| chain.steps.iter().any(|step| step.starts != Starts::Completed))
}
