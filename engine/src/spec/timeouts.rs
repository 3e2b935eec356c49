//! How long a step may take: one attempt, its wait for its turn, all attempts, and the silence within one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::reader::Reader;
use crate::api::Deadlines;
use crate::data::units::Interval;
use crate::diagnostic::{Key, Problem};

/// `timeout`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TimeoutKeys {
    /// `start_to_close` alone.
    Attempt(Interval),
    /// Several limits, in the words of Temporal.
    Said(SaidTimeouts),
}

/// The limits of a step by name.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaidTimeouts {
    /// How long one attempt may take.
    pub start_to_close: Option<Interval>,
    /// How long it may wait until it is begun first, from when what it needs has ended.
    pub schedule_to_start: Option<Interval>,
    /// How long all attempts may take together, with the waits before and between them, from when what it needs has ended.
    pub schedule_to_close: Option<Interval>,
    /// How long an attempt may be silent: the pieces of the answer of a model with `stream: true`, and what a program writes, are signs of life.
    pub heartbeat: Option<Interval>,
}

/// How long a step may take, as far as it is said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timeouts {
    pub start_to_close: Option<Duration>,
    pub schedule_to_start: Option<Duration>,
    pub schedule_to_close: Option<Duration>,
    pub heartbeat: Option<Duration>,
}

impl Timeouts {
    /// What is said, over what is usual.
    pub(super) fn over(self, usual: Self) -> Self {
        Self {
            start_to_close: self.start_to_close.or(usual.start_to_close),
            schedule_to_start: self.schedule_to_start.or(usual.schedule_to_start),
            schedule_to_close: self.schedule_to_close.or(usual.schedule_to_close),
            heartbeat: self.heartbeat.or(usual.heartbeat),
        }
    }

    /// What a `timeout` at `path` says.
    pub(super) fn read(reader: &mut Reader<'_>, keys: &TimeoutKeys, path: &[Key]) -> Self {
        let said = match keys {
            TimeoutKeys::Attempt(Interval(time)) => return Self { start_to_close: Some(*time), ..Self::default() },
            TimeoutKeys::Said(said) => said,
        };
        let time = |interval: Option<Interval>| interval.map(|Interval(time)| time);
        let timeouts = Self {
            start_to_close: time(said.start_to_close),
            schedule_to_start: time(said.schedule_to_start),
            schedule_to_close: time(said.schedule_to_close),
            heartbeat: time(said.heartbeat),
        };
        // What is never reached before another one is a slip.
        for (name, time, other, longer) in [
            ("heartbeat", timeouts.heartbeat, "start_to_close", timeouts.start_to_close),
            ("heartbeat", timeouts.heartbeat, "schedule_to_close", timeouts.schedule_to_close),
            ("start_to_close", timeouts.start_to_close, "schedule_to_close", timeouts.schedule_to_close),
            ("schedule_to_start", timeouts.schedule_to_start, "schedule_to_close", timeouts.schedule_to_close),
        ] {
            if let (Some(time), Some(longer)) = (time, longer)
                && time > longer
            {
                let problem = Problem::new(format!("`{name}` is longer than `{other}`, so it never counts"));
                reader.fault(&[path, &[name.into()]].concat(), problem);
            }
        }
        timeouts
    }

    /// The part of it that bounds more than an attempt, or less.
    pub(super) fn deadlines(self) -> Deadlines {
        let Self { schedule_to_start, schedule_to_close, heartbeat, .. } = self;
        Deadlines { schedule_to_start, schedule_to_close, heartbeat }
    }
}
