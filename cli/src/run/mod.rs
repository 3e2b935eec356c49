//! `bourn run`: a pipeline, a workflow once, or a workflow for every row.

pub mod documents;
pub mod inputs;
pub mod job;
pub mod workflow;

use bourn_engine::Engine;
use bourn_engine::spec::Spec;

use documents::Documents;

use crate::args::Run;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::screen::Screen;

/// Runs what the command line says, to its end.
///
/// # Errors
/// When the spec has problems, or the job failed.
pub fn run(args: &Run, screen: &Screen) -> Result<Exit, Failure> {
    let runtime = prepare::runtime()?;
    let result = runtime.block_on(async {
        let engine = Engine::new(prepare::registry());
        let loaded = prepare::load(&args.spec, &engine)?;
        match &loaded.spec {
            Spec::Pipeline(_) => {
                no_input(args)?;
                let graph = prepare::graph(&loaded, &args.spec, &prepare::no_runs(), Documents::lines())?;
                let plan = prepare::plan(&engine, graph, &loaded).await?;
                job::run(&engine, plan, args, screen).await
            }
            _ => workflow::run(&engine, &loaded, args, screen).await,
        }
    });
    // A thread that waits for stdin would hold up the end for ever.
    runtime.shutdown_background();
    result
}

/// A pipeline has sources of its own.
fn no_input(args: &Run) -> Result<(), Failure> {
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
