//! The spec of a workflow of steps: its blocks read, its dependencies checked.

use serde_json::Value;

use super::budget::BudgetKeys;
use super::caching::Caching;
use super::edges::{cycle, cycle_problem};
use super::model::{Chain, Starts, Step, Work};
use super::monitoring::Monitoring;
use super::node::{Content, Member, Node};
use super::optimization::Optimization;
use super::output::Output;
use super::reader::{Reader, check_id};
use super::references::reduce;
use super::resources::order;
use super::routing::{Route, Routing};
use super::schedule::Schedule;
use super::shared::Shared;
use super::steps::{Block, Common, Read, TAKEN};
use super::timeouts::Timeouts;
use super::workflow_keys::{DefaultKeys, WorkflowKeys};
use crate::diagnostic::{Key, Problem};

/// Keys that the design has and this version has not.
const LATER: [&str; 3] = ["env", "concurrency", "priority"];
/// The gates of a run, and the step that they stand behind.
const GATES: &str = "quality_gates";

/// Reads the spec; `None` when a fault stands in the way. What an outer spec says holds where the inner one does not.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    routing: &Routing,
    outer: Option<&Common<'_>>,
) -> Option<Chain> {
    let before = reader.faults.len();
    let spec = reader.document.filled();
    let keys = reader.keys::<WorkflowKeys>(spec.value(), &[], &LATER);
    if let Some(schema) = keys.as_ref().and_then(|k| k.input.as_ref()?.schema.as_ref())
        && let Err(e) = jsonschema::validator_for(schema)
    {
        reader.fault(&["input".into(), "schema".into()], Problem::new(format!("this is no JSON Schema: {e}")));
    }
    Monitoring::read(keys.as_ref().and_then(|k| k.monitoring.as_ref()), reader);
    // The routes and defaults are of use for finding more faults, even when another key is wrong.
    let part = |name: &str| spec.get(name).map(Node::value);
    let routes = part("routing").and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
    let routing = outer.map_or(routing, |outer| outer.routing).clone();
    let routing = routing.with(std::collections::BTreeMap::<String, Route>::into_iter(routes));
    let own: Option<DefaultKeys> = part("defaults").and_then(|v| serde_json::from_value(v).ok());
    let timeouts = match &own {
        Some(own) => {
            own.timeout.as_ref().map(|said| Timeouts::read(reader, said, &["defaults".into(), "timeout".into()]))
        }
        None => outer.map(|outer| outer.timeouts),
    };
    let defaults = own.unwrap_or_else(|| outer.map(|outer| outer.defaults.clone()).unwrap_or_default());
    let mut blocks = blocks(spec);
    let judged = keys.as_ref().and_then(|keys| judging(keys, spec, &blocks));
    blocks.extend(judged.as_ref().map(|node| Block { node, path: Vec::new(), starts: Starts::Finally }));
    let ids = ids(reader, &blocks);
    let shared = outer.map(|outer| outer.shared.clone()).unwrap_or_default().with(Shared::read(reader, spec));
    let wishes = part("optimization").and_then(|v| serde_json::from_value::<Optimization>(v).ok());
    let adaptive = wishes.is_some_and(|wish| wish.adaptive_thinking) || outer.is_some_and(|outer| outer.adaptive);
    let common = Common { ids, routing: &routing, defaults, timeouts: timeouts.unwrap_or_default(), shared, adaptive };
    let read: Vec<Read> = blocks.iter().enumerate().map(|(at, block)| common.read(reader, at, block)).collect();
    let needs = needs(&blocks, &read);
    if let Some(circle) = cycle(&needs) {
        let mut path = blocks[circle[0]].path.clone();
        let said = ["depends_on", "needs", "dependencies"];
        path.extend(said.into_iter().find(|k| blocks[circle[0]].node.get(k).is_some()).map(Key::from));
        reader.fault(&path, cycle_problem(circle.iter().map(|i| common.ids[*i].as_str())));
    }
    let said = keys.as_ref().and_then(|keys| keys.schedule.clone());
    let schedule = said.and_then(|keys| Schedule::read(reader, keys, &["schedule".into()]));
    if let Some(keys) = &keys {
        keys.output_format.check(reader, &common.ids);
    }
    if keys.as_ref().and_then(|keys| keys.timeout).is_some_and(|time| time.0.is_zero()) {
        let problem = Problem::new("a run that may take no time does nothing");
        reader.fault(&["timeout".into()], problem.help("without `timeout` it may take as long as it needs"));
    }
    let said = keys.as_ref().and_then(|keys| keys.output.as_ref());
    let output = said.and_then(|said| Output::read(reader, said, &["output".into()]));
    if reader.faults.len() > before {
        return None;
    }
    let keys = keys?;
    let chosen_by = |at: usize| (0..read.len()).filter(|by| read[*by].chooses.contains(&at)).collect::<Vec<_>>();
    let chosen_by: Vec<_> = (0..read.len()).map(chosen_by).collect();
    let (steps, rewards): (Vec<Option<Step>>, Vec<_>) = read.into_iter().map(|read| (read.step, read.reward)).unzip();
    let mut steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
    for (step, (needs, chosen_by)) in steps.iter_mut().zip(needs.into_iter().zip(chosen_by)) {
        (step.reads, step.chosen_by) = (needs, chosen_by);
    }
    rewarded(&mut steps, rewards);
    reduce(&mut steps);
    order(&mut steps, !keys.optimization.assume_stateless);
    if keys.optimization.cache {
        Caching::all(&mut steps);
    }
    Some(Chain {
        name: keys.name.unwrap_or_else(|| name.to_owned()),
        input: keys.input.and_then(|i| i.schema),
        steps,
        rate_limits: common.shared.rates,
        fail_fast: keys.fail_fast,
        timeout: keys.timeout,
        durability: keys.durability,
        mode_thresholds: keys.mode_thresholds,
        optimization: keys.optimization,
        format: keys.output_format,
        output,
        targets: keys.targets,
        budget: keys.budget.and_then(BudgetKeys::of_job),
        run_budget: keys.budget.and_then(BudgetKeys::of_run),
        monitoring: keys.monitoring,
        schedule,
    })
}

