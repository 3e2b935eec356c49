//! Rows of a batch as values of a type, and values as rows: each row fails alone.

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::{ArrayBuilder, Deserializer, ErrorKind};

use bourn_engine::{Error, Result};

/// What serde_arrow says, in the voice of the house.
pub fn said(error: &serde_arrow::Error) -> String {
    match error.kind() {
        ErrorKind::NullabilityViolation { field: Some(field) } => format!("`{field}` is null"),
        _ => error.message().to_owned(),
    }
}

/// Each row as a `T`, or why it is none.
///
/// # Errors
/// When a column has a type that no `T` can be read from.
pub fn read<T: DeserializeOwned>(rows: &RecordBatch) -> Result<Vec<Result<T>>> {
    let deserializer = Deserializer::from_record_batch(rows).map_err(|e| Error::validation(said(&e)))?;
    let value = |item| T::deserialize(item).map_err(|e: serde_arrow::Error| Error::validation(said(&e)));
    Ok(deserializer.iter().map(value).collect())
}

/// The field that a `T` can't do without and the row does not have.
pub fn missing<T: DeserializeOwned>(row: &RecordBatch) -> Option<String> {
    let deserializer = Deserializer::from_record_batch(row).ok()?;
    let error = T::deserialize(deserializer.get(0)?).err()?;
    match error.kind() {
        ErrorKind::MissingField { field } => Some(field.clone()),
        // What a derived `Deserialize` says through `serde::de::Error::missing_field`.
        _ => error.message().split("missing field `").nth(1)?.split('`').next().map(str::to_owned),
    }
}

/// Values as rows under `schema`, and the place among `values` of each that can't be one, with the reason.
///
/// # Errors
/// When the rows can't be put together.
pub fn write<T: Serialize>(values: &[T], schema: &SchemaRef) -> Result<(RecordBatch, Vec<(usize, Error)>)> {
    if let Ok(batch) = together(values, schema) {
        return Ok((batch, Vec::new()));
    }
    let (mut batches, mut faults) = (Vec::new(), Vec::new());
    for (n, value) in values.iter().enumerate() {
        match together(std::slice::from_ref(value), schema) {
            Ok(batch) => batches.push(batch),
            Err(error) => faults.push((n, error)),
        }
    }
    Ok((concat_batches(schema, &batches)?, faults))
}

/// All of them or none: what a builder holds after an error is anyone's guess.
fn together<T: Serialize>(values: &[T], schema: &SchemaRef) -> Result<RecordBatch> {
    let write = || {
        let mut builder = ArrayBuilder::from_arrow(schema.fields())?;
        builder.extend(values)?;
        builder.into_arrow()
    };
    let columns = write().map_err(|e: serde_arrow::Error| Error::validation(said(&e)))?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns;
    use bourn_engine::rows;
    use bourn_engine::testing::harness::{json, rows_of};
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        Low,
        High,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: i64,
        note: Option<String>,
        level: Level,
        items: Vec<f64>,
    }

    #[test]
    fn values_go_into_columns_and_back() {
        let orders = [
            Order { id: 1, note: None, level: Level::High, items: vec![1.5, 2.0] },
            Order { id: 2, note: Some("soon".into()), level: Level::Low, items: vec![] },
        ];
        let (batch, faults) = write(&orders, &columns::of::<Order>().unwrap()).unwrap();
        assert!(faults.is_empty());
        assert_eq!(rows_of(&batch)[0], json!({"id": 1, "note": null, "level": "high", "items": [1.5, 2.0]}));
        let back: Vec<Order> = read(&batch).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(back, orders);
    }

    #[test]
    fn a_row_that_does_not_fit_the_type_fails_alone() {
        let rows = rows![
            {"id": 1, "note": null, "level": "high", "items": [1.5]},
            {"id": null, "note": null, "level": "low", "items": [1.5]},
            {"id": 3, "note": null, "level": "odd", "items": [1.5]},
            {"id": 4, "note": "x", "level": "low", "items": [1.5]},
        ];
        let read = read::<Order>(&rows).unwrap();
        assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        assert!(read[2].as_ref().unwrap_err().message().contains("unknown variant `odd`"));
    }

    #[test]
    fn a_value_that_does_not_fit_the_columns_fails_alone() {
        let schema = rows![{"note": "x"}].schema();
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![
            schema.field(0).as_ref().clone().with_nullable(false),
        ]));
        let values = [json!({"note": "a"}), json!({"note": null}), json!({"note": "c"})];
        let (batch, faults) = write(&values, &schema).unwrap();
        assert_eq!(rows_of(&batch), [json!({"note": "a"}), json!({"note": "c"})]);
        assert_eq!(faults.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1]);
    }
}
