//! What a journal knows of a run, by names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What the journal knows of a run: the record of each step that ended, as it was written, by the id of the step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(pub BTreeMap<String, Box<RawValue>>);

impl History {
    /// What the name of a wait begins with, and that of a signal.
    pub const WAIT: &str = "@wait:";
    pub(crate) const SIGNAL: &str = "@signal:";
    /// The same of a step that is tried again later.
    pub const BACKOFF: &str = "@backoff:";
    /// How often a completed step was done anew, since a run that had failed was tried again.
    pub(crate) const AGAIN: &str = "@again:";
    /// What stands behind the name of a step in those of its parts: elements, rounds and gates, steps of its workflow.
    pub(crate) const PARTS: [char; 3] = ['[', '#', '/'];
    const DECIDED: &str = " decided";
    /// What stands behind the name of a step while its gates are asked.
    const GATE: &str = "#gate";
    const FALLBACK: &str = "#fallback";

    /// The step of the outermost workflow that something of this name is, or is a part of.
    pub fn step_of(name: &str) -> &str {
        name.split(Self::PARTS).next().unwrap_or_default()
    }

    /// Whether a name is that of a part of this step.
    pub(crate) fn is_below(name: &str, step: &str) -> bool {
        name != step && Self::is_of(name, step)
    }

    /// Whether a name is that of this step, or of a part of it.
    pub fn is_of(name: &str, step: &str) -> bool {
        name.strip_prefix(step).is_some_and(|rest| rest.is_empty() || rest.starts_with(Self::PARTS))
    }

    /// The name under which it has a wait of a step.
    pub fn wait(step: &str) -> String {
        format!("{}{step}", Self::WAIT)
    }

    /// The name under which it has what is known of the attempts of a step.
    pub fn backoff(step: &str) -> String {
        format!("{}{step}", Self::BACKOFF)
    }

    /// The number of the fallback that a part of a step belongs to, by what stands behind the name of the step: 0 is the step itself.
    pub(crate) fn fallback_of(part: &str) -> usize {
        let (_, behind) = part.rsplit_once(Self::FALLBACK).unwrap_or_default();
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        behind[..end].parse().unwrap_or(0)
    }

    /// The run is tried again, and these steps are done anew with all that is below them, though they had completed: they were undone, or need
    /// one that is.
    pub fn done_again(&mut self, steps: &[String]) {
        for step in steps {
            let again = self.own_again(step) + 1;
            self.0
                .insert(format!("{}{step}", Self::AGAIN), RawValue::from_string(again.to_string()).unwrap_or_default());
        }
    }

    /// A signal has come at this time, in microseconds since 1970: the last one of a name counts.
    pub fn came(&mut self, signal: &str, data: Box<RawValue>, at: i64) {
        self.0.insert(Self::signal(signal), data);
        self.0.insert(Self::time(signal), RawValue::from_string(at.to_string()).unwrap_or_default());
    }

    /// When the signal of this name has come, where that is known.
    pub fn came_at(&self, signal: &str) -> Option<i64> {
        self.0.get(&Self::time(signal))?.get().parse().ok()
    }

    /// No name of a signal has a line end in it.
    fn time(signal: &str) -> String {
        format!("{}{signal}\nat", Self::SIGNAL)
    }

    /// How often this step, and what it is within, was done anew.
    pub(crate) fn again(&self, name: &str) -> u32 {
        let ends = name.match_indices(Self::PARTS).map(|(at, _)| at).chain([name.len()]);
        ends.map(|end| self.own_again(&name[..end])).sum()
    }

    fn own_again(&self, name: &str) -> u32 {
        let known = self.0.get(&format!("{}{name}", Self::AGAIN));
        known.and_then(|again| again.get().parse().ok()).unwrap_or(0)
    }

    /// What it has of steps that have no record is of no use any more: their attempts and waits begin anew, and what was decided about
    /// their failures is decided again. Other signals stay: they are the run's.
    pub fn forget_open(&mut self) {
        self.forget_where(|_| true);
    }

    /// A step that has failed is tried again: what it has of its attempts, its wait and its gates is of no use any more, and neither is what
    /// has not completed below it, as `has_completed` says of a record.
    pub fn forget(&mut self, step: &str, has_completed: impl Fn(&str) -> bool) {
        self.0.retain(|name, record| !Self::is_of(name, step) || has_completed(record.get()));
        self.forget_where(|name| Self::is_of(name, step));
    }

    fn forget_where(&mut self, is_of: impl Fn(&str) -> bool) {
        let is_open = |step: &str| is_of(step) && !self.0.contains_key(step);
        let of = |name: &str| name.strip_prefix(Self::WAIT).filter(|step| is_open(step)).map(str::to_owned);
        let open: Vec<String> = self.0.keys().filter_map(|name| of(name)).collect();
        for step in open {
            self.0.remove(&Self::wait(&step));
            self.0.remove(&Self::signal(&Self::decision(&step)));
        }
        self.0.retain(|name, _| !name.strip_prefix(Self::BACKOFF).is_some_and(&is_of));
        // What is done anew is judged anew.
        let is_open = |step: &str| is_of(step) && !self.0.contains_key(step);
        let gates = self.0.keys().filter_map(|name| Some((name, Self::before_gates(name)?)));
        let open: Vec<String> = gates.filter(|(_, step)| is_open(step)).map(|(name, _)| name.clone()).collect();
        for name in open {
            self.0.remove(&name);
        }
    }

