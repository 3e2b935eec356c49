//! Stages from closures over structs.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage};
use bourn_engine::diagnostic::Problems;
use bourn_engine::embed::Inline;
use bourn_engine::graph::{Graph, NodeBuilder};
use bourn_engine::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{columns, values};

/// Methods of a [`Graph`] that add closures over structs as stages.
///
/// `In` is read from each row; a column that it can't do without and the input does not have is a problem of the plan, and
/// more columns than it knows are no fault. The fields of `Out` are the columns that leave. A row that is no `In` (a null
/// where the type has no `Option`, an unknown variant), or whose `Out` does not fit, goes where `on_error` says, alone. Lanes
/// share the closure.
pub trait GraphRows {
    /// Adds a stage that makes each row into another one.
    fn map_rows<In, Out>(
        &mut self,
        id: impl Into<String>,
        work: impl Fn(In) -> Out + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + DeserializeOwned + 'static;

    /// The same with a closure that may fail: the row goes where `on_error` says, with the error.
    fn try_map_rows<In, Out>(
        &mut self,
        id: impl Into<String>,
        work: impl Fn(In) -> Result<Out> + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + DeserializeOwned + 'static;

    /// The same with the columns said, for an `Out` whose type does not say them.
    fn try_map_rows_as<In, Out>(
        &mut self,
        id: impl Into<String>,
        columns: SchemaRef,
        work: impl Fn(In) -> Result<Out> + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static;

    /// Adds a stage that makes each row into any number of rows. If one of them does not fit, none of them goes on.
    fn flat_map_rows<In, Out, I>(
        &mut self,
        id: impl Into<String>,
        work: impl Fn(In) -> Result<I> + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = Out>;

    /// Adds a stage that keeps the rows for which the closure says true, with all their columns. The others are counted as
    /// filtered.
    fn filter_rows<In>(
        &mut self,
        id: impl Into<String>,
        keep: impl Fn(&In) -> bool + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static;
}

impl GraphRows for Graph {
    fn map_rows<In, Out>(
        &mut self,
        id: impl Into<String>,
        work: impl Fn(In) -> Out + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + DeserializeOwned + 'static,
    {
        self.try_map_rows(id, move |row| Ok(work(row)))
    }

    fn try_map_rows<In, Out>(
        &mut self,
        id: impl Into<String>,
        work: impl Fn(In) -> Result<Out> + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + DeserializeOwned + 'static,
    {
        let work: Work<In, Out> = Arc::new(move |row| Ok(vec![work(row)?]));
        self.stage(id, mapping(("map_rows", Cardinality::One), columns::of::<Out>(), work))
    }

    fn try_map_rows_as<In, Out>(
        &mut self,
        id: impl Into<String>,
        columns: SchemaRef,
        work: impl Fn(In) -> Result<Out> + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
    {
        let work: Work<In, Out> = Arc::new(move |row| Ok(vec![work(row)?]));
        self.stage(id, mapping(("map_rows", Cardinality::One), Ok(columns), work))
    }

    fn flat_map_rows<In, Out, I>(
        &mut self,
        id: impl Into<String>,
        work: impl Fn(In) -> Result<I> + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
        Out: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = Out>,
    {
        let work: Work<In, Out> = Arc::new(move |row| Ok(work(row)?.into_iter().collect()));
        self.stage(id, mapping(("flat_map_rows", Cardinality::Many), columns::of::<Out>(), work))
    }

    fn filter_rows<In>(
        &mut self,
        id: impl Into<String>,
        keep: impl Fn(&In) -> bool + Send + Sync + 'static,
    ) -> NodeBuilder<'_>
    where
        In: DeserializeOwned + 'static,
    {
        let keep: Keep<In> = Arc::new(keep);
        let columns = |input: &SchemaRef| columns::check::<In>(input).map(|()| input.clone());
        let build = move |_: &BuildContext| Ok(Operator::stage(Filtering(keep.clone())));
        self.stage(id, Inline::new("filter_rows", Cardinality::AtMostOne, columns, build))
    }
}

type Work<In, Out> = Arc<dyn Fn(In) -> Result<Vec<Out>> + Send + Sync>;
type Keep<In> = Arc<dyn Fn(&In) -> bool + Send + Sync>;

/// The columns of `Out`, or the problem that its type does not say them, come to light at planning.
fn mapping<In, Out>(
    (kind, cardinality): (&'static str, Cardinality),
    columns: Result<SchemaRef, Problems>,
    work: Work<In, Out>,
) -> Inline
where
    In: DeserializeOwned + 'static,
    Out: Serialize + 'static,
{
    let planned = columns.clone();
    let build = move |_: &BuildContext| {
        let columns = planned.clone().map_err(Error::from)?;
        Ok(Operator::stage(Mapping { work: work.clone(), columns, types: PhantomData }))
    };
    let columns = move |input: &SchemaRef| {
        columns::check::<In>(input)?;
        columns.clone()
    };
    Inline::new(kind, cardinality, columns, build)
}

struct Mapping<In, Out> {
    work: Work<In, Out>,
    columns: SchemaRef,
    types: PhantomData<fn(In) -> Out>,
}

impl<In: DeserializeOwned + 'static, Out: Serialize + 'static> Stage for Mapping<In, Out> {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut made = Vec::with_capacity(rows.num_rows());
        // The row that each value was made of.
        let mut origins = Vec::with_capacity(rows.num_rows());
        for (n, row) in values::read::<In>(rows)?.into_iter().enumerate() {
            match row.and_then(|row| (self.work)(row)) {
                Ok(values) => {
                    origins.resize(origins.len() + values.len(), n);
                    made.extend(values);
                }
                Err(error) => out.reject(rows.slice(n, 1), error),
            }
        }
        let (batch, faults) = values::write(&made, &self.columns)?;
        if faults.is_empty() {
            out.emit(batch);
            return Ok(Progress::Done);
        }
        let mut bad: Vec<usize> = Vec::new();
        for (value, error) in faults {
            if bad.last() != Some(&origins[value]) {
                bad.push(origins[value]);
                out.reject(rows.slice(origins[value], 1), error);
            }
        }
        let good = made.into_iter().zip(origins).filter(|(_, n)| bad.binary_search(n).is_err());
        let good: Vec<Out> = good.map(|(value, _)| value).collect();
        out.emit(values::write(&good, &self.columns)?.0);
        Ok(Progress::Done)
    }
}

struct Filtering<In>(Keep<In>);

impl<In: DeserializeOwned + 'static> Stage for Filtering<In> {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut rejected = 0;
        let mut keep = Vec::with_capacity(rows.num_rows());
        for (n, row) in values::read::<In>(rows)?.into_iter().enumerate() {
            keep.push(match row {
                Ok(row) => (self.0)(&row),
                Err(error) => {
                    rejected += 1;
                    out.reject(rows.slice(n, 1), error);
                    false
                }
            });
        }
        let kept = filter_record_batch(rows, &BooleanArray::from(keep))?;
        out.filtered(rows.num_rows() - kept.num_rows() - rejected);
        out.emit(kept);
        Ok(Progress::Done)
    }
}
