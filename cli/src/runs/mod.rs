//! `bourn runs`: what the journal knows of runs, and going on with them.

pub mod args;

mod bundle;
mod decisions;
mod delete;
mod diagnose;
mod diff;
pub mod due;
mod estimate;
pub mod existing;
pub mod fork;
mod go_on;
mod history;
pub mod insights;
mod list;
pub mod replay;
pub mod rewards;
mod show;
pub mod signal;
mod stop;
pub mod task;
mod watch;

use std::time::Duration;

use bourn_engine::Engine;
use bourn_engine::journal::Ask;
use bourn_engine::spec::model::Chain;
use bourn_engine::spec::{Loaded, Request, Routing, Spec};
use bourn_engine::workflow::result::Flags;
use bourn_journal::{Event, Run, Sqlite};
use tokio::runtime::Runtime;

use crate::args::Output;
use crate::copied;
use crate::failure::{Exit, Failure};
use crate::given::Text;
use crate::prepare;
use crate::run::budget;
use crate::screen::Screen;
use args::{One, Runs};

/// How often the journal is asked for more.
const LOOK: Duration = Duration::from_millis(100);

/// Does what the command line says.
///
/// # Errors
/// When there is no journal or no such run, the journal can't be read, or the run can't go on.
pub fn run(what: &Runs, screen: &Screen) -> Result<Exit, Failure> {
    let engine = Engine::new(prepare::registry());
    let open = |at: &args::Journal| Sqlite::existing(&at.journal, engine.env()).map_err(Failure::Invalid);
    let at = |one: &One, act: &dyn Fn(&Place<'_>, &Run) -> Result<Exit, Failure>| {
        let journal = open(&one.journal)?;
        let run = journal.run(&one.run).map_err(Failure::Invalid)?;
        act(&Place { engine: &engine, journal: &journal, one, screen }, &run)
    };
    match what {
        Runs::List { journal, workflow, status, label, query, limit } => {
            let filter = bourn_journal::Filter {
                workflow: workflow.clone(),
                status: *status,
                labels: label.iter().cloned().collect(),
                query: query.clone(),
                limit: *limit,
            };
            list::list(&open(journal)?, &filter, screen)
        }
        Runs::Diff { a, b, journal } => {
            let journal = open(journal)?;
            let [a, b] = [a, b].map(|id| journal.run(id).map_err(Failure::Invalid));
            diff::diff(&journal, &a?, &b?, screen)
        }
        Runs::Delete(args) => delete::delete(&open(&args.journal)?, args, engine.env().wall(), screen),
        Runs::Show { one, history: true, .. } => at(one, &history::show),
        Runs::Show { one, decisions: true, .. } => at(one, &decisions::show),
        Runs::Show { one, .. } => at(one, &show::show),
        Runs::Watch { one } => at(one, &watch::watch),
        Runs::Diagnose { one, output: Output::File(path), log } => {
            at(one, &|place, run| bundle::write(place, run, path, log))
        }
        Runs::Diagnose { log, .. } if !log.is_empty() => {
            Err(Failure::invalid("--log: logs go into a bundle; write one with `-o FILE.tar.zst`"))
        }
        Runs::Diagnose { one, .. } => at(one, &diagnose::diagnose),
        Runs::Replay { one, spec } => at(one, &|place, run| replay::run(place, run, spec.as_deref())),
        Runs::Result { one, partial } => at(one, &|place, run| show::result(place, run, *partial)),
        Runs::Resume { one, budget } => at(one, &|place, run| go_on::resume(place, run, budget)),
        Runs::Recover { one, dry_run: true, .. } => at(one, &go_on::would_recover),
        Runs::Recover { one, budget, .. } => at(one, &|place, run| go_on::recover(place, run, budget)),
        Runs::Fork { one, at: step, set, id } => {
            at(one, &|place, run| fork::fork(place, run, step, set, id.as_deref()))
        }
        Runs::Cancel { one, timeout } => at(one, &|place, run| stop::cancel(place, run, *timeout)),
        Runs::Pause { one, timeout } => at(one, &|place, run| stop::hold(place, run, *timeout)),
    }
}

/// What was asked last of a run in which this happened.
fn asked(events: &[Event]) -> Option<Ask> {
    events.iter().rev().find_map(|event| Ask::of(&event.kind))
}

/// Waits before the journal is asked again.
fn pause(runtime: &Runtime, engine: &Engine) {
    // The timer is the runtime's, so it is made inside.
    runtime.block_on(async { engine.env().sleep(LOOK).await });
}

/// What all of them work with.
struct Place<'a> {
    engine: &'a Engine,
    journal: &'a Sqlite,
    one: &'a One,
    screen: &'a Screen,
}

impl Place<'_> {
    /// The spec that a run began with, read again.
    fn request(&self, run: &Run) -> Result<(Request, bourn_journal::Spec), Failure> {
        let spec = self.journal.spec(run.job).map_err(Failure::Failed)?;
        let routing = match &self.one.routing {
            Some(path) => {
                let Text { name, text } = Text::read(path)?;
                Routing::parse(&text, &name).map_err(Failure::Problems)?
            }
            None => Routing::default(),
        };
        Ok((Request { routing, included: spec.included.clone(), ..Request::default() }, spec))
    }

    /// What commands about its runs need beside.
    fn flags(&self) -> Flags {
        copied::flags(&self.one.journal.journal, false)
    }

    /// The spec of a run, to look at it.
    fn spec(&self, run: &Run) -> Result<(Chain, bourn_journal::Spec), Failure> {
        let (request, spec) = self.request(run)?;
        let loaded = request.load(&spec.text, &spec.file, self.engine.registry(), self.engine.env());
        let mut loaded = loaded.map_err(Failure::Problems)?;
        self.screen.hide(loaded.document.secrets());
        let said = self.journal.budget(run.job).map_err(Failure::Failed)?;
        budget::apply(&mut loaded.spec, &said.into_iter().collect::<Vec<_>>())?;
        Ok((chain(&loaded)?.clone(), spec))
    }
}

fn chain(loaded: &Loaded) -> Result<&Chain, Failure> {
    match &loaded.spec {
        Spec::Chain(chain) => Ok(chain),
        Spec::Pipeline(_) => Err(Failure::invalid("the spec of this run is no workflow of steps")),
    }
}
