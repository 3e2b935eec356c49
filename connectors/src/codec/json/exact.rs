//! Whether a value keeps its numbers in a column: arrow-json cuts off fractions and the digits that a decimal has no place
//! for, lets an integer at the very end of its type slip, makes an infinity of what is too large for a double, and takes a
//! number for a moment in whatever unit the column has.

use std::fmt;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::codec::decimal::{keeps_digits, scale};

/// From here on a double holds not every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What a column would make of a value that it does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another number.
    Number,
    /// A moment, of a number that does not say since when it counts, and in what.
    Moment,
}

/// What a column of this type would make of the numbers of a JSON value; `None` where it holds them as they are. A value
/// that is no JSON, or of another shape, is not looked at: who reads it says so.
pub fn change(data_type: &DataType, value: &[u8]) -> Option<Change> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    // A number beyond every double is an error of the parser.
    let error = Exact(data_type).deserialize(&mut reader).err()?;
    Some(if error.to_string().starts_with(MOMENT) { Change::Moment } else { Change::Number })
}

/// What the error of a number in a column of moments says; serde lets nothing else through.
const MOMENT: &str = "a moment";

/// Whether an object keeps its numbers in these columns.
pub fn keeps_all(fields: &Fields, object: &[u8]) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(object);
    reader.deserialize_map(Members(fields)).is_ok()
}

/// Whether columns hold numbers, or what a number might be taken for, anywhere.
pub fn has_numbers(fields: &Fields) -> bool {
    fields.iter().any(|f| is_numeric(f.data_type()))
}

fn is_numeric(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => has_numbers(fields),
        other => item(other).map_or_else(
            || other.is_integer() || other.is_floating() || scale(other).is_some() || is_moment(other),
            |f| is_numeric(f.data_type()),
        ),
    }
}

fn is_moment(data_type: &DataType) -> bool {
    use DataType::{Date32, Date64, Time32, Time64, Timestamp};
    matches!(data_type, Timestamp(..) | Date32 | Date64 | Time32(_) | Time64(_))
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
        if let Some(scale) = scale(self.0) {
            // As it is written: a double has not the digits that a decimal has.
            let number = <&RawValue>::deserialize(reader)?.get().trim_matches('"');
            kept(keeps_digits(number, scale))
        } else if is_numeric(self.0) {
            reader.deserialize_any(self)
        } else {
            reader.deserialize_ignored_any(IgnoredAny).map(drop)
        }
    }
}

fn kept<E: Error>(is_kept: bool) -> Result<(), E> {
    if is_kept { Ok(()) } else { Err(E::custom("another number")) }
}

fn no_moment<E: Error>(of: &DataType) -> Result<(), E> {
    if is_moment(of) { Err(E::custom(MOMENT)) } else { Ok(()) }
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
        no_moment(self.0)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        no_moment(self.0)?;
        kept(*self.0 != DataType::Int64 || i64::try_from(number).is_ok())
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        no_moment(self.0)?;
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
        let decimals = DataType::new_list(DataType::Decimal128(10, 2), true);
        let keeps = |data_type: &DataType, value: &str| change(data_type, value.as_bytes()).is_none();
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
            (&decimals, r#"[12.99, "12.99", null, 1e3, {"a": 1}]"#, true),
            (&decimals, "[12.99, 12.999]", false),
            (&decimals, r#"["12.999"]"#, false),
            (&decimals, "[12345678901234567890123.001]", false),
        ] {
            assert_eq!(keeps(data_type, value), is_kept, "{value} as {data_type}");
        }
    }

    #[test]
    fn a_number_is_no_moment_at_any_depth() {
        let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
        let list = DataType::new_list(DataType::Struct(Fields::from(vec![field("t", time.clone())])), true);
        for (data_type, value, found) in [
            (&time, "1700000000", Some(Change::Moment)),
            (&time, "-1", Some(Change::Moment)),
            (&time, "1.5", Some(Change::Moment)),
            (&time, r#""2025-12-24T18:30:00Z""#, None),
            (&time, "null", None),
            (&DataType::Date32, "20000", Some(Change::Moment)),
            (&list, r#"[{"t": "2025-12-24T18:30:00Z"}, {"t": 0}]"#, Some(Change::Moment)),
            (&DataType::Int8, "1.5", Some(Change::Number)),
        ] {
            assert_eq!(change(data_type, value.as_bytes()), found, "{value} as {data_type}");
        }
    }
}
