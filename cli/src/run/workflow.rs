//! A workflow: once for one input, or for every line of many.

use std::sync::Arc;

use bourn_engine::Engine;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::metrics::JobStats;
use bourn_engine::spec::targets::Targets;
use bourn_engine::spec::{Loaded, Mode, Spec};
use bourn_engine::workflow::{Runs, check_input, run_id};
use serde_json::Value;

use super::args::Run;
use super::cache;
use super::documents::{Documents, Seen};
use super::inputs::{Ended, Inputs};
use super::job::{self, Ending};
use super::keep::Kept;
use super::targets::{self, Window};
use crate::answer;
use crate::failure::{Exit, Failure};
use crate::given;
use crate::monitoring::{Eyes, Monitor};
use crate::prepare;
use crate::report::document;
use crate::screen::Screen;

/// The id of the source of inputs, which is part of what a run's id is made of.
pub const SOURCE: &str = "inputs";

/// Runs it.
///
/// # Errors
/// When an input can't be read, a step can't be planned, or the job failed. A run that failed is no error of the job:
/// its document says so, and the exit code.
pub async fn run(
    engine: &Engine,
    loaded: &Loaded,
    args: &Run,
    screen: &Screen,
    ending: Ending<impl Future<Output = ()>>,
) -> Result<Exit, Failure> {
    if let Spec::Chain(spec) = &loaded.spec
        && spec.schedule.is_some()
        && args.input.is_none()
        && args.inputs.is_none()
    {
        let message = "its schedule needs a spec in a file, and no `--watch`; `--input` runs it once";
        return Err(Failure::invalid(format!("{}: {message}", args.spec.path)));
    }
    fits(args, loaded)?;
    let many = args.inputs.is_some();
    let documents = if many { Documents::lines() } else { Documents::kept() };
    let targets = targets(loaded, args);
    let monitor = Monitor::start(loaded, &args.monitoring, engine.env(), screen)?;
    let engine = &monitor.engine(engine);
    let (begin, from) = (engine.env().monotonic(), engine.env().wall());
    let (runs, ended) = runs(engine, args, loaded.choice.mode)?;
    let runs = runs.staying(args.wait);
    let kept = Kept::begin(engine, loaded, args, screen)?;
    let unkept = if kept.is_kept() { Eyes::default() } else { monitor.eyes() };
    let documents = documents.measuring(!targets.is_empty()).seen_by(unkept);
    let shared = cache::of(args.cache.as_deref(), engine.env())?;
    let engine = &shared.engine(engine);
    let graph =
        prepare::graph(loaded, &kept.keep(&loaded.spec, runs, shared.cache, &monitor)?, documents.clone(), args.mock);
    let plan = prepare::plan(engine, graph, loaded).await?;
    let started = |stats: &Arc<JobStats>| {
        kept.shows(stats);
        monitor.watch(stats);
    };
    job::run_shown(engine, plan, args, (screen, &started), ending).await?;
    if args.stats {
        kept.tell(screen);
    }
    // One that was stopped has inputs left.
    let open = documents.seen().open();
    if ended.get() && open == 0 {
        kept.end()?;
    }
    tell_open(&documents.seen(), screen);
    let took = engine.env().monotonic().saturating_sub(begin);
    let window = Window { from, to: engine.env().wall() };
    let exit = if many { tell(&documents.seen(), screen) } else { one_ended(&documents, loaded, screen)? };
    let exit = degraded(exit, &documents, args);
    let measured = documents.seen().measured.take().unwrap_or_default();
    Ok(targets::judge(&targets, &measured, (window, took), screen, exit))
}

/// Nothing begins, and nothing is given up, for the one input of the command line that does not fit.
///
/// # Errors
/// It says where it does not.
pub fn fits(args: &Run, loaded: &Loaded) -> Result<(), Failure> {
    let (Spec::Chain(spec), None) = (&loaded.spec, &args.inputs) else { return Ok(()) };
    let input = one(args.input.as_deref(), loaded.choice.mode)?;
    let input = serde_json::from_str(&input).map_err(|e| Failure::Invalid(e.into()))?;
    match check_input(spec, &input) {
        faults if faults.is_empty() => Ok(()),
        faults => Err(Failure::invalid(format!("the input does not fit: {}", faults.join("; ")))),
    }
}

