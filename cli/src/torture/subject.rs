//! The spec under torture: what of it can be compared, and its copies in folders of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "the copies are written here, for processes that are no part of this one"
)]

use std::path::{Path, PathBuf};

use bourn_engine::api::limits::Order as Answers;
use bourn_engine::api::{Distribution, Replay};
use bourn_engine::checkpoint::store::plain;
use bourn_engine::diagnostic::Key;
use bourn_engine::graph::Role;
use bourn_engine::plan::{Level, OperatorKind, Plan};
use bourn_engine::spec::model::{Endpoint, Pipeline};
use bourn_engine::spec::{Loaded, Request};
use bourn_engine::{Engine, Error};
use serde_json::{Value, json};

use super::child::SPEC;
use super::compare::Order;
use super::rows::Target;
use crate::failure::Failure;
use crate::prepare;
use crate::run::documents::Documents;
use crate::torture::args::Torture;

/// Where each copy keeps its checkpoints, from its folder.
const CHECKPOINTS: &str = "checkpoints";
/// The variable that a spec names where it writes to a server, so that each run has a place of its own there.
const RUN: &str = "${env.BOURN_RUN";

/// A spec that can be tortured.
pub struct Subject {
    document: Value,
    /// The name of the job.
    pub name: String,
    /// How many checkpoints stay.
    pub keep: usize,
    /// Its sinks, with what their rows must be like.
    pub sinks: Vec<Sink>,
    /// The stages whose lanes may change.
    pub varied: Vec<Varied>,
    /// What the names of runs begin with, as no others do.
    mark: String,
}

/// A sink and what is expected of it.
pub struct Sink {
    /// Its id.
    pub id: String,
    /// Where its rows are.
    pub target: Target,
    /// How they must stand.
    pub order: Order,
    /// Whether rows may come twice.
    pub may_repeat: bool,
}

/// A stage that keeps its state by key.
pub struct Varied {
    /// Its id.
    pub id: String,
    /// How many lanes it has when nobody changes them.
    pub lanes: usize,
    /// Where its block stands.
    block: Vec<Key>,
    /// The columns of the key.
    key: Vec<String>,
}

impl Subject {
    /// The spec that the command line names.
    ///
    /// # Errors
    /// When it has problems, or can't be compared.
    pub async fn of(
        (path, args): (&str, &Torture),
        loaded: &Loaded,
        pipeline: &Pipeline,
        engine: &Engine,
    ) -> Result<Self, Failure> {
        let flags = [("--runs", args.runs.is_some()), ("--inputs", args.inputs.is_some()), ("--mock", args.mock)];
        if let Some((flag, _)) = flags.iter().find(|(_, is_said)| *is_said) {
            return Err(Failure::invalid(format!("{flag} is for workflows, and {path} is a pipeline")));
        }
        let plan = planned(loaded, engine).await?;
        let Some(checkpoints) = &plan.checkpoints else {
            let help = "say `checkpoint: { every: 100ms }` in it";
            return Err(Failure::invalid(format!("{path} keeps no checkpoints, so every kill begins it anew: {help}")));
        };
        let (mut document, filled) = (loaded.document.written().value(), loaded.document.filled().value());
        for source in &pipeline.sources {
            from_anywhere(source, &filled, &mut document)?;
        }
        let varied = varied(&plan, &document, engine).await;
        let mut sinks = Vec::new();
        for endpoint in pipeline.sinks.iter().chain(&pipeline.dead_letters) {
            let config = (in_place(&filled, &endpoint.path), in_place(&document, &endpoint.path));
            sinks.push(sink(endpoint, config, pipeline, (&plan, &varied))?);
        }
        let every = args.every.map(|every| format!("{}ms", every.as_millis()));
        if let Value::Object(members) = &mut document {
            members.insert("name".into(), plan.name.clone().into());
            // They were expanded, and cases are for `bourn test`.
            members.retain(|name, _| name != "templates" && name != "tests");
            let checkpoint = members.entry("checkpoint").or_insert_with(|| json!({}));
            checkpoint["path"] = CHECKPOINTS.into();
            if let Some(every) = every {
                checkpoint["every"] = every.into();
            }
        }
        let mark = format!("{:08x}", engine.env().random() >> 32);
        Ok(Self { document, name: plan.name.clone(), keep: checkpoints.keep, sinks, varied, mark })
    }

