//! Whether a run that is decided again takes the way that it took.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::decisions::{Decision, decisions};
use super::lines::order;
use super::record::Record;
use super::recorded::{Recorded, is_given};
use crate::error::{Error, Result};
use crate::journal::History;
use crate::spec::Chain;

/// What came of deciding a run again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Steps that came to the same as recorded; each element, each round but the last and each step of a workflow within is one.
    pub steps: usize,
    /// What was decided in them: conditions, switches, fallbacks, defaults, ends of rounds, failures that were tolerated.
    pub decisions: usize,
    /// The first step that did not.
    pub difference: Option<Difference>,
    /// Steps, rounds and elements that would have been asked, and of which nothing is recorded.
    pub not_recorded: Vec<String>,
    /// Steps that are recorded, and can't be decided because of those.
    pub not_decided: Vec<String>,
}

/// A step that came to something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub step: String,
    /// What is recorded of it.
    pub recorded: Value,
    /// What it would come to.
    pub replayed: Value,
}

/// Compares what a run has left with what it left when it was decided again, each step behind those that it comes behind, so that the
/// first difference is the cause of others.
///
/// # Errors
/// When a record is none.
pub fn judge(spec: &Chain, recorded: &Recorded, replayed: &History) -> Result<Verdict> {
    let missing = recorded.missing();
    let judge = Judge { spec, recorded, replayed, missing: &missing };
    let mut verdict = Verdict::default();
    // What a step was kept under while its gates were asked is a part of what it left in the end.
    let is_step = |name: &&String| !name.starts_with('@') && !History::is_of_gate(name);
    let mut names: Vec<&String> = recorded.history().0.keys().filter(is_step).collect();
    names.sort_by_cached_key(|name| place(spec, name));
    for name in names {
        match judge.step(name)? {
            Step::Same(decided) => {
                verdict.steps += 1;
                verdict.decisions += decided;
            }
            Step::Given => {}
            Step::NotDecided => verdict.not_decided.push(name.clone()),
            Step::Other(difference) => {
                verdict.difference = Some(difference);
                break;
            }
        }
    }
    verdict.not_recorded = missing.into_iter().collect();
    Ok(verdict)
}

struct Judge<'a> {
    spec: &'a Chain,
    recorded: &'a Recorded,
    replayed: &'a History,
    missing: &'a BTreeSet<String>,
}

enum Step {
    /// It came to the same, and so much was decided in it.
    Same(usize),
    /// Nobody has decided it.
    Given,
    NotDecided,
    Other(Difference),
}

