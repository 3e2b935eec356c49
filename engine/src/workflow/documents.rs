//! The end of runs: a document of each, and the documents in the order of admission.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{RUN, numbers};
use super::document::document;
use super::finish::run_of;
use super::result::DocumentConfig;
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use crate::data::columns::json_field;
use crate::data::records::{ROWS_MAX, compact};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
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

/// What leaves.
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
}

impl StageConfig for ResultConfig {
    const NAME: &'static str = "result";

    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(columns())
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Results { next: Value::new(self.first), held: Keyed::default() }))
    }
}

/// Documents in the order of admission: one that is early waits for those before it. How many wait is bounded by how
/// many runs are admitted at once.
struct Results {
    /// The number of the run that is next.
    next: Value<u64>,
    /// Documents of runs that follow each other, by the number of the first, with as many digits as the largest has, so that they sort.
    held: Keyed,
}

impl Stage for Results {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let numbers = numbers(rows)?;
        let made = rows.project(&[1, 2])?;
        let mut at = 0;
        for stretch in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let (first, held) = (stretch[0], made.slice(at, stretch.len()));
            at += stretch.len();
            let next = *self.next.get();
            if first == next {
                self.next.set(next + stretch.len() as u64);
                out.emit(held);
            } else if first < next || self.held.insert(&key(first), compact(&held)?).is_some() {
                return Err(Error::engine(format!("run {first} came to its end twice")));
            }
        }
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let (mut free, mut rows) = (Vec::new(), 0);
        while rows < ROWS_MAX
            && let Some(held) = self.held.remove(&key(*self.next.get()))
        {
            self.next.update(|n| *n += held.num_rows() as u64);
            rows += held.num_rows();
            free.push(held);
        }
        if let Some(first) = free.first() {
            out.emit(concat_batches(first.schema_ref(), &free)?);
        }
        Ok(if rows >= ROWS_MAX { Progress::More } else { Progress::Done })
    }

    fn finish(&mut self, _: &mut Output) -> Result<Progress> {
        if !self.held.is_empty() {
            let message = format!("run {} never came to its end, and others wait behind it", self.next.get());
            return Err(Error::engine(message));
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("next", &mut self.next)?;
        visitor.piece("held", &mut self.held)
    }
}

fn key(number: u64) -> String {
    format!("{number:020}")
}
