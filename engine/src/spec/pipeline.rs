//! The spec of a pipeline: its blocks read, its edges checked; one file, because an edge is told at the block that has it.

use super::checkpoint::CheckpointChoice;
use super::edges::{cycle, cycle_problem, dangling};
use super::keys::{JournalKeys, OneOrMany, PipelineKeys, SinkKeys, SourceKeys, StageKeys};
use super::model::{Endpoint, ErrorPolicy, From, Nested, Pipeline, Stage};
use super::monitoring::Monitoring;
use super::nested;
use super::node::{Content, Node};
use super::reader::{Block, Reader, check_id, own_part};
use super::shared::Shared;
use super::templates::TEMPLATE;
use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::api::{Inputs, Keeping, OnFull};
use crate::data::columns::RESERVED_PREFIX;
use crate::diagnostic::{Key, Problem};

/// Keys that the design has and this version has not.
const LATER: [&str; 4] = ["env", "targets", "durability", "schedule"];

/// A source, stage or sink, while its edges are still names.
struct Part {
    role: Role,
    id: String,
    /// Where the block stands.
    path: Vec<Key>,
    /// Where its configuration stands.
    config: Vec<Key>,
    from: Option<OneOrMany>,
    lanes: Option<usize>,
    on_error: Option<ErrorPolicy>,
    on_full: OnFull,
    fallback: Vec<BoxConnector>,
    rate_limit: Option<String>,
    journal: Option<Keeping>,
    workflow: Option<Box<(Nested, String)>>,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Stage,
    Sink,
    DeadLetters,
}

impl Part {
    fn unreadable_stage(id: String, path: Vec<Key>) -> Self {
        Self {
            role: Role::Stage,
            id,
            config: path.clone(),
            path,
            from: None,
            lanes: None,
            on_error: None,
            on_full: OnFull::Block,
            fallback: Vec::new(),
            rate_limit: None,
            journal: None,
            workflow: None,
            what: What::Unreadable,
        }
    }
}

/// What a part is, as far as it could be read.
enum What {
    Connector(BoxConnector),
    Stage(BoxStageConfig),
    Unreadable,
}

/// Reads the spec; `None` when a fault stands in the way.
pub(crate) fn read(reader: &mut Reader<'_>, name: &str) -> Option<Pipeline> {
    let before = reader.faults.len();
    let spec = reader.document.filled();
    let keys = reader.keys::<PipelineKeys>(spec.value(), &[], &LATER);
    let monitoring = keys.as_ref().and_then(|k| k.monitoring.as_ref());
    Monitoring::read(monitoring, reader);
    if monitoring.is_some_and(|said| !said.tasks.is_empty()) {
        let problem = Problem::new("no stage of a pipeline waits for a person").help("`tasks` is for workflows");
        reader.fault_at_key(&["monitoring".into(), "tasks".into()], problem);
    }
    let shared = Shared::read(reader, spec);
    let parts = parts(reader, spec, &shared);
    let whole = reader.faults.len();
    let edges = edges(reader, &parts);
    if let Some(circle) = cycle(&edges.iter().map(|e| e.iter().map(|(i, _)| *i).collect()).collect::<Vec<_>>()) {
        let first = circle[0];
        let path = [parts[first].path.as_slice(), &["from".into()]].concat();
        reader.fault(&path, cycle_problem(circle.iter().map(|i| parts[*i].id.as_str())));
    }
    // An edge that leads nowhere would make its end look unread.
    let sound = reader.faults.len() == whole;
    ends(reader, &parts, edges.as_slice(), sound);
    policies(reader, spec, &parts);
    if reader.faults.len() > before {
        return None;
    }
    let keys = keys?;
    let checkpoints = CheckpointChoice::resolve(keys.checkpoint.as_ref(), reader)?;
    let mut pipeline = Pipeline {
        name: keys.name.unwrap_or_else(|| name.to_owned()),
        sources: Vec::new(),
        stages: Vec::new(),
        sinks: Vec::new(),
        dead_letters: None,
        on_error: keys.on_error.unwrap_or_default(),
        tolerated: keys.tolerated_failure_percentage,
        epoch_every: keys.checkpoint.as_ref().and_then(CheckpointChoice::every),
        checkpoints,
        delivery: keys.delivery,
        rate_limits: shared.rates,
        budget: keys.budget,
        monitoring: keys.monitoring,
        memory: keys.limits.and_then(|l| l.memory).map(|s| s.0),
    };
    for (part, edges) in parts.into_iter().zip(edges) {
        let from = edges.into_iter().map(|(_, from)| from).collect();
        let Part { id, lanes, on_error, on_full, fallback, rate_limit, journal, workflow, config: path, role, .. } =
            part;
        match (part.what, role) {
            (What::Stage(config), _) => {
                pipeline.stages.push(Stage {
                    id,
                    config,
                    from,
                    lanes,
                    on_error,
                    on_full,
                    rate_limit,
                    journal,
                    workflow,
                    path,
                });
            }
            (What::Connector(connector), role) => {
                let endpoint = Endpoint { id, connector, from, lanes, on_error, on_full, fallback, path };
                match role {
                    Role::Source => pipeline.sources.push(endpoint),
                    Role::Sink => pipeline.sinks.push(endpoint),
                    _ => pipeline.dead_letters = Some(endpoint),
                }
            }
            (What::Unreadable, _) => return None,
        }
    }
    Some(pipeline)
}