/// Adds for each route the step that says what its way has brought, when all others have ended. No step of a spec can have its name.
fn rewarded(steps: &mut Vec<Step>, rewards: Vec<Option<Work>>) {
    let before = |step: &Step| step.starts != Starts::Finally;
    let reads: Vec<usize> = (0..steps.len()).filter(|at| before(&steps[*at])).collect();
    for (at, work) in rewards.into_iter().enumerate().filter_map(|(at, work)| Some((at, work?))) {
        let path = [steps[at].path.as_slice(), &["route".into(), "reward".into()]].concat();
        let step = Step::new(&format!("{}.reward", steps[at].id), work, reads.clone(), path);
        steps.push(Step { starts: Starts::Finally, refs: vec![at], ..step });
    }
}

/// The step that the gates of a run stand behind: it gives what the run gives, when all others have ended well.
fn judging(keys: &WorkflowKeys, spec: &Node, blocks: &[Block<'_>]) -> Option<Node> {
    let gates = spec.get(GATES)?.clone();
    let of = blocks.iter().filter(|block| block.starts == Starts::Completed);
    let ids: Vec<&str> = of.filter_map(|block| block.node.get("id")?.text()).collect();
    let column = |id: &&str| format!(".[{}]", Value::from(*id));
    let statuses: Vec<String> = ids.iter().map(|id| format!("{}.status", column(id))).collect();
    let good = r#"all(. != "FAILED" and . != "TIMED_OUT" and . != "CANCELED")"#;
    let entry = |id: &&str| format!("{{key: {}, value: ({})}}", Value::from(*id), column(id));
    let entries: Vec<String> = ids.iter().map(entry).collect();
    let has_results =
        r#"select(.value.status | . == "COMPLETED" or . == "CACHED" or . == "REUSED") | .value |= .results"#;
    // What it says wrong is told where it stands.
    let output = keys.output.clone().and_then(|keys| Output::try_from(keys).ok());
    let (format, made) =
        (keys.output_format.program(), output.map_or_else(|| ".".to_owned(), |output| output.program()));
    let value = format!("${{[{}] | map({has_results}) | {format} | {made}}}", entries.join(", "));
    let text = |text: String| Node { span: gates.span.clone(), content: Content::Text(text) };
    let map = |members: Vec<(&str, Node)>| {
        let key = gates.span.clone();
        let member = |(name, node): (&str, Node)| Member { name: name.to_owned(), key: key.clone(), node };
        Node { span: gates.span.clone(), content: Content::Map(members.into_iter().map(member).collect()) }
    };
    Some(map(vec![
        ("id", text(GATES.to_owned())),
        ("if", text(format!("${{[{}] | {good}}}", statuses.join(", ")))),
        ("set", map(vec![("value", text(value))])),
        (GATES, gates.clone()),
    ]))
}

/// All steps of a workflow: those of `steps`, what undoes them, and those of `finally`.
fn blocks(spec: &Node) -> Vec<Block<'_>> {
    let of = |key: &'static str, starts: Starts| {
        let nodes = spec.get(key).map(Node::elements).unwrap_or_default();
        let block = move |(at, node): (usize, _)| Block { node, path: vec![key.into(), at.into()], starts };
        nodes.iter().enumerate().map(block)
    };
    let steps: Vec<_> = of("steps", Starts::Completed).collect();
    let mut undoing = Vec::new();
    for (at, block) in steps.iter().enumerate() {
        if let Some(node) = block.node.get("compensate") {
            let path = [block.path.as_slice(), &["compensate".into()]].concat();
            undoing.push(Block { node, path, starts: Starts::Undo(at) });
        }
    }
    steps.into_iter().chain(undoing).chain(of("finally", Starts::Finally)).collect()
}

