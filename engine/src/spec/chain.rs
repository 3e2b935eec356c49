//! The spec of a workflow of steps: its blocks read, its dependencies checked.

use std::time::Duration;

use serde_json::Value;

use super::edges::{cycle, cycle_problem, dangling};
use super::keys::{DefaultKeys, ForEachKeys, OneOrMany, RetryKeys, StepKeys, WorkflowKeys, names_of};
use super::model::{Chain, ForEach, Step};
use super::node::Node;
use super::reader::{Reader, check_id, own_part};
use super::references::{Names, reduce};
use super::routing::{Route, Routing};
use super::shared::Shared;
use crate::api::limits::Retries;
use crate::api::template::Template;
use crate::data::units::{Interval, Percentage};
use crate::diagnostic::{Key, Problem};

/// Keys that the design has and this version has not.
const LATER: [&str; 7] = ["env", "concurrency", "budget", "priority", "targets", "monitoring", "output"];
/// How long an attempt may take when nothing says.
const TIMEOUT: Duration = Duration::from_mins(5);
/// Names that a step can't have, because `${name}` means something else.
const TAKEN: [&str; 4] = ["input", "steps", "env", "secret"];

/// What holds for every step.
pub(super) struct Common<'a> {
    ids: Vec<String>,
    pub(super) routing: &'a Routing,
    pub(super) defaults: DefaultKeys,
    pub(super) shared: Shared,
}

/// Reads the spec; `None` when a fault stands in the way.
pub(crate) fn read(reader: &mut Reader<'_>, name: &str, routing: &Routing) -> Option<Chain> {
    let before = reader.faults.len();
    let spec = reader.document.filled();
    let keys = reader.keys::<WorkflowKeys>(spec.value(), &[], &LATER);
    if let Some(schema) = keys.as_ref().and_then(|k| k.input.as_ref()?.schema.as_ref())
        && let Err(e) = jsonschema::validator_for(schema)
    {
        reader.fault(&["input".into(), "schema".into()], Problem::new(format!("this is no JSON Schema: {e}")));
    }
    // The routes and defaults are of use for finding more faults, even when another key is wrong.
    let part = |name: &str| spec.get(name).map(Node::value);
    let routes = part("routing").and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
    let routing = routing.clone().with(std::collections::BTreeMap::<String, Route>::into_iter(routes));
    let defaults = part("defaults").and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
    let blocks = spec.get("steps").map(Node::elements).unwrap_or_default();
    let ids = ids(reader, blocks);
    let common = Common { ids, routing: &routing, defaults, shared: Shared::read(reader, spec) };
    let steps: Vec<_> = blocks.iter().enumerate().map(|(at, block)| common.step(reader, at, block)).collect();
    let needs: Vec<Vec<usize>> = steps.iter().map(|(needs, _)| needs.clone()).collect();
    if let Some(circle) = cycle(&needs) {
        let mut path = vec!["steps".into(), circle[0].into()];
        let said = ["depends_on", "needs", "dependencies"];
        path.extend(said.into_iter().find(|k| blocks[circle[0]].get(k).is_some()).map(Key::from));
        reader.fault(&path, cycle_problem(circle.iter().map(|i| common.ids[*i].as_str())));
    }
    if reader.faults.len() > before {
        return None;
    }
    let keys = keys?;
    let mut steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect::<Option<_>>()?;
    reduce(&mut steps);
    Some(Chain {
        name: keys.name.unwrap_or_else(|| name.to_owned()),
        input: keys.input.and_then(|i| i.schema),
        steps,
        rate_limits: common.shared.rates,
        durability: keys.durability,
        optimization: keys.optimization,
        format: keys.output_format,
    })
}