/// Every block of the spec, in the order: sources, stages, sinks, dead letters.
fn parts(reader: &mut Reader<'_>, spec: &Node, shared: &Shared) -> Vec<Part> {
    let mut parts = Vec::new();
    for (id, path, block) in endpoints(spec, "source", "sources") {
        parts.push(source(reader, id, path, block));
    }
    for (index, block) in spec.get("stages").map(Node::elements).unwrap_or_default().iter().enumerate() {
        parts.push(stage(reader, vec!["stages".into(), index.into()], block, shared));
    }
    for (id, path, block) in endpoints(spec, "sink", "sinks") {
        parts.push(sink(reader, id, path, block, Role::Sink));
    }
    if let Some(block) = spec.get("dead_letters") {
        parts.push(sink(reader, "dead_letters".into(), vec!["dead_letters".into()], block, Role::DeadLetters));
    }
    for (index, part) in parts.iter().enumerate().filter(|(_, p)| !p.id.is_empty()) {
        // The ids of stages from a template were checked where they are written.
        let checked = reader.document.use_of(&part.path).map_or_else(|| check_id(&part.id), |_| None);
        if let Some(problem) = checked {
            reader.fault_at_key(&id_path(reader, part), problem);
        }
        if parts[..index].iter().any(|p| p.id == part.id) {
            let problem =
                Problem::new(format!("the id `{}` is here twice", part.id)).help("give each an `id` of its own");
            reader.fault_at_key(&id_path(reader, part), problem);
        }
    }
    parts
}

/// Where the id of a part stands, or the block if it says none.
fn id_path(reader: &Reader<'_>, part: &Part) -> Vec<Key> {
    let id = [part.path.as_slice(), &["id".into()]].concat();
    if reader.document.filled().at(&id).is_some() { id } else { part.path.clone() }
}

/// The block under the singular key, whose id is that key, and those under the plural one.
fn endpoints<'a>(spec: &'a Node, one: &str, many: &str) -> Vec<(String, Vec<Key>, &'a Node)> {
    let single = spec.get(one).map(|block| (one.to_owned(), vec![one.into()], block));
    let several = spec.get(many).map(Node::members).unwrap_or_default();
    let several = several.iter().map(|m| (m.name.clone(), vec![many.into(), m.name.as_str().into()], &m.node));
    single.into_iter().chain(several).collect()
}

fn source(reader: &mut Reader<'_>, id: String, path: Vec<Key>, block: &Node) -> Part {
    let mut what = Block::of::<SourceKeys>("source", "file: { path: data.jsonl }");
    what.later = &["time", "schema"];
    let keys = reader.keys::<SourceKeys>(own_part(block, &what.own), &path, &[]).unwrap_or_default();
    let (config, connector) = connector(reader, block, &path, &what, "source");
    Part {
        role: Role::Source,
        id,
        path,
        config,
        from: None,
        lanes: keys.lanes,
        on_error: keys.on_error,
        on_full: OnFull::Block,
        fallback: Vec::new(),
        rate_limit: None,
        journal: None,
        workflow: None,
        what: connector,
    }
}

