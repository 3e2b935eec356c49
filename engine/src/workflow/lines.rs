//! In what order steps stand in a graph, and which of them in one line.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::api::template::Template;
use crate::journal::Durability;
use crate::spec::Chain;
use crate::spec::model::{Step, Work};

/// The steps, each behind those that it needs; otherwise as in the spec.
pub(super) fn order(steps: &[Step]) -> Vec<usize> {
    let mut placed = vec![false; steps.len()];
    let mut order = Vec::new();
    while order.len() < steps.len() {
        let ready = |at: &usize| !placed[*at] && steps[*at].follows.iter().all(|one| placed[*one]);
        let next = (0..steps.len()).find(ready).expect("steps without a cycle have a next one");
        placed[next] = true;
        order.push(next);
    }
    order
}

/// The steps in this order, those together that stand in one line: they need the same ones, ask nobody and are soon done.
pub(super) fn lines(spec: &Chain, order: Vec<usize>) -> Vec<Vec<usize>> {
    let mut lines: Vec<Vec<usize>> = Vec::new();
    // It would see what stands before it in a line, also where it does not need that.
    let is_seen = spec.steps.iter().any(reads_all);
    for at in order {
        let follows = &spec.steps[at].follows;
        let beside = |line: &&mut Vec<usize>| {
            line.iter().all(|other| spec.steps[*other].follows == *follows && spec.steps[*other].stands_in_line())
        };
        let may =
            spec.optimization.parallel_where_possible && !spec.fail_fast && !is_seen && spec.steps[at].stands_in_line();
        match lines.iter_mut().find(beside).filter(|_| may) {
            Some(line) => line.push(at),
            None => lines.push(vec![at]),
        }
    }
    lines
}

/// Whether jq of a step reads all that it sees elsewhere than in a stage, from which it can be hidden.
fn reads_all(step: &Step) -> bool {
    let is_whole = |template: &Template| template.expressions().any(|e| e.program.reads().is_whole);
    let own = step.condition.iter().chain(step.for_each.iter().map(|each| &each.list));
    let mut own = own.chain(step.repeat.iter().map(|repeat| &repeat.until));
    let works = step.fallback.iter().chain(step.gates.iter().filter_map(|gate| gate.work.as_ref()));
    let works = works.chain((!step.is_pure()).then_some(&step.work));
    own.any(is_whole) || works.into_iter().any(|work| texts(&work.config.0.describe()).any(|text| is_whole(&text)))
}

/// The templates with places in a value.
fn texts(value: &Value) -> Box<dyn Iterator<Item = Template> + '_> {
    match value {
        Value::String(text) if text.contains("${") => Box::new(Template::parse(text).into_iter()),
        Value::Array(list) => Box::new(list.iter().flat_map(texts)),
        Value::Object(members) => Box::new(members.values().flat_map(texts)),
        _ => Box::new(std::iter::empty()),
    }
}

/// The steps whose columns may stand in the rows that a step of a line sees, though it does not depend on them.
pub(super) fn hidden(spec: &Chain, at: usize) -> HashSet<String> {
    if !spec.steps[at].is_pure() {
        return HashSet::new();
    }
    let (mut before, mut next) = (BTreeSet::from([at]), vec![at]);
    while let Some(at) = next.pop() {
        let step = &spec.steps[at];
        next.extend(step.reads.iter().chain(&step.follows).copied().filter(|one| before.insert(*one)));
    }
    (0..spec.steps.len()).filter(|at| !before.contains(at)).map(|at| spec.steps[at].id.clone()).collect()
}

/// The steps that no other one comes behind.
pub(super) fn leaves(steps: &[Step]) -> Vec<String> {
    let needed = |at: usize| steps.iter().any(|s| s.follows.contains(&at));
    (0..steps.len()).filter(|at| !needed(*at)).map(|at| steps[at].id.clone()).collect()
}

/// Whether a part of a run may wait while another one is under way: it has branches, or lists, and something in it that is not soon done.
pub(super) fn may_overlap(spec: &Chain) -> bool {
    // Where nothing is kept before the end, only what says that it waits is worth more.
    let is_long = match spec.durability {
        Durability::Exit => waits,
        Durability::Sync | Durability::Async => is_long,
    };
    has_branches(spec) && spec.steps.iter().any(is_long)
}

/// Whether any two parts of a run are done side by side.
fn has_branches(spec: &Chain) -> bool {
    let is_many = |step: &Step| step.for_each.is_some() || step.nested().any(|nested| has_branches(&nested.chain));
    let order = if spec.optimization.parallel_where_possible { order(&spec.steps) } else { Vec::new() };
    let is_beside = |pair: &[usize]| !spec.steps[pair[1]].follows.contains(&pair[0]);
    spec.steps.iter().any(is_many) || order.windows(2).any(is_beside)
}

/// Whether a step, or an element of it, asks somebody or waits.
fn is_long(step: &Step) -> bool {
    step.repeat.is_some() || any_work(step, is_long, |work| !work.config.0.is_pure())
}

/// Whether a step, or an element of it, waits for a time or for somebody.
fn waits(step: &Step) -> bool {
    any_work(step, waits, |work| work.config.0.waits().is_some())
}

/// Whether anything that is done for a step is so, where it is no workflow, or any step of one.
fn any_work(step: &Step, of_step: fn(&Step) -> bool, of_work: fn(&Work) -> bool) -> bool {
    let works = step.fallback.iter().chain(step.gates.iter().filter_map(|gate| gate.work.as_ref()));
    let is_so = |work: &Work| match &work.workflow {
        Some(nested) => nested.chain.steps.iter().any(of_step),
        None => of_work(work),
    };
    std::iter::once(&step.work).chain(works).any(is_so)
}
