//! What a spec says of checkpoints.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::reader::Reader;
use crate::api::checkpointing::{CHECKPOINTS, Checkpointing, Checkpoints, Place, Timeout};
use crate::api::{Registry, StoreAt};
use crate::data::units::Interval;
use crate::diagnostic::Problem;

/// Whether and how progress is made safe, so that a job that was cut off goes on where it was. If it is not said: where an
/// input without an end goes into a sink that can commit, or through a stage that keeps something by key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CheckpointChoice {
    /// `false`: a job that was cut off begins anew.
    Off(Never),
    /// How.
    On(CheckpointKeys),
}

/// `false`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "bool")]
pub(crate) struct Never;

impl TryFrom<bool> for Never {
    type Error = &'static str;

    fn try_from(on: bool) -> Result<Self, Self::Error> {
        if on { Err("say how, or `false`") } else { Ok(Self) }
    }
}

impl JsonSchema for Never {
    fn schema_name() -> Cow<'static, str> {
        "Never".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": false })
    }
}

/// How progress is made safe.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointKeys {
    /// How often; every 10 seconds if it does not say, and more often if the sources need it.
    pub every: Option<Interval>,
    /// The folder below which each job has one of its own, `.bourn/checkpoints` if it does not say; or the URL of a bucket:
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
    pub path: Option<String>,
    /// How to reach a bucket, as for the connector `object_store`.
    pub options: Option<BTreeMap<String, String>>,
    /// For how long a job that was cut off keeps others out of its checkpoints in a bucket, which is how long the next run may
    /// have to wait: 20 seconds if it does not say.
    pub lease: Option<Interval>,
    /// How many of the newest stay: 3 if it does not say.
    #[schemars(range(min = 1, max = 1000))]
    pub keep: Option<usize>,
    /// How long a checkpoint may take until everything of it is committed. One that takes longer has failed, and as much longer
    /// again once more: a warning says for what it waits. Without it, it is waited for as long as it takes.
    pub timeout: Option<Interval>,
    /// How often one may fail by `timeout`; beyond it the job ends, and the next run goes on behind the checkpoint before: 2
    /// if it does not say.
    pub tolerated_timeouts: Option<u32>,
}

impl CheckpointChoice {
    pub(crate) fn every(&self) -> Option<Duration> {
        match self {
            Self::Off(_) => None,
            Self::On(keys) => keys.every.map(|i| i.0),
        }
    }

    /// What is chosen; none when it is at fault.
    pub(crate) fn resolve(choice: Option<&Self>, reader: &mut Reader<'_>) -> Option<Checkpointing> {
        let mut chosen = Checkpoints::in_folder(CHECKPOINTS);
        let keys = match choice {
            None => return Some(Checkpointing::WhereNeeded(chosen)),
            Some(Self::Off(_)) => return Some(Checkpointing::Off),
            Some(Self::On(keys)) => keys,
        };
        chosen.keep = keys.keep.unwrap_or(chosen.keep);
        match keys.timeout().and_then(|timeout| Ok((timeout, keys.place(reader.registry, chosen.at)?))) {
            Ok((timeout, at)) => Some(Checkpointing::On(Checkpoints { at, timeout, ..chosen })),
            Err(problem) => {
                reader.fault(&["checkpoint".into()], problem);
                None
            }
        }
    }
}

impl CheckpointKeys {
    fn timeout(&self) -> Result<Option<Timeout>, Problem> {
        let tolerated = self.tolerated_timeouts.unwrap_or(Timeout::TOLERATED);
        match self.timeout {
            Some(Interval(Duration::ZERO)) => {
                let problem = Problem::new("in no time no checkpoint can be complete").under("timeout");
                Err(problem.help("leave it out to wait as long as it takes"))
            }
            Some(Interval(after)) => Ok(Some(Timeout { after, tolerated })),
            None if self.tolerated_timeouts.is_some() => {
                let problem = Problem::new("without `timeout` no checkpoint fails by it").under("tolerated_timeouts");
                Err(problem.help("say `timeout: 10m`, or leave it out"))
            }
            None => Ok(None),
        }
    }

    fn place(&self, registry: &Registry, usual: Place) -> Result<Place, Problem> {
        let url = self.path.as_ref().filter(|path| path.contains("://"));
        let Some(url) = url else {
            let of_buckets = [("options", self.options.is_some()), ("lease", self.lease.is_some())];
            if let Some((key, _)) = of_buckets.iter().find(|(_, said)| *said) {
                let problem = Problem::new(format!("`{key}` is for checkpoints in a bucket")).under(*key);
                return Err(problem.help("say `path: s3://bucket/prefix`, or leave it out"));
            }
            return Ok(self.path.as_ref().map_or(usual, |path| Place::Folder(path.into())));
        };
        let (options, lease) = (self.options.clone().unwrap_or_default(), self.lease.map(|l| l.0));
        registry.store_at(StoreAt { url: url.clone(), options, lease }).map(Place::Store)
    }
}
