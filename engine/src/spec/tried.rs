//! How a step is tried: how long it may take, and when it is tried again.

use std::time::Duration;

use serde_json::Value;

use super::command::Configured;
use super::model::Work;
use super::reader::Reader;
use super::steps::Common;
use super::timeouts::{TimeoutKeys, Timeouts};
use super::workflow_keys::RetryKeys;
use crate::api::Deadlines;
use crate::api::limits::Retries;
use crate::api::registry::BoxStageConfig;
use crate::data::units::Interval;
use crate::diagnostic::{Key, Problem};

/// How long an attempt may take when nothing says.
pub(super) const TIMEOUT: Duration = Duration::from_mins(5);
/// How long a step may take, and when it is tried again.
pub(super) struct Tried {
    pub(super) timeouts: Timeouts,
    /// Where a `heartbeat` is said of this step itself.
    pub(super) heartbeat: Option<Vec<Key>>,
    pub(super) retry: Retries,
}

impl Common<'_> {
    /// What is said, over what the spec says, over what is usual: the defaults of Temporal, with three attempts at most.
    pub(super) fn tried(
        &self,
        reader: &mut Reader<'_>,
        path: &[Key],
        (timeout, said): (Option<&TimeoutKeys>, Option<&RetryKeys>),
        usual: Option<&Tried>,
    ) -> Tried {
        let (timeouts, heartbeat) = self.timeouts(reader, path, timeout, usual);
        let tried = |retry| Tried { timeouts, heartbeat, retry };
        if let (Some(usual), None) = (usual, said) {
            return tried(usual.retry.clone());
        }
        let first = Retries {
            initial_interval: Interval(Duration::from_secs(1)),
            max_interval: Interval(Duration::from_secs(100)),
            ..Retries::default()
        };
        let Ok(Value::Object(mut all)) = serde_json::to_value(&first) else { return tried(first) };
        let of_all: Vec<Key> = vec!["defaults".into(), "retry".into()];
        for (keys, at) in [(self.defaults.retry.as_ref(), of_all.as_slice()), (said, path)] {
            match keys {
                Some(RetryKeys::Said(said)) => all.extend(said.clone()),
                Some(RetryKeys::Name(name)) => {
                    all.extend(self.shared.retry(reader, at, name).cloned().unwrap_or_default());
                }
                None => {}
            }
        }
        let retry = serde_json::from_value(all.into()).unwrap_or_else(|e| {
            reader.fault(if said.is_some() { path } else { &of_all }, Problem::new(e.to_string()));
            first
        });
        tried(retry)
    }

    /// How long a step may take whose `retry` would stand at `retry`, and where it says a `heartbeat`.
    fn timeouts(
        &self,
        reader: &mut Reader<'_>,
        retry: &[Key],
        said: Option<&TimeoutKeys>,
        usual: Option<&Tried>,
    ) -> (Timeouts, Option<Vec<Key>>) {
        let path = [&retry[..retry.len().saturating_sub(1)], &["timeout".into()]].concat();
        let own = said.map(|keys| Timeouts::read(reader, keys, &path)).unwrap_or_default();
        let heartbeat = own.heartbeat.map(|_| [path.as_slice(), &["heartbeat".into()]].concat());
        match usual {
            Some(usual) => (own.over(usual.timeouts), heartbeat),
            None => (own.over(self.timeouts), heartbeat),
        }
    }
}

impl Tried {
    /// What bounds the time of what `config` does beside that of an attempt.
    pub(super) fn deadlines(&self, reader: &mut Reader<'_>, config: &BoxStageConfig) -> Deadlines {
        let deadlines = self.timeouts.deadlines();
        let Some(silent) = config.0.silent() else { return deadlines };
        if let Some(place) = &self.heartbeat {
            let problem = Problem::new(format!("`{}` has no `heartbeat`: {silent}", config.0.kind()));
            reader.fault_at_key(place, problem.help("`start_to_close` bounds an attempt as a whole"));
        }
        // One that holds for others too is for those that give signs of life.
        Deadlines { heartbeat: None, ..deadlines }
    }

    pub(super) fn work(&self, reader: &mut Reader<'_>, command: &str, does: Configured) -> Work {
        let (timeout, retry) = (self.timeouts.start_to_close.unwrap_or(TIMEOUT), self.retry.clone());
        let deadlines = self.deadlines(reader, &does.stage);
        let Configured { stage: config, rate_limit, places } = does;
        Work { command: command.to_owned(), config, timeout, deadlines, retry, rate_limit, places, workflow: None }
    }
}
