//! A table at rest: the columns `key_0`, … and `value_0`, …, and `removed` where keys have been removed.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_64;

use super::data::REMOVED;
use super::part::Layer;
use crate::error::{Error, Result};
use crate::state::Cells;
use crate::state::visitor::Each;

pub(super) const REMOVED_COLUMN: &str = "removed";

pub(super) fn converter(types: &[DataType]) -> Result<RowConverter> {
    Ok(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?)
}

/// The length of every key in arrow's row format, where all have the same: a byte for null, and the number.
pub(super) fn width_of(types: &[DataType]) -> Option<usize> {
    types.iter().map(|t| t.primitive_width().filter(|_| t.is_primitive()).map(|width| width + 1)).sum()
}

/// What a snapshot takes of the layers of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// All keys.
    All,
    /// What has changed since the last one, removals too.
    Changes,
}

/// Rows of a batch at rest: few, so that what is made of them is small, and given back soon.
const BATCH: usize = 8_192;

/// Keys and values on their way to their form at rest.
pub(super) struct ToRest<'a, 'b> {
    types: &'a [DataType],
    converter: RowConverter,
    take: Take,
    each: &'a mut Each<'b>,
    is_begun: bool,
}

impl<'a, 'b> ToRest<'a, 'b> {
    pub(super) fn new(types: &'a [DataType], take: Take, each: &'a mut Each<'b>) -> Result<Self> {
        Ok(Self { types, converter: converter(types)?, take, each, is_begun: false })
    }

    /// Hands on rows: the key, its value, and whether it is removed.
    pub(super) fn rows<'r, V: Cells>(&mut self, rows: impl Iterator<Item = (&'r [u8], V, bool)>) -> Result<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let (mut keys, mut values, mut removed) =
                (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH), BooleanBufferBuilder::new(BATCH));
            for (key, value, is_removed) in rows.by_ref().take(BATCH) {
                keys.push(key);
                values.push(value);
                removed.append(is_removed);
            }
            self.batch(&keys, &values, removed)?;
        }
        Ok(())
    }

    fn batch<V: Cells>(&mut self, keys: &[&[u8]], values: &[V], mut removed: BooleanBufferBuilder) -> Result<()> {
        let (types, parser) = (self.types, self.converter.parser());
        let mut columns = self.converter.convert_rows(keys.iter().map(|key| parser.parse(key)))?;
        columns.extend(V::columns(&values.iter().collect::<Vec<_>>()));
        let named = |(i, column): (usize, &ArrayRef)| {
            let (name, nullable) = if i < types.len() {
                (format!("key_{i}"), true)
            } else {
                (format!("value_{}", i - types.len()), false)
            };
            Field::new(name, column.data_type().clone(), nullable)
        };
        let mut fields: Vec<Field> = columns.iter().enumerate().map(named).collect();
        if self.take == Take::Changes {
            fields.push(Field::new(REMOVED_COLUMN, DataType::Boolean, false));
            columns.push(Arc::new(BooleanArray::new(removed.finish(), None)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        self.is_begun = true;
        (self.each)(RecordBatch::try_new_with_options(Schema::new(fields).into(), columns, &options)?)
    }

    /// The end; a batch without rows if there were none.
    pub(super) fn end<V: Cells>(mut self) -> Result<()> {
        if self.is_begun { Ok(()) } else { self.batch::<V>(&[], &[], BooleanBufferBuilder::new(0)) }
    }
}

/// Rows of layers: what is in memory, and below it what is on the disk.
pub(super) fn at_rest<V: Cells>(
    types: &[DataType],
    layers: &[Layer<V>],
    take: Take,
    each: &mut Each<'_>,
) -> Result<()> {
    let mut to_rest = ToRest::new(types, take, each)?;
    for (data, cold) in layers {
        let taken = (0..data.len()).filter(|at| data.is_taken(*at, take));
        to_rest.rows(taken.map(|at| (data.key(at), data.values[at].clone(), data.is(at, REMOVED))))?;
        if let Some(run) = cold {
            let (shape, bytes) = (run.shape(), run.load()?);
            let below = shape.records(&bytes).filter(|(key, _)| data.find(xxh3_64(key), key).is_none());
            to_rest.rows(below.map(|(key, value)| (key, V::take(value), false)))?;
        }
    }
    to_rest.end::<V>()
}

/// Rows of a saved table.
pub(super) struct SavedRows<V> {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) values: Vec<V>,
    removed: Option<BooleanArray>,
}

impl<V: Cells> SavedRows<V> {
    /// # Errors
    /// When the rows are not those of a table of these keys and values.
    pub(super) fn read(types: &[DataType], rows: &RecordBatch) -> Result<Self> {
        let mut columns = rows.columns().to_vec();
        let removed = match rows.schema_ref().index_of(REMOVED_COLUMN) {
            Ok(at) if at + 1 == columns.len() => columns.pop(),
            _ => None,
        };
        if columns.len() != types.len() + V::COLUMNS {
            return Err(Error::validation("the saved table has other columns"));
        }
        if !columns.iter().zip(types).all(|(column, wanted)| column.data_type() == wanted) {
            return Err(Error::validation("the saved table has keys of other types"));
        }
        let mut values = V::read(&columns[types.len()..])?;
        // A value without columns has no rows to be read.
        values.resize(rows.num_rows(), V::default());
        columns.truncate(types.len());
        Ok(Self { keys: columns, values, removed: removed.and_then(|c| c.as_boolean_opt().cloned()) })
    }

    pub(super) fn is_removed(&self, row: usize) -> bool {
        self.removed.as_ref().is_some_and(|removed| removed.value(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_numbers_have_one_width_and_those_with_a_text_have_not() {
        use DataType::{Boolean, Int32, Int64, Utf8};
        let widths = [width_of(&[Int64]), width_of(&[Int64, Int32]), width_of(&[Int64, Utf8]), width_of(&[Boolean])];
        assert_eq!(widths, [Some(9), Some(14), None, None]);
        let column: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![Some(7), None]));
        let keys = converter(&[Int64]).unwrap().convert_columns(&[column]).unwrap();
        assert!(keys.iter().all(|key| key.as_ref().len() == 9));
    }

    #[test]
    fn each_column_at_rest_has_its_name_whichever_version_reads_it() {
        let of = |take| {
            let mut schema = None;
            at_rest::<(i64, i32)>(&[DataType::Utf8, DataType::Int64], &[], take, &mut |batch| {
                schema = Some(batch.schema());
                Ok(())
            })
            .unwrap();
            schema.unwrap().fields().iter().map(|f| (f.name().clone(), f.is_nullable())).collect::<Vec<_>>()
        };
        let all = [("key_0", true), ("key_1", true), ("value_0", false), ("value_1", false), ("removed", false)];
        let all = all.map(|(name, nullable)| (name.to_owned(), nullable));
        assert_eq!((of(Take::All), of(Take::Changes)), (all[..4].to_vec(), all.to_vec()));
    }

    #[test]
    fn a_key_may_be_named_as_what_says_that_keys_are_removed() {
        let keys: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let values: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([(REMOVED_COLUMN, keys), ("value_0", values)]).unwrap();
        let saved = SavedRows::<i64>::read(&[DataType::Boolean], &rows).unwrap();
        assert_eq!((saved.values, saved.removed), (vec![1, 2], None));
    }
}
