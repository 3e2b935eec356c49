//! `bourn run --id ID` when there is a run of this id: it is refused, is that run, or takes its place.

use std::time::Duration;

use bourn_engine::Engine;
use bourn_engine::journal::{Ask, RunState};
use bourn_engine::spec::Spec;
use bourn_journal::Sqlite;

use super::args::One;
use super::{Place, go_on, pause, show, stop};
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::run::args::{IdReuse, OnConflict, Run};
use crate::run::workflow::fits;
use crate::screen::Screen;

/// How long the process of a run that is replaced may take to end it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends as the run of this id does, if there is one and it is asked for; none when the run may begin, or is refused when it does.
///
/// # Errors
/// When it is a run of another workflow, or can't be read or gone on with.
pub fn existing(args: &Run, screen: &Screen) -> Result<Option<Exit>, Failure> {
    let Some(id) = &args.id else { return Ok(None) };
    if (args.on_conflict, args.id_reuse) == (OnConflict::Fail, IdReuse::Never) || !args.journal.journal.exists() {
        return Ok(None);
    }
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let loaded = prepare::load(&args.spec, &engine)?;
    let one_run = One { run: id.clone(), journal: args.journal.clone(), routing: args.spec.routing.clone() };
    let place = Place { engine: &engine, journal: &journal, one: &one_run, screen };
    let runtime = prepare::runtime()?;
    while let Some(run) = journal.find(id).map_err(Failure::Failed)? {
        if let Spec::Chain(spec) = &loaded.spec
            && spec.name != run.workflow
        {
            return Err(Failure::invalid(format!("run `{id}` is one of `{}`, not of `{}`", run.workflow, spec.name)));
        }
        if run.status.has_ended() {
            let is_free = match args.id_reuse {
                IdReuse::Always => true,
                IdReuse::FailedOnly if run.status != RunState::Completed => true,
                IdReuse::Never | IdReuse::FailedOnly => args.on_conflict == OnConflict::TerminateExisting,
            };
            if is_free {
                fits(args, &loaded)?;
                let name = journal.replace(&run).map_err(Failure::Invalid)?;
                screen.tell(&format!("the run `{id}`, which was {}, is `{name}` from now on", run.status.name()));
                return Ok(None);
            }
            if args.on_conflict == OnConflict::Fail {
                return Ok(None);
            }
            show::result(&place, &run, true)?;
            return Ok(Some(if run.status == RunState::Completed { Exit::Ok } else { Exit::Failed }));
        }
        match args.on_conflict {
            OnConflict::Fail => return Ok(None),
            OnConflict::TerminateExisting => {
                fits(args, &loaded)?;
                stop::stopped(&place, &run, Ask::Cancel, PATIENCE)?;
                continue;
            }
            OnConflict::UseExisting => {}
        }
        if !journal.is_claimed(&run).map_err(Failure::Failed)? {
            return go_on::pass(&place, &run).map(Some);
        }
        pause(&runtime, &engine);
    }
    Ok(None)
}
