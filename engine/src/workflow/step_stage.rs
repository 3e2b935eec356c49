//! A step that asks nobody: a stage without state, which works on as many runs at once as come.

use arrow::array::UInt64Array;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::checked::Checked;
use super::columns::{numbers, passage, scope};
use super::course::{Course, Place, item, results};
use super::record::{Record, Status};
use crate::api::output::RejectedRow;
use crate::api::{BoxStage, Output, Progress, Rejected, Stage};
use crate::env::Env;
use crate::error::{Error, Result};

pub(super) struct StepStage {
    inner: BoxStage,
    course: Course,
    checked: Option<Checked>,
    seen: Option<Seen>,
    env: Env,
}

/// The columns that a step sees, if not all: their places, and what they make.
pub(super) struct Seen {
    places: Vec<usize>,
    schema: SchemaRef,
}

impl Seen {
    pub(super) fn of(rows: &SchemaRef, seen: &SchemaRef) -> Option<Self> {
        if seen.fields().len() >= rows.fields().len() {
            return None;
        }
        let places = seen.fields().iter().filter_map(|field| rows.index_of(field.name()).ok()).collect();
        Some(Self { places, schema: seen.clone() })
    }
}

/// What became of a run that started the step.
pub(super) enum Made {
    Result(serde_json::Value),
    Failed(Error),
}

/// What tells rows apart: the number of the run, its passage, the item of a list, and the scope.
type Key = (u64, Option<u64>, Option<Place>, String);

fn keys(rows: &RecordBatch) -> Result<Vec<Key>> {
    let key = |(row, number): (usize, &u64)| {
        Ok((*number, passage(rows, row), item(rows, row)?, scope(rows, row)?.to_owned()))
    };
    numbers(rows)?.iter().enumerate().map(key).collect()
}

impl StepStage {
    /// A stage as a step, with what its results are to be like, and the columns that it sees if not all.
    pub(super) fn new(
        inner: BoxStage,
        course: Course,
        (checked, seen): (Option<Checked>, Option<Seen>),
        env: Env,
    ) -> Self {
        Self { inner, course, checked, seen, env }
    }

    fn seen(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let Some(Seen { places, schema }) = &self.seen else { return Ok(rows) };
        let columns = places.iter().map(|place| rows.column(*place).clone()).collect();
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }

    /// What the stage makes of rows, each for itself.
    pub(super) fn work(&mut self, rows: &RecordBatch, out: &Output) -> Result<Vec<Made>> {
        match self.whole(rows, out) {
            Ok(made) => Ok(made),
            Err(error) if rows.num_rows() <= 1 => Ok(vec![Made::Failed(error)]),
            // One row at fault must not take the others with it.
            Err(_) => {
                let half = rows.num_rows() / 2;
                let mut made = self.work(&rows.slice(0, half), out)?;
                made.extend(self.work(&rows.slice(half, rows.num_rows() - half), out)?);
                Ok(made)
            }
        }
    }

    fn whole(&mut self, rows: &RecordBatch, out: &Output) -> Result<Vec<Made>> {
        let mut said = out.within();
        let mut progress = self.inner.process(rows, &mut said)?;
        while progress == Progress::More {
            progress = self.inner.resume(&mut said)?;
        }
        let given: Vec<RecordBatch> =
            said.emitted().iter().filter(|(port, _)| *port == 0).map(|(_, rows)| rows.clone()).collect();
        if said.rejected.is_empty() {
            return Ok(given_for(rows, &given)?.into_iter().map(Made::Result).collect());
        }
        let mut failed = Vec::new();
        for Rejected { row, error } in std::mem::take(&mut said.rejected) {
            let RejectedRow::Rows(row) = row else { return Err(Error::engine("a step's stage rejected a text")) };
            // Several rows with one fault are told one by one.
            failed.extend(keys(&row)?.into_iter().map(|key| (key, error.summary())));
        }
        let numbers = keys(rows)?;
        let is_kept = |(_, number): &(u64, &Key)| !failed.iter().any(|(f, _)| f == *number);
        let kept: UInt64Array = (0..).zip(&numbers).filter(is_kept).map(|(row, _)| row).collect();
        let mut results = given_for(&take_record_batch(rows, &kept)?, &given)?.into_iter();
        let mut made = Vec::with_capacity(numbers.len());
        for number in &numbers {
            made.push(match failed.iter().position(|(f, _)| f == number) {
                Some(at) => Made::Failed(failed.swap_remove(at).1),
                None => Made::Result(results.next().ok_or_else(|| Error::engine("a step's stage lost a row"))?),
            });
        }
        Ok(made)
    }
}

/// What a stage gave for these rows.
fn given_for(rows: &RecordBatch, given: &[RecordBatch]) -> Result<Vec<serde_json::Value>> {
    match given {
        [] if rows.num_rows() == 0 => Ok(Vec::new()),
        [] => Err(Error::engine("a step's stage must give one row for one")),
        [one] => results(rows, one),
        [first, ..] => results(rows, &concat_batches(first.schema_ref(), given)?),
    }
}

impl Stage for StepStage {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut records: Vec<Option<String>> = Vec::with_capacity(rows.num_rows());
        let mut active = Vec::new();
        for row in 0..rows.num_rows() {
            let record = match self.course.settled(rows, row) {
                Ok(record) => record,
                Err(error) => Some(serde_json::to_string(&Record::failed(&error, 1))?),
            };
            if record.is_none() {
                active.push(row as u64);
            }
            records.push(record);
        }
        if !active.is_empty() {
            let all = active.len() == rows.num_rows();
            let started = if all { rows.clone() } else { take_record_batch(rows, &UInt64Array::from(active.clone()))? };
            let (at, begin) = (self.env.wall().to_string(), self.env.monotonic());
            let made = self.work(&self.seen(started)?, out)?;
            let took = self.env.monotonic().saturating_sub(begin) / u32::try_from(active.len()).unwrap_or(u32::MAX);
            let check = |value| match &self.checked {
                Some(checked) => checked.check(value).map_or_else(Made::Failed, Made::Result),
                None => Made::Result(value),
            };
            let made = made.into_iter().map(|made| match made {
                Made::Result(value) => check(value),
                failed @ Made::Failed(_) => failed,
            });
            for (row, made) in active.into_iter().zip(made) {
                let mut record = match made {
                    Made::Failed(error) => Record::failed(&error, 1),
                    Made::Result(value) => Record {
                        status: Status::Completed,
                        results: Some(value),
                        reason: None,
                        attempts: 1,
                        ..Record::skipped(String::new())
                    },
                };
                record.started_at = Some(at.clone());
                record.duration_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                let row = usize::try_from(row).unwrap_or(usize::MAX);
                if let Some(recorded) = &self.course.begin.recorded {
                    recorded.retime(&self.course.name(rows, row)?, &mut record)?;
                }
                records[row] = Some(serde_json::to_string(&self.course.made(rows, row, record)?)?);
            }
        }
        let records = records.into_iter().map(Option::unwrap_or_default).collect();
        out.emit(self.course.answer(rows, records)?);
        Ok(Progress::Done)
    }
}
