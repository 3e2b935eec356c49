//! One step of a query: rows in, rows out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{
    SortColumn, SortOptions, filter_record_batch, lexsort_to_indices, prep_null_mask_filter, take_record_batch,
};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as DfResult;
use datafusion_physical_expr::PhysicalExpr;

use super::aggregate::{Aggregation, groups};

/// One step.
#[derive(Debug)]
pub enum Step {
    Project { columns: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
    Filter(Arc<dyn PhysicalExpr>),
    Aggregate(Aggregation),
    Distinct,
    Sort { by: Vec<(Arc<dyn PhysicalExpr>, SortOptions)>, fetch: Option<usize> },
    Limit { skip: usize, fetch: Option<usize> },
}

impl Step {
    /// The rows behind it.
    ///
    /// # Errors
    /// When a value can't be had.
    pub fn run(&self, rows: &RecordBatch) -> DfResult<RecordBatch> {
        Ok(match self {
            Self::Project { columns, schema } => RecordBatch::try_new(schema.clone(), values(columns, rows)?)?,
            Self::Filter(predicate) => {
                let mask = value(predicate, rows)?;
                match mask.as_boolean_opt() {
                    Some(mask) if mask.null_count() == 0 => filter_record_batch(rows, mask)?,
                    Some(mask) => filter_record_batch(rows, &prep_null_mask_filter(mask))?,
                    // The type is `Null`: nothing is true.
                    None => rows.slice(0, 0),
                }
            }
            Self::Aggregate(aggregation) => aggregation.run(rows)?,
            Self::Distinct => {
                let first = groups(rows.columns(), rows.num_rows())?.first;
                take_record_batch(rows, &first)?
            }
            Self::Sort { by, fetch } => {
                let column = |(e, options): &(Arc<dyn PhysicalExpr>, SortOptions)| -> DfResult<SortColumn> {
                    Ok(SortColumn { values: value(e, rows)?, options: Some(*options) })
                };
                let mut columns = by.iter().map(column).collect::<DfResult<Vec<_>>>()?;
                // Rows that are equal keep their order.
                let places = UInt32Array::from_iter_values((0u32..).take(rows.num_rows()));
                columns.push(SortColumn { values: Arc::new(places), options: None });
                take_record_batch(rows, &lexsort_to_indices(&columns, *fetch)?)?
            }
            Self::Limit { skip, fetch } => {
                let skip = (*skip).min(rows.num_rows());
                rows.slice(skip, fetch.unwrap_or(usize::MAX).min(rows.num_rows() - skip))
            }
        })
    }
}

/// One value for each row.
pub fn value(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> DfResult<ArrayRef> {
    expression.evaluate(rows)?.into_array(rows.num_rows())
}

/// The values of several expressions.
pub fn values(expressions: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> DfResult<Vec<ArrayRef>> {
    expressions.iter().map(|e| value(e, rows)).collect()
}
