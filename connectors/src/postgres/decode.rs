//! Values in PostgreSQL's binary form.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Write as _;

use bourn_engine::{Error, Result};
use fallible_iterator::FallibleIterator;
use postgres_protocol::types;
use tokio_postgres::types::{FromSql, Type};

use super::kind::Kind;
use crate::sql::exact;

/// The bytes of a value of any type.
pub(super) struct Raw<'a>(pub(super) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Some(raw)))
    }
    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(None))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value on its way into a column.
#[derive(Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    /// Whole numbers, and what is kept as one.
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    Decimal(i128),
    List(Vec<Cell<'a>>),
}

/// Days, and microseconds, from 1970 to 2000, where PostgreSQL begins to count.
const DAYS: i64 = 10_957;
const MICROS: i64 = DAYS * 86_400_000_000;

impl<'a> Cell<'a> {
    /// # Errors
    /// When Arrow has no place for the value.
    pub(super) fn of(kind: &Kind, raw: Option<&'a [u8]>) -> Result<Self> {
        let Some(raw) = raw else { return Ok(Self::Null) };
        let broken = |e: Box<dyn StdError + Sync + Send>| Error::validation(format!("a value that can't be read: {e}"));
        Ok(match kind {
            Kind::Boolean => Self::Boolean(types::bool_from_sql(raw).map_err(broken)?),
            Kind::Int16 => Self::Integer(types::int2_from_sql(raw).map_err(broken)?.into()),
            Kind::Int32 => Self::Integer(types::int4_from_sql(raw).map_err(broken)?.into()),
            Kind::Int64 | Kind::Time => Self::Integer(types::int8_from_sql(raw).map_err(broken)?),
            Kind::Float32 => Self::Float(types::float4_from_sql(raw).map_err(broken)?.into()),
            Kind::Float64 => Self::Float(types::float8_from_sql(raw).map_err(broken)?),
            Kind::Text | Kind::Json => Self::Text(types::text_from_sql(raw).map_err(broken)?.into()),
            Kind::Jsonb => match raw {
                [1, json @ ..] => Self::Text(types::text_from_sql(json).map_err(broken)?.into()),
                _ => return Err(Error::validation("jsonb of an unknown version")),
            },
            Kind::Bytes => Self::Bytes(raw),
            Kind::Date => match types::date_from_sql(raw).map_err(broken)? {
                i32::MIN | i32::MAX => return Err(Error::validation("an infinite date")),
                day => {
                    let day = i64::from(day) + DAYS;
                    i32::try_from(day).map_err(|_| Error::validation("too late a date"))?;
                    Self::Integer(day)
                }
            },
            Kind::Timestamp | Kind::TimestampTz => match types::timestamp_from_sql(raw).map_err(broken)? {
                i64::MIN | i64::MAX => return Err(Error::validation("an infinite timestamp")),
                micros => {
                    Self::Integer(micros.checked_add(MICROS).ok_or_else(|| Error::validation("too late a timestamp"))?)
                }
            },
            Kind::Number => Self::Text(number(raw)?.into()),
            Kind::Decimal(precision, scale) => {
                let text = number(raw)?;
                let misfit = || Error::validation(format!("{text} does not fit decimal({precision},{scale})"));
                Self::Decimal(exact(&text, *precision, *scale).ok_or_else(misfit)?)
            }
            Kind::Uuid => Self::Text(uuid(types::uuid_from_sql(raw).map_err(broken)?).into()),
            Kind::List(element) => list(element, raw)?,
        })
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 4,
            Self::Bytes(bytes) => bytes.len() + 4,
            Self::Decimal(_) => 16,
            Self::List(cells) => 4 + cells.iter().map(Self::bytes).sum::<usize>(),
            _ => 8,
        }
    }
}