    /// Writes the spec into the folder of a job, with so many lanes for each stage that may have others.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&self, folder: &Path, lanes: &[usize]) -> Result<(), Error> {
        let mut document = self.document.clone();
        for (stage, lanes) in self.varied.iter().zip(lanes) {
            if let Some(block) = at(&mut document, &stage.block) {
                block["lanes"] = (*lanes).into();
            }
        }
        let path = folder.join(SPEC);
        let run = folder.file_name().unwrap_or_default().to_string_lossy();
        let text = of_run(&format!("{document:#}\n"), &format!("{}_{run}", self.mark));
        std::fs::write(&path, text).map_err(|e| Error::from(e).context(path.display()))
    }

    /// The lanes of the spec itself.
    pub fn lanes(&self) -> Vec<usize> {
        self.varied.iter().map(|v| v.lanes).collect()
    }

    /// The folder of a job's checkpoints, below its own.
    pub fn checkpoints(&self, folder: &Path) -> PathBuf {
        folder.join(CHECKPOINTS).join(plain(&self.name))
    }
}

/// The spec of one run.
fn of_run(spec: &str, name: &str) -> String {
    let mut parts = spec.split(RUN);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + name + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// The plan of a spec that is to run.
pub(super) async fn planned(loaded: &Loaded, engine: &Engine) -> Result<Plan, Failure> {
    let graph = prepare::graph(loaded, &prepare::no_runs(), Documents::lines(), false);
    prepare::plan(engine, graph, loaded).await
}

/// What stands at a place of the document.
fn at<'a>(document: &'a mut Value, path: &[Key]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |value, key| match key {
        Key::Name(name) => value.get_mut(name.as_str()),
        Key::Index(index) => value.get_mut(*index),
    })
}

/// The configuration that stands at a place of the spec, with its variables filled in.
fn in_place<'a>(filled: &'a Value, path: &[Key]) -> &'a Value {
    path.iter().fold(filled, |value, key| match key {
        Key::Name(name) => &value[name.as_str()],
        Key::Index(index) => &value[*index],
    })
}

/// Lets a source find its file from any folder.
fn from_anywhere(source: &Endpoint, filled: &Value, document: &mut Value) -> Result<(), Failure> {
    let refused = |why: &str| {
        let message = format!("the source `{}` (`{}`) {why}", source.id, source.connector.kind());
        Failure::invalid(format!("{message}: torture needs sources that end and can be read again from a position"))
    };
    let reads = source.connector.capabilities().source.ok_or_else(|| refused("reads nothing"))?;
    if !reads.finite {
        return Err(refused("does not end"));
    }
    if reads.replay != Replay::FromPosition {
        return Err(refused("can't be read again"));
    }
    if !["file", "sqlite"].contains(&source.connector.kind()) {
        return Ok(());
    }
    let said = in_place(filled, &source.path);
    if let (Some(path), Some(block)) = (said["path"].as_str(), at(document, &source.path)) {
        let path = std::path::absolute(path).map_err(|e| Failure::Failed(Error::from(e).context(path)))?;
        block["path"] = path.display().to_string().into();
    }
    Ok(())
}