impl Judge<'_> {
    fn step(&self, name: &str) -> Result<Step> {
        let record = self.recorded.record(name)?.ok_or_else(|| Error::engine(format!("`{name}` has no record")))?;
        if is_given(&record) || self.is_within_given(name)? {
            return Ok(Step::Given);
        }
        let other = |replayed: Value| {
            Ok(Step::Other(Difference { step: name.to_owned(), recorded: record.outcome(), replayed }))
        };
        let Some(step) = self.spec.step(name) else { return other(told("the spec has no such step")) };
        if let Some(again) = record_of(self.replayed, name)? {
            // How often it was tried is no decision of the spec.
            let decided = |record: &Record| {
                let all = decisions(step, record).into_iter().filter(|decision| decision.kind != "retry");
                all.collect::<Vec<Decision>>()
            };
            let (before, after) = (decided(&record), decided(&again));
            let same = record.outcome() == again.outcome() && before == after;
            return match same {
                true => Ok(Step::Same(before.len())),
                // Which of several failures is named, for one: another need may be why.
                false if self.lacks_a_need(name)? => Ok(Step::NotDecided),
                false => other(again.outcome()),
            };
        }
        if self.missing.contains(name) {
            return other(told("it would be asked, and no answer is recorded"));
        }
        // A list that is longer now, or rounds that go on.
        let more = self.missing.iter().find(|more| more.strip_prefix(name).is_some_and(|r| r.starts_with(['#', '['])));
        if let Some(more) = more.filter(|more| within(more, name.len()).is_none()) {
            return other(told(&format!("`{more}` would be asked, and no answer is recorded")));
        }
        let mut around = ancestors(name).peekable();
        if around.peek().is_none() {
            return Ok(Step::NotDecided);
        }
        for outer in around {
            match record_of(self.replayed, outer)? {
                // What it is within has ended without it.
                Some(_) => return self.of_outer(outer, name, &record),
                None if self.missing.iter().any(|one| one == outer) => return Ok(Step::NotDecided),
                None => {}
            }
        }
        Ok(Step::NotDecided)
    }

    /// The difference of a step that was never come to: of what it is within, if that tells more.
    fn of_outer(&self, outer: &str, name: &str, record: &Record) -> Result<Step> {
        if self.recorded.record(outer)?.is_some()
            && let Step::Other(difference) = self.step(outer)?
        {
            return Ok(Step::Other(difference));
        }
        let replayed = told("it is never come to");
        Ok(Step::Other(Difference { step: name.to_owned(), recorded: record.outcome(), replayed }))
    }

    /// Whether a step was decided without all that it depends on, of which something is neither recorded nor decided: those that it comes
    /// behind, and all others where one that fails stops them.
    fn lacks_a_need(&self, name: &str) -> Result<bool> {
        let Some((scope, chain)) = self.around(name) else { return Ok(false) };
        let Some(step) = chain.step(&name[scope.len()..]) else { return Ok(false) };
        if chain.fail_fast && self.missing.iter().any(|one| one.starts_with(scope)) {
            return Ok(true);
        }
        for need in &step.reads {
            let need = format!("{scope}{}", chain.steps[*need].id);
            if record_of(self.replayed, &need)?.is_none() && self.recorded.given(&need)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The workflow that a step is one of, and what its name begins with there.
    fn around<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a Chain)> {
        let Some((outer, _)) = name.rsplit_once('/') else { return Some(("", self.spec)) };
        Some((&name[..=outer.len()], &self.spec.step(outer)?.nested().next()?.chain))
    }

    fn is_within_given(&self, name: &str) -> Result<bool> {
        for outer in ancestors(name) {
            if self.recorded.given(outer)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where a step stands among all: by its place in each workflow that it is within, its element and its round. Parts come before the whole.
fn place(spec: &Chain, name: &str) -> Vec<(usize, u64, u64)> {
    let (mut places, mut chain) = (Vec::new(), Some(spec));
    let mut segments = name.split('/').peekable();
    while let Some(segment) = segments.next() {
        let number = |mark: char| {
            let rest = segment.split_once(mark)?.1;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        let id = segment.split(['[', '#']).next().unwrap_or_default();
        let at = chain.and_then(|chain| chain.steps.iter().position(|step| step.id == id));
        let order = chain.zip(at).and_then(|(chain, at)| order(&chain.steps).iter().position(|one| *one == at));
        let whole = if segments.peek().is_some() { 0 } else { u64::MAX };
        places.push((order.unwrap_or(0), number('[').unwrap_or(u64::MAX), number('#').unwrap_or(whole)));
        chain = chain.zip(at).and_then(|(chain, at)| Some(&chain.steps[at].nested().next()?.chain));
    }
    places
}

fn told(what: &str) -> Value {
    json!({ "reason": what })
}

fn record_of(history: &History, name: &str) -> Result<Option<Record>> {
    Ok(history.0.get(name).map(|record| serde_json::from_str(record.get())).transpose()?)
}

/// Whether the rest of a name behind so many bytes leads into a workflow.
fn within(name: &str, from: usize) -> Option<usize> {
    name.get(from..)?.find('/')
}

/// What a step is within, the innermost first: `each[3]/check#2` is within `each[3]/check`, `each[3]` and `each`.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let end = rest.rfind(['/', '#', '['])?;
        rest = &rest[..end];
        Some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_is_within_is_read_off_its_name() {
        assert_eq!(ancestors("each[3]/check#2").collect::<Vec<_>>(), ["each[3]/check", "each[3]", "each"]);
        assert_eq!(ancestors("alone").count(), 0);
    }
}
