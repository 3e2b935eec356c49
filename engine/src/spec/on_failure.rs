//! What a step does when it has failed, in order: tried again, another way, a person, what the spec has for that.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::model::{Places, Work};
use super::reader::Reader;
use super::workflow_keys::StepKeys;
use crate::api::erased::ErasedStage;
use crate::api::limits::Retries;
use crate::api::registry::BoxStageConfig;
use crate::api::{BuildContext, Cardinality, Deadlines, Limits, Operator, WaitFor};
use crate::data::units::Interval;
use crate::diagnostic::{Key, Problem, Problems};
use crate::error::{Error, Result};

/// A strategy under `on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Strategy {
    /// By its name.
    Named(Name),
    /// A person, who has so long.
    Escalate {
        /// How it is asked.
        escalate: EscalateKeys,
    },
}

/// The name of a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Name {
    /// The same again, as `retry` says.
    Retry,
    /// What `fallback` says.
    AlternativePath,
    /// What `default` says.
    GracefulDegradation,
    /// A person decides: the run waits in `bourn inbox`.
    Escalate,
}

/// How a person is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EscalateKeys {
    /// How long the decision may take; without it, for ever.
    pub timeout: Option<Interval>,
}

impl Strategy {
    fn name(self) -> Name {
        match self {
            Self::Named(name) => name,
            Self::Escalate { .. } => Name::Escalate,
        }
    }
}

/// What is done about failures of a step.
pub(super) struct OnFailure {
    /// Whether it is tried again.
    pub retries: bool,
    /// Whether a person is asked, and whether before other ways are tried.
    escalate: Option<(EscalateKeys, bool)>,
}

impl OnFailure {
    /// Reads the order of a step, and checks it against what the step has.
    pub(super) fn read(reader: &mut Reader<'_>, keys: &StepKeys, path: &[Key]) -> Self {
        let Some(said) = &keys.on_failure else { return Self { retries: true, escalate: None } };
        let below = [path, &["on_failure".into()]].concat();
        let at = |index: usize| [below.as_slice(), &[index.into()]].concat();
        let place = |name: Name| said.iter().position(|strategy| strategy.name() == name);
        for (index, strategy) in said.iter().enumerate() {
            if said[..index].iter().any(|before| before.name() == strategy.name()) {
                reader.fault(&at(index), Problem::new("this is said already"));
            }
        }
        if let Some(index) = place(Name::Retry).filter(|index| *index > 0) {
            let problem = Problem::new("`retry` comes first: what fails is tried again before anything else");
            reader.fault(&at(index), problem);
        }
        let given = [
            ("retry", Name::Retry, keys.retry.is_some()),
            ("fallback", Name::AlternativePath, keys.fallback.is_some()),
            ("default", Name::GracefulDegradation, keys.default.is_some()),
        ];
        for (key, name, _) in given.into_iter().filter(|(_, name, given)| *given && place(*name).is_none()) {
            let problem = Problem::new(format!("`{key}` is never used: it is not in `on_failure`"));
            let strategy = match name {
                Name::Retry => "retry",
                Name::AlternativePath => "alternative_path",
                Name::GracefulDegradation | Name::Escalate => "graceful_degradation",
            };
            let at = [path, &[key.into()]].concat();
            reader.fault_at_key(&at, problem.help(format!("add `{strategy}` to it, or take `{key}` away")));
        }
        // A strategy that has nothing to do is passed over.
        let last = place(Name::GracefulDegradation).filter(|_| keys.default.is_some());
        if let Some(index) = last.map(|last| last + 1).filter(|index| *index < said.len()) {
            let problem = Problem::new("this is never done: `default` always gives something");
            reader.fault(&at(index), problem.help("put `graceful_degradation` last"));
        }
        let escalate = said.iter().position(|s| s.name() == Name::Escalate).map(|index| {
            let keys = match said[index] {
                Strategy::Escalate { escalate } => escalate,
                Strategy::Named(_) => EscalateKeys::default(),
            };
            (keys, place(Name::AlternativePath).is_some_and(|other| other > index))
        });
        Self { retries: place(Name::Retry).is_some(), escalate }
    }

    /// The ways that are tried, with a person among them.
    pub(super) fn ways(&self, mut others: Vec<Work>) -> Vec<Work> {
        let Some((keys, first)) = self.escalate else { return others };
        let place = if first { 0 } else { others.len() };
        others.insert(
            place,
            Work {
                command: "escalate".into(),
                config: BoxStageConfig(Arc::new(Escalate { timeout: keys.timeout.map(|Interval(time)| time) })),
                timeout: Limits::NO_TIMEOUT.0,
                deadlines: Deadlines::default(),
                retry: Retries { max_attempts: 1, ..Retries::default() },
                rate_limit: None,
                places: Places::default(),
                workflow: None,
            },
        );
        others
    }
}

/// A person decides what the step gives. It can't be read from a spec by itself, so it has no `StageConfig` of its own.
struct Escalate {
    timeout: Option<Duration>,
}

impl ErasedStage for Escalate {
    fn kind(&self) -> &'static str {
        "escalate"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn is_stateless(&self) -> bool {
        true
    }

    fn waits(&self) -> Option<WaitFor> {
        Some(WaitFor { time: self.timeout, signal: None, decision: true })
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Err(Error::engine("a decision is waited for by the workflow"))
    }

    fn describe(&self) -> Value {
        json!({ "timeout": self.timeout.map(|time| Interval(time).to_string()) })
    }
}
