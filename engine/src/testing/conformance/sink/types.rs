//! Batches of every type of Arrow, for sinks to take or to refuse by name.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

/// One batch of two rows for each type, the second row null; and one without columns.
pub(super) fn columns_of_all_types() -> Vec<RecordBatch> {
    let batch = |kind: DataType| {
        let schema = Arc::new(Schema::new(vec![Field::new("column", kind.clone(), true)]));
        RecordBatch::try_new(schema, vec![column(&kind)]).expect("the column has the type of its field")
    };
    let nothing = RecordBatchOptions::new().with_row_count(Some(2));
    let nothing = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &nothing);
    let nothing = nothing.expect("a batch needs no columns when it says its rows");
    types().into_iter().map(batch).chain([nothing]).collect()
}

/// The first row alone, as a slice.
pub(super) fn one_of(rows: &RecordBatch) -> RecordBatch {
    rows.slice(0, 1)
}

/// A value where 65 can become one, else a null; then a null.
fn column(kind: &DataType) -> ArrayRef {
    let value = cast(&Int64Array::from(vec![65]), kind);
    let value = value.unwrap_or_else(|_| new_null_array(kind, 1));
    let both = concat(&[&value, &new_null_array(kind, 1)]);
    both.unwrap_or_else(|_| new_null_array(kind, 2))
}

fn types() -> Vec<DataType> {
    use DataType as D;
    let field = |name: &str, kind: D| Arc::new(Field::new(name, kind, true));
    let item = || field("item", D::Int64);
    let pair = Fields::from(vec![field("a", D::Int64), field("b", D::List(field("item", D::Utf8)))]);
    let entries = Fields::from(vec![Arc::new(Field::new("keys", D::Utf8, false)), field("values", D::Int64)]);
    let union = UnionFields::from_fields(vec![Field::new("a", D::Int64, true), Field::new("b", D::Utf8, true)]);
    let mut types = vec![D::Null, D::Boolean];
    types.extend([D::Int8, D::Int16, D::Int32, D::Int64, D::UInt8, D::UInt16, D::UInt32, D::UInt64]);
    types.extend([D::Float16, D::Float32, D::Float64, D::Decimal32(5, 2), D::Decimal64(9, 2)]);
    types.extend([D::Decimal128(12, 2), D::Decimal256(50, 5)]);
    types.extend([D::Date32, D::Date64, D::Time32(TimeUnit::Second), D::Time32(TimeUnit::Millisecond)]);
    types.extend([D::Time64(TimeUnit::Microsecond), D::Time64(TimeUnit::Nanosecond)]);
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.extend([D::Timestamp(unit, None), D::Timestamp(unit, Some("UTC".into())), D::Duration(unit)]);
    }
    types.extend([IntervalUnit::YearMonth, IntervalUnit::DayTime, IntervalUnit::MonthDayNano].map(D::Interval));
    types.extend([D::Utf8, D::LargeUtf8, D::Utf8View, D::Binary, D::LargeBinary, D::BinaryView, D::FixedSizeBinary(3)]);
    types.extend([D::List(item()), D::LargeList(item()), D::ListView(item()), D::FixedSizeList(item(), 2)]);
    types.extend([D::Struct(pair), D::Struct(Fields::empty()), D::Union(union, UnionMode::Sparse)]);
    types.push(D::Map(Arc::new(Field::new("entries", D::Struct(entries), false)), false));
    types.push(D::Dictionary(Box::new(D::Int32), Box::new(D::Utf8)));
    types.push(D::RunEndEncoded(Arc::new(Field::new("run_ends", D::Int32, false)), field("values", D::Utf8)));
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_batch_of_two_rows_and_many_have_a_value() {
        let batches = columns_of_all_types();
        assert!(batches.iter().all(|b| b.num_rows() == 2));
        let values = batches.iter().filter(|b| b.num_columns() == 1 && b.column(0).is_valid(0)).count();
        assert!(values > 30, "{values} of {} have a value", batches.len());
    }
}