fn sink(reader: &mut Reader<'_>, id: String, path: Vec<Key>, block: &Node, role: Role) -> Part {
    let mut what = Block::of::<SinkKeys>("sink", "file: { path: out.jsonl }");
    if role == Role::DeadLetters {
        what.own.retain(|key| key != "from" && key != "on_error");
    }
    let keys = reader.keys::<SinkKeys>(own_part(block, &what.own), &path, &[]).unwrap_or_default();
    let (config, connector) = connector(reader, block, &path, &what, "sink");
    let fallback = fallbacks(reader, block, &path);
    let SinkKeys { from, lanes, on_error, on_full, .. } = keys;
    let (rate_limit, journal, workflow) = (None, None, None);
    let what = connector;
    Part { role, id, path, config, from, lanes, on_error, on_full, fallback, rate_limit, journal, workflow, what }
}

/// The connectors under `fallback`: one, or a list.
fn fallbacks(reader: &mut Reader<'_>, block: &Node, path: &[Key]) -> Vec<BoxConnector> {
    let Some(said) = block.get("fallback") else { return Vec::new() };
    let path = [path, &["fallback".into()]].concat();
    let below = |index: usize| [path.as_slice(), &[index.into()]].concat();
    let blocks: Vec<_> = match &said.content {
        Content::List(list) => list.iter().enumerate().map(|(i, block)| (below(i), block)).collect(),
        _ => vec![(path, said)],
    };
    let mut what = Block::of::<SinkKeys>("fallback", "file: { path: fallback.jsonl }");
    what.own.clear();
    let read = |(path, block): (Vec<Key>, &Node)| match connector(reader, block, &path, &what, "sink").1 {
        What::Connector(connector) => Some(connector),
        _ => None,
    };
    blocks.into_iter().filter_map(read).collect()
}

fn connector(reader: &mut Reader<'_>, block: &Node, path: &[Key], what: &Block<'_>, side: &str) -> (Vec<Key>, What) {
    let registry = reader.registry;
    let Some(member) = reader.kind(block, path, what, registry.connectors()) else {
        return (path.to_vec(), What::Unreadable);
    };
    let config = [path, &[member.name.as_str().into()]].concat();
    let read = registry.connectors().get(member.name.as_str()).and_then(|entry| reader.configure(entry, &config));
    let Some(connector) = read else { return (config, What::Unreadable) };
    let capabilities = connector.0.capabilities();
    let able = if side == "source" { capabilities.source.is_some() } else { capabilities.sink.is_some() };
    if !able {
        reader.fault_at_key(&config, Problem::new(format!("`{}` can't be a {side}", member.name)));
    }
    (config, What::Connector(connector))
}

fn stage(reader: &mut Reader<'_>, path: Vec<Key>, block: &Node, shared: &Shared) -> Part {
    let mut what = Block::of::<StageKeys>("stage", "filter: amount > 10");
    what.later_kinds = &["window", "join", "aggregate", "sql"];
    let keys = reader.keys::<StageKeys>(own_part(block, &what.own), &path, &[]).unwrap_or_default();
    if block.get(TEMPLATE).is_some() {
        // Had it no fault, its stages would stand here; its fault is told.
        return Part::unreadable_stage(keys.id.unwrap_or_default(), path);
    }
    if keys.workflow.is_some() {
        return nested(reader, path, block, keys, &what);
    }
    let registry = reader.registry;
    let kind = reader.kind(block, &path, &what, registry.stages()).map(|m| m.name.clone());
    let config = kind.iter().fold(path.clone(), |path, kind| [path, vec![kind.as_str().into()]].concat());
    let entry = kind.as_ref().and_then(|kind| registry.stages().get(kind.as_str()));
    let mut rate_limit = None;
    let read = entry.and_then(|entry| {
        let mut filled = reader.document.filled().at(&config)?.value();
        if entry.schema.as_value()["properties"].get("limits").is_some() {
            let limits = [config.as_slice(), &["limits".into()]].concat();
            rate_limit = shared.resolve(reader, &limits, &mut filled);
        }
        let written = reader.document.written().at(&config)?.value();
        reader.configured(entry, filled, &written, |place| [config.as_slice(), place].concat())
    });
    let id = keys.id.or_else(|| block.get("id")?.text().map(str::to_owned)).or(kind);
    Part {
        role: Role::Stage,
        // A stage of which nothing is known has no name to read it by; its fault is told.
        id: id.unwrap_or_default(),
        path,
        config,
        from: keys.from,
        lanes: keys.lanes,
        on_error: keys.on_error,
        on_full: keys.on_full,
        fallback: Vec::new(),
        rate_limit,
        journal: keys.journal.and_then(JournalKeys::keeping),
        workflow: None,
        what: read.map_or(What::Unreadable, What::Stage),
    }
}