/// The ids of the steps; empty for one without.
fn ids(reader: &mut Reader<'_>, blocks: &[Node]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let path: Vec<Key> = vec!["steps".into(), at.into()];
        let below = [path.as_slice(), &["id".into()]].concat();
        let id = block.get("id").and_then(Node::text).unwrap_or_default().to_owned();
        if id.is_empty() {
            if block.is_map() && block.get("id").is_none() {
                reader.fault(&path, Problem::new("this step has no `id`").help("later steps read it by its id"));
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

impl Common<'_> {
    /// The steps that a step needs, and the step itself if all of it could be read.
    fn step(&self, reader: &mut Reader<'_>, at: usize, block: &Node) -> (Vec<usize>, Option<Step>) {
        let path: Vec<Key> = vec!["steps".into(), at.into()];
        let below = |key: &str| [path.as_slice(), &[key.into()]].concat();
        if !block.is_map() {
            reader.fault(&path, Problem::new(format!("expected a map, found {}", block.kind())));
            return (Vec::new(), None);
        }
        let own = names_of::<StepKeys>();
        let before = reader.faults.len();
        let keys = reader.keys::<StepKeys>(own_part(block, &own), &path, &[]).unwrap_or_default();
        let mut needs = Vec::new();
        for (key, said) in
            [("depends_on", &keys.depends_on), ("needs", &keys.needs), ("dependencies", &keys.dependencies)]
        {
            self.depends(reader, at, &below(key), said.as_ref(), &mut needs);
        }
        let for_each =
            keys.for_each.as_ref().and_then(|each| self.for_each(reader, at, each, &below("for_each"), &mut needs));
        let names = Names { ids: &self.ids, own: at, item: None };
        let condition = keys.r#if.as_ref().and_then(|text| {
            let short = names.text(reader, text, &below("if"), &mut needs);
            condition(reader, &short, &below("if"))
        });
        let retry = self.retries(reader, &path, keys.retry.as_ref());
        let names = Names { item: keys.for_each.as_ref().map(|each| each.r#as.as_str()), ..names };
        let command = self.command(reader, block, &path, &own);
        let config =
            command.as_ref().and_then(|command| self.config(reader, command, block, &path, &names, &mut needs));
        needs.sort_unstable();
        needs.dedup();
        let step =
            (reader.faults.len() == before).then_some(()).and(command).zip(config).map(|(command, config)| Step {
                id: self.ids[at].clone(),
                command: command.name,
                config: config.stage,
                needs: needs.clone(),
                timeout: keys.timeout.or(self.defaults.timeout).map_or(TIMEOUT, |Interval(t)| t),
                retry,
                rate_limit: config.rate_limit,
                condition,
                for_each,
                default: keys.default.clone(),
                path,
                places: config.places,
            });
        (needs, step)
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
        let names = Names { ids: &self.ids, own: at, item: None };
        let list = Template::parse(&names.text(reader, &keys.r#in, &below("in"), needs)).ok()?;
        if !list.is_one_place() {
            let problem = Problem::new("what a step goes through is one place with a list");
            reader.fault(&below("in"), problem.help("for example `in: ${input.files}`"));
        }
        Some(ForEach {
            list,
            name: name.clone(),
            max_concurrency: keys.max_concurrency,
            tolerated: keys.tolerated_failure_percentage.unwrap_or(Percentage(0.0)),
        })
    }

    /// What the step says, over what the spec says, over what is usual: the defaults of Temporal, with three attempts at most.
    fn retries(&self, reader: &mut Reader<'_>, path: &[Key], step: Option<&RetryKeys>) -> Retries {
        let usual = Retries {
            initial_interval: Interval(Duration::from_secs(1)),
            max_interval: Interval(Duration::from_secs(100)),
            ..Retries::default()
        };
        let Ok(Value::Object(mut all)) = serde_json::to_value(&usual) else { return usual };
        let of_step = [path, &["retry".into()]].concat();
        let of_all: Vec<Key> = vec!["defaults".into(), "retry".into()];
        for (keys, at) in [(self.defaults.retry.as_ref(), &of_all), (step, &of_step)] {
            match keys {
                Some(RetryKeys::Said(said)) => all.extend(said.clone()),
                Some(RetryKeys::Name(name)) => {
                    all.extend(self.shared.retry(reader, at, name).cloned().unwrap_or_default());
                }
                None => {}
            }
        }
        serde_json::from_value(all.into()).unwrap_or_else(|e| {
            reader.fault(if step.is_some() { &of_step } else { &of_all }, Problem::new(e.to_string()));
            usual
        })
    }

    fn depends(
        &self,
        reader: &mut Reader<'_>,
        at: usize,
        path: &[Key],
        said: Option<&OneOrMany>,
        needs: &mut Vec<usize>,
    ) {
        let named: Vec<(Vec<Key>, &String)> = match said {
            None => Vec::new(),
            Some(OneOrMany::One(name)) => vec![(path.to_vec(), name)],
            Some(OneOrMany::Many(names)) => {
                names.iter().enumerate().map(|(i, n)| ([path, &[i.into()]].concat(), n)).collect()
            }
        };
        for (path, name) in named {
            if let Some(step) = self.ids.iter().position(|id| id == name) {
                needs.push(step);
            } else {
                let others = (0..self.ids.len()).filter(|i| *i != at).map(|i| self.ids[i].as_str());
                reader.fault(&path, dangling("step", name, others.collect::<Vec<_>>()));
            }
        }
    }
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
