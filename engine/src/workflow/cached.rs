//! A step that is answered from a cache where the same was asked before, by whichever run.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::record::{Record, Status};
use crate::api::cache::{Flights, Turn};
use crate::api::call::Cached as Looked;
use crate::api::memo::Key;
use crate::api::registry::BoxStageConfig;
use crate::api::{BoxCall, BuildContext, Cache, Call, CallContext, Outage};
use crate::data::columns::RESERVED_PREFIX;
use crate::data::json::cell_value;
use crate::error::Result;
use crate::spec::caching::Caching;
use crate::spec::output::Output;
use crate::time::Timestamp;

/// What is kept by another version may be read otherwise.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// After a failure it is asked again by the next request, which may come at once; the store itself says how long it leaves it alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the steps of a graph look, and what they ask for right now. A clone is the same one.
#[derive(Clone)]
pub(super) struct Place {
    pub cache: Arc<dyn Cache>,
    pub flights: Flights,
}

pub(super) struct Cached {
    place: Place,
    ttl: Duration,
    /// The hash of what the step is, but for its configuration.
    step: Key,
    /// Its kind and its configuration, for calls that do not know what their answer depends on.
    whole: Vec<u8>,
    /// The id of the step.
    own: Arc<str>,
    /// The steps of the workflow. Of what they left only what they gave counts, and not when.
    steps: Arc<[String]>,
    outage: Outage,
}

/// What a step needs to be looked up.
pub(super) struct Asks<'a> {
    pub caching: &'a Caching,
    pub config: &'a BoxStageConfig,
    /// What becomes of its results.
    pub output: Option<&'a Output>,
    pub own: Arc<str>,
    pub steps: Arc<[String]>,
}

impl Cached {
    pub(super) fn of(asks: Asks<'_>, place: Place, context: &BuildContext) -> Self {
        let Asks { caching, config, output, own, steps } = asks;
        let (kind, output) =
            (config.0.kind(), output.map(serde_json::to_string).transpose().ok().flatten().unwrap_or_default());
        let mock = if context.mock { "mock" } else { "" };
        let step = Key::of(["step", VERSION, kind, &caching.version, &output, mock]);
        // The text is hashed, and goes nowhere: there may be secrets in it.
        let whole = config.0.filled().to_string().into_bytes();
        Self { place, ttl: caching.ttl, step, whole, own, steps, outage: Outage::of(&context.id, &context.env) }
    }

    /// What the answer to a request is kept under; none when that fails for a fault of its own.
    fn key(&self, call: &BoxCall, rows: &RecordBatch) -> Option<Key> {
        let Key(step) = self.step;
        if let Some(Key(asked)) = call.key(rows).ok()? {
            return Some(Key::of_bytes([step.as_slice(), &asked]));
        }
        let row = self.row(rows).ok()?;
        Some(Key::of_bytes([step.as_slice(), &self.whole].into_iter().chain(row.iter().map(Vec::as_slice))))
    }

    /// All that the row has, but for what became of it.
    fn row(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>> {
        let mut parts = Vec::new();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            let name = field.name();
            if name.starts_with(RESERVED_PREFIX) || **name == *self.own {
                continue;
            }
            let mut value = cell_value(column, field, 0)?;
            if self.steps.contains(name) {
                let record: Record = serde_json::from_value(value)?;
                let gave = if record.has_results() { record.results } else { None };
                value =
                    gave.map_or_else(|| format!("{:?}", record.status).into(), |results| serde_json::json!([results]));
            }
            parts.extend([name.clone().into_bytes(), value.to_string().into_bytes()]);
        }
        Ok(parts)
    }

    /// Waits while another request asks the same.
    pub(super) async fn turn(&self, call: &BoxCall, rows: &RecordBatch) -> Option<Turn> {
        self.place.flights.turn(self.key(call, rows)?).await
    }

    /// What was kept, as the record of the step. A cache that can't be asked has nothing.
    pub(super) async fn find(&self, call: &BoxCall, rows: &RecordBatch, context: &CallContext) -> Option<Record> {
        let now = context.env.wall();
        let found = self.place.cache.find(self.key(call, rows)?, now).await;
        let found = found.and_then(|kept| Ok(kept.map(|kept| serde_json::from_slice(&kept)).transpose()?));
        let results: Value = self.told(found, context)??;
        context.bill.cached(Looked { hits: 1, ..Looked::default() });
        Some(Record {
            status: Status::Cached,
            results: Some(results),
            reason: None,
            started_at: Some(now.to_string()),
            duration_ms: Some(0),
            ..Record::skipped(String::new())
        })
    }

    /// Keeps what the step gave.
    pub(super) async fn keep(&self, call: &BoxCall, rows: &RecordBatch, results: &Value, context: &CallContext) {
        let Some(key) = self.key(call, rows) else { return };
        let until = i64::try_from(self.ttl.as_micros())
            .map_or(Timestamp::MAX, |ttl| Timestamp(context.env.wall().0.saturating_add(ttl)));
        let kept = self.place.cache.keep(key, results.to_string().into_bytes(), until).await;
        let _told = self.told(kept, context);
    }

    /// Says and counts when the cache has failed.
    fn told<T>(&self, result: Result<T>, context: &CallContext) -> Option<T> {
        match result {
            Ok(value) => {
                self.outage.passed();
                Some(value)
            }
            Err(error) => {
                context.bill.cached(Looked { errors: 1, ..Looked::default() });
                self.outage.failed(&error.context("the cache is not there, so it is asked as without one"), AGAIN);
                None
            }
        }
    }
}
