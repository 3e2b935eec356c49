//! Durations, sizes, rates and shares as people write them in a spec: `200ms`, `64KiB`, `100/s`, `5%`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `200ms`, `5m`, `1d`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub Duration);

/// A number of bytes: `64KiB`, `512MiB`; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share of a hundred: `5%`; a bare number is the same.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percentage(pub f64);

/// So many per length of time: `100/s`, `60/m`, `5000/1d`. Never zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// The mean number in a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }
}

impl FromStr for Interval {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|e| format!("`{text}` is no duration such as `200ms`, `5m` or `1d`: {e}"))
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<ByteSize>()
            .map(|b| Self(b.as_u64()))
            .map_err(|e| format!("`{text}` is no size such as `64KiB` or `512MiB`: {e}"))
    }
}

impl Percentage {
    fn of(number: f64) -> Option<Self> {
        (0.0..=100.0).contains(&number).then_some(Self(number))
    }
}

impl FromStr for Percentage {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse().ok().and_then(Self::of);
        number.ok_or_else(|| format!("`{text}` is no percentage from `0%` to `100%`"))
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate such as `100/s`, `60/m` or `5000/1d`");
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let per = per.trim();
        let per = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let per = humantime::parse_duration(&per).map_err(|_| wrong())?;
        let count = count.trim().replace('_', "").parse().map_err(|_| wrong())?;
        if count == 0 || per.is_zero() {
            return Err(wrong());
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize::b(self.0).display().iec())
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, humantime::format_duration(self.per))
    }
}

/// Reads a number or a text into one of the units above.
struct UnitVisitor<T> {
    expecting: &'static str,
    number: fn(f64) -> Option<T>,
}

impl<T: FromStr<Err = String>> de::Visitor<'_> for UnitVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
        v.parse().map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<T, E> {
        #[expect(clippy::cast_precision_loss, reason = "no spec says a duration or size beyond 2^53")]
        self.visit_f64(v as f64)
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<T, E> {
        #[expect(clippy::cast_precision_loss, reason = "no spec says a duration or size beyond 2^53")]
        self.visit_f64(v as f64)
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<T, E> {
        (self.number)(v).ok_or_else(|| E::invalid_value(de::Unexpected::Float(v), &self))
    }
}

macro_rules! unit {
    ($type:ident, $expecting:literal, $number:expr, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any(UnitVisitor { expecting: $expecting, number: $number })
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

unit!(
    Interval,
    "a duration such as `200ms`, `5m` or `1d`, or a number of seconds",
    |n| Duration::try_from_secs_f64(n).ok().map(Interval),
    { "type": ["string", "number"], "format": "interval", "minimum": 0, "description": "a duration: `200ms`, `5m`, `1d`; a number is seconds" }
);
unit!(
    Size,
    "a size such as `64KiB` or `512MiB`, or a number of bytes",
    |n| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked in the condition")]
        (n >= 0.0 && n.fract() == 0.0 && n < 9e15).then_some(Size(n as u64))
    },
    { "type": ["string", "integer"], "format": "size", "minimum": 0, "description": "a size: `64KiB`, `512MiB`; a number is bytes" }
);
unit!(
    Rate,
    "a rate such as `100/s`",
    |_| None,
    { "type": "string", "format": "rate", "description": "a rate: `100/s`, `60/m`" }
);

unit!(
    Percentage,
    "a percentage from 0 to 100",
    Percentage::of,
    { "type": ["string", "number"], "format": "percentage", "minimum": 0, "maximum": 100, "description": "a percentage: `5` or `5%`" }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        let interval = |v: &str| serde_json::from_str::<Interval>(v).map(|i| i.0).map_err(|e| e.to_string());
        assert_eq!(interval("\"200ms\""), Ok(Duration::from_millis(200)));
        assert_eq!(interval("300"), Ok(Duration::from_mins(5)));
        assert!(interval("\"soon\"").unwrap_err().contains("`200ms`"));
        assert!(interval("-1").is_err());
        assert_eq!(serde_json::from_str::<Size>("\"64KiB\"").unwrap(), Size(65_536));
        assert_eq!(serde_json::from_str::<Percentage>("\"2.5 %\"").unwrap(), Percentage(2.5));
        assert_eq!(serde_json::from_str::<Percentage>("10").unwrap().to_string(), "10 %");
        assert!(serde_json::from_str::<Percentage>("101").is_err() && "-1%".parse::<Percentage>().is_err());
        assert_eq!("100/s".parse::<Rate>(), Ok(Rate { count: 100, per: Duration::from_secs(1) }));
        assert_eq!("60/m".parse::<Rate>().unwrap().per_second(), 1.0);
        assert!("0/s".parse::<Rate>().is_err());
        assert_eq!(Rate { count: 5, per: Duration::from_mins(1) }.to_string(), "5/1m");
    }
}
