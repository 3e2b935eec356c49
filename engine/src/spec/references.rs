//! The places `${…}` in what a step is given: which steps they read, and whether these are there.

use serde_json::Value;

use super::model::Step;
use super::node::{Content, Node};
use super::reader::Reader;
use crate::api::jq::Way;
use crate::api::template::{Reference, Segment, Template};
use crate::data::columns::INPUT;
use crate::diagnostic::{Key, Problem, did_you_mean};

/// What the record of a step has: the members that a place may name.
pub(crate) const RECORD: [&str; 15] = [
    "status",
    "results",
    "error",
    "attempts",
    "started_at",
    "duration_ms",
    "usage",
    "reason",
    "items",
    "degraded",
    "rounds",
    "fallback",
    "fallbacks_failed",
    "artifacts",
    "quality_gates",
];

/// The ids of the steps of a workflow, in order.
pub(crate) struct Names<'a> {
    pub ids: &'a [String],
    /// The step that is read now.
    pub own: usize,
    /// Whether the step may read what it left in the round before.
    pub again: bool,
    /// What the step calls the element of the list that it goes through.
    pub item: Option<&'a str>,
}

/// What is filled in before places are read: `${env.NAME}`.
const FILLED: [&str; 3] = ["env", "secret", "param"];

impl Names<'_> {
    /// The value of a node with the longer form `${steps.id…}` of every place made the shorter one, `${id…}`. The steps
    /// that it reads are added to `needs`.
    pub(crate) fn value(&self, reader: &mut Reader<'_>, node: &Node, path: &[Key], needs: &mut Vec<usize>) -> Value {
        let below = |key: Key| [path, &[key]].concat();
        match &node.content {
            Content::Text(text) => Value::String(self.text(reader, text, path, needs)),
            Content::List(list) => list
                .iter()
                .enumerate()
                .map(|(i, n)| self.value(reader, n, &below(i.into()), needs))
                .collect::<Vec<_>>()
                .into(),
            Content::Map(members) => members
                .iter()
                .map(|m| (m.name.clone(), self.value(reader, &m.node, &below(m.name.as_str().into()), needs)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            _ => node.value(),
        }
    }

    /// The same for one text.
    pub(crate) fn text(&self, reader: &mut Reader<'_>, text: &str, path: &[Key], needs: &mut Vec<usize>) -> String {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(problem) => {
                reader.fault(path, problem);
                return text.to_owned();
            }
        };
        for expression in template.expressions() {
            let reads = expression.program.reads();
            for way in &reads.ways {
                if let Err(problem) = self.read(way) {
                    let place = way.first().map_or(0..0, |(_, span)| span.clone());
                    let from = expression.span.start + "${".len();
                    reader.fault(path, problem.part(from + place.start..from + place.end));
                }
            }
            let is_read = |id: &String| reads.names().any(|name| name == id);
            needs.extend((0..self.ids.len()).filter(|at| *at != self.own && is_read(&self.ids[*at])));
        }
        let mut short = text.to_owned();
        let places: Vec<_> = template.references().cloned().collect();
        for place in places.iter().rev() {
            match self.check(place) {
                Ok(step) => needs.extend(step),
                // Why it could not be filled in was told before.
                Err(_) if FILLED.contains(&place.root.as_str()) && !place.path.is_empty() => {}
                Err(problem) => reader.fault(path, problem.part(place.span.clone())),
            }
            if place.root == "steps"
                && let Some(at) = short[place.span.clone()].find("steps.")
            {
                let start = place.span.start + at;
                short.replace_range(start..start + "steps.".len(), "");
            }
        }
        short
    }

    /// Whether there is what jq reads from there.
    fn read(&self, way: &Way) -> Result<(), Problem> {
        let Some(((root, span), rest)) = way.split_first() else { return Ok(()) };
        if root == "steps" && !self.ids.contains(root) {
            return Err(Problem::new("there is no step `steps`").help("jq sees each step under its id: `.id.results`"));
        }
        let member = |(name, _): &(String, _)| Segment::Member(name.clone());
        let (root, path, span) = (root.clone(), rest.iter().map(member).collect(), span.clone());
        self.check(&Reference { root, path, span }).map(drop)
    }

    /// The step that a place reads; none for the input.
    fn check(&self, place: &Reference) -> Result<Option<usize>, Problem> {
        let (root, rest) = match (place.root.as_str(), place.path.as_slice()) {
            (INPUT, _) => return Ok(None),
            (name, _) if self.item == Some(name) => return Ok(None),
            ("steps", [Segment::Member(id), rest @ ..]) => (id.as_str(), rest),
            ("steps", _) => return Err(Problem::new("`${steps…}` names no step").help("write `${steps.id.results}`")),
            (root, rest) => (root, rest),
        };
        let Some(step) = self.ids.iter().position(|id| id == root) else {
            let known = self
                .ids
                .iter()
                .map(String::as_str)
                .filter(|id| *id != self.ids[self.own])
                .chain([INPUT])
                .chain(self.item);
            let problem = Problem::new(format!("there is no step `{root}`"));
            let help = did_you_mean(root, known.clone())
                .unwrap_or_else(|| "a plain `${` is written `$${`; a variable is `${env.NAME}`".into());
            return Err(problem.label(format!("there is: {}", known.collect::<Vec<_>>().join(", "))).help(help));
        };
        if step == self.own && !self.again {
            return Err(Problem::new(format!("`{root}` can't read itself")));
        }
        match rest.first() {
            Some(Segment::Member(member)) if !RECORD.contains(&member.as_str()) => {
                let problem = Problem::new(format!("a step has no `{member}`"));
                let help = did_you_mean(member, RECORD)
                    .unwrap_or_else(|| format!("what it gave is `${{{root}.results.{member}}}`"));
                Err(problem.help(help))
            }
            Some(Segment::Element(_)) => {
                Err(Problem::new(format!("step `{root}` is no list")).help("its results may be one"))
            }
            _ => Ok((step != self.own).then_some(step)),
        }
    }
}

/// The steps that each step needs, with those left out that another one needs already.
pub(crate) fn reduce(steps: &mut [Step]) {
    let needs: Vec<Vec<usize>> = steps.iter().map(|s| s.reads.clone()).collect();
    for step in steps {
        let is_needed = |need: &usize| !step.reads.iter().any(|other| other != need && reaches(&needs, *other, *need));
        step.needs = step.reads.iter().copied().filter(is_needed).collect();
    }
}

/// Whether `from` needs `to`, over any number of steps. There is no cycle.
pub(crate) fn reaches(needs: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; needs.len()];
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if !std::mem::replace(&mut seen[at], true) {
            open.extend(&needs[at]);
        }
    }
    false
}
