//! What steps read, write and lock outside of their run: which of them must not overlap, and in which order they are done then.

use super::keys::OneOrMany;
use super::model::{Chain, ForEach, Starts, Step, Work};
use super::paths::overlap;
use super::reader::Reader;
use super::references::reaches;
use super::workflow_keys::StepKeys;
use crate::diagnostic::{Key, Problem};

/// What a step says of what it touches outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Paths that it reads: `*` and `?` stand for a part of a name, `**` for anything.
    pub reads: Vec<String>,
    /// Paths that it writes.
    pub writes: Vec<String>,
    /// Names of what it has for itself alone.
    pub locks: Vec<String>,
    /// Whether it says that it changes nothing outside.
    pub stateless: bool,
    /// Whether nothing is known of it.
    pub unknown: bool,
}

/// A step that comes before another one for the only reason that they must not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Its place in [`Chain::steps`].
    pub step: usize,
    /// Why: ``both write `out/*` ``.
    pub reason: String,
}

impl Resources {
    /// What a block says.
    pub(super) fn read(reader: &mut Reader<'_>, keys: &StepKeys, path: &[Key]) -> Self {
        let stateless = keys.stateless;
        let mut all = |key: &str, said: Option<&OneOrMany>| {
            let below = [path, &[key.into()]].concat();
            let placed = said.map(|said| said.placed(&below)).unwrap_or_default();
            for (place, text) in &placed {
                if let Some(problem) = fault(key, text, stateless) {
                    reader.fault(place, problem);
                }
            }
            placed.into_iter().map(|(_, text)| text.trim_start_matches("./").to_owned()).collect::<Vec<_>>()
        };
        let reads = all("reads", keys.reads.as_ref());
        let writes = all("writes", keys.writes.as_ref());
        let locks = all("locks", keys.locks.as_ref());
        Self { reads, writes, locks, stateless, unknown: false }
    }

    /// What of it two of its kind would both change, as it is told: ``write `out/*` ``.
    fn own(&self) -> Option<String> {
        let of = |verb: &str, all: &[String]| all.first().map(|name| format!("{verb} `{name}`"));
        of("write", &self.writes).or_else(|| of("lock", &self.locks))
    }

    /// Why it must not overlap with another one.
    fn conflict(&self, other: &Self) -> Option<String> {
        let paths = |a: &[String], b: &[String]| {
            let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a.clone(), b.clone())));
            pairs.into_iter().find(|(a, b)| overlap(a, b))
        };
        if let Some((a, b)) = paths(&self.writes, &other.writes) {
            return Some(if a == b { format!("both write `{a}`") } else { format!("`{a}` and `{b}` are written") });
        }
        let crossed = paths(&self.writes, &other.reads).or_else(|| paths(&other.writes, &self.reads));
        if let Some((written, read)) = crossed {
            return Some(format!("one writes `{written}`, and the other reads `{read}`"));
        }
        if let Some(lock) = self.locks.iter().find(|lock| other.locks.contains(lock)) {
            return Some(format!("both lock `{lock}`"));
        }
        let says = |one: &Self| one.unknown || one.own().is_some() || !one.reads.is_empty();
        let is_unknown = (self.unknown && says(other)) || (other.unknown && says(self));
        is_unknown.then(|| "what they change is not known".to_owned())
    }

    fn add(&mut self, other: Self) {
        self.reads.extend(other.reads);
        self.writes.extend(other.writes);
        self.locks.extend(other.locks);
        self.unknown |= other.unknown;
    }
}

fn fault(key: &str, text: &str, stateless: bool) -> Option<Problem> {
    if text.is_empty() {
        return Some(Problem::new("this is empty"));
    }
    if text.contains("${") {
        let problem = Problem::new(format!("`{key}` is known before any run, and has no `${{…}}`"));
        return Some(problem.help(if key == "locks" { "a plain name" } else { "write `*` for what differs" }));
    }
    if key != "locks" && text.contains(['[', ']', '{', '}']) {
        return Some(Problem::new("a path has no more than `*`, `?` and `**`").help("name several paths in a list"));
    }
    if stateless && key != "reads" {
        return Some(Problem::new(format!("a step with `{key}` is not `stateless`")).help("take one of them away"));
    }
    None
}

