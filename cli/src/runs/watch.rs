//! `bourn runs watch`: what happens in a run, as it happens.

use bourn_engine::journal::RunState;
use bourn_engine::time::Timestamp;
use bourn_journal::Run;

use super::history::Told;
use super::{Place, pause};
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::prepare;

/// Prints events until the run has ended.
///
/// # Errors
/// When the journal can't be read any more, or nobody reads what is printed.
pub fn watch(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let print = |told: &Told| {
        answer::print(&match place.screen.form {
            Form::Json => told.json().to_string(),
            Form::Text => told.cells().join("  ").trim_end().to_owned(),
        })
    };
    let runtime = prepare::runtime()?;
    print(&Told::start(run))?;
    if !run.status.has_ended() && !place.journal.is_claimed(run).map_err(Failure::Failed)? {
        place.screen.tell(&format!("no process runs `{}` now: `bourn runs diagnose {}` says why", run.id, run.id));
    }
    let mut last = Timestamp(i64::MIN);
    loop {
        // Asked before its events are read, so that none comes behind the end.
        let now = place.journal.run(&run.id).map_err(Failure::Failed)?;
        for event in place.journal.events_after(run, last).map_err(Failure::Failed)? {
            last = event.at;
            print(&Told::of(event)?)?;
        }
        if let Some(end) = Told::end(&now) {
            print(&end)?;
            return Ok(if now.status == RunState::Completed { Exit::Ok } else { Exit::Failed });
        }
        pause(&runtime, place.engine);
    }
}
