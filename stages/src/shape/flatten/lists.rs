//! Lists to rows, in pieces of bounded size.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use bourn_engine::api::Output;
use bourn_engine::data::columns::is_json;
use bourn_engine::data::records::{BYTES_MAX, ROWS_MAX, bytes_needed};
use bourn_engine::{Error, Result};
use serde_json::Value;

/// The field of an element; none when the column has no lists.
pub fn element(field: &Field) -> Option<Field> {
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.as_ref().clone())
        }
        // The entries of a map: structs of a key and a value.
        DataType::Map(entry, _) => Some(entry.as_ref().clone()),
        DataType::Utf8 if is_json(field) => Some(field.clone().with_nullable(false)),
        _ => None,
    }
}

/// Makes rows of the lists of one column.
pub struct Explode {
    column: usize,
    schema: SchemaRef,
    /// Whether a row without elements is kept, with a null.
    keep: bool,
    index: bool,
    /// What is left of the batch at hand. It is empty whenever the stage says `Done`, so it is no state.
    left: Option<Left>,
}

/// The rest of a batch.
struct Left {
    /// The columns beside the list.
    others: RecordBatch,
    values: ArrayRef,
    /// The elements of each row.
    elements: Vec<Range<usize>>,
    /// The bytes that a row repeats with each element; empty when that can't become large.
    weights: Vec<usize>,
    row: usize,
    /// How many elements of that row have left.
    said: usize,
}

impl Explode {
    pub fn new(column: usize, schema: SchemaRef, keep: bool, index: bool) -> Self {
        Self { column, schema, keep, index, left: None }
    }

    /// Takes up a batch; rows whose document is no list are rejected.
    pub fn begin(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<()> {
        let (values, mut elements) = match rows.column(self.column).data_type() {
            DataType::Utf8 => documents(rows, self.column, out),
            _ => ranges(rows.column(self.column))?,
        };
        // A rejected row has no elements and must not be kept for that: it leaves the batch.
        let mut rows = rows.clone();
        if elements.iter().any(Option::is_none) {
            let good = (0u64..).zip(&elements).filter(|(_, e)| e.is_some()).map(|(n, _)| n);
            rows = take_record_batch(&rows, &UInt64Array::from_iter_values(good))?;
            elements.retain(Option::is_some);
        }
        let elements: Vec<_> = elements.into_iter().flatten().collect();
        if !self.keep {
            out.filtered(elements.iter().filter(|e| e.is_empty()).count());
        }
        let mut others = rows;
        let _list = others.remove_column(self.column);
        let weights = weights(&others, &elements)?;
        self.left = Some(Left { others, values, elements, weights, row: 0, said: 0 });
        Ok(())
    }

    /// Whether all of the batch has left.
    pub fn is_done(&self) -> bool {
        self.left.is_none()
    }

    /// The next rows: not more than a batch may have, in rows and about in bytes.
    pub fn piece(&mut self) -> Result<Option<RecordBatch>> {
        let Some(left) = &mut self.left else { return Ok(None) };
        let (mut rows, mut elements, mut index) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        while left.row < left.elements.len() && rows.len() < ROWS_MAX && bytes < BYTES_MAX {
            let range = &left.elements[left.row];
            let element = Some(range.start + left.said).filter(|e| *e < range.end);
            if element.is_some() || self.keep && left.said == 0 {
                rows.push(left.row as u64);
                elements.push(element.map(|e| e as u64));
                index.push(element.and_then(|_| i64::try_from(left.said + 1).ok()));
                bytes += left.weights.get(left.row).copied().unwrap_or_default();
                left.said += 1;
            }
            if left.said >= range.len() {
                (left.row, left.said) = (left.row + 1, 0);
            }
        }
        let (mut columns, values) = left.take(&rows.into(), &elements.into())?;
        if left.row == left.elements.len() {
            self.left = None;
        }
        columns.insert(self.column, values);
        if self.index {
            columns.insert(self.column + 1, Arc::new(Int64Array::from(index)));
        }
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Some(rows).filter(|rows| rows.num_rows() > 0))
    }
}

impl Left {
    fn take(&self, rows: &UInt64Array, elements: &UInt64Array) -> Result<(Vec<ArrayRef>, ArrayRef)> {
        let others = self.others.columns().iter().map(|c| take(c, rows, None)).collect::<Result<_, _>>()?;
        Ok((others, take(&self.values, elements, None)?))
    }
}

/// Elements, and those of each row; none for a row that was rejected.
type Lists = (ArrayRef, Vec<Option<Range<usize>>>);

fn ranges(column: &ArrayRef) -> Result<Lists> {
    let places = |offsets: Vec<usize>| -> Vec<Option<Range<usize>>> {
        let range = |(n, w): (usize, &[usize])| Some(if column.is_null(n) { 0..0 } else { w[0]..w[1] });
        offsets.windows(2).enumerate().map(range).collect()
    };
    let plain = |n: i32| usize::try_from(n).unwrap_or_default();
    let large = |n: i64| usize::try_from(n).unwrap_or_default();
    Ok(match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            (list.values().clone(), places(list.value_offsets().iter().map(|n| plain(*n)).collect()))
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            (list.values().clone(), places(list.value_offsets().iter().map(|n| large(*n)).collect()))
        }
        DataType::FixedSizeList(_, _) => {
            let list = column.as_fixed_size_list();
            let length = plain(list.value_length());
            (list.values().clone(), places((0..=list.len()).map(|n| n * length).collect()))
        }
        DataType::Map(_, _) => {
            let map = column.as_map();
            (Arc::new(map.entries().clone()), places(map.value_offsets().iter().map(|n| plain(*n)).collect()))
        }
        other => return Err(Error::engine(format!("a list was planned, and this is {other}"))),
    })
}

/// The elements of JSON documents, each as a document.
fn documents(rows: &RecordBatch, column: usize, out: &mut Output) -> Lists {
    let (mut values, mut elements) = (Vec::new(), Vec::new());
    for (row, text) in rows.column(column).as_string::<i32>().iter().enumerate() {
        let list = match text.map(serde_json::from_str::<Value>) {
            None | Some(Ok(Value::Null)) => Ok(Vec::new()),
            Some(Ok(Value::Array(list))) => Ok(list),
            Some(Ok(_)) => Err(Error::validation("the document is no list")),
            Some(Err(e)) => Err(Error::validation(format!("not a JSON document: {e}"))),
        };
        elements.push(match list {
            Ok(list) => {
                let start = values.len();
                values.extend(list.iter().map(Value::to_string));
                Some(start..values.len())
            }
            Err(error) => {
                out.reject(rows.slice(row, 1), error.at_field(rows.schema_ref().field(column).name()));
                None
            }
        });
    }
    (Arc::new(StringArray::from(values)), elements)
}

/// The bytes of each row, where a wide row that meets a long list could make a large batch.
fn weights(others: &RecordBatch, elements: &[Range<usize>]) -> Result<Vec<usize>> {
    let longest = elements.iter().map(Range::len).max().unwrap_or_default();
    if bytes_needed(others).saturating_mul(longest) <= BYTES_MAX || others.num_columns() == 0 {
        return Ok(Vec::new());
    }
    let fields: Vec<_> = others.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
    if !RowConverter::supports_fields(&fields) {
        return Ok(vec![bytes_needed(others) / others.num_rows().max(1); others.num_rows()]);
    }
    Ok(RowConverter::new(fields)?.convert_columns(others.columns())?.lengths().collect())
}
