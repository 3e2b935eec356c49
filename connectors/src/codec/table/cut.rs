//! Batches of any size, cut into those that the engine passes on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::Result;
use bourn_engine::data::records::{BYTES_MAX, ROWS_MAX, bytes_held, bytes_needed, compact};

/// Holds a batch and hands out its rows, 8,192 at most, in a schema that differs only in how it keeps text.
pub struct Cutter {
    schema: SchemaRef,
    batch: Option<RecordBatch>,
    begin: usize,
    step: usize,
}

impl Cutter {
    /// Nothing to cut yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, batch: None, begin: 0, step: ROWS_MAX }
    }

    /// Takes a batch whose first rows, so many, are passed over.
    pub fn put(&mut self, batch: RecordBatch, skip: u64) {
        self.begin = usize::try_from(skip).unwrap_or(usize::MAX).min(batch.num_rows());
        let rows = batch.num_rows().max(1);
        // A short dictionary may stand for long texts: they are counted as long as the longest of them.
        let texts: usize = batch.columns().iter().map(longest_in_dictionary).sum();
        let width = bytes_needed(&batch).div_ceil(rows) + texts;
        self.step = (BYTES_MAX / width.max(1)).clamp(1, ROWS_MAX);
        self.batch = Some(batch);
    }

    /// The next rows; `None` when the batch is used up.
    ///
    /// # Errors
    /// When they are no batch of the schema.
    pub fn cut(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batch.as_ref().filter(|b| self.begin < b.num_rows()) else {
            self.batch = None;
            return Ok(None);
        };
        let count = self.step.min(batch.num_rows() - self.begin);
        let rows = batch.slice(self.begin, count);
        self.begin += count;
        let as_wanted = |(column, field): (&ArrayRef, &Arc<Field>)| {
            if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
        };
        let columns: Result<Vec<_>, _> = rows.columns().iter().zip(self.schema.fields()).map(as_wanted).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options)?;
        // Columns of a message all point into it; whoever holds these rows should hold no others.
        if bytes_held(&rows) > 2 * bytes_needed(&rows) { compact(&rows).map(Some) } else { Ok(Some(rows)) }
    }
}

fn longest_in_dictionary(column: &ArrayRef) -> usize {
    fn longest<O: OffsetSizeTrait>(values: &dyn Array) -> usize {
        values.as_string::<O>().offsets().lengths().max().unwrap_or(0)
    }
    let Some(dictionary) = column.as_any_dictionary_opt() else { return 0 };
    let values = dictionary.values();
    match values.data_type() {
        DataType::Utf8 => longest::<i32>(values),
        DataType::LargeUtf8 => longest::<i64>(values),
        DataType::Utf8View => values.as_string_view().lengths().max().unwrap_or(0) as usize,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int64Array};
    use arrow::datatypes::{Int32Type, Schema};

    fn schema(data_type: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", data_type, true)]))
    }

    #[test]
    fn every_row_comes_once_in_order_and_no_batch_is_large() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
        let batch = RecordBatch::try_from_iter([("a", numbers)]).unwrap();
        let mut cutter = Cutter::new(batch.schema());
        cutter.put(batch, 5);
        let (mut expected, mut sizes) = (5, Vec::new());
        while let Some(rows) = cutter.cut().unwrap() {
            for value in rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values() {
                assert_eq!(*value, expected);
                expected += 1;
            }
            sizes.push(rows.num_rows());
        }
        assert_eq!((expected, sizes), (20_000, vec![8_192, 8_192, 3_611]));
    }

    #[test]
    fn a_dictionary_that_stands_for_much_text_is_cut_small() {
        let long = "x".repeat(1 << 20);
        let column: DictionaryArray<Int32Type> = std::iter::repeat_n(long.as_str(), 1_000).collect();
        let batch = RecordBatch::try_from_iter([("a", Arc::new(column) as ArrayRef)]).unwrap();
        let mut cutter = Cutter::new(schema(DataType::Utf8));
        cutter.put(batch, 0);
        let mut rows = 0;
        while let Some(batch) = cutter.cut().unwrap() {
            assert!(bytes_held(&batch) <= BYTES_MAX + (1 << 20), "{}", bytes_held(&batch));
            rows += batch.num_rows();
        }
        assert_eq!(rows, 1_000);
    }
}