/// Where a sink writes, and how its rows must stand.
fn sink(
    endpoint: &Endpoint,
    (config, written): (&Value, &Value),
    pipeline: &Pipeline,
    (plan, varied): (&Plan, &[Varied]),
) -> Result<Sink, Failure> {
    let (id, kind) = (&endpoint.id, endpoint.connector.kind());
    let target = match kind {
        "file" => Target::of_file(config),
        "sqlite" => Target::of_table(config),
        _ if endpoint.connector.reads_back() => {
            if !written.to_string().contains(RUN) {
                let help = "name a place of its own for each run, such as `orders_${env.BOURN_RUN:-0}`";
                return Err(Failure::invalid(format!("the sink `{id}` (`{kind}`) writes to a server: {help}")));
            }
            Some(Target::elsewhere(id.clone()))
        }
        _ => None,
    };
    let target = target.filter(|_| endpoint.fallback.is_empty());
    let target = target.ok_or_else(|| {
        let what = if endpoint.fallback.is_empty() { "" } else { " with a `fallback`" };
        let help = "torture compares what can be read back, as from `file`, `sqlite`, `postgres` and `object_store`";
        Failure::invalid(format!("the sink `{id}` (`{kind}`{what}) can't be compared: {help}"))
    })?;
    let path = config["path"].as_str().filter(|_| target.is_here()).unwrap_or_default();
    let leaves = Path::new(path)
        .components()
        .any(|part| !matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if leaves {
        let why = "each run writes into a folder of its own, so the path of a sink must be one below it";
        return Err(Failure::invalid(format!("the sink `{id}` writes to {path}: {why}")));
    }
    let levels = plan.guarantees.iter().filter(|g| g.sink == *id).map(|g| g.level);
    let level = levels.min().unwrap_or(Level::ExactlyOnce);
    if level == Level::AtMostOnce {
        return Err(Failure::invalid(format!(
            "the sink `{id}` may lose rows, as `bourn plan` says: there is nothing to compare"
        )));
    }
    let is_letters = pipeline.dead_letters.as_ref().is_some_and(|d| d.id == *id);
    let target = if is_letters { target.without_times() } else { target };
    let order =
        if is_letters || !target.is_one_text() { Order::Any } else { order(id, plan, varied, target.is_json()) };
    Ok(Sink { id: id.clone(), target, order, may_repeat: level == Level::AtLeastOnce })
}

/// How the rows of a text must stand: as they come, if there is one way with one lane to it.
fn order(sink: &str, plan: &Plan, varied: &[Varied], is_json: bool) -> Order {
    let mut key = None::<&[String]>;
    let mut node = plan.nodes.iter().position(|n| *n.id == *sink);
    while let Some(here) = node {
        let stage = &plan.nodes[here];
        let known = varied.iter().find(|v| *v.id == *stage.id);
        if let Some(Varied { key: keyed, .. }) = known {
            // Rows of one key stay together only where every stage on the way spreads them alike.
            if key.is_some_and(|key| key != keyed) {
                return Order::Any;
            }
            key = Some(keyed.as_slice());
        } else if stage.lanes != 1 || answers_as_they_come(&stage.operator) {
            return Order::Any;
        }
        let mut before = plan.edges_to(here).map(|e| e.from);
        node = before.next();
        if before.next().is_some() {
            return Order::Any;
        }
    }
    match key {
        Some(key) if is_json => Order::ByKey(key.to_vec()),
        Some(_) => Order::Any,
        None => Order::Full,
    }
}

fn answers_as_they_come(operator: &OperatorKind) -> bool {
    matches!(operator, OperatorKind::Call(limits) if limits.order != Answers::Kept)
}

/// The stages that keep their state by key, so that the spec may say another number of lanes.
async fn varied(plan: &Plan, document: &Value, engine: &Engine) -> Vec<Varied> {
    let mut all: Vec<Varied> = Vec::new();
    for node in plan.nodes.iter().filter(|n| n.keeps_keys && n.is_keyed()) {
        let Role::Stage(config) = &node.role else { continue };
        let Distribution::Keyed(key) = config.distribution() else { continue };
        let block: Vec<Key> = node.path.iter().take(2).cloned().collect();
        let found = Varied { id: node.id.to_string(), lanes: node.lanes, block, key };
        // The planner may know why not.
        let mut changed = document.clone();
        if let Some(block) = at(&mut changed, &found.block) {
            block["lanes"] = 3.into();
        }
        let loaded = Request::default().load(&changed.to_string(), SPEC, engine.registry(), engine.env());
        if let Ok(loaded) = loaded
            && planned(&loaded, engine).await.is_ok()
        {
            all.push(found);
        }
    }
    all
}
