//! `cache` of a step: for how long what it gave answers those that ask the same.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::model::Step;
use super::reader::Reader;
use super::workflow_keys::StepKeys;
use crate::data::units::Interval;
use crate::diagnostic::{Key, Problem};

/// How long an answer holds when nothing says.
const TTL: Duration = Duration::from_hours(24);

/// `cache`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheKeys {
    /// How long what the step gave answers those that ask the same: `15m`; a day if it is not said.
    #[serde(default = "ttl")]
    pub ttl: Interval,
    /// Any text: with another one, what was kept before does not count. For what the step depends on and its configuration does not say,
    /// such as the version of a program or of data.
    #[serde(default)]
    pub version: String,
}

fn ttl() -> Interval {
    Interval(TTL)
}

/// A step that may be answered from a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caching {
    /// How long its results hold.
    pub ttl: Duration,
    /// What makes earlier ones void.
    pub version: String,
    /// Whether the spec says it of this step, and not of all that change nothing.
    pub is_said: bool,
}

impl Caching {
    /// What a step says.
    pub(super) fn read(reader: &mut Reader<'_>, keys: &StepKeys, instead: Option<&str>, path: &[Key]) -> Option<Self> {
        let CacheKeys { ttl: Interval(ttl), version } = keys.cache.clone()?;
        let at = [path, &["cache".into()]].concat();
        let fault = match instead {
            Some("workflow") => Some(("a workflow is not answered from a cache", "say it of the steps in it")),
            Some("pipeline") => Some(("a pipeline writes something, which no cache does", "take `cache` away")),
            Some("route") => Some(("a `route` chooses anew for each run", "take `cache` away")),
            Some(_) => Some(("a `switch` asks nobody, so there is nothing to be cached", "take `cache` away")),
            None if keys.repeat.is_some() => Some((
                "what is done in rounds reads what the round before gave, and is not cached",
                "take one of them away",
            )),
            None => None,
        };
        if let Some((what, help)) = fault {
            reader.fault_at_key(&at, Problem::new(what).help(help));
        }
        if ttl.is_zero() {
            reader.fault(
                &[at.as_slice(), &["ttl".into()]].concat(),
                Problem::new("an answer that holds for no time is never found"),
            );
        }
        Some(Self { ttl, version, is_said: true })
    }

    /// Lets every step be answered from a cache that changes nothing.
    pub(super) fn all(steps: &mut [Step]) {
        for step in steps {
            let config = &step.work.config.0;
            let asks = step.work.workflow.is_none() && step.route.is_none() && config.waits().is_none();
            let may = asks && step.repeat.is_none();
            if may && (config.is_stateless() || step.resources.stateless) && step.cache.is_none() {
                step.cache = Some(Self { ttl: TTL, version: String::new(), is_said: false });
            }
        }
    }
}
