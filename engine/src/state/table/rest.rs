//! A table at rest: the columns `key_0`, … and `value_0`, …, and `removed` where keys have been removed.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_64;

use super::data::{Data, REMOVED};
use super::part::Layer;
use crate::error::{Error, Result};
use crate::state::Cells;

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

/// Rows of layers: what is in memory, and below it what is on the disk.
pub(super) fn at_rest<V: Cells>(types: &[DataType], layers: &[Layer<V>], take: Take) -> Result<RecordBatch> {
    let is_taken = |data: &Data<V>, at: usize| match take {
        Take::All => !data.is(at, REMOVED),
        Take::Changes => data.is_told(at),
    };
    let loaded = |(data, cold): &Layer<V>| match cold {
        Some(run) => Ok(Some((run.shape(), run.load()?, data.clone()))),
        None => Ok(None),
    };
    let loaded: Vec<_> = layers.iter().map(loaded).collect::<Result<_>>()?;
    let below = loaded.iter().flatten().flat_map(|(shape, bytes, data)| {
        shape.records(bytes).filter(move |(key, _)| data.find(xxh3_64(key), key).is_none())
    });
    let below: Vec<(&[u8], V)> = below.map(|(key, value)| (key, V::take(value))).collect();
    let memory = layers.iter().flat_map(|(data, _)| (0..data.len()).map(|at| (&**data, at)));
    let memory: Vec<(&Data<V>, usize)> = memory.filter(|(data, at)| is_taken(data, *at)).collect();
    let removed = memory.iter().map(|(data, at)| Some(data.is(*at, REMOVED)));
    let removed: BooleanArray = removed.chain(below.iter().map(|_| Some(false))).collect();
    let rows = memory.iter().map(|(data, at)| (data.key(*at), &data.values[*at]));
    columns(types, rows.chain(below.iter().map(|(key, value)| (*key, value))), removed)
}

/// Keys and values as columns under their names.
pub(super) fn columns<'a, V: Cells>(
    types: &[DataType],
    rows: impl Iterator<Item = (&'a [u8], &'a V)>,
    removed: BooleanArray,
) -> Result<RecordBatch> {
    let (keys, values): (Vec<&[u8]>, Vec<&V>) = rows.unzip();
    let converter = converter(types)?;
    let parser = converter.parser();
    let mut columns = converter.convert_rows(keys.iter().map(|key| parser.parse(key)))?;
    columns.extend(V::columns(&values));
    let named = |(i, column): (usize, &ArrayRef)| {
        let (name, nullable) =
            if i < types.len() { (format!("key_{i}"), true) } else { (format!("value_{}", i - types.len()), false) };
        Field::new(name, column.data_type().clone(), nullable)
    };
    let mut fields: Vec<Field> = columns.iter().enumerate().map(named).collect();
    if removed.true_count() > 0 {
        fields.push(Field::new(REMOVED_COLUMN, DataType::Boolean, false));
        columns.push(Arc::new(removed));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
    Ok(RecordBatch::try_new_with_options(Schema::new(fields).into(), columns, &options)?)
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