/// A stage whose rows are runs of a workflow.
fn nested(reader: &mut Reader<'_>, path: Vec<Key>, block: &Node, keys: StageKeys, what: &Block<'_>) -> Part {
    let below = |key: &str| [path.as_slice(), &[key.into()]].concat();
    for member in block.members().iter().filter(|m| !what.own.contains(&m.name)) {
        let problem = Problem::new(format!("one stage is one kind: `workflow` or `{}`", member.name));
        reader.fault_at_key(&below(&member.name), problem.help("write two stages"));
    }
    for key in ["journal", "lanes"].into_iter().filter(|key| block.get(key).is_some()) {
        let problem = Problem::new(format!("a workflow has no `{key}`"));
        reader.fault_at_key(
            &below(key),
            problem.help("the stage is a part of the graph with a node for each of its steps"),
        );
    }
    let config = below("workflow");
    let way = ["workflow".into()];
    let inner = nested::read(reader, (&path, &way), &["spec", "input", "output"], None, |_, input| match input {
        Some((node, _)) => node.value(),
        None => "${.}".into(),
    });
    let output = inner.as_ref().and_then(|inner| inner.block.get("output").filter(|_| inner.block.is_map()));
    let column = match output.map(Node::text) {
        None => "result".to_owned(),
        Some(Some(name)) if !name.is_empty() && !name.starts_with(RESERVED_PREFIX) => name.to_owned(),
        Some(_) => {
            let at = [config.as_slice(), &["output".into()]].concat();
            reader.fault(&at, Problem::new("this can't be the name of a column"));
            String::new()
        }
    };
    let (what, workflow) = match inner {
        Some(inner) => (What::Stage(inner.input), Some(Box::new((inner.nested, column)))),
        None => (What::Unreadable, None),
    };
    let id = keys.id.unwrap_or_else(|| "workflow".to_owned());
    let StageKeys { from, on_error, on_full, .. } = keys;
    Part {
        role: Role::Stage,
        id,
        path,
        config,
        from,
        lanes: None,
        on_error,
        on_full,
        fallback: Vec::new(),
        rate_limit: None,
        journal: None,
        workflow,
        what,
    }
}

/// What each part reads, as places in the list of parts. What can't be followed is told and left out.
fn edges(reader: &mut Reader<'_>, parts: &[Part]) -> Vec<Vec<(usize, From)>> {
    (0..parts.len()).map(|at| edges_of(reader, parts, at)).collect()
}

fn edges_of(reader: &mut Reader<'_>, parts: &[Part], at: usize) -> Vec<(usize, From)> {
    let part = &parts[at];
    if matches!(part.role, Role::Source | Role::DeadLetters) {
        return Vec::new();
    }
    let from = [part.path.as_slice(), &["from".into()]].concat();
    let named: Vec<(Vec<Key>, &str)> = match &part.from {
        None => return default_edge(reader, parts, at),
        Some(OneOrMany::One(name)) => vec![(from.clone(), name)],
        Some(OneOrMany::Many(names)) => {
            names.iter().enumerate().map(|(i, name)| ([from.as_slice(), &[i.into()]].concat(), name.as_str())).collect()
        }
    };
    let mut edges = Vec::new();
    for (path, name) in &named {
        match resolve(parts, name) {
            Ok(edge) => edges.push(edge),
            Err(problem) => reader.fault(path, problem),
        }
    }
    let two = matches!(&part.what, What::Stage(stage) if stage.0.inputs() == Inputs::Two);
    if named.is_empty() {
        reader.fault(&from, Problem::new(format!("`{}` reads nothing", part.id)));
    } else if two && named.len() != 2 {
        reader.fault(&from, Problem::new(format!("`{}` reads two, and {} is said here", part.id, named.len())));
    }
    edges
}

