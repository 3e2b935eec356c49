//! `bourn dlq replay`: the rows of letters run through the spec as it is now, from the stage that rejected them on.

use std::collections::BTreeMap;

use bourn_connectors::Blackhole;
use bourn_engine::api::ConnectContext;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::checkpoint::settled::Done;
use bourn_engine::data::letter::mark;
use bourn_engine::graph::{Graph, Role};
use bourn_engine::plan::{OperatorKind, Plan, PlannedNode};

use super::args::Replay;
use super::choose::{Among, Chosen, chosen};
use super::counted;
use super::enter::{Entering, enter};
use super::feed::{Feed, Given};
use super::office::Office;
use super::told::Told;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::screen::Screen;
use crate::signals::Signals;

/// Replays those that are chosen, or tells what would become of them.
///
/// # Errors
/// When the spec has problems, the letters can't be read, or the job failed: nothing is settled then.
pub async fn replay(office: &Office<'_>, args: &Replay, screen: &Screen) -> Result<Exit, Failure> {
    if args.all && !args.one.ids.is_empty() {
        return Err(Failure::invalid("`--all` is all of them: leave out the ids, or `--all`"));
    }
    let _lock = if args.dry_run { None } else { Some(office.lock()?) };
    let Chosen { letters, is_whole, known } = chosen(office, (&args.one.ids, &args.which), Among::Open, screen).await?;
    let doubts = letters.iter().filter(|letter| known.is_in_doubt(&letter.id)).count();
    let whole = prepare::plan(&office.engine, office.graph.clone(), office.loaded).await?;
    let (entering, kept) = enter(&whole, &office.graph, letters).map_err(Failure::Failed)?;
    let entered = entering.iter().map(|(id, entering)| (id.clone(), entering.letters())).collect();
    let mut told = Told::new(args.dry_run, entered, kept);
    if !entering.is_empty() {
        let parts = entering.values().flat_map(|entering| &entering.parts);
        let ids: Vec<String> = parts.flat_map(|part| part.ids.iter().cloned()).collect();
        let given = Given::default();
        let mut graph = behind(office, entering, &given)?;
        graph.options.mock = args.mock;
        told.places = sinks(office, &mut graph, &mark(&ids), args.dry_run);
        let plan = prepare::plan(&office.engine, graph, office.loaded).await?;
        if !args.empty_state {
            refuse_state(&plan)?;
        }
        if args.dry_run {
            told.calls = calls(&plan);
            // Nobody is asked for a look.
            if told.calls.is_empty() {
                let stats = run(office, plan, args, screen).await?;
                told.look(&stats, &office.graph);
            }
        } else {
            if doubts > 0 {
                let letters = counted(doubts, "letter");
                screen.warn(&format!("an earlier replay of {letters} was cut off: what it has written may come twice"));
            }
            office.settled.add(Done::Begun, ids).map_err(Failure::Failed)?;
            let stats = run(office, plan, args, screen).await?;
            told.look(&stats, &office.graph);
            // From here on they are settled; after a crash before it they are replayed again.
            let ids = given.take();
            told.replayed = ids.len();
            office.settled.add(Done::Replayed, ids).map_err(Failure::Failed)?;
        }
    }
    told.say(office, screen)?;
    Ok(if is_whole && told.kept.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// The part of the spec behind those where rows enter.
fn behind(office: &Office<'_>, entering: BTreeMap<String, Entering>, given: &Given) -> Result<Graph, Failure> {
    let feed = |(id, Entering { schema, parts }): (String, Entering)| {
        (id, BoxConnector::new(Feed::new(schema, parts, given.clone())))
    };
    office.graph.behind(entering.into_iter().map(feed).collect()).map_err(Failure::Failed)
}

/// Lets the sinks write beside those of the job, or nowhere if it is a look. Returns where they write, if that is another
/// place than the spec names.
fn sinks(office: &Office<'_>, graph: &mut Graph, mark: &str, is_look: bool) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    for node in &mut graph.nodes {
        let Role::Sink(connector) = &mut node.role else { continue };
        let context = ConnectContext { env: office.engine.env().clone(), id: node.id.clone(), lanes: 1 };
        for (number, connector) in [connector].into_iter().chain(&mut node.fallback).enumerate() {
            if let Some(beside) = connector.beside(mark, &context) {
                let about = beside.describe();
                let place = ["path", "url"].into_iter().find_map(|key| about.get(key)?.as_str());
                if let Some(place) = place.filter(|_| number == 0) {
                    places.insert(node.id.clone(), place.to_owned());
                }
                *connector = beside;
            }
            if is_look {
                *connector = BoxConnector::new(Blackhole::default());
            }
        }
    }
    places
}

/// A stage that keeps something by key would take each row for the first of its key.
fn refuse_state(plan: &Plan) -> Result<(), Failure> {
    // Where branches of a run meet, each run is for itself.
    let keeps = |node: &PlannedNode| node.keeps_keys && !node.id.starts_with('@');
    let keeps: Vec<_> = plan.nodes.iter().filter(|node| keeps(node)).map(|node| format!("`{}`", node.id)).collect();
    if keeps.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "the rows would pass {}, which keep something by key, and a replay does not know what the job has seen; \
         `--empty-state` runs them with nothing in them",
        keeps.join(", ")
    )))
}

/// The stages that ask something outside.
fn calls(plan: &Plan) -> Vec<String> {
    let calls = plan.nodes.iter().filter(|node| matches!(node.operator, OperatorKind::Call(_)));
    calls.map(|node| node.id.to_string()).collect()
}

/// Runs it to its end, or until a signal stops it: then what was read is written, and the other letters stay.
async fn run(
    office: &Office<'_>,
    plan: Plan,
    args: &Replay,
    screen: &Screen,
) -> Result<std::sync::Arc<bourn_engine::metrics::JobStats>, Failure> {
    let signals = Signals::take(args.drain_timeout, screen.clone(), office.engine.env().clone())
        .map_err(|e| Failure::Failed(e.into()))?;
    let job = office.engine.start(plan).await.map_err(Failure::Failed)?;
    signals.stop_with(job.stopper());
    let stats = job.stats().clone();
    job.wait().await.map_err(|error| Failure::ended(error.context("the letters stay as they are")))?;
    Ok(stats)
}