fn list<'a>(element: &Kind, raw: &'a [u8]) -> Result<Cell<'a>> {
    let broken = |e: Box<dyn StdError + Sync + Send>| Error::validation(format!("an array that can't be read: {e}"));
    let array = types::array_from_sql(raw).map_err(broken)?;
    let dimensions = array.dimensions().count().map_err(broken)?;
    if dimensions > 1 {
        return Err(Error::validation(format!("an array of {dimensions} dimensions; lists have one")));
    }
    let mut values = array.values();
    let mut cells = Vec::new();
    while let Some(value) = values.next().map_err(broken)? {
        cells.push(Cell::of(element, value)?);
    }
    Ok(Cell::List(cells))
}

fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A numeric as its text, every digit of it. Its binary form is in src/backend/utils/adt/numeric.c: the number of digits
/// to the base of 10,000, the weight of the first, the sign, the number of decimals to show, the digits.
fn number(raw: &[u8]) -> Result<String> {
    let broken = || Error::validation("a numeric that can't be read");
    let word = |i: usize| raw.get(2 * i..2 * i + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (count, weight, sign, scale) = (word(0), word(1), word(2), word(3));
    let (Some(count), Some(weight), Some(sign), Some(scale)) = (count, weight, sign, scale) else {
        return Err(broken());
    };
    let mut text = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xC000 => return Ok("NaN".into()),
        0xD000 => return Ok("Infinity".into()),
        0xF000 => return Ok("-Infinity".into()),
        _ => return Err(broken()),
    };
    if raw.len() != 8 + 2 * usize::from(count) || scale > 0x3fff {
        return Err(broken());
    }
    let weight = i32::from(weight.cast_signed());
    let digit = |place: i32| {
        usize::try_from(weight - place).ok().filter(|i| *i < usize::from(count)).and_then(|i| word(4 + i)).unwrap_or(0)
    };
    if weight < 0 {
        text.push('0');
    }
    for place in (0..=weight).rev() {
        let _ = if place == weight { write!(text, "{}", digit(place)) } else { write!(text, "{:04}", digit(place)) };
    }
    let decimals = usize::from(scale);
    if decimals > 0 {
        let point = text.len();
        text.push('.');
        let mut place = -1;
        while text.len() - point - 1 < decimals {
            let _ = write!(text, "{:04}", digit(place));
            place -= 1;
        }
        text.truncate(point + 1 + decimals);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(words: &[i32]) -> Result<String> {
        let bytes: Vec<_> = words.iter().flat_map(|w| (w & 0xffff).to_be_bytes()[2..].to_vec()).collect();
        number(&bytes)
    }

    #[test]
    fn numerics_keep_every_digit() {
        assert_eq!(numeric(&[2, 0, 0, 2, 12, 5_000]).unwrap(), "12.50");
        assert_eq!(numeric(&[1, 2, 0x4000, 0, 7]).unwrap(), "-700000000");
        assert_eq!(numeric(&[1, -2, 0, 8, 42]).unwrap(), "0.00000042");
        assert_eq!(numeric(&[0, 0, 0, 3]).unwrap(), "0.000");
        assert_eq!(numeric(&[0, 0, 0xC000, 0]).unwrap(), "NaN");
        for broken in [&[][..], &[1, 0, 0, 0], &[0, 0, 7, 0], &[0, 0, 0, 0x4000]] {
            assert!(numeric(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn values_without_a_place_are_refused() {
        let refused = |kind: Kind, raw: &[u8]| Cell::of(&kind, Some(raw)).unwrap_err().message().to_owned();
        assert_eq!(refused(Kind::Date, &i32::MAX.to_be_bytes()), "an infinite date");
        assert_eq!(refused(Kind::TimestampTz, &i64::MIN.to_be_bytes()), "an infinite timestamp");
        assert_eq!(refused(Kind::Timestamp, &(i64::MAX - 1).to_be_bytes()), "too late a timestamp");
        assert!(refused(Kind::Jsonb, b"\x02{}").contains("unknown version"));
        assert!(refused(Kind::Int64, b"\x01").contains("can't be read"));
    }
}
