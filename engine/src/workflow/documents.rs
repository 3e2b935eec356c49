//! The end of runs: a document of each, and the documents in the order of admission.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{RUN, numbers};
use super::document::document;
use super::finish::run_of;
use super::result::DocumentConfig;
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Purses, Stage, StageConfig};
use crate::data::columns::json_field;
use crate::data::records::{ROWS_MAX, compact};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::{Rest, RunState};
use crate::state::{Keyed, StateVisitor, Value};

impl StageConfig for DocumentConfig {
    const NAME: &'static str = "document";

    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(made())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Documents { config: self.clone() }))
    }
}

/// What is made of runs: the number of each, its document and how it stands.
pub(super) fn made() -> SchemaRef {
    let number = Field::new(RUN, DataType::UInt64, false);
    Arc::new(Schema::new([vec![Arc::new(number)], columns().fields().to_vec()].concat()))
}

/// What leaves: the document of a run, how it stands, and how it stood when one of it left before.
fn leaves() -> SchemaRef {
    let before = Field::new("before", DataType::Utf8, true);
    Arc::new(Schema::new([columns().fields().to_vec(), vec![Arc::new(before)]].concat()))
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![json_field("document"), Field::new("status", DataType::Utf8, false)]))
}

struct Documents {
    config: DocumentConfig,
}

impl Stage for Documents {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (mut documents, mut states) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let document = document(&self.config, &run_of(&self.config, rows, row)?);
            documents.push(serde_json::to_string(&document)?);
            states.push(document.status.name());
        }
        let runs: ArrayRef = Arc::new(UInt64Array::from(numbers(rows)?.to_vec()));
        let all = vec![runs, Arc::new(StringArray::from(documents)), Arc::new(StringArray::from(states))];
        out.emit(RecordBatch::try_new(made(), all)?);
        Ok(Progress::Done)
    }
}

/// Puts documents into the order of admission.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultConfig {
    /// The number of the first run.
    pub first: u64,
    /// The runs at rest of a job that has a journal.
    #[serde(skip)]
    #[schemars(skip)]
    pub rest: Option<Rest>,
    /// What each run may spend.
    #[serde(skip)]
    #[schemars(skip)]
    pub purses: Option<Purses>,
}

impl StageConfig for ResultConfig {
    const NAME: &'static str = "result";

    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(leaves())
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::AtMostOne
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let (next, rest, purses) = (Value::new(self.first), self.rest.clone(), self.purses.clone());
        Ok(Operator::stage(Results { next, held: Keyed::default(), newer: Keyed::default(), rest, purses }))
    }
}

/// Documents in the order of admission: one that is early waits for those before it. How many wait is bounded by how
/// many runs are admitted at once. A run whose document has come is at rest, wherever that is, and may come back: another document of it takes
/// the place of one that has not left, and otherwise leaves as it comes.
struct Results {
    rest: Option<Rest>,
    purses: Option<Purses>,
    /// The number of the run that is next.
    next: Value<u64>,
    /// Documents of runs that follow each other, by the number of the first, with as many digits as the largest has, so that they sort.
    held: Keyed,
    /// Documents that take the place of one among those, by the number of the run.
    newer: Keyed,
}

impl Stage for Results {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (numbers, made) = self.after_those_that_are_back(rows, out)?;
        self.come(&numbers, &made)?;
        let mut at = 0;
        for stretch in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let (first, held) = (stretch[0], made.slice(at, stretch.len()));
            at += stretch.len();
            let next = *self.next.get();
            if first == next {
                self.next.set(next + stretch.len() as u64);
                leave(held, None, out)?;
            } else if first < next || self.held.insert(&key(first), compact(&held)?).is_some() {
                return Err(Error::engine(format!("run {first} came to its end twice")));
            }
        }
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let (mut free, mut rows, from) = (Vec::new(), 0, *self.next.get());
        while rows < ROWS_MAX
            && let Some(held) = self.held.remove(&key(*self.next.get()))
        {
            self.next.update(|n| *n += held.num_rows() as u64);
            rows += held.num_rows();
            free.push(held);
        }
        if let Some(first) = free.first() {
            let free = concat_batches(first.schema_ref(), &free)?;
            let free = self.newest(from, free, out)?;
            leave(free, None, out)?;
        }
        Ok(if rows >= ROWS_MAX { Progress::More } else { Progress::Done })
    }

    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        while !self.held.is_empty() {
            let next = *self.next.get();
            if self.rest.as_ref().is_some_and(|rest| rest.is_cut_off(next)) {
                // The job was stopped between two passages of it: whoever goes on with it tells of it.
                self.next.set(next + 1);
                while self.resume(out)? == Progress::More {}
                continue;
            }
            let message = format!("run {} never came to its end, and others wait behind it", self.next.get());
            return Err(Error::engine(message));
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("next", &mut self.next)?;
        visitor.piece("held", &mut self.held)?;
        visitor.piece("newer", &mut self.newer)
    }
}