    /// The step that this signal says is to be tried again, where a person is to decide about its failure: it brings
    /// [`History::retry`].
    pub fn tried_again<'a>(&self, signal: &'a str, data: &str) -> Option<&'a str> {
        let step = Self::decided_again(signal, data)?;
        let wait = self.0.get(&Self::wait(step)).filter(|_| !self.0.contains_key(step))?;
        let wait = serde_json::from_str::<Value>(wait.get()).ok()?;
        wait.get("decide")?.is_string().then_some(step)
    }

    /// The step that a signal with this name and data says is to be tried again, if it waits for a decision.
    pub fn decided_again<'a>(signal: &'a str, data: &str) -> Option<&'a str> {
        signal.strip_suffix(Self::DECIDED).filter(|_| serde_json::from_str::<Retry>(data).is_ok_and(|said| said.retry))
    }

    /// What says that a step is tried again, and that these are done anew though they had completed.
    pub fn retry(anew: Vec<String>) -> Value {
        json!(Retry { retry: true, anew })
    }

    /// What is to be done anew though it had completed, by what says that a step is tried again.
    pub fn told_anew(data: &str) -> Vec<String> {
        serde_json::from_str::<Retry>(data).unwrap_or_default().anew
    }

    /// Whether this is what a step was kept under while its gates were asked.
    pub fn is_of_gate(name: &str) -> bool {
        Self::before_gates(name).is_some()
    }

    /// The name of the step that was kept under this one while its gates were asked.
    pub fn before_gates(name: &str) -> Option<&str> {
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let (whole, _) = name.rsplit_once(Self::GATE).filter(|(_, gates)| is_number(gates))?;
        let fallback = whole.rsplit_once(Self::FALLBACK).filter(|(_, number)| is_number(number));
        Some(fallback.map_or(whole, |(whole, _)| whole))
    }

    /// What the name of a step has behind it where it is kept after so many gates behind a fallback, or behind the step itself (0).
    pub fn gate(fallback: usize, gates: usize) -> String {
        format!("{}{}{gates}", Self::fallback(fallback), Self::GATE)
    }

    /// What the name of a step has behind it for what a fallback asks; nothing for the step itself (0).
    pub(crate) fn fallback(number: usize) -> String {
        if number == 0 { String::new() } else { format!("{}{number}", Self::FALLBACK) }
    }

    /// The step that a signal of this name is for alone, if it is.
    pub fn decided(signal: &str) -> Option<&str> {
        signal.strip_suffix(Self::DECIDED)
    }

    /// The signal that brings what a person has said to a step alone: to one that waits, or about one that failed.
    pub fn decision(step: &str) -> String {
        format!("{step}{}", Self::DECIDED)
    }

    /// The name under which it has what a signal brought.
    pub fn signal(name: &str) -> String {
        format!("{}{name}", Self::SIGNAL)
    }
}

/// What a person has decided about a step that has failed: that it is tried again.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    retry: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    anew: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: &str = r#"{"retry":true}"#;

    fn history(all: &[(&str, &str)]) -> History {
        let raw =
            |(name, data): &(&str, &str)| ((*name).to_owned(), RawValue::from_string((*data).to_owned()).unwrap());
        History(all.iter().map(raw).collect())
    }

    #[test]
    fn a_step_that_is_tried_again_is_forgotten_with_all_below_it_that_has_not_completed_and_nothing_else() {
        let mut known = history(&[
            ("pay[1]", r#"{"ok":true}"#),
            ("@wait:pay[1]", "{}"),
            ("@wait:pay", "{}"),
            ("@signal:pay decided", "1"),
            ("@backoff:pay#2", "{}"),
            ("pay#1", r#"{"ok":true}"#),
            ("pay#2", "{}"),
            ("pay/in", "{}"),
            ("@wait:pay/in", "{}"),
            ("@signal:pay/in decided", "1"),
            ("pay#gate1", r#"{"ok":true}"#),
            ("payer", "{}"),
            ("@backoff:payer", "{}"),
            ("@wait:other", "{}"),
            ("@signal:other decided", "1"),
            ("@signal:agreed", "1"),
        ]);
        known.forget("pay", |record| record.contains("true"));
        let left: Vec<_> = known.0.keys().map(String::as_str).collect();
        let expected = [
            "@backoff:payer",
            "@signal:agreed",
            "@signal:other decided",
            "@wait:other",
            "@wait:pay[1]",
            "pay#1",
            "pay[1]",
            "payer",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn only_a_decision_about_a_failure_says_that_a_step_is_tried_again() {
        let known = history(&[
            ("@wait:failed", r#"{"decide":"no luck"}"#),
            ("@wait:asks", r#"{"signal":"asks decided","before":{"decide":"x"}}"#),
            ("@wait:over", r#"{"decide":"no luck"}"#),
            ("over", "{}"),
        ]);
        let again = |signal, data| known.tried_again(signal, data);
        assert_eq!(again("failed decided", r#"{ "retry": true }"#), Some("failed"));
        let others = [
            ("failed decided", r#"{"retry":false}"#),
            ("failed decided", r#"{"retry":true,"n":1}"#),
            ("failed decided", "retry"),
            ("failed", RETRY),
            ("asks decided", RETRY),
            ("over decided", RETRY),
            ("none decided", RETRY),
        ];
        assert!(others.iter().all(|(signal, data)| again(signal, data).is_none()));
    }
}
