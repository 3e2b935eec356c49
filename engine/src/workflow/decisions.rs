//! What was decided in a step, read off the record that it left.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::record::{Record, Status};
use crate::spec::model::Step;

/// Something that was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// `if`, `switch`, `route`, `fallback`, `default`, `retry`, `repeat` or `tolerated`.
    pub kind: &'static str,
    /// The key of the spec that has the condition.
    pub key: &'static str,
    /// What came out.
    pub result: Value,
}

/// What there is to decide in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "what a spec may have, each on its own")]
pub(super) struct Decides {
    /// Whether it has a condition.
    condition: bool,
    /// Whether it chooses a way by conditions.
    switch: bool,
    /// Whether it does by what ways have brought.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    route: bool,
    /// The commands of its fallbacks.
    fallbacks: Vec<String>,
    /// What it gives when it fails.
    default: Option<Value>,
    /// Whether it is a workflow: what its steps gave instead of failing, and how often they were tried, was decided within it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    workflow: bool,
}

impl Decides {
    /// Whether it says which steps come next.
    pub(super) fn chooses(&self) -> bool {
        self.switch || self.route
    }

    pub(super) fn of(step: &Step) -> Self {
        Self {
            condition: step.condition.is_some(),
            switch: step.work.command == "switch",
            route: step.route.is_some(),
            fallbacks: step.fallback.iter().map(|work| work.command.clone()).collect(),
            default: step.default.clone(),
            workflow: step.nested().next().is_some(),
        }
    }
}

/// All that was decided in a step, in the order in which it comes up.
pub fn decisions(step: &Step, record: &Record) -> Vec<Decision> {
    decided(&Decides::of(step), record)
}

/// The same of a step of which no more is known.
pub(super) fn decided(step: &Decides, record: &Record) -> Vec<Decision> {
    let mut all = Vec::new();
    let mut add = |kind, key, result| all.push(Decision { kind, key, result });
    if step.condition {
        // A step that was skipped for another reason was not asked, and neither was one that has not come up.
        match (record.status, record.reason.as_deref()) {
            (Status::Skipped, Some(super::start::CONDITION)) => add("if", "if", json!(false)),
            (Status::Skipped | Status::Pending, _) => {}
            (Status::Canceled, _) if record.attempts == 0 => {}
            _ => add("if", "if", json!(true)),
        }
    }
    if record.status == Status::Completed && step.chooses() {
        let key = if step.route { "route" } else { "switch" };
        add(key, key, record.results.clone().unwrap_or_default());
    }
    // One attempt of each that was tried is no decision to try again.
    let tried = record.fallback.unwrap_or(record.fallbacks_failed);
    let is_one = record.rounds.is_none() && record.items.is_none() && !step.workflow;
    if record.attempts as usize > 1 + tried && is_one {
        add("retry", "retry", json!({ "attempts": record.attempts }));
    }
    let command = |number: usize| step.fallbacks.get(number - 1);
    for number in 1..=record.fallbacks_failed {
        add("fallback", "fallback", json!({ "number": number, "command": command(number), "failed": true }));
    }
    if let Some(number) = record.fallback {
        add("fallback", "fallback", json!({ "number": number, "command": command(number) }));
    }
    if record.is_default() && (step.default.is_some() || !step.workflow) {
        add("default", "default", step.default.clone().unwrap_or_default());
    }
    if let Some(items) = record.items.as_ref().filter(|items| items.degraded > 0) {
        let default = step.default.clone().unwrap_or_default();
        add("default", "default", json!({ "degraded": items.degraded, "of": items.total, "default": default }));
    }
    if let Some(rounds) = record.rounds {
        add("repeat", "repeat", json!({ "rounds": rounds }));
    }
    if let Some(items) = record.items.as_ref().filter(|items| items.failed > 0) {
        add("tolerated", "for_each", json!({ "failed": items.failed, "of": items.total }));
    }
    all
}
