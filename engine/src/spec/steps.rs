//! One step of a workflow: its block read, with what it needs.

use std::time::Duration;

use serde_json::Value;

use super::caching::Caching;
use super::command::{Command, Configured, Said};
use super::keys::names_of;
use super::model::{ForEach, Places, Repeat, Starts, Step, Work};
use super::node::Node;
use super::on_failure::OnFailure;
use super::output::Output;
use super::pipeline_step::PIPELINE;
use super::reader::{Reader, check_id, own_part};
use super::references::Names;
use super::resources::{Resources, elements};
use super::routing::Routing;
use super::shared::Shared;
use super::switch::{SwitchConfig, Way};
use super::timeouts::Timeouts;
use super::tried::Tried;
use super::workflow_keys::{AlternativeKeys, DefaultKeys, Elements, ForEachKeys, RepeatKeys, StepKeys, WayKeys};
use crate::api::registry::BoxStageConfig;
use crate::api::template::Template;
use crate::data::units::{Interval, Percentage};
use crate::diagnostic::{Key, Problem};

/// Names that a step can't have, because `${name}` means something else.
pub(super) const TAKEN: [&str; 4] = ["input", "steps", "env", "secret"];

/// Where a step of a workflow stands, and when it starts.
pub(super) struct Block<'a> {
    pub node: &'a Node,
    pub path: Vec<Key>,
    pub starts: Starts,
}

/// What holds for every step.
pub(super) struct Common<'a> {
    /// The ids of all blocks.
    pub(super) ids: Vec<String>,
    pub(super) routing: &'a Routing,
    pub(super) defaults: DefaultKeys,
    /// How long a step may take that does not say.
    pub(super) timeouts: Timeouts,
    pub(super) shared: Shared,
    /// Whether models that are not told how hard to think find it out from their task.
    pub(super) adaptive: bool,
}

/// A step as far as it could be read.
#[derive(Default)]
pub(super) struct Read {
    /// The steps that it needs.
    pub needs: Vec<usize>,
    /// The steps that it may choose.
    pub chooses: Vec<usize>,
    /// What says what that has brought.
    pub reward: Option<Work>,
    /// The step, if it has no fault.
    pub step: Option<Step>,
}

