//! Stages from closures over batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::inline::Inline;
use super::planned::as_planned;
use crate::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage};
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeBuilder};

/// Batches that a closure made of one.
type Made = Box<dyn Iterator<Item = RecordBatch> + Send>;
type Work = Arc<dyn Fn(&RecordBatch) -> Result<Made> + Send + Sync>;
type Keep = Arc<dyn Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync>;

impl Graph {
    /// Adds a stage that makes each batch (1 to 8,192 rows) into another one, of any number of rows.
    ///
    /// Its columns are those that the closure makes of a batch without rows, which planning gives it; where it needs
    /// a row to know them, say them with [`Graph::map_batches_as`]. Lanes share the closure. An error is narrowed to the
    /// rows at fault, which go where `on_error` says; so is a panic.
    pub fn map_batches<F>(&mut self, id: impl Into<String>, work: F) -> NodeBuilder<'_>
    where
        F: Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    {
        self.stage(id, making("map_batches", None, one(work)))
    }

    /// The same with its columns said.
    pub fn map_batches_as<F>(&mut self, id: impl Into<String>, columns: SchemaRef, work: F) -> NodeBuilder<'_>
    where
        F: Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    {
        self.stage(id, making("map_batches", Some(columns), one(work)))
    }

    /// Adds a stage that makes each batch into any number of batches; they are taken one by one as the next stage can
    /// take them, so the iterator may be lazy. Its columns are those of the first batch that the closure makes of a batch
    /// without rows; where it makes none, say them with [`Graph::flat_map_batches_as`].
    pub fn flat_map_batches<F, I>(&mut self, id: impl Into<String>, work: F) -> NodeBuilder<'_>
    where
        F: Fn(&RecordBatch) -> Result<I> + Send + Sync + 'static,
        I: IntoIterator<Item = RecordBatch>,
        I::IntoIter: Send + 'static,
    {
        self.stage(id, making("flat_map_batches", None, many(work)))
    }

    /// The same with its columns said.
    pub fn flat_map_batches_as<F, I>(&mut self, id: impl Into<String>, columns: SchemaRef, work: F) -> NodeBuilder<'_>
    where
        F: Fn(&RecordBatch) -> Result<I> + Send + Sync + 'static,
        I: IntoIterator<Item = RecordBatch>,
        I::IntoIter: Send + 'static,
    {
        self.stage(id, making("flat_map_batches", Some(columns), many(work)))
    }

    /// Adds a stage that keeps the rows for which the closure says true; null counts as not true. The others are counted
    /// as filtered.
    pub fn filter_batches<F>(&mut self, id: impl Into<String>, keep: F) -> NodeBuilder<'_>
    where
        F: Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync + 'static,
    {
        let keep: Keep = Arc::new(keep);
        let build = move |_: &BuildContext| Ok(Operator::stage(Keeping(keep.clone())));
        self.stage(id, Inline::new("filter_batches", Cardinality::AtMostOne, |input| Ok(input.clone()), build))
    }
}

fn one(work: impl Fn(&RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static) -> Work {
    Arc::new(move |rows| Ok(Box::new(std::iter::once(work(rows)?)) as Made))
}

fn many<F, I>(work: F) -> Work
where
    F: Fn(&RecordBatch) -> Result<I> + Send + Sync + 'static,
    I: IntoIterator<Item = RecordBatch>,
    I::IntoIter: Send + 'static,
{
    Arc::new(move |rows| Ok(Box::new(work(rows)?.into_iter()) as Made))
}

/// A stage of a closure that makes batches.
fn making(kind: &'static str, said: Option<SchemaRef>, work: Work) -> Inline {
    let asked = work.clone();
    let columns = move |input: &SchemaRef| match &said {
        Some(columns) => Ok(columns.clone()),
        None => seen(kind, &asked, input),
    };
    let columns = Arc::new(columns);
    let planned = columns.clone();
    let build = move |context: &BuildContext| {
        let planned = planned(&context.inputs[0]).map_err(Error::from)?;
        Ok(Operator::stage(Making { work: work.clone(), planned, left: None }))
    };
    Inline::new(kind, Cardinality::Many, move |input| columns(input), build)
}

/// The columns that a closure makes of a batch without rows.
fn seen(kind: &str, work: &Work, input: &SchemaRef) -> Result<SchemaRef, Problems> {
    let empty = RecordBatch::new_empty(input.clone());
    let tried = catch_unwind(AssertUnwindSafe(|| work(&empty).map(|mut made| made.next())));
    let fault = match tried {
        Ok(Ok(Some(batch))) => return Ok(batch.schema()),
        Ok(Ok(None)) => "it made no batch".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    let problem = Problem::new(format!("the closure's columns can't be seen from a batch without rows: {fault}"));
    Err(problem.help(format!("say them with `{kind}_as`")).into())
}

struct Making {
    work: Work,
    planned: SchemaRef,
    left: Option<Made>,
}

impl Stage for Making {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.left = Some((self.work)(rows)?);
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some(made) = self.left.as_mut().and_then(Iterator::next) {
            out.emit(as_planned(made, &self.planned, "the closure")?);
            if out.is_full() {
                return Ok(Progress::More);
            }
        }
        self.left = None;
        Ok(Progress::Done)
    }
}

struct Keeping(Keep);

impl Stage for Keeping {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mask = (self.0)(rows)?;
        if mask.len() != rows.num_rows() {
            let message = format!("the closure gave {} answers for {} rows", mask.len(), rows.num_rows());
            return Err(Error::validation(message));
        }
        let kept = filter_record_batch(rows, &mask)?;
        out.filtered(rows.num_rows() - kept.num_rows());
        out.emit(kept);
        Ok(Progress::Done)
    }
}
