//! A condition: keeps the rows for which it is true.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::diagnostic::Problem;
use datafusion_common::ScalarValue;
use datafusion_expr::ColumnarValue;

use crate::{Expression, sql_name};

/// A compiled SQL condition. Null counts as not true, as in SQL's `WHERE`.
#[derive(Clone, Debug)]
pub struct Predicate(Expression);

impl Predicate {
    /// Compiles a text against the columns there are.
    ///
    /// # Errors
    /// As [`Expression::compile`], and when its values are not true or false.
    pub fn compile(sql: &str, schema: &SchemaRef) -> Result<Self, Problem> {
        let expression = Expression::compile(sql, schema)?;
        match expression.data_type() {
            DataType::Boolean | DataType::Null => Ok(Self(expression)),
            other => {
                let example = if other.is_numeric() { "> 0" } else { "is not null" };
                Err(Problem::new(format!("a condition is true or false, and this is {}", sql_name(other)))
                    .help(format!("compare it, as in `{} {example}`", sql.trim())))
            }
        }
    }

    /// The expression.
    pub fn expression(&self) -> &Expression {
        &self.0
    }

    /// True for the rows to keep; it has no nulls.
    ///
    /// # Errors
    /// When the value of one row can't be had: none is returned then.
    pub fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        match self.0.columnar(rows)? {
            ColumnarValue::Array(values) => Ok(match values.as_boolean_opt() {
                Some(mask) if mask.null_count() == 0 => mask.clone(),
                Some(mask) => prep_null_mask_filter(mask),
                // The type is `Null`: nothing is true.
                None => constant(false, rows.num_rows()),
            }),
            ColumnarValue::Scalar(value) => {
                Ok(constant(matches!(value, ScalarValue::Boolean(Some(true))), rows.num_rows()))
            }
        }
    }

    /// The rows for which it is true, in their order. When that is all of them, the batch itself, not a copy.
    ///
    /// # Errors
    /// When the value of one row can't be had: none is returned then.
    pub fn select(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mask = self.mask(rows)?;
        match mask.true_count() {
            0 => Ok(RecordBatch::new_empty(rows.schema())),
            all if all == rows.num_rows() => Ok(rows.clone()),
            _ => Ok(filter_record_batch(rows, &mask)?),
        }
    }
}

fn constant(value: bool, rows: usize) -> BooleanArray {
    let values = if value { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) };
    BooleanArray::new(values, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        let delay = Int32Array::from(vec![Some(20), None, Some(3), Some(16)]);
        RecordBatch::try_from_iter([("delay", Arc::new(delay) as ArrayRef)]).unwrap()
    }

    fn kept(sql: &str) -> Vec<Option<i32>> {
        let kept = Predicate::compile(sql, &rows().schema()).unwrap().select(&rows()).unwrap();
        kept.column(0).as_primitive::<Int32Type>().iter().collect()
    }

    #[test]
    fn null_is_not_true() {
        assert_eq!(kept("delay > 15"), [Some(20), Some(16)]);
        assert_eq!(kept("not (delay > 15)"), [Some(3)]);
        assert_eq!(kept("delay is null"), [None]);
        assert_eq!(kept("null"), []);
        assert_eq!(kept("delay > null"), []);
        assert_eq!(kept("false"), []);
    }

    #[test]
    fn when_all_rows_pass_nothing_is_copied() {
        let rows = rows();
        for sql in ["delay is null or delay > 0", "true", "1 = 1"] {
            let kept = Predicate::compile(sql, &rows.schema()).unwrap().select(&rows).unwrap();
            assert!(Arc::ptr_eq(kept.column(0), rows.column(0)), "{sql}");
        }
    }

    #[test]
    fn a_mask_has_no_nulls() {
        let mask = Predicate::compile("delay > 15", &rows().schema()).unwrap().mask(&rows()).unwrap();
        assert_eq!(mask, BooleanArray::from(vec![true, false, false, true]));
    }

    #[test]
    fn a_condition_that_is_a_number_is_refused_with_the_way_out() {
        let problem = Predicate::compile("delay + 1", &rows().schema()).unwrap_err();
        assert_eq!(problem.message, "a condition is true or false, and this is bigint");
        assert_eq!(problem.help.as_deref(), Some("compare it, as in `delay + 1 > 0`"));
    }
}