/// Without `from`, the part before: the stage before a stage, the last stage for a sink, the only source if there is no stage.
fn default_edge(reader: &mut Reader<'_>, parts: &[Part], at: usize) -> Vec<(usize, From)> {
    let stage_before = parts[..at].iter().rposition(|p| p.role == Role::Stage);
    let sources: Vec<_> = (0..parts.len()).filter(|i| parts[*i].role == Role::Source).collect();
    let edge = |i: usize| (i, From { id: parts[i].id.clone(), port: None });
    let two = matches!(&parts[at].what, What::Stage(stage) if stage.0.inputs() == Inputs::Two);
    if two {
        let problem = Problem::new(format!("`{}` reads two: which?", parts[at].id));
        reader.fault(&parts[at].path, problem.help("say `from: [left, right]`"));
        return Vec::new();
    }
    match (stage_before, sources.as_slice()) {
        (Some(before), _) => vec![edge(before)],
        (None, [only]) => vec![edge(*only)],
        // No source at all is told once, for the spec.
        (None, []) => Vec::new(),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|i| parts[*i].id.as_str()).collect();
            let problem = Problem::new(format!("which source does `{}` read?", parts[at].id));
            reader.fault(&parts[at].path, problem.help(format!("say `from: [{}]`, or one of them", names.join(", "))));
            Vec::new()
        }
    }
}

fn resolve(parts: &[Part], name: &str) -> Result<(usize, From), Problem> {
    // The id of a stage from a template has a dot in it.
    let is_part = parts.iter().any(|p| p.id == name);
    let (id, port) = name.rsplit_once('.').filter(|_| !is_part).map_or((name, None), |(id, port)| (id, Some(port)));
    let known = parts.iter().filter(|p| matches!(p.role, Role::Source | Role::Stage)).map(|p| p.id.as_str());
    let Some(at) = parts.iter().position(|p| p.id == id) else {
        return Err(dangling("source or stage", id, known.collect::<Vec<_>>()));
    };
    if matches!(parts[at].role, Role::Sink | Role::DeadLetters) {
        return Err(Problem::new(format!("`{id}` is a sink: nothing can be read from it")));
    }
    if let Some(port) = port {
        let there = match &parts[at].what {
            What::Stage(stage) => stage.0.ports(),
            What::Connector(_) => Vec::new(),
            // What it has is not known; its own fault is told.
            What::Unreadable => vec![port.to_owned()],
        };
        if !there.iter().any(|p| p == port) {
            let there: Vec<_> = there.iter().map(String::as_str).collect();
            return Err(dangling(&format!("port of `{id}`"), port, there));
        }
    }
    Ok((at, From { id: id.to_owned(), port: port.map(str::to_owned) }))
}

/// Rows must come from somewhere and go somewhere.
fn ends(reader: &mut Reader<'_>, parts: &[Part], edges: &[Vec<(usize, From)>], sound: bool) {
    let has = |role| parts.iter().any(|p| p.role == role);
    if !has(Role::Source) {
        reader.fault(&[], Problem::new("there is nothing to do: no source").help("add `sources: { in: { file: … } }`"));
    }
    if !has(Role::Sink) {
        let problem = Problem::new("there is nothing to do: no sink");
        reader.fault(&[], problem.help("add `sinks: { out: { file: … } }`, or `sink: { blackhole: {} }`"));
        return;
    }
    for (at, part) in parts.iter().enumerate().filter(|(_, p)| sound && !p.id.is_empty()) {
        let is_read = edges.iter().flatten().any(|(from, _)| *from == at);
        if matches!(part.role, Role::Source | Role::Stage) && !is_read {
            let problem = Problem::new(format!("nothing reads `{}`: its rows would be lost", part.id));
            reader.fault_at_key(&id_path(reader, part), problem.help(format!("add a sink with `from: {}`", part.id)));
        }
    }
}

/// Dead letters need a sink, and a sink of dead letters needs somebody who sends.
fn policies(reader: &mut Reader<'_>, spec: &Node, parts: &[Part]) {
    let said = spec.get("on_error").map(|_| vec!["on_error".into()]);
    let parts_said = parts.iter().map(|p| [p.path.as_slice(), &["on_error".into()]].concat());
    let senders: Vec<Vec<Key>> = said
        .into_iter()
        .chain(parts_said)
        .filter(|path| spec.at(path).and_then(Node::text) == Some("dead_letter"))
        .collect();
    let there = spec.get("dead_letters").is_some();
    if there && senders.is_empty() {
        let problem = Problem::new("nothing is sent to these dead letters");
        reader
            .fault_at_key(&["dead_letters".into()], problem.help("add `on_error: dead_letter` to the spec or a stage"));
    }
    for path in senders.iter().filter(|_| !there) {
        let problem = Problem::new("there are no `dead_letters` to send to");
        reader.fault(path, problem.help("add `dead_letters: { file: { path: rejected.jsonl } }`"));
    }
}
