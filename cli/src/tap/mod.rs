//! `bourn tap`: a spec runs, and what flows at one place of it is printed.

pub mod args;
mod printer;

use std::time::Duration;

use bourn_connectors::Blackhole;
use bourn_engine::api::Checkpointing;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::diagnostic::{Problems, did_you_mean};
use bourn_engine::env::Env;
use bourn_engine::graph::{Graph, Input, Role};
use bourn_engine::plan::Plan;
use bourn_engine::spec::Spec;

use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::run::documents::Documents;
use crate::run::job::{self, Ending};
use crate::run::{self, workflow};
use crate::screen::Screen;
use args::Tap;
use printer::{FILTER, Printer};

/// The kinds of sinks that print where the tap does.
const PRINTING: [&str; 2] = ["stdout", "console"];

/// Longer than anybody looks on.
const NEVER: Duration = Duration::from_hours(365 * 24);

/// Runs the spec, to its end or until enough rows were shown.
///
/// # Errors
/// When the spec has problems, there is no such place in it, or the job failed.
pub fn run(args: &Tap, screen: &Screen) -> Result<Exit, Failure> {
    if !args.run.monitoring.is_empty() {
        return Err(Failure::invalid("--monitoring is for `bourn run`: what is only looked at is not monitored"));
    }
    let runtime = prepare::runtime()?;
    let result = runtime.block_on(async {
        let engine = prepare::engine(&args.run.journal.journal, Env::system());
        let loaded = prepare::load(&args.run.spec, &engine)?;
        let runs = if let Spec::Pipeline(_) = &loaded.spec {
            run::no_input(&args.run)?;
            prepare::no_runs()
        } else {
            workflow::runs(&engine, &args.run, loaded.choice.mode)?.0
        };
        let mut graph = prepare::graph(&loaded, &runs, Documents::kept(), args.run.mock);
        let (printer, enough) = Printer::new(screen.form == Form::Json, args.rows, args.filter.clone());
        tap(&mut graph, args, printer)?;
        // A look at a job is not its progress.
        graph.options.checkpoints = Checkpointing::Off;
        graph.options.delivery = None;
        if !args.write {
            // What was only looked at is not acknowledged: its one epoch would end with the job, which is left where it is.
            graph.options.epoch_every = Some(NEVER);
        }
        let problems = |Problems(all): Problems| {
            // One of `--filter` has no place in the spec.
            match all.iter().find(|p| p.message.starts_with(FILTER)) {
                Some(p) => Failure::invalid(match p.help.as_ref().or(p.label.as_ref()) {
                    Some(help) => format!("{} ({help})", p.message),
                    None => p.message.clone(),
                }),
                None => Failure::Problems(all.iter().map(|p| loaded.document.diagnostic(p)).collect()),
            }
        };
        let plan: Plan = engine.plan(graph).await.map_err(problems)?;
        let ending = if args.write { Ending::Here(enough) } else { Ending::Left(enough) };
        let ended = job::run(&engine, plan, &args.run, screen, ending).await;
        ended.map_err(|failure| run::concealed(failure, &loaded))
    });
    // A thread that waits for stdin would hold up the end for ever.
    runtime.shutdown_background();
    result
}

/// Puts the printer into the graph, and silences or empties its sinks.
fn tap(graph: &mut Graph, args: &Tap, printer: Printer) -> Result<(), Failure> {
    let (id, port) = args.stage.split_once('.').map_or((args.stage.as_str(), None), |(id, port)| (id, Some(port)));
    let is_own = |id: &str| id.starts_with('@');
    let Some(at) = graph.nodes.iter().position(|node| node.id == id && !is_own(id)) else {
        let ids: Vec<&str> = graph.nodes.iter().map(|n| n.id.as_str()).filter(|id| !is_own(id)).collect();
        let way = did_you_mean(id, ids.iter().copied()).unwrap_or_else(|| format!("there are {}", ids.join(", ")));
        return Err(Failure::invalid(format!(
            "{}: there is no source, stage or sink `{id}` ({way})",
            args.run.spec.path
        )));
    };
    for node in &mut graph.nodes {
        if let Role::Sink(connector) = &mut node.role
            && (!args.write || PRINTING.contains(&connector.kind()))
        {
            *connector = BoxConnector::new(Blackhole::default());
        }
    }
    if let Role::Sink(connector) = &mut graph.nodes[at].role {
        if let Some(port) = port {
            return Err(Failure::invalid(format!(
                "{}: a sink such as `{id}` has no port `{port}`",
                args.run.spec.path
            )));
        }
        *connector = BoxConnector::new(printer.before(connector.clone()));
        return Ok(());
    }
    let input = Input { node: id.to_owned(), port: port.map(str::to_owned) };
    if let Some(port) = port {
        let node = &graph.nodes[at];
        let ports = match &node.role {
            Role::Stage(config) => config.ports(),
            _ => Vec::new(),
        };
        if !ports.iter().any(|p| p == port) {
            let there = if ports.is_empty() { "it has none".into() } else { format!("there are {}", ports.join(", ")) };
            return Err(Failure::invalid(format!(
                "{}: there is no port `{port}` of `{id}` ({there})",
                args.run.spec.path
            )));
        }
    }
    graph.sink("@tap", printer).from([input]);
    Ok(())
}
