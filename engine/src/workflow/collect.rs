//! The items of a run together again: the record of the step that was done for each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::columns::{ITEM, ITEMS, PASSAGE, SCOPE, texts, whole_key};
use super::fail_fast::ELEMENT_FAILED;
use super::record::{Cost, Failure, ItemFailure, Items, Record, Status};
use super::step_call::UNPAID;
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use crate::data::columns::{RUN_ID, json_field};
use crate::data::records::compact;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::state::{Keyed, StateVisitor, Value};
use crate::time::Timestamp;

/// Failures of items that are told one by one.
const TOLD_MAX: usize = 10;

/// Waits for all items of a run, and says what they came to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CollectConfig {
    /// The step.
    pub step: String,
    /// The share of items that may fail, in percent.
    pub tolerated: f64,
}

impl CollectConfig {
    fn output(&self, input: &SchemaRef) -> SchemaRef {
        let own = [Field::new(RUN_ID, DataType::Utf8, false), json_field(&self.step)];
        Arc::new(Schema::new(own.into_iter().chain(kept(input)).collect::<Vec<_>>()))
    }
}

/// The columns that tell rows apart beside their run.
fn kept(input: &SchemaRef) -> impl Iterator<Item = Field> {
    [SCOPE, PASSAGE].into_iter().filter_map(|name| input.field_with_name(name).ok().cloned())
}

impl StageConfig for CollectConfig {
    const NAME: &'static str = "collect";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.output(&inputs[0]))
    }

    fn distribution(&self) -> Distribution {
        Distribution::Keyed(vec![RUN_ID.to_owned()])
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::Many
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let (config, schema) = (self.clone(), self.output(&context.inputs[0]));
        Ok(Operator::stage(Collect { config, schema, come: Value::default(), kept: Keyed::default() }))
    }
}

struct Collect {
    config: CollectConfig,
    schema: SchemaRef,
    /// How many items of a run have come.
    come: Value<BTreeMap<String, u64>>,
    /// Items by the id of their run and their place in the list.
    kept: Keyed,
}

impl Stage for Collect {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let numbers = |name: &str| {
            let column = rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<UInt64Type>());
            column.ok_or_else(|| Error::engine(format!("an item has no column `{name}`")))
        };
        let (ids, records) = (texts(rows, RUN_ID)?, texts(rows, &self.config.step)?);
        let (item, items) = (numbers(ITEM)?, numbers(ITEMS)?);
        let (mut whole, mut made, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let id = &*whole_key(rows, row)?;
            if item.is_null(row) {
                whole.push(ids.value(row).to_owned());
                made.push(records.value(row).to_owned());
                last.push(row as u64);
                continue;
            }
            // Of an item no more is needed than its record.
            let at = rows.schema_ref().index_of(&self.config.step)?;
            self.kept.insert(&key(id, item.value(row)), compact(&rows.project(&[at])?.slice(row, 1))?);
            let come = self.come.update(|come| {
                let count = come.entry(id.to_owned()).or_default();
                *count += 1;
                *count
            });
            if come == items.value(row) {
                self.come.update(|come| come.remove(id));
                made.push(serde_json::to_string(&self.record(id, come)?)?);
                whole.push(ids.value(row).to_owned());
                last.push(row as u64);
            }
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(whole)), Arc::new(StringArray::from(made))];
        let last = UInt64Array::from(last);
        for field in kept(rows.schema_ref()) {
            columns.extend(rows.column_by_name(field.name()).map(|column| take(column, &last, None)).transpose()?);
        }
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(Progress::Done)
    }

    fn finish(&mut self, _: &mut Output) -> Result<Progress> {
        match self.come.get().first_key_value() {
            None => Ok(Progress::Done),
            Some((run, come)) => {
                Err(Error::engine(format!("run `{run}` has lost items of `{}`: {come} have come", self.config.step)))
            }
        }
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("come", &mut self.come)?;
        visitor.piece("kept", &mut self.kept)
    }
}