impl Results {
    /// The numbers and documents that are left when those have gone of runs that have come back.
    fn after_those_that_are_back(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<(Vec<u64>, RecordBatch)> {
        let (mut numbers, mut made) = (numbers(rows)?.to_vec(), rows.project(&[1, 2])?);
        let Some(rest) = self.rest.as_ref().filter(|rest| rest.are_back()) else { return Ok((numbers, made)) };
        let before: Vec<Option<RunState>> = numbers.iter().map(|run| rest.came_back(*run)).collect();
        let is_back: BooleanArray = before.iter().map(|before| Some(before.is_some())).collect();
        if is_back.true_count() > 0 {
            let back = filter_record_batch(&made, &is_back)?;
            let runs = numbers.iter().zip(&before).filter(|(_, before)| before.is_some());
            let (runs, before): (Vec<u64>, Vec<Option<RunState>>) = runs.unzip();
            self.come(&runs, &back)?;
            self.leave_again(&runs, &before, &back, out)?;
            made = filter_record_batch(&made, &not(&is_back)?)?;
            numbers = numbers.into_iter().zip(is_back.values()).filter(|(_, back)| !back).map(|(run, _)| run).collect();
        }
        Ok((numbers, made))
    }

    /// Documents of runs that have come back: those of runs that have one that has not left take its place.
    fn leave_again(
        &mut self,
        runs: &[u64],
        before: &[Option<RunState>],
        made: &RecordBatch,
        out: &mut Output,
    ) -> Result<()> {
        let next = *self.next.get();
        for (at, run) in runs.iter().enumerate().filter(|(_, run)| **run >= next) {
            if self.newer.insert(&key(*run), compact(&made.slice(at, 1))?).is_some() {
                out.filtered(1);
            }
        }
        let has_left: BooleanArray = runs.iter().map(|run| Some(*run < next)).collect();
        let before: StringArray = before
            .iter()
            .zip(runs)
            .filter(|(_, run)| **run < next)
            .map(|(state, _)| state.map(RunState::name))
            .collect();
        if before.is_empty() {
            return Ok(());
        }
        leave(filter_record_batch(made, &has_left)?, Some(before), out)
    }

    /// The documents of runs from this one on, each the newest.
    fn newest(&mut self, first: u64, made: RecordBatch, out: &mut Output) -> Result<RecordBatch> {
        if self.newer.is_empty() {
            return Ok(made);
        }
        let mut parts = Vec::new();
        for at in 0..made.num_rows() {
            let newer = self.newer.remove(&key(first + at as u64));
            out.filtered(usize::from(newer.is_some()));
            parts.push(newer.unwrap_or_else(|| made.slice(at, 1)));
        }
        Ok(concat_batches(made.schema_ref(), &parts)?)
    }

    /// Documents have come; from now on those of runs at rest are.
    fn come(&self, runs: &[u64], made: &RecordBatch) -> Result<()> {
        if let Some(purses) = &self.purses {
            for run in runs {
                purses.end(*run);
            }
        }
        if let Some(rest) = &self.rest {
            let states = made.column(1).as_string_opt::<i32>().ok_or_else(|| Error::engine("states are texts"))?;
            let states = states.iter().map(|state| state.and_then(RunState::of).unwrap_or(RunState::Running));
            rest.stand(runs.iter().copied().zip(states));
        }
        Ok(())
    }
}

/// Lets documents leave, with how their runs stood when another one of each left before.
fn leave(made: RecordBatch, before: Option<StringArray>, out: &mut Output) -> Result<()> {
    let before = before.unwrap_or_else(|| StringArray::new_null(made.num_rows()));
    let columns = made.columns().iter().cloned().chain([Arc::new(before) as ArrayRef]).collect();
    out.emit(RecordBatch::try_new(leaves(), columns)?);
    Ok(())
}

fn key(number: u64) -> String {
    format!("{number:020}")
}
