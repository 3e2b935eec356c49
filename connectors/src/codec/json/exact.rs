//! Whether a value keeps its numbers in a column: arrow-json cuts off fractions, lets an integer at the very end of its type
//! slip, and makes an infinity of what is too large for a double.

use std::fmt;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// From here on a double holds not every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether the numbers of a JSON value are those that a column of this type would hold. A value that is no JSON, or of
/// another shape, is not looked at: who reads it says so.
pub fn keeps(data_type: &DataType, value: &[u8]) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(value);
    // A number beyond every double is an error of the parser.
    Exact(data_type).deserialize(&mut reader).is_ok()
}

/// The same for the members of an object.
pub fn keeps_all(fields: &Fields, object: &[u8]) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(object);
    reader.deserialize_map(Members(fields)).is_ok()
}

/// Whether columns hold numbers anywhere.
pub fn has_numbers(fields: &Fields) -> bool {
    fields.iter().any(|f| is_numeric(f.data_type()))
}

fn is_numeric(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => has_numbers(fields),
        other => item(other).map_or_else(|| other.is_integer() || other.is_floating(), |f| is_numeric(f.data_type())),
    }
}

/// What a list holds.
fn item(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// A value on its way into a column.
struct Exact<'a>(&'a DataType);

impl<'de> DeserializeSeed<'de> for Exact<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if is_numeric(self.0) {
            reader.deserialize_any(self)
        } else {
            reader.deserialize_ignored_any(IgnoredAny).map(drop)
        }
    }
}

fn kept<E: Error>(is_kept: bool) -> Result<(), E> {
    if is_kept { Ok(()) } else { Err(E::custom("another number")) }
}

impl<'de> Visitor<'de> for Exact<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    // Whether an integer is within its type is seen by who reads it.
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        kept(*self.0 != DataType::Int64 || i64::try_from(number).is_ok())
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        kept(match self.0 {
            DataType::Float16 | DataType::Float64 => true,
            #[expect(clippy::cast_possible_truncation, reason = "whether it becomes infinite is the question")]
            DataType::Float32 => (number as f32).is_finite(),
            integer if integer.is_integer() => number.fract() == 0.0 && number.abs() < WHOLE_MAX,
            _ => true,
        })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        match item(self.0) {
            Some(item) => while list.next_element_seed(Exact(item.data_type()))?.is_some() {},
            None => while list.next_element::<IgnoredAny>()?.is_some() {},
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let DataType::Struct(fields) = self.0 {
            return Members(fields).visit_map(map);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// The members of an object on their way into columns.
struct Members<'a>(&'a Fields);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.0))? {
            match field {
                Some(field) => map.next_value_seed(Exact(field.data_type()))?,
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

/// The column of a member's name.
struct Name<'a>(&'a Fields);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a Field>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a Field>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|f| f.name() == name).map(AsRef::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, data_type: DataType) -> Field {
        Field::new(name, data_type, true)
    }

    #[test]
    fn numbers_that_would_become_others_are_not_kept_at_any_depth() {
        use DataType::{Float32, Float64, Int8, Int64, UInt64, Utf8};
        let inner = Fields::from(vec![field("n", Int64), field("d", Float64)]);
        let list = DataType::new_list(DataType::Struct(inner), true);
        let keeps = |data_type: &DataType, value: &str| keeps(data_type, value.as_bytes());
        for (data_type, value, is_kept) in [
            (&Int64, "9223372036854775807", true),
            (&Int64, "9223372036854775808", false),
            (&Int64, "-9223372036854775808", true),
            (&Int64, "-9223372036854775809", false),
            (&UInt64, "18446744073709551615", true),
            (&UInt64, "18446744073709551616", false),
            (&Int64, "1.5", false),
            (&Int64, "1e3", true),
            (&Int64, "9007199254740991.0", true),
            (&Int64, "9007199254740993.0", false),
            (&Int8, "2.0", true),
            (&Float64, "1e308", true),
            (&Float64, "1e309", false),
            (&Float32, "1e39", false),
            (&Utf8, "1e999", true),
            (&list, r#"[{"n": 1, "d": 1.5}, null, {"x": 1e999}]"#, true),
            (&list, r#"[{"n": 1}, {"n": 1.5}]"#, false),
            (&list, r#"[{"d": 1e309}]"#, false),
            (&list, r#""text""#, true),
        ] {
            assert_eq!(keeps(data_type, value), is_kept, "{value} as {data_type}");
        }
    }
}
