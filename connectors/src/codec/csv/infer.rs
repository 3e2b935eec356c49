//! The schema of CSV, inferred from the first rows.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimeUnit};
use bourn_engine::Result;
use bourn_engine::data::columns::MOMENT;

use super::dialect::Dialect;
use super::header::{self, column_name};
use super::record::{self, Form, Record};
pub use crate::codec::json::infer::{BYTES_MAX, ROWS_MAX};

/// What the columns of the first file hold, as far as rows were looked at.
#[derive(Debug)]
pub struct Inference {
    dialect: Arc<Dialect>,
    names: Option<Vec<String>>,
    seen: Vec<Seen>,
    rows: usize,
}

/// What values of a column look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Null,
    Boolean,
    Integer,
    Double,
    Date,
    Moment,
    ZonedMoment,
    Text,
}

impl Inference {
    /// Nothing looked at yet.
    pub fn new(dialect: Arc<Dialect>) -> Self {
        Self { dialect, names: None, seen: Vec::new(), rows: 0 }
    }

    /// Whether the columns have their names.
    pub fn has_names(&self) -> bool {
        self.names.is_some()
    }

    /// Whether a row was looked at.
    pub fn has_rows(&self) -> bool {
        self.rows > 0
    }

    /// Looks at the beginning of a file: whole lines, all of it if it is the `last`. The first file that is not empty
    /// names the columns. Returns whether more is wanted.
    ///
    /// # Errors
    /// When the header is none.
    pub fn look(&mut self, text: &[u8], last: bool) -> Result<bool> {
        let mut begin = 0;
        // Of each column, its field in this file.
        let mut indices: Option<Vec<Option<usize>>> = None;
        if self.dialect.header {
            let Some(header) = header::read(text, &self.dialect)? else {
                let is_blank = text.trim_ascii().is_empty();
                return if is_blank { Ok(true) } else { Err(header::endless(last)) };
            };
            begin = header.bytes;
            let names = self.names.get_or_insert_with(|| header.names.clone());
            indices = Some(names.iter().map(|name| header.names.iter().position(|n| n == name)).collect());
        }
        let all = [true; header::COLUMNS_MAX];
        let mut spans = Vec::new();
        while begin < text.len() && self.rows < ROWS_MAX {
            spans.clear();
            let end = match record::read(text, begin, &self.dialect, &all, &mut spans) {
                Record::Whole { end, .. } => end,
                Record::Open { .. } if !last => break,
                Record::Open { .. } | Record::Trailing { .. } => {
                    begin = record::line_end(text, begin);
                    continue;
                }
            };
            let is_blank = text[begin..end].trim_ascii().is_empty();
            begin = end;
            if is_blank {
                continue;
            }
            let names = self.names.get_or_insert_with(|| (0..spans.len()).map(column_name).collect());
            let indices = indices.get_or_insert_with(|| (0..names.len()).map(Some).collect());
            self.rows += 1;
            self.seen.resize(names.len(), Seen::Null);
            for (seen, index) in self.seen.iter_mut().zip(indices) {
                if let Some(span) = index.and_then(|i| spans.get(i)) {
                    let value = span.value(text, self.dialect.quote.unwrap_or_default());
                    seen.merge(Seen::of(&value, span.form, &self.dialect));
                }
            }
        }
        Ok(self.rows < ROWS_MAX)
    }

    /// The names of the fields and the schema so far.
    pub fn finish(mut self) -> (Vec<String>, SchemaRef) {
        let names = self.names.unwrap_or_default();
        self.seen.resize(names.len(), Seen::Null);
        let field = |(name, seen): (&String, &Seen)| Field::new(name, seen.data_type(), true);
        let fields: Vec<_> = names.iter().zip(&self.seen).map(field).collect();
        (names, Arc::new(Schema::new(fields)))
    }
}

impl Seen {
    fn of(value: &[u8], form: Form, dialect: &Dialect) -> Self {
        let Ok(text) = std::str::from_utf8(value) else { return Self::Null };
        if text.is_empty() || (form == Form::Bare && dialect.nulls.iter().any(|n| n == text)) {
            return Self::Null;
        }
        let text = text.trim();
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            Self::Boolean
        } else if is_number(text) {
            if text.parse::<i64>().is_ok() {
                Self::Integer
            } else if text.contains(['.', 'e', 'E']) && text.parse::<f64>().is_ok_and(f64::is_finite) {
                Self::Double
            } else {
                Self::Text
            }
        } else {
            Self::of_time(text)
        }
    }

    fn of_time(text: &str) -> Self {
        const DATE: usize = "2000-01-01".len();
        let shape = |at: usize, byte: &[u8]| text.as_bytes().get(at).is_some_and(|b| byte.contains(b));
        if !shape(4, b"-") || !shape(7, b"-") {
            return Self::Text;
        }
        if text.len() == DATE {
            return if Date32Type::parse(text).is_some() { Self::Date } else { Self::Text };
        }
        let is_time = shape(DATE, b"T ") && shape(13, b":") && shape(16, b":");
        let utc: Option<Tz> = "+00:00".parse().ok();
        let moment = utc.filter(|_| is_time).and_then(|utc| string_to_datetime(&utc, text).ok());
        // A moment keeps microseconds: one with more digits stays text.
        match moment {
            Some(moment) if moment.timestamp_subsec_nanos() % 1_000 == 0 => {
                let has_zone = text[DATE..].contains(['Z', 'z', '+', '-']) || text.ends_with(char::is_alphabetic);
                if has_zone { Self::ZonedMoment } else { Self::Moment }
            }
            _ => Self::Text,
        }
    }

    fn merge(&mut self, other: Self) {
        *self = match (*self, other) {
            (seen, Self::Null) => seen,
            (Self::Null, other) => other,
            (a, b) if a == b => a,
            (Self::Integer | Self::Double, Self::Integer | Self::Double) => Self::Double,
            (Self::Date | Self::Moment, Self::Date | Self::Moment) => Self::Moment,
            _ => Self::Text,
        };
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Null | Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Moment => MOMENT,
            Self::ZonedMoment => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// Whether a text is a number that is the same when it is written again: not `007`, which is a code, nor `+49 30`, which
/// is dialled.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let starts = match digits {
        [b'0', next, ..] => !next.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit() || *first == b'.',
        [] => false,
    };
    starts && lexical_core::parse::<f64>(text.as_bytes()).is_ok()
}
