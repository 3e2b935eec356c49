//! The columns of one CSV file: which of its fields are wanted, and for which column.

use arrow::datatypes::Schema;
use bourn_engine::{Error, Result};
use indexmap::IndexSet;

use super::dialect::Dialect;
use super::record::{self, Record};
use crate::codec::lines::{is_blank, not_utf8};

/// The most columns that a file may have.
pub const COLUMNS_MAX: usize = 10_000;

/// A header at the beginning of a text.
pub struct Header {
    /// The names of its columns.
    pub names: Vec<String>,
    /// How many bytes lie before the first row.
    pub bytes: usize,
    /// How many lines.
    pub lines: u64,
}

/// Reads the header; `None` when more of the text is needed, or it is blank.
///
/// # Errors
/// When it is no record, or no text.
pub fn read(text: &[u8], dialect: &Dialect) -> Result<Option<Header>> {
    let (mut begin, mut before) = (0, 0);
    while begin < text.len() {
        let line = record::line_end(text, begin);
        if !is_blank(text[begin..line].strip_suffix(b"\n").unwrap_or(&text[begin..line])) {
            break;
        }
        (begin, before) = (line, before + 1);
    }
    if begin == text.len() {
        return Ok(None);
    }
    let mut spans = Vec::new();
    match record::read(text, begin, dialect, &[true; COLUMNS_MAX], &mut spans) {
        Record::Open { .. } => Ok(None),
        Record::Trailing { field } => {
            Err(Error::validation(format!("the header has text behind the closing quote of field {}", field + 1)))
        }
        Record::Whole { fields, .. } if fields > COLUMNS_MAX => {
            Err(Error::validation(format!("the header has {fields} columns, and {COLUMNS_MAX} are the most")))
        }
        Record::Whole { end, lines, .. } => {
            let mut names = IndexSet::new();
            for (i, span) in spans.iter().enumerate() {
                let value = span.value(text, dialect.quote.unwrap_or_default());
                let name = std::str::from_utf8(&value).map_err(|e| not_utf8(&value, e).context("the header"))?.trim();
                let name = if name.is_empty() { column_name(i) } else { name.to_owned() };
                let mut free = name.clone();
                let mut number = 2;
                while !names.insert(free.clone()) {
                    free = format!("{name}_{number}");
                    number += 1;
                }
            }
            Ok(Some(Header { names: names.into_iter().collect(), bytes: end, lines: before + lines }))
        }
    }
}

/// A header whose quote has no end, within the text that is the `last` or was looked at.
pub fn endless(last: bool) -> Error {
    let within = if last { "" } else { " in the first MiB" };
    Error::validation(format!("the header has a quote without an end{within}"))
}

/// The name of a column that has none, by its place from 0.
pub fn column_name(index: usize) -> String {
    format!("column_{}", index + 1)
}

/// Which fields of a file become which columns.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The names of all fields.
    pub names: Vec<String>,
    /// Whether a field is wanted.
    pub wanted: Vec<bool>,
    /// For each column, its place among the wanted fields.
    pub places: Vec<usize>,
}

impl Layout {
    /// The fields of a file by their names, for the columns of `schema`.
    ///
    /// # Errors
    /// When a column has no field.
    pub fn new(names: Vec<String>, schema: &Schema) -> Result<Self> {
        let mut indices = Vec::new();
        for field in schema.fields() {
            let missing = || {
                let message = format!("has no column `{}`; its columns are {}", field.name(), names.join(", "));
                Error::validation(message).at_field(field.name())
            };
            indices.push(names.iter().position(|n| n == field.name()).ok_or_else(missing)?);
        }
        let mut wanted = vec![false; names.len()];
        for index in &indices {
            wanted[*index] = true;
        }
        let place = |index: &usize| wanted[..*index].iter().filter(|w| **w).count();
        let places = indices.iter().map(place).collect();
        Ok(Self { names, wanted, places })
    }

    /// How many fields of a record are kept.
    pub fn kept(&self) -> usize {
        self.wanted.iter().filter(|w| **w).count()
    }
}
