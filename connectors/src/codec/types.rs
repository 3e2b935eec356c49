//! Declared columns: names and types as people write them in a spec.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bourn_engine::data::columns::{MOMENT, is_json, json_field};
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems, nearest};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Columns with their types, in the order they are written: `{ id: bigint, name: text }`.
///
/// Types are `text`, `bigint`, `int`, `smallint`, `tinyint`, `double`, `float`, `boolean`, `timestamp`, `timestamptz`,
/// `date`, `decimal(P,S)`, `json`, any of them with `[]` behind it for a list, or a type by its Arrow name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared(pub Vec<(String, String)>);

const NAMES: &[&str] = &[
    "text",
    "bigint",
    "int",
    "smallint",
    "tinyint",
    "double",
    "float",
    "boolean",
    "timestamp",
    "timestamptz",
    "date",
    "json",
];

impl Declared {
    /// The Arrow schema; every column may be null.
    ///
    /// # Errors
    /// All types that are not known, each placed below its column.
    pub fn schema(&self) -> Result<SchemaRef, Problems> {
        let mut problems = Vec::new();
        let mut fields = Vec::new();
        for (name, type_name) in &self.0 {
            match field(name, type_name) {
                Some(field) => fields.push(field),
                None => problems.push(unknown(type_name).under(name.as_str())),
            }
        }
        Problems::check(problems)?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

impl Declared {
    /// The name that declares the type of a column; none if no name does.
    pub(crate) fn name_of(of: &Field) -> Option<String> {
        if is_json(of) {
            return Some("json".to_owned());
        }
        let names = [sql_name(of.data_type()), of.data_type().to_string()];
        names.into_iter().find(|name| data_type(name).as_ref() == Some(of.data_type()))
    }
}

fn unknown(type_name: &str) -> Problem {
    let near = nearest(type_name, NAMES.iter().copied());
    let help = near.map_or_else(|| format!("types are {}", NAMES.join(", ")), |n| format!("did you mean `{n}`?"));
    Problem::new(format!("unknown type `{type_name}`")).help(help)
}

fn field(name: &str, type_name: &str) -> Option<Field> {
    if type_name.trim().eq_ignore_ascii_case("json") {
        return Some(json_field(name));
    }
    Some(Field::new(name, data_type(type_name)?, true))
}

fn data_type(type_name: &str) -> Option<DataType> {
    let word = type_name.trim();
    if let Some(element) = word.strip_suffix("[]") {
        return Some(DataType::List(Arc::new(Field::new("item", data_type(element)?, true))));
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "text" | "string" | "varchar" | "utf8" => DataType::Utf8,
        "bigint" | "int64" | "int8" | "long" => DataType::Int64,
        "int" | "integer" | "int32" | "int4" => DataType::Int32,
        "smallint" | "int16" | "int2" => DataType::Int16,
        "tinyint" => DataType::Int8,
        "double" | "double precision" | "float64" | "float8" => DataType::Float64,
        "float" | "real" | "float32" | "float4" => DataType::Float32,
        "boolean" | "bool" => DataType::Boolean,
        "timestamp" => MOMENT,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "date" | "date32" => DataType::Date32,
        lower => decimal(lower).or_else(|| word.parse().ok())?,
    })
}

/// `decimal(10,2)`.
fn decimal(word: &str) -> Option<DataType> {
    let (precision, scale) = word.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
    let fits = (1..=38).contains(&precision) && scale.unsigned_abs() <= precision;
    fits.then_some(DataType::Decimal128(precision, scale))
}

impl<'de> Deserialize<'de> for Declared {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Declared;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("columns with their types, such as `{ id: bigint, name: text }`")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Declared, M::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Declared(columns))
            }
        }
        d.deserialize_map(Columns)
    }
}

impl Serialize for Declared {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, type_name) in &self.0 {
            map.serialize_entry(name, type_name)?;
        }
        map.end()
    }
}

impl JsonSchema for Declared {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": { "type": "string" },
            "description": "columns with their types, in order: text, bigint, int, smallint, tinyint, double, float, \
                boolean, timestamp, timestamptz, date, decimal(P,S), json, one of them with [] for a list, or an Arrow type"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(columns: &[(&str, &str)]) -> Declared {
        Declared(columns.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect())
    }

    #[test]
    fn types_are_known_by_their_sql_and_their_arrow_names() {
        let schema =
            declared(&[("a", "BIGINT"), ("b", "text[]"), ("c", "decimal(10, 2)"), ("d", "Float16"), ("e", "json")]);
        let schema = schema.schema().unwrap();
        let types: Vec<_> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let expected = [DataType::Int64, list, DataType::Decimal128(10, 2), DataType::Float16, DataType::Utf8];
        assert_eq!(types, expected);
        assert!(bourn_engine::data::columns::is_json(schema.field(4)));
    }

    #[test]
    fn every_unknown_type_is_told_with_a_way_out() {
        let Problems(problems) =
            declared(&[("a", "bigin"), ("b", "text"), ("c", "decimal(99,1)")]).schema().unwrap_err();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0].help.as_deref(), Some("did you mean `bigint`?"));
        assert_eq!(problems[1].path, ["c".into()]);
    }

    #[test]
    fn the_order_of_columns_is_kept() {
        let text = r#"{"z":"int","a":"text"}"#;
        let read: Declared = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