/// The first failures are told one by one.
fn told(failures: &mut Vec<ItemFailure>, item: u64, Failure { class, message, .. }: Failure, degraded: bool) {
    if failures.len() < TOLD_MAX {
        failures.push(ItemFailure { item, class, message, degraded });
    }
}

fn key(run: &str, item: u64) -> String {
    format!("{item:010}/{run}")
}

impl Collect {
    /// The record of the step, of those of its items.
    fn record(&mut self, run: &str, count: u64) -> Result<Record> {
        let (mut results, mut failures, mut usage) = (Vec::new(), Vec::new(), Cost::default());
        let (mut attempts, mut times, mut first, mut last) = (0, Vec::new(), 0, Failure::default());
        let (mut failed, mut degraded, mut cached, mut stopped, mut waits) = (0, 0, 0, None, None);
        // A later element has what an earlier one wrote, or has changed it.
        let mut artifacts = BTreeMap::new();
        for item in 0..count {
            let kept = self.kept.remove(&key(run, item)).ok_or_else(|| Error::engine("an item came twice"))?;
            let record: Record = serde_json::from_str(kept.column(0).as_string::<i32>().value(0))?;
            let was_dropped = record.status == Status::Canceled && record.reason.as_deref() == Some(ELEMENT_FAILED);
            if matches!(record.status, Status::Canceled | Status::Pending) && !was_dropped {
                stopped = Some(record.clone());
            }
            cached += u64::from(record.status == Status::Cached);
            attempts += record.attempts;
            record.usage.into_iter().for_each(|cost| usage.add(cost));
            artifacts.extend(record.artifacts.iter().cloned().map(|file| (file.path.clone(), file)));
            times.extend(record.begun().zip(record.ended()));
            if matches!(record.status, Status::Waiting | Status::BackingOff) {
                let reason = record.reason.unwrap_or_else(|| "waits".to_owned());
                waits = waits.or(Some((record.status, reason)));
            } else if !record.has_results() && !was_dropped {
                failed += 1;
                let failure = record.error.unwrap_or_default();
                if failed == 1 {
                    let below = failure.at.as_ref().map(|at| format!("/{at}")).unwrap_or_default();
                    first = item;
                    last = Failure { at: Some(format!("items/{item}{below}")), ..failure.clone() };
                }
                told(&mut failures, item, failure, false);
            } else if record.degraded {
                degraded += 1;
                if record.is_default() {
                    let unpaid = || Failure { class: "budget".into(), message: UNPAID.into(), ..Failure::default() };
                    told(&mut failures, item, record.error.unwrap_or_else(unpaid), true);
                }
            }
            results.push(record.results.unwrap_or_default());
        }
        if let Some((status, reason)) = waits.filter(|_| stopped.is_none()) {
            // It has not ended, so it has no results yet.
            return Ok(Record { status, reason: Some(reason), ..Record::pending() });
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of a list")]
        let is_tolerated = failed as f64 * 100.0 <= self.config.tolerated * count as f64;
        let message = format!("{failed} of {count} items failed; item {first}: {}", last.message);
        let error = (!is_tolerated).then_some(Failure { message, attempts, ..last });
        let start = times.iter().map(|(begin, _)| *begin).min();
        let took = start.zip(times.iter().map(|(_, end)| *end).max()).map(|(begin, end)| (end - begin) / 1_000);
        if let Some(stopped) = stopped {
            // However many may fail: a run that was canceled or paused in its items was so in the step.
            let usage = (usage != Cost::default()).then_some(usage);
            return Ok(Record { attempts, results: None, usage, ..stopped });
        }
        Ok(Record {
            status: match is_tolerated {
                true if count > 0 && cached == count => Status::Cached,
                true => Status::Completed,
                false => Status::Failed,
            },
            results: Some(Json::Array(results)),
            error,
            attempts,
            started_at: start.map(|at| Timestamp(at).to_string()),
            duration_ms: took.and_then(|ms| u64::try_from(ms).ok()),
            usage: (usage != Cost::default()).then_some(usage),
            items: Some(Items { total: count, failed, degraded, cached, failures }),
            artifacts: artifacts.into_values().collect(),
            ..Record::skipped(String::new())
        })
    }
}
