//! `bourn run --id ID --on-conflict use-existing`: a run of this id that there is already is that run.

use bourn_engine::Engine;
use bourn_engine::journal::RunState;
use bourn_engine::spec::Spec;
use bourn_journal::Sqlite;

use super::args::One;
use super::{Place, go_on, pause, show};
use crate::args::{OnConflict, Run};
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::screen::Screen;

/// Ends as the run of this id does, if there is one and it is asked for.
///
/// # Errors
/// When it is a run of another workflow, or can't be read or gone on with.
pub fn existing(args: &Run, screen: &Screen) -> Result<Option<Exit>, Failure> {
    let (Some(id), OnConflict::UseExisting) = (&args.id, args.on_conflict) else { return Ok(None) };
    if !args.journal.journal.exists() {
        return Ok(None);
    }
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let loaded = prepare::load(&args.spec, &engine)?;
    let one = One { run: id.clone(), journal: args.journal.clone(), routing: args.spec.routing.clone() };
    let place = Place { engine: &engine, journal: &journal, one: &one, screen };
    let runtime = prepare::runtime()?;
    while let Some(run) = journal.find(id).map_err(Failure::Failed)? {
        if let Spec::Chain(spec) = &loaded.spec
            && spec.name != run.workflow
        {
            return Err(Failure::invalid(format!("run `{id}` is one of `{}`, not of `{}`", run.workflow, spec.name)));
        }
        if run.status.has_ended() {
            show::result(&place, &run, true)?;
            return Ok(Some(if run.status == RunState::Completed { Exit::Ok } else { Exit::Failed }));
        }
        if !journal.is_claimed(&run).map_err(Failure::Failed)? {
            return go_on::pass(&place, &run).map(Some);
        }
        pause(&runtime, &engine);
    }
    Ok(None)
}
