//! `bourn run`: a pipeline, a workflow once, or a workflow for every row.

pub mod args;
pub mod budget;
pub mod cache;
pub mod documents;
pub mod inputs;
pub mod job;
pub mod keep;
pub mod scheduled;
pub mod targets;
pub mod watched;
pub mod workflow;
pub mod writer;

use bourn_engine::diagnostic::Problem;
use bourn_engine::env::Env;
use bourn_engine::error::Place;
use bourn_engine::spec::{Loaded, Spec};
use bourn_engine::workflow::Runs;
use bourn_engine::{Error, Kind};

use documents::Documents;
use job::Ending;

use crate::failure::{Exit, Failure};
use crate::monitoring::Monitor;
use crate::prepare;
use crate::report::diagnostics;
use crate::runs;
use crate::screen::Screen;
use args::{Checkpoint, OnConflict, Run};

/// Runs what the command line says, to its end.
///
/// # Errors
/// When the spec has problems, or the job failed.
pub fn run(args: &Run, screen: &Screen) -> Result<Exit, Failure> {
    if let Some(Checkpoint::Step { run, at }) = &args.begin.from_checkpoint {
        return runs::fork::run_from(args, run, at, screen);
    }
    loop {
        if let Some(exit) = runs::existing::existing(args, screen)? {
            return Ok(exit);
        }
        if let Some(schedule) = scheduled::schedule(args)? {
            return scheduled::run(args, &schedule, screen);
        }
        match once(args, screen, Env::system(), Ending::signal()) {
            // Another process was quicker to begin a run of this id.
            Err(Failure::Failed(e)) if e.kind() == Kind::Conflict && args.on_conflict != OnConflict::Fail => {}
            ended => return ended,
        }
    }
}

/// The same, until it is ended.
fn once(args: &Run, screen: &Screen, env: Env, ending: Ending<impl Future<Output = ()>>) -> Result<Exit, Failure> {
    let runtime = prepare::runtime()?;
    let result = runtime.block_on(async {
        let engine = prepare::engine(&args.journal.journal, env);
        let mut loaded = prepare::load_to_run(&args.spec, &engine).await?;
        budget::apply(&mut loaded.spec, &args.budget)?;
        screen.hide(loaded.document.secrets());
        let ended = match &loaded.spec {
            Spec::Pipeline(spec) => {
                no_input(args)?;
                if let Ending::Elsewhere(_) = &ending {
                    watched::no_stdin(spec)?;
                }
                let monitor = Monitor::start(&loaded, &args.monitoring, engine.env(), screen)?;
                let engine = monitor.engine(&engine);
                let shared = cache::of(args.cache.as_deref(), engine.env())?;
                let engine = shared.engine(&engine);
                let runs = Runs { cache: shared.cache, ..prepare::no_runs() };
                let graph = prepare::graph(&loaded, &runs, Documents::lines(), args.mock);
                let plan = prepare::plan(&engine, graph, &loaded).await?;
                job::run_shown(&engine, plan, args, (screen, &|stats| monitor.watch(stats)), ending).await
            }
            Spec::Chain(_) => workflow::run(&engine, &loaded, args, screen, ending).await,
        };
        ended.map_err(|failure| concealed(failure, &loaded))
    });
    // A thread that waits for stdin would hold up the end for ever.
    runtime.shutdown_background();
    result
}

/// The same failure without values of the environment: a path in an error may have come from there.
pub fn concealed(failure: Failure, loaded: &Loaded) -> Failure {
    let conceal = |text: &str| loaded.document.diagnostic(&Problem::new(text)).message;
    match failure {
        Failure::Failed(error) => {
            let place = Place { input: error.place().input.as_deref().map(conceal), ..error.place().clone() };
            let causes =
                diagnostics::causes(&error).iter().fold(error.message().to_owned(), |all, cause| all + ": " + cause);
            Failure::Failed(Error::new(error.kind(), conceal(&causes)).with_place(place))
        }
        other => other,
    }
}

/// A pipeline has sources of its own.
///
/// # Errors
/// When the command line gives it an input all the same.
pub fn no_input(args: &Run) -> Result<(), Failure> {
    let flag = match (&args.input, &args.inputs) {
        (Some(_), _) => "--input",
        (_, Some(_)) => "--inputs",
        _ => return Ok(()),
    };
    Err(Failure::invalid(format!(
        "{flag} is for workflows, and {} is a pipeline: its rows come from its `sources` (`source: {{ stdin: {{}} }}` reads stdin)",
        args.spec.path
    )))
}