impl Common<'_> {
    pub(super) fn read(&self, reader: &mut Reader<'_>, at: usize, block: &Block<'_>) -> Read {
        let Block { node, path, starts } = block;
        let (mut needs, mut chooses) = (Vec::new(), Vec::new());
        if !node.is_map() {
            reader.fault(path, Problem::new(format!("expected a map, found {}", node.kind())));
            return Read::default();
        }
        let below = |key: &str| [path.as_slice(), &[key.into()]].concat();
        // What undoes a step is a command and no more.
        let undoes = matches!(starts, Starts::Undo(_));
        let own = if undoes { names_of::<AlternativeKeys>() } else { names_of::<StepKeys>() };
        let before = reader.faults.len();
        let keys = reader.keys::<StepKeys>(own_part(node, &own), path, &[]).unwrap_or_default();
        let said = self.said(reader, at, &keys, path, &mut needs);
        let for_each =
            keys.for_each.as_ref().and_then(|each| self.for_each(reader, at, each, &below("for_each"), &mut needs));
        let names = Names { ids: &self.ids, own: at, again: false, item: None };
        let condition = keys.r#if.as_ref().and_then(|text| {
            let short = names.text(reader, text, &below("if"), &mut needs);
            condition(reader, &short, &below("if"))
        });
        let on_failure = OnFailure::read(reader, &keys, path);
        let mut tried = self.tried(reader, &below("retry"), (keys.timeout.as_ref(), keys.retry.as_ref()), None);
        if !on_failure.retries {
            tried.retry.max_attempts = 1;
        }
        let item = keys.for_each.as_ref().map(|each| each.r#as.as_str());
        let names = Names { item, again: keys.repeat.is_some(), ..names };
        let repeat = keys.repeat.as_ref().and_then(|r| rounds(reader, r, &names, &below("repeat"), &mut needs));
        chooses_once(reader, &keys, &below);
        let blocks = ["switch", "route", "workflow", PIPELINE].into_iter().filter(|key| node.get(key).is_some());
        let blocks: Vec<&str> = blocks.collect();
        let instead = blocks.first().copied();
        let command = self.command(reader, node, path, &own, instead.is_some());
        let both = does_two(reader, command.as_ref(), &blocks, path);
        let (mut reward, mut route) = (None, None);
        let work = match (&keys.switch, &command) {
            _ if both => None,
            (Some(ways), None) => {
                let names = Names { item: None, ..names };
                let config = self.ways(reader, &names, ways, &below("switch"), (&mut needs, &mut chooses));
                let stage = BoxStageConfig(std::sync::Arc::new(config));
                Some(tried.work(reader, "switch", Configured { stage, rate_limit: None, places: Places::default() }))
            }
            _ if instead == Some("route") => keys.route.as_ref().and_then(|keys| {
                let routed = self.routed(reader, &names, (keys, &tried), &below("route"), &mut chooses)?;
                (reward, route) = (Some(routed.says), Some(routed.arms));
                Some(routed.work)
            }),
            _ if instead == Some(PIPELINE) => Self::pipeline(reader, node, (path, &[]), (&names, &tried), &mut needs),
            _ if instead.is_some() => {
                let repeat = keys.repeat.as_ref().map(|repeat| (repeat.max_iterations, repeat.every.is_some()));
                self.nested(reader, node, (path, &[]), &names, repeat, &mut needs)
            }
            (_, command) => command.as_ref().and_then(|command| {
                let said = [Said { block: node, way: Vec::new() }];
                let does = self.config(reader, command, &said, path, &names, &mut needs)?;
                Some(tried.work(reader, &command.name, does))
            }),
        };
        let alternatives = node.get("fallback").map(Node::elements).unwrap_or_default();
        let fallback: Vec<_> = (0_usize..)
            .zip(alternatives)
            .map(|(i, node)| {
                let other = Said { block: node, way: vec!["fallback".into(), i.into()] };
                let first = Said { block: block.node, way: Vec::new() };
                self.alternative(reader, (command.as_ref(), &tried), [first, other], path, &names, &mut needs)
            })
            .collect();
        let (output, cache) =
            (Output::of_step(reader, &keys, instead, path), Caching::read(reader, &keys, instead, path));
        let of_results = (&Names { again: true, ..names }, &tried);
        let gates = self.gates(reader, (&keys, node.get("quality_gates"), undoes), path, of_results, &mut needs);
        let resources = Resources::read(reader, &keys, path);
        let refs = read_by_places(&mut needs, said.len());
        let mut step = (reader.faults.len() == before).then_some(()).and(work).map(|work| Step {
            id: self.ids[at].clone(),
            work,
            fallback: on_failure.ways(fallback.into_iter().flatten().collect()),
            starts: *starts,
            reads: Vec::new(),
            said,
            refs,
            needs: Vec::new(),
            resources,
            after: Vec::new(),
            follows: Vec::new(),
            chosen_by: Vec::new(),
            route,
            condition,
            for_each,
            repeat,
            default: keys.default.clone(),
            output,
            gates,
            cache,
            path: path.clone(),
        });
        if let Some(step) = &mut step {
            elements(reader, step);
        }
        Read { needs, chooses, reward, step }
    }

    /// What is tried in place of a step: another command, or the same one with something else.
    fn alternative(
        &self,
        reader: &mut Reader<'_>,
        (command, usual): (Option<&Command>, &Tried),
        [first, other]: [Said<'_>; 2],
        path: &[Key],
        names: &Names<'_>,
        needs: &mut Vec<usize>,
    ) -> Option<Work> {
        let here = [path, &other.way].concat();
        if !other.block.is_map() {
            reader.fault(&here, Problem::new(format!("expected a map, found {}", other.block.kind())));
            return None;
        }
        let own = names_of::<AlternativeKeys>();
        let keys = reader.keys::<AlternativeKeys>(own_part(other.block, &own), &here, &[])?;
        let retry = [&here, ["retry".into()].as_slice()].concat();
        let tried = self.tried(reader, &retry, (keys.timeout.as_ref(), keys.retry.as_ref()), Some(usual));
        if other.block.get("workflow").is_some() {
            return self.nested(reader, other.block, (path, &other.way), names, None, needs);
        }
        if other.block.get(PIPELINE).is_some() {
            return Self::pipeline(reader, other.block, (path, &other.way), (names, &tried), needs);
        }
        let new = self.command(reader, other.block, &here, &own, true);
        let (command, said) = match (&new, command) {
            (Some(new), _) => (new, vec![other]),
            (None, Some(command)) => (command, vec![first, other]),
            (None, None) => {
                reader.fault(&here, Problem::new("this fallback has no `command`"));
                return None;
            }
        };
        let does = self.config(reader, command, &said, path, names, needs)?;
        Some(tried.work(reader, &command.name, does))
    }

    /// The ways out of a switch.
    fn ways(
        &self,
        reader: &mut Reader<'_>,
        names: &Names<'_>,
        ways: &[WayKeys],
        path: &[Key],
        (needs, chooses): (&mut Vec<usize>, &mut Vec<usize>),
    ) -> SwitchConfig {
        let mut read: Vec<Way> = Vec::new();
        for (i, way) in (0_usize..).zip(ways) {
            let below = |key: &str| [path, &[i.into(), key.into()]].concat();
            if ways[..i].iter().any(|before| before.when.is_none()) {
                let problem = Problem::new("this way is never taken: one before it has no `when`");
                reader.fault(&[path, &[i.into()]].concat(), problem.help("the way without `when` stands last"));
            }
            let when = way.when.as_ref().and_then(|text| {
                let short = names.text(reader, text, &below("when"), needs);
                condition(reader, &short, &below("when"))
            });
            let before = chooses.len();
            self.depends(reader, names.own, &below("then"), Some(&way.then), chooses);
            let then = chooses[before..].iter().map(|at| self.ids[*at].clone()).collect();
            read.push(Way { when, then });
        }
        SwitchConfig { ways: read }
    }

    /// The list that a step goes through.
    fn for_each(
        &self,
        reader: &mut Reader<'_>,
        at: usize,
        keys: &ForEachKeys,
        path: &[Key],
        needs: &mut Vec<usize>,
    ) -> Option<ForEach> {
        let below = |key: &str| [path, &[key.into()]].concat();
        let name = &keys.r#as;
        let taken = TAKEN.contains(&name.as_str()) || self.ids.contains(name);
        if taken {
            let problem =
                Problem::new(format!("`{name}` can't be the name of an element: `${{{name}}}` means something else"));
            reader.fault(&below("as"), problem);
        } else if let Some(problem) = check_id(name) {
            reader.fault(&below("as"), problem);
        }
        let names = Names { ids: &self.ids, own: at, again: false, item: None };
        let text = match &keys.r#in {
            Elements::Place(text) => names.text(reader, text, &below("in"), needs),
            Elements::Values(values) => {
                let list = Value::from(values.clone()).to_string();
                if list.contains("${") {
                    let problem = Problem::new("the elements of a list in the spec are values, without places");
                    reader.fault(&below("in"), problem.help("a list with places is jq: `in: ${[.input.a, .input.b]}`"));
                    return None;
                }
                format!("${{{list}}}")
            }
        };
        let list = Template::parse(&text).ok()?;
        if !list.is_one_place() {
            let problem = Problem::new("what a step goes through is one place with a list");
            reader.fault(&below("in"), problem.help("for example `in: ${input.files}`"));
        }
        Some(ForEach {
            list,
            name: name.clone(),
            max_concurrency: keys.max_concurrency,
            tolerated: keys.tolerated_failure_percentage.unwrap_or(Percentage(0.0)),
            fail_fast: keys.fail_fast,
        })
    }
}

