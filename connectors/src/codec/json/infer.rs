//! The schema of JSON lines, inferred from the first rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::codec::lines::{is_blank, split};

/// How many rows are looked at.
pub const ROWS_MAX: usize = 1_000;
/// How much text is looked at, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// What the rows looked at so far have in their columns, in the order of their first appearance.
#[derive(Debug, Default)]
pub struct Inference {
    columns: IndexMap<String, Seen>,
    rows: usize,
}

/// A schema, and what it does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// The columns; each may be null.
    pub schema: SchemaRef,
    /// Text columns whose values were of several types, or only null: a value that is no text is kept as its JSON.
    pub mixed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Null,
    Boolean,
    Integer,
    Double,
    Text,
    List(Box<Seen>),
    Object(IndexMap<String, Seen>),
    Mixed,
}

impl Inference {
    /// Looks at the rows of `text`, whole lines; a line that is no JSON object says nothing. Returns whether more is
    /// wanted.
    pub fn look(&mut self, text: &[u8]) -> bool {
        for line in split(text) {
            if self.rows == ROWS_MAX {
                return false;
            }
            let line = &text[line];
            if is_blank(line) {
                continue;
            }
            self.rows += 1;
            if let Ok(row) = serde_json::from_slice::<Map<String, Value>>(line) {
                merge_columns(&mut self.columns, row.into_iter().map(|(name, value)| (name, Seen::of(value))));
            }
        }
        self.rows < ROWS_MAX
    }

    /// The schema so far.
    pub fn finish(self) -> Inferred {
        let (mut fields, mut mixed) = (Vec::new(), Vec::new());
        for (name, seen) in self.columns {
            let data_type = if seen == Seen::Null || seen.is_mixed() {
                mixed.push(name.clone());
                DataType::Utf8
            } else {
                seen.data_type()
            };
            fields.push(Field::new(name, data_type, true));
        }
        Inferred { schema: Arc::new(Schema::new(fields)), mixed }
    }
}

fn merge_columns(columns: &mut IndexMap<String, Seen>, row: impl IntoIterator<Item = (String, Seen)>) {
    for (name, seen) in row {
        columns.entry(name).or_insert(Seen::Null).merge(seen);
    }
}

impl Seen {
    fn of(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(n) if n.is_i64() => Self::Integer,
            Value::Number(_) => Self::Double,
            Value::String(_) => Self::Text,
            Value::Array(elements) => {
                let mut seen = Self::Null;
                for element in elements {
                    seen.merge(Self::of(element));
                }
                Self::List(Box::new(seen))
            }
            Value::Object(row) => Self::Object(row.into_iter().map(|(name, value)| (name, Self::of(value))).collect()),
        }
    }

    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Null) | (Self::Double, Self::Integer) => {}
            (Self::Null, other) => *self = other,
            (Self::Integer, Self::Double) => *self = Self::Double,
            (Self::List(a), Self::List(b)) => a.merge(*b),
            (Self::Object(a), Self::Object(b)) => merge_columns(a, b),
            (a, b) if *a == b => {}
            _ => *self = Self::Mixed,
        }
    }

    /// Whether it is mixed here or further in: then the column as a whole is kept as text.
    fn is_mixed(&self) -> bool {
        match self {
            Self::Mixed => true,
            Self::List(element) => element.is_mixed(),
            // Arrow has no structure without members.
            Self::Object(members) => members.is_empty() || members.iter().any(|(_, seen)| seen.is_mixed()),
            _ => false,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Null | Self::Text | Self::Mixed => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::List(element) => DataType::List(Arc::new(Field::new("item", element.data_type(), true))),
            Self::Object(members) => {
                DataType::Struct(members.into_iter().map(|(n, seen)| Field::new(n, seen.data_type(), true)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(text: &str) -> Inferred {
        let mut inference = Inference::default();
        inference.look(text.as_bytes());
        inference.finish()
    }

    fn types(text: &str) -> Vec<String> {
        inferred(text).schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect()
    }

    #[test]
    fn columns_come_in_the_order_of_their_first_row() {
        assert_eq!(types("{\"z\":1,\"a\":true}\n{\"m\":\"x\",\"z\":2}\n"), ["z: Int64", "a: Boolean", "m: Utf8"]);
    }

    #[test]
    fn integers_widen_to_doubles_and_other_mixtures_to_text() {
        let text = "{\"n\":1,\"m\":1,\"t\":\"2001-01-01T00:00:00Z\"}\n{\"n\":1.5,\"m\":{\"a\":1}}\n{\"n\":null}";
        assert_eq!(types(text), ["n: Float64", "m: Utf8", "t: Utf8"]);
        assert_eq!(inferred(text).mixed, ["m"]);
    }

    #[test]
    fn a_column_that_was_only_null_takes_whatever_comes_later() {
        assert_eq!(inferred("{\"a\":null}").mixed, ["a"]);
    }

    #[test]
    fn nested_values_keep_their_structure_unless_it_is_mixed() {
        assert_eq!(types(r#"{"a":{"b":[1,2.5]},"c":[1,"x"]}"#).len(), 2);
        let found = inferred(r#"{"a":{"b":[1,2.5]},"c":[1,"x"],"d":{}}"#);
        assert!(matches!(found.schema.field(0).data_type(), DataType::Struct(f) if f.len() == 1));
        assert_eq!(found.mixed, ["c", "d"]);
    }

    #[test]
    fn broken_lines_say_nothing_and_a_thousand_rows_are_enough() {
        assert_eq!(types("{\"a\":\n\n[1]\n{\"a\":1}\n"), ["a: Int64"]);
        let text = "{\"a\":1}\n".repeat(ROWS_MAX) + "{\"b\":1}\n";
        assert_eq!(types(&text), ["a: Int64"]);
    }
}
