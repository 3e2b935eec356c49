//! Batches from JSON rows and back, for tests that read well.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_json::reader::{ReaderBuilder, infer_json_schema_from_iterator};
use serde_json::Value;
pub use serde_json::json;

use crate::data::json::row_value;

/// A batch of JSON rows: `rows![{"id": 1, "name": "a"}, {"id": 2, "name": null}]`. Columns stand in the order in which
/// they first occur; whole numbers are `Int64`, others `Float64`, text is `Utf8`.
#[macro_export]
macro_rules! rows {
    ($($row:tt),* $(,)?) => {
        $crate::testing::harness::batch(&[$($crate::testing::harness::json!($row)),*])
    };
}

/// A batch of JSON rows, with the schema that they suggest.
///
/// # Panics
/// When they have no common schema.
pub fn batch(rows: &[Value]) -> RecordBatch {
    let schema = infer_json_schema_from_iterator(rows.iter().map(Ok)).expect("the rows have a common schema");
    batch_of(&Arc::new(schema), rows)
}

/// A batch of JSON rows in this schema.
///
/// # Panics
/// When a row does not fit it.
pub fn batch_of(schema: &SchemaRef, rows: &[Value]) -> RecordBatch {
    let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder().expect("every type of the schema can be read");
    decoder.serialize(rows).expect("every row is an object");
    let batch = decoder.flush().expect("every row fits the schema");
    batch.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()))
}

/// The rows of a batch as JSON.
///
/// # Panics
/// When a column has no JSON form.
pub fn rows_of(batch: &RecordBatch) -> Vec<Value> {
    let row = |n| Value::Object(row_value(batch, n).expect("every column has a JSON form"));
    (0..batch.num_rows()).map(row).collect()
}

/// The batches as one, or as none where there are none.
///
/// # Errors
/// When their schemas differ.
pub(crate) fn joined(batches: &[RecordBatch]) -> Result<RecordBatch, String> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    if let Some(other) = batches.iter().find(|b| b.schema() != schema) {
        return Err(format!("batches of two schemas: {} and {}", columns(&schema), columns(other.schema_ref())));
    }
    concat_batches(&schema, batches).map_err(|e| e.to_string())
}

/// `id: Int64, name: Utf8`
pub(crate) fn columns(schema: &Schema) -> String {
    let column = |f: &Arc<arrow::datatypes::Field>| {
        format!("{}: {}{}", f.name(), f.data_type(), if f.is_nullable() { "" } else { " not null" })
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

/// Says how the rows differ, in their order; batches may be cut differently.
pub(crate) fn difference(expected: &[RecordBatch], found: &[RecordBatch]) -> Option<String> {
    let (expected, found) = match (joined(expected), joined(found)) {
        (Ok(expected), Ok(found)) => (expected, found),
        (Err(e), _) | (_, Err(e)) => return Some(e),
    };
    if expected.num_rows() == 0 && found.num_rows() == 0 || expected == found {
        return None;
    }
    if expected.num_rows() > 0 && found.num_rows() > 0 && expected.schema() != found.schema() {
        let (a, b) = (columns(expected.schema_ref()), columns(found.schema_ref()));
        return Some(format!("the schema was ({a}) and is ({b})"));
    }
    let both = expected.num_rows().min(found.num_rows());
    let first = (0..both).find(|n| expected.slice(*n, 1) != found.slice(*n, 1)).unwrap_or(both);
    let row = |batch: &RecordBatch| {
        let row = (first < batch.num_rows()).then(|| row_value(batch, first));
        row.map_or("no row".into(), |row| row.map_or_else(|e| e.to_string(), |row| Value::Object(row).to_string()))
    };
    Some(format!(
        "{} rows were expected and {} are there; row {first} should be {} and is {}",
        expected.num_rows(),
        found.num_rows(),
        row(&expected),
        row(&found)
    ))
}

/// Says how the rows differ, in any order.
pub(crate) fn difference_of_sets(expected: &[Value], found: &[Value]) -> Option<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for row in expected {
        *counts.entry(row.to_string()).or_default() += 1;
    }
    for row in found {
        *counts.entry(row.to_string()).or_default() -= 1;
    }
    let wrong = counts.iter().find(|(_, count)| **count != 0);
    let counted = format!("{} rows were expected and {} are there", expected.len(), found.len());
    wrong.map(|(row, count)| match count {
        1.. => format!("{counted}; {count} times missing: {row}"),
        _ => format!("{counted}; {} times too many: {row}", -count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_batch_and_the_batch_the_same_rows() {
        let batch = rows![{"id": 1, "name": "a", "x": 0.5}, {"id": 2, "name": null, "x": 1.5}];
        assert_eq!(columns(batch.schema_ref()), "id: Int64, name: Utf8, x: Float64");
        let expected = [json!({"id": 1, "name": "a", "x": 0.5}), json!({"id": 2, "name": null, "x": 1.5})];
        assert_eq!(rows_of(&batch), expected);
    }

    #[test]
    fn a_difference_names_the_first_row() {
        let (a, b) = (rows![{"n": 1}, {"n": 2}, {"n": 3}], rows![{"n": 1}, {"n": 9}, {"n": 3}]);
        assert_eq!(difference(std::slice::from_ref(&a), &[a.slice(0, 1), a.slice(1, 2)]), None);
        let told = difference(&[a], &[b]).unwrap();
        assert!(told.ends_with(r#"row 1 should be {"n":2} and is {"n":9}"#), "{told}");
        let told = difference_of_sets(&[json!(1), json!(2)], &[json!(2), json!(2)]).unwrap();
        assert!(told.ends_with("1 times missing: 1"), "{told}");
    }
}