/// Tells it when a step that chooses what comes next is to do so often.
fn chooses_once(reader: &mut Reader<'_>, keys: &StepKeys, below: &impl Fn(&str) -> Vec<Key>) {
    let said = [(keys.switch.is_some(), "switch"), (keys.route.is_some(), "route")];
    let Some((_, kind)) = said.iter().find(|(is_said, _)| *is_said) else { return };
    let often = [(keys.repeat.is_some(), "repeat"), (keys.for_each.is_some() && *kind == "route", "for_each")];
    for (_, key) in often.iter().filter(|(is_said, _)| *is_said) {
        reader.fault_at_key(&below(key), Problem::new(format!("a `{kind}` chooses once")));
    }
}

/// Tells it when a step says two things that it does: a command and these blocks, or several of those.
fn does_two(reader: &mut Reader<'_>, command: Option<&Command>, blocks: &[&str], path: &[Key]) -> bool {
    let (block, first) = match (command, blocks) {
        (Some(command), [block, ..]) => (*block, command.name.as_str()),
        (None, [first, second, ..]) => (*second, *first),
        _ => return false,
    };
    let problem = Problem::new(format!("a step does one thing, and `{first}` is said already"));
    reader.fault_at_key(&[path, &[block.into()]].concat(), problem.help("write two steps"));
    true
}

/// The rounds of a step.
fn rounds(
    reader: &mut Reader<'_>,
    keys: &RepeatKeys,
    names: &Names<'_>,
    path: &[Key],
    needs: &mut Vec<usize>,
) -> Option<Repeat> {
    let path = [path, &["until".into()]].concat();
    let short = names.text(reader, &keys.until, &path, needs);
    let until = condition(reader, &short, &path)?;
    Some(Repeat { until, max: keys.max_iterations, every: keys.every.map_or(Duration::ZERO, |Interval(t)| t) })
}

/// The steps that places read, which stand behind those that are said, each once.
fn read_by_places(needs: &mut Vec<usize>, said: usize) -> Vec<usize> {
    let mut refs = needs.split_off(said.min(needs.len()));
    refs.sort_unstable();
    refs.dedup();
    needs.extend(&refs);
    refs
}

/// A condition is one place.
fn condition(reader: &mut Reader<'_>, text: &str, path: &[Key]) -> Option<Template> {
    let template = Template::parse(text).ok()?;
    if !template.is_one_place() {
        let problem = Problem::new("a condition is one place that is true or false");
        reader.fault(path, problem.help("for example `if: ${input.wanted}` or `if: ${.input.count > 3}`"));
        return None;
    }
    Some(template)
}