/// What a step and those within it touch. Where unknown steps count as ones that change something, one that says nothing is unknown.
fn touched(step: &Step, count_unknown: bool) -> Resources {
    let mut all = step.resources.clone();
    let says = all.stateless || all.own().is_some() || !all.reads.is_empty();
    let asks = |work: &Work| work.workflow.is_none() && !work.config.0.is_stateless();
    all.unknown = count_unknown && !says && [&step.work].into_iter().chain(&step.fallback).any(asks);
    if !all.stateless {
        step.nested().flat_map(|nested| &nested.chain.steps).for_each(|inner| all.add(touched(inner, count_unknown)));
    }
    all
}

/// Elements that would change the same are done one after the other; what can't be is at fault.
pub(super) fn elements(reader: &mut Reader<'_>, step: &mut Step) {
    let Some(changed) = touched(step, false).own() else { return };
    // A person changes nothing.
    let has_fallback = step.fallback.iter().any(|work| work.config.0.waits().is_none());
    let is_one = step.nested().next().is_none();
    let Some(ForEach { max_concurrency, .. }) = &mut step.for_each else { return };
    let at = |keys: &[&str]| [step.path.as_slice(), &keys.iter().map(|k| (*k).into()).collect::<Vec<_>>()].concat();
    let one_by_one = "elements that change the same are done one after the other";
    match *max_concurrency {
        _ if !is_one => {
            let problem = Problem::new(format!("each element would {changed}, and {one_by_one}: a workflow can't be"));
            reader.fault_at_key(&at(&["for_each"]), problem.help("say `stateless: true` if the paths differ"));
        }
        _ if has_fallback => {
            let problem = Problem::new(format!("each element would {changed}, and may overlap with a fallback"));
            reader.fault_at_key(&at(&["fallback"]), problem.help("take one of them away"));
        }
        Some(most) if most > 1 => {
            let problem = Problem::new(format!("each element would {changed}, and {one_by_one}"));
            reader.fault(&at(&["for_each", "max_concurrency"]), problem.help("say 1, or nothing"));
        }
        _ => *max_concurrency = Some(1),
    }
}

/// Orders steps that must not overlap and have no order: as the spec names them, so there is never a circle.
pub(crate) fn order(steps: &mut [Step], count_unknown: bool) {
    let touched: Vec<_> = steps.iter().map(|step| touched(step, count_unknown)).collect();
    let mut before: Vec<Vec<usize>> = steps.iter().map(|step| step.reads.clone()).collect();
    for at in 0..steps.len() {
        for earlier in 0..at {
            // What undoes steps is done one after the other, and behind all of them.
            let are_alike = steps[earlier].starts == steps[at].starts && !matches!(steps[at].starts, Starts::Undo(_));
            let reason = if are_alike { touched[earlier].conflict(&touched[at]) } else { None };
            let Some(reason) = reason else { continue };
            if !reaches(&before, at, earlier) && !reaches(&before, earlier, at) {
                before[at].push(earlier);
                steps[at].after.push(After { step: earlier, reason });
            }
        }
    }
    for (at, step) in steps.iter_mut().enumerate() {
        let all: Vec<usize> = step.needs.iter().copied().chain(step.after.iter().map(|after| after.step)).collect();
        let is_last = |one: &usize| !all.iter().any(|other| other != one && reaches(&before, *other, *one));
        step.follows = all.iter().copied().filter(is_last).collect();
        step.follows.sort_unstable();
        step.follows.dedup();
        debug_assert!(step.follows.iter().all(|one| *one != at));
    }
}

impl Chain {
    /// Which steps are held back so that they do not overlap, and why, for people.
    pub fn held_back(&self) -> Vec<String> {
        let id = |at: usize| &self.steps[at].id;
        let of = |step: &Step| {
            let after =
                step.after.iter().map(|after| format!("`{}` after `{}`: {}", step.id, id(after.step), after.reason));
            let each = step.for_each.as_ref().and_then(|_| touched(step, false).own());
            let each = each.map(|own| format!("the elements of `{}` one after the other: they {own}", step.id));
            after.chain(each).collect::<Vec<_>>()
        };
        self.steps.iter().flat_map(of).collect()
    }
}