/// What the runs are to reach.
fn targets(loaded: &Loaded, args: &Run) -> Targets {
    let of_spec = if let Spec::Chain(spec) = &loaded.spec { spec.targets.clone() } else { Targets::default() };
    args.target.iter().cloned().fold(of_spec, Targets::with)
}

/// Says which runs are not over.
pub fn tell_open(seen: &Seen, screen: &Screen) {
    let runs = |count: u64, one: &str, many: &str| {
        if count == 1 { format!("1 run {one}") } else { format!("{count} runs {many}") }
    };
    if seen.waiting > 0 {
        screen.tell(&format!("{}: `bourn inbox` says for what", runs(seen.waiting, "waits", "wait")));
    }
    if seen.unpaid() > 0 {
        let runs =
            runs(seen.unpaid(), "has spent what it may, and is paused", "have spent what they may, and are paused");
        screen.say(&format!("error: {runs}: `--budget per_run.tokens=…`, or `per_run.usd`, gives more"));
    } else if seen.paused > 0 {
        screen.tell(&format!("{}: `bourn runs resume` goes on", runs(seen.paused, "is paused", "are paused")));
    }
}

/// The exit code, when none is worse.
fn degraded(exit: Exit, documents: &Documents, args: &Run) -> Exit {
    let is_degraded = args.fail_on_degraded && documents.seen().degraded > 0;
    if exit == Exit::Ok && is_degraded { Exit::Degraded } else { exit }
}

/// Shows the document of the one run, and says how it ended.
///
/// # Errors
/// When there is none, or it can't be written.
pub fn one_ended(documents: &Documents, loaded: &Loaded, screen: &Screen) -> Result<Exit, Failure> {
    let seen = documents.seen();
    let Some(last) = &seen.last else {
        return Err(Failure::Failed(bourn_engine::Error::engine("the run ended without a document")));
    };
    answer::print(&document::show(last, loaded, screen.form)?)?;
    Ok(match (seen.refused, seen.failed + seen.unpaid()) {
        (1.., _) => Exit::Invalid,
        (0, 1..) => Exit::Failed,
        (0, 0) => Exit::Ok,
    })
}

/// The runs that the command line asks for, and what tells when all their inputs were read.
///
/// # Errors
/// When an input can't be read.
pub fn runs(engine: &Engine, args: &Run, mode: Mode) -> Result<(Runs, Ended), Failure> {
    if let Some(path) = &args.inputs {
        let inputs = given::lines(path)?;
        let ended = inputs.ended();
        return Ok((Runs::of(SOURCE, BoxConnector::new(inputs)), ended));
    }
    let inputs = Inputs::one("--input", one(args.input.as_deref(), mode)?);
    let ended = inputs.ended();
    let id = args.id.clone().unwrap_or_else(|| run_id(engine.env()));
    Ok((Runs::of(SOURCE, BoxConnector::new(inputs)).with_id(id), ended))
}

/// The one input as a line; an empty object when none was given. The task of a swarm may be a plain text.
pub fn one(input: Option<&str>, mode: Mode) -> Result<String, Failure> {
    let value = match input {
        None => Value::Object(serde_json::Map::new()),
        Some(text) => match given::input(text) {
            Err(_) if mode == Mode::Swarm && !text.starts_with(['@', '{', '[', '"']) => Value::String(text.to_owned()),
            other => other?,
        },
    };
    Ok(value.to_string())
}

fn tell(seen: &Seen, screen: &Screen) -> Exit {
    let open = match (seen.open(), seen.waiting) {
        (0, _) => String::new(),
        (open, waiting) if open == waiting => format!(", {open} wait"),
        (open, 0) => format!(", {open} are paused"),
        (_, waiting) => format!(", {waiting} wait, {} are paused", seen.paused),
    };
    if seen.failed == 0 {
        let but = if seen.degraded > 0 { format!(", {} of them degraded", seen.degraded) } else { String::new() };
        screen.notice(&format!("{} runs completed{but}{open}", seen.runs.saturating_sub(seen.open())));
        return if seen.unpaid() > 0 { Exit::Failed } else { Exit::Ok };
    }
    let mut lines = vec![format!("error: {} of {} runs failed", seen.failed, seen.runs)];
    lines.extend(seen.told.iter().map(|line| format!("  {line}")));
    let more = seen.failed - seen.told.len() as u64;
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    screen.say(&lines.join("\n"));
    Exit::Failed
}
