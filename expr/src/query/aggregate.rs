//! Aggregates over the groups of a batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{RowConverter, SortField};
use datafusion_common::{Result as DfResult, exec_datafusion_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::step::{value, values};

/// `group by` and what is computed for each group.
#[derive(Debug)]
pub struct Aggregation {
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub functions: Vec<Function>,
    pub schema: SchemaRef,
}

/// One aggregate: `sum(x) filter (where …)`.
#[derive(Debug)]
pub struct Function {
    pub aggregate: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// The groups of rows with equal keys, in the order in which they first occur.
pub struct Groups {
    /// The group of each row.
    of: Vec<usize>,
    /// The first row of each group.
    pub first: UInt32Array,
}

/// Finds the groups. Without keys there is one group, even of no rows.
pub fn groups(keys: &[ArrayRef], rows: usize) -> DfResult<Groups> {
    let fields: Vec<_> = keys.iter().map(|k| SortField::new(k.data_type().clone())).collect();
    let encoded = RowConverter::new(fields)?.convert_columns(keys)?;
    let (mut found, mut first) = (HashMap::new(), Vec::new());
    let mut of = Vec::with_capacity(rows);
    for (n, key) in (0u32..).zip(encoded.iter()) {
        of.push(*found.entry(key).or_insert_with(|| {
            first.push(n);
            first.len() - 1
        }));
    }
    Ok(Groups { of, first: first.into() })
}

impl Aggregation {
    /// One row for each group.
    pub fn run(&self, rows: &RecordBatch) -> DfResult<RecordBatch> {
        let keys = values(&self.keys, rows)?;
        let (of, mut columns, count) = if keys.is_empty() {
            (vec![0; rows.num_rows()], Vec::new(), 1)
        } else {
            let Groups { of, first } = groups(&keys, rows.num_rows())?;
            let keys = keys.iter().map(|k| take(k, &first, None)).collect::<Result<Vec<_>, _>>()?;
            (of, keys, first.len())
        };
        for function in &self.functions {
            columns.push(function.run(rows, &of, count)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Function {
    fn run(&self, rows: &RecordBatch, of: &[usize], count: usize) -> DfResult<ArrayRef> {
        let arguments = values(&self.aggregate.expressions(), rows)?;
        let filter = self.filter.as_ref().map(|f| value(f, rows)).transpose()?;
        let filter = filter.as_ref().and_then(|f| f.as_boolean_opt());
        let whole = matches!(self.aggregate.field().data_type(), DataType::Int64 | DataType::UInt64);
        if whole && self.aggregate.fun().name() == "sum" {
            return sum(&arguments[0], of, count, &Picked { filter, distinct: self.aggregate.is_distinct() });
        }
        let mut accumulator: Box<dyn GroupsAccumulator> = if self.aggregate.groups_accumulator_supported() {
            self.aggregate.create_groups_accumulator()?
        } else {
            let aggregate = self.aggregate.clone();
            Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator()))
        };
        accumulator.update_batch(&arguments, of, filter, count)?;
        accumulator.evaluate(EmitTo::All)
    }
}

/// Which values of a column count.
struct Picked<'a> {
    filter: Option<&'a BooleanArray>,
    distinct: bool,
}

/// The sums of whole numbers. DataFusion's wrap around where there is no room, and a wrong number is worse than none.
fn sum(values: &ArrayRef, of: &[usize], count: usize, picked: &Picked<'_>) -> DfResult<ArrayRef> {
    let mut sums = vec![None::<i128>; count];
    let mut seen = HashSet::new();
    let signed = values.as_primitive_opt::<Int64Type>();
    let unsigned = values.as_primitive_opt::<UInt64Type>();
    for (row, group) in of.iter().enumerate() {
        if values.is_null(row) || picked.filter.is_some_and(|f| f.is_null(row) || !f.value(row)) {
            continue;
        }
        let value = match (signed, unsigned) {
            (Some(values), _) => i128::from(values.value(row)),
            (_, Some(values)) => i128::from(values.value(row)),
            _ => return Err(exec_datafusion_err!("the sum of {} is not supported", values.data_type())),
        };
        if !picked.distinct || seen.insert((*group, value)) {
            // At most 2^32 values of 64 bits: there is room.
            *sums[*group].get_or_insert(0) += value;
        }
    }
    let no_room = |sum| exec_datafusion_err!("overflow happened on the sum {sum}");
    Ok(if signed.is_some() {
        let sums = sums.into_iter().map(|s| s.map(|s| i64::try_from(s).map_err(|_| no_room(s))).transpose());
        Arc::new(sums.collect::<DfResult<Int64Array>>()?)
    } else {
        let sums = sums.into_iter().map(|s| s.map(|s| u64::try_from(s).map_err(|_| no_room(s))).transpose());
        Arc::new(sums.collect::<DfResult<UInt64Array>>()?)
    })
}
