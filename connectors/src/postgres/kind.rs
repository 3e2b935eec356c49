//! The types of columns, as Arrow has them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use bourn_engine::data::columns::{MOMENT, json_field};
use tokio_postgres::types::{Kind as Family, Type};

/// What the values of a column become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    Bytes,
    Date,
    Time,
    /// Without a zone, and with.
    Timestamp,
    TimestampTz,
    Decimal(u8, i8),
    /// A number of any length, as its text.
    Number,
    Json,
    /// JSON in the binary form.
    Jsonb,
    Uuid,
    List(Box<Kind>),
}

impl Kind {
    /// `None` for a type that Arrow has no place for. The modifier holds the digits of a decimal.
    pub(super) fn of(of: &Type, modifier: i32) -> Option<Self> {
        Some(match *of {
            Type::BOOL => Self::Boolean,
            Type::INT2 => Self::Int16,
            Type::INT4 => Self::Int32,
            Type::INT8 => Self::Int64,
            Type::FLOAT4 => Self::Float32,
            Type::FLOAT8 => Self::Float64,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::XML => Self::Text,
            Type::BYTEA => Self::Bytes,
            Type::DATE => Self::Date,
            Type::TIME => Self::Time,
            Type::TIMESTAMP => Self::Timestamp,
            Type::TIMESTAMPTZ => Self::TimestampTz,
            Type::NUMERIC => decimal(modifier),
            Type::JSON => Self::Json,
            Type::JSONB => Self::Jsonb,
            Type::UUID => Self::Uuid,
            _ => match of.kind() {
                Family::Enum(_) => Self::Text,
                Family::Domain(inner) => Self::of(inner, modifier)?,
                Family::Array(inner) => match Self::of(inner, modifier)? {
                    Self::List(_) => return None,
                    element => Self::List(Box::new(element)),
                },
                // An extension's text without regard to case.
                Family::Simple if of.name() == "citext" => Self::Text,
                _ => return None,
            },
        })
    }

    pub(super) fn field(&self, name: &str) -> Field {
        match self {
            Self::Json | Self::Jsonb => json_field(name),
            _ => Field::new(name, self.data_type(), true),
        }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => MOMENT,
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::Number | Self::Json | Self::Jsonb | Self::Uuid => DataType::Utf8,
            Self::List(element) => DataType::List(Arc::new(element.field("item"))),
        }
    }
}

/// `numeric(P,S)` as the modifier says it; without digits, or with more than 38, a number is kept as text.
fn decimal(modifier: i32) -> Kind {
    if modifier < 4 {
        return Kind::Number;
    }
    let (precision, scale) = ((modifier - 4) >> 16 & 0xffff, (modifier - 4) & 0x7ff);
    // The scale has eleven bits, with a sign.
    let scale = (scale ^ 1_024) - 1_024;
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale >= 0 && scale.unsigned_abs() <= precision => {
            Kind::Decimal(precision, scale)
        }
        _ => Kind::Number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_a_decimal_stand_in_its_modifier() {
        let modifier = |precision: i32, scale: i32| (precision << 16 | scale & 0x7ff) + 4;
        assert_eq!(decimal(modifier(10, 2)), Kind::Decimal(10, 2));
        assert_eq!(decimal(modifier(38, 38)), Kind::Decimal(38, 38));
        assert_eq!(decimal(modifier(39, 2)), Kind::Number);
        assert_eq!(decimal(modifier(5, -2)), Kind::Number);
        assert_eq!(decimal(-1), Kind::Number);
    }
}
