//! Inputs that are read as one: the columns that they have together.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::data::sql_type::sql_name;
use crate::diagnostic::Problem;

/// The columns of inputs that are merged. They must have the same columns in the same order; one may be null if it may be
/// in any of them, and keeps its metadata if all agree on it. `name` is what messages call an input, by its number from 0.
///
/// # Errors
/// The first column by which an input differs from the first one.
pub fn merged(inputs: &[SchemaRef], name: impl Fn(usize) -> String) -> Result<SchemaRef, Problem> {
    let (first, others) = inputs.split_first().ok_or_else(|| Problem::new("there is no input to read"))?;
    if others.iter().all(|other| other == first) {
        return Ok(first.clone());
    }
    let mut fields: Vec<Field> = first.fields().iter().map(|f| f.as_ref().clone()).collect();
    for (n, other) in others.iter().enumerate() {
        if let Some(difference) = difference((first, &name(0)), (other, &name(n + 1))) {
            return Err(Problem::new(difference).help("bring the inputs to the same columns with `map` first"));
        }
        for (field, other) in fields.iter_mut().zip(other.fields()) {
            let same = field.metadata() == other.metadata();
            let metadata = if same { std::mem::take(field.metadata_mut()) } else { HashMap::new() };
            let nullable = field.is_nullable() || other.is_nullable();
            *field = field.clone().with_nullable(nullable).with_metadata(metadata);
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// What tells the columns of two inputs apart, with the names of the inputs.
fn difference((first, one): (&Schema, &str), (other, another): (&Schema, &str)) -> Option<String> {
    for field in first.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return Some(format!("column `{}` is in {one} and not in {another}", field.name())),
            Ok(f) if f.data_type() != field.data_type() => {
                let (this, that) = (sql_name(field.data_type()), sql_name(f.data_type()));
                return Some(format!("column `{}` is {this} in {one} and {that} in {another}", field.name()));
            }
            Ok(_) => {}
        }
    }
    if let Some(more) = other.fields().iter().find(|f| first.field_with_name(f.name()).is_err()) {
        return Some(format!("column `{}` is in {another} and not in {one}", more.name()));
    }
    let mut pairs = first.fields().iter().zip(other.fields());
    let (moved, _) = pairs.find(|(a, b)| a.name() != b.name())?;
    Some(format!("column `{}` stands at another place in {another} than in {one}", moved.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::columns::json_field;
    use arrow::datatypes::DataType::{self, Int64, Utf8};

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    #[test]
    fn the_column_that_differs_is_named_with_both_inputs() {
        let first = schema(&[("a", Int64), ("b", Utf8)]);
        for (other, said) in [
            (schema(&[("a", Int64)]), "column `b` is in `x` and not in `z`"),
            (schema(&[("a", Int64), ("b", Int64)]), "column `b` is text in `x` and bigint in `z`"),
            (schema(&[("a", Int64), ("b", Utf8), ("c", Utf8)]), "column `c` is in `z` and not in `x`"),
            (schema(&[("b", Utf8), ("a", Int64)]), "column `a` stands at another place in `z` than in `x`"),
        ] {
            let name = |n: usize| ["`x`", "`y`", "`z`"][n].to_owned();
            assert_eq!(merged(&[first.clone(), first.clone(), other], name).unwrap_err().message, said);
        }
    }

    #[test]
    fn a_column_may_be_null_if_it_may_be_in_any_input_and_keeps_what_all_agree_on() {
        let strict = |field: Field| Arc::new(Schema::new(vec![Field::new("n", Int64, false), field]));
        let (document, text) = (strict(json_field("t")), schema(&[("n", Int64), ("t", Utf8)]));
        let both = merged(&[document.clone(), text], |n| n.to_string()).unwrap();
        assert!(both.field(0).is_nullable() && both.field(1).metadata().is_empty());
        assert_eq!(merged(&[document.clone(), document.clone()], |n| n.to_string()), Ok(document));
    }
}
