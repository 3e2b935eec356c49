//! The columns of a type, and whether an input has those that a type needs.

use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, make_array, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};

use crate::values;
use bourn_engine::Result;
use bourn_engine::diagnostic::{Problem, Problems, did_you_mean};

/// The columns that values of `T` have: a field is a column, an `Option` one that may be null, a `Vec` a list, a struct a
/// struct, an enum without data text.
///
/// # Errors
/// When the type alone does not say its columns: maps, untagged enums, `serde_json::Value`.
pub fn of<T: DeserializeOwned>() -> Result<SchemaRef, Problems> {
    let options = TracingOptions::default()
        .strings_as_large_utf8(false)
        .bytes_as_large_binary(false)
        .sequence_as_large_list(false)
        .enums_without_data_as_strings(true);
    let fields = Vec::<FieldRef>::from_type::<T>(options).map_err(|e| {
        let name = short_name::<T>();
        Problem::new(format!("the columns of `{name}` can't be seen from the type: {}", values::said(&e)))
            .help("say them with the function of the same name and `_as`")
    })?;
    Ok(Arc::new(Schema::new(fields.iter().map(plain).collect::<Fields>())))
}

/// Text in place of dictionaries, which the type does not ask for, and lists as every other source makes them.
fn plain(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::List(item) => DataType::List(Arc::new(plain(item).as_ref().clone().with_name("item"))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
}

/// Whether rows of `input` have every column that a `T` can't do without. Found by reading a row of zeros and empty texts
/// as a `T`: a type knows its own defaults, and nobody else does.
///
/// # Errors
/// The first column that is missing.
pub fn check<T: DeserializeOwned>(input: &SchemaRef) -> Result<(), Problems> {
    let columns: Vec<ArrayRef> = input.fields().iter().map(|f| zero(f.data_type())).collect();
    let fields: Fields = input.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| Problem::new(e.to_string()))?;
    let Some(missing) = values::missing::<T>(&row) else { return Ok(()) };
    let problem = Problem::new(format!("`{}` needs the column `{missing}`", short_name::<T>()));
    let names: Vec<_> = input.fields().iter().map(|f| f.name().as_str()).collect();
    let help = did_you_mean(&missing, names.iter().copied()).unwrap_or_else(|| {
        format!("the columns are {}; `Option` or `#[serde(default)]` does without", names.join(", "))
    });
    Err(problem.help(help).into())
}

/// One value that is no null.
fn zero(data_type: &DataType) -> ArrayRef {
    make_array(without_nulls(new_null_array(data_type, 1).to_data()))
}

fn without_nulls(data: ArrayData) -> ArrayData {
    let children = data.child_data().iter().cloned().map(without_nulls).collect();
    let made = data.clone().into_builder().nulls(None).child_data(children).build();
    // A type that can't do without nulls (null itself) keeps them.
    made.unwrap_or(data)
}

fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        Low,
        High,
    }

    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Order {
        id: i64,
        note: Option<String>,
        level: Level,
        items: Vec<f64>,
        #[serde(default)]
        count: u32,
    }

    #[test]
    fn the_columns_of_a_type_are_those_of_its_fields() {
        let schema = of::<Order>().unwrap();
        let shown: Vec<_> = schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
        assert_eq!(shown, ["id: Int64", "note: Utf8", "level: Utf8", "items: List(non-null Float64)", "count: UInt32"]);
        let nullable: Vec<_> = schema.fields().iter().map(|f| f.is_nullable()).collect();
        assert_eq!(nullable, [false, true, false, false, false]);
    }

    #[test]
    fn a_type_that_does_not_say_its_columns_is_told_the_way_out() {
        let Problems(problems) = of::<std::collections::HashMap<String, i64>>().unwrap_err();
        assert!(problems[0].help.as_ref().is_some_and(|help| help.contains("_as")), "{:?}", problems[0].help);
    }

    #[test]
    fn a_column_that_is_missing_is_told_and_one_that_may_be_missing_is_not() {
        let input = rows![{"id": 1, "levl": "high", "items": [1.5]}].schema();
        let Problems(problems) = check::<Order>(&input).unwrap_err();
        assert_eq!(problems[0].message, "`Order` needs the column `level`");
        assert_eq!(problems[0].help.as_deref(), Some("did you mean `levl`?"));
        let input = rows![{"id": 1, "level": "high", "items": [1.5], "more": true}].schema();
        assert!(check::<Order>(&input).is_ok());
    }
}