/// What each step needs: what it says and reads, the switches that may choose it, and for those at the end what comes before.
fn needs(blocks: &[Block<'_>], read: &[Read]) -> Vec<Vec<usize>> {
    let of = |starts: fn(&Starts) -> bool| (0..blocks.len()).filter(move |at| starts(&blocks[*at].starts));
    let steps: Vec<usize> = of(|s| *s == Starts::Completed).collect();
    let undoing: Vec<usize> = of(|s| matches!(s, Starts::Undo(_))).collect();
    let mut all: Vec<Vec<usize>> = read.iter().map(|read| read.needs.clone()).collect();
    for (at, read) in read.iter().enumerate() {
        for chosen in &read.chooses {
            all[*chosen].push(at);
        }
    }
    // A circle among the steps is told as such, and not together with what comes behind them.
    let undone: Vec<usize> = topological(&all, &steps).into_iter().rev().collect();
    let mut before = None;
    for step in undone {
        let Some(at) = undoing.iter().copied().find(|at| blocks[*at].starts == Starts::Undo(step)) else { continue };
        all[at].extend(steps.iter().copied().chain(before));
        before = Some(at);
    }
    for at in of(|s| *s == Starts::Finally) {
        all[at].extend(steps.iter().chain(&undoing));
    }
    for needs in &mut all {
        needs.sort_unstable();
        needs.dedup();
    }
    all
}

/// The steps, each behind those that it needs; those in a circle are left out.
fn topological(needs: &[Vec<usize>], steps: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let ready = |order: &[usize]| {
        steps.iter().copied().find(|at| !order.contains(at) && needs[*at].iter().all(|need| order.contains(need)))
    };
    while let Some(next) = ready(&order) {
        order.push(next);
    }
    order
}

/// The ids of the steps; empty for one without.
fn ids(reader: &mut Reader<'_>, blocks: &[Block<'_>]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for Block { node, path, starts } in blocks {
        if let Starts::Undo(of) = starts {
            // No step can have this name.
            ids.push(format!("{}.compensate", ids[*of]));
            continue;
        }
        let below = [path.as_slice(), &["id".into()]].concat();
        let id = node.get("id").and_then(Node::text).unwrap_or_default().to_owned();
        if id.is_empty() {
            if node.is_map() && node.get("id").is_none() {
                reader.fault(path, Problem::new("this step has no `id`").help("later steps read it by its id"));
            }
        } else if let Some(problem) = check_id(&id) {
            reader.fault(&below, problem);
        } else if TAKEN.contains(&id.as_str()) {
            let problem = Problem::new(format!("`{id}` can't be the id of a step: `${{{id}}}` means something else"));
            reader.fault(&below, problem);
        } else if ids.contains(&id) {
            let problem =
                Problem::new(format!("the id `{id}` is here twice")).help("give each step an `id` of its own");
            reader.fault(&below, problem);
        }
        ids.push(id);
    }
    ids
}
