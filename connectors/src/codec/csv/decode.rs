//! Records to columns: rows that can be read become a batch, the others faults, each by itself.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::{Error, Result};

use super::dialect::Dialect;
use super::header::{self, Layout};
use super::record::{self, Record, Span};
use super::values;
use crate::codec::json::{Decoded, Fault, wrong_type};
use crate::codec::lines::{is_blank, not_utf8};

/// The most fields that are kept at once.
const FIELDS_MAX: usize = 1 << 19;

/// Decodes CSV into batches of at most 8,192 rows.
#[derive(Debug)]
pub struct Decoder {
    dialect: Arc<Dialect>,
    schema: SchemaRef,
    /// Once the header was read.
    layout: Option<Layout>,
    spans: Vec<Span>,
    rows: Vec<Row>,
    /// Whether somebody chose the columns: others are left out on purpose then, and are not counted.
    is_choice: bool,
}

/// A record with as many fields as it should have.
#[derive(Clone, Debug)]
struct Row {
    range: Range<usize>,
    /// How many lines lie before it.
    line: u64,
}

impl Decoder {
    /// A decoder into the columns of `schema`. Where there is no header, `names` are the names of all fields of a record;
    /// else it begins with the header, unless [`read_header`](Self::read_header) read it before.
    ///
    /// # Errors
    /// When a column has no field or a type that CSV can't be read into.
    pub fn new(dialect: Arc<Dialect>, schema: SchemaRef, names: &[String]) -> Result<Self> {
        if let Some(field) = schema.fields().iter().find(|f| !values::is_readable(f.data_type())) {
            let message = format!("CSV can't be read into a column of {}", sql_name(field.data_type()));
            return Err(Error::unsupported(message).at_field(field.name()));
        }
        let layout = if dialect.header { None } else { Some(Layout::new(names.to_vec(), &schema)?) };
        Ok(Self { dialect, schema, layout, spans: Vec::new(), rows: Vec::new(), is_choice: false })
    }

    /// The columns were chosen, or were not.
    pub fn chosen(self, is_choice: bool) -> Self {
        Self { is_choice, ..self }
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether the header is yet to be read.
    pub fn needs_header(&self) -> bool {
        self.layout.is_none()
    }

    /// Reads the header at the beginning of `text`: its bytes and lines; `None` when there is none yet.
    ///
    /// # Errors
    /// When it is none, or a column is missing.
    pub fn read_header(&mut self, text: &[u8]) -> Result<Option<(usize, u64)>> {
        let Some(header) = header::read(text, &self.dialect)? else { return Ok(None) };
        self.layout = Some(Layout::new(header.names, &self.schema)?);
        Ok(Some((header.bytes, header.lines)))
    }

    /// Decodes the records of whole lines: all of them, or as many as a batch has. Nothing at all when the first one goes
    /// on behind the text. If the text is the `last`, a quote that has no end in it is a fault of the line it begins in.
    ///
    /// # Errors
    /// For a header alone.
    pub fn decode(&mut self, text: &[u8], last: bool) -> Result<Decoded> {
        let (mut begin, mut line) = (0, 0);
        if self.layout.is_none() {
            match self.read_header(text)? {
                Some(passed) => (begin, line) = passed,
                None if last && !text.trim_ascii().is_empty() => {
                    return Err(header::endless(true));
                }
                None => {
                    let bytes = if last { text.len() } else { 0 };
                    let lines = memchr::memchr_iter(b'\n', &text[..bytes]).count() as u64;
                    return self.finish(text, bytes, lines, Vec::new());
                }
            }
        }
        let mut faults = Vec::new();
        let (bytes, lines) = self.cut(text, last, (begin, line), &mut faults);
        self.finish(text, bytes, lines, faults)
    }

    /// Notes the records that are to become rows; returns how many bytes and lines were passed.
    fn cut(&mut self, text: &[u8], last: bool, from: (usize, u64), faults: &mut Vec<Fault>) -> (usize, u64) {
        self.spans.clear();
        self.rows.clear();
        let Some(layout) = &self.layout else { return from };
        let width = layout.names.len();
        let most = (FIELDS_MAX / layout.kept().max(1)).clamp(1, ROWS_MAX);
        let (mut begin, mut line) = from;
        while begin < text.len() && self.rows.len() + faults.len() < most {
            let mark = self.spans.len();
            let (end, lines, fault) = match record::read(text, begin, &self.dialect, &layout.wanted, &mut self.spans) {
                Record::Whole { end, fields, lines } if fields == width => (end, lines, None),
                Record::Whole { end, fields, lines } => (end, lines, Some(self.ragged(fields, width))),
                Record::Open { .. } if !last => {
                    self.spans.truncate(mark);
                    break;
                }
                // The fault is most likely in this line alone: those behind it are given a chance.
                Record::Open { field } => {
                    (record::line_end(text, begin), 1, Some(at_field("a quote without an end", layout, field)))
                }
                Record::Trailing { field } => {
                    (record::line_end(text, begin), 1, Some(at_field("text behind the closing quote", layout, field)))
                }
            };
            let range = begin..begin + trim_end(&text[begin..end]).len();
            if let Some(error) = fault {
                self.spans.truncate(mark);
                if !is_blank(&text[range.clone()]) {
                    faults.push(Fault { line, range, error });
                }
            } else {
                self.rows.push(Row { range, line });
            }
            (begin, line) = (end, line + lines);
        }
        (begin, line)
    }

    fn ragged(&self, fields: usize, width: usize) -> Error {
        let s = if fields == 1 { "" } else { "s" };
        let who = if self.dialect.header { "the header" } else { "a row" };
        Error::validation(format!("has {fields} field{s}, and {who} has {width}"))
    }

    fn finish(&mut self, text: &[u8], bytes: usize, lines: u64, mut faults: Vec<Fault>) -> Result<Decoded> {
        if simdutf8::basic::from_utf8(&text[..bytes]).is_err() {
            self.drop_what_is_no_text(text, &mut faults);
        }
        let mut batch = RecordBatch::new_empty(self.schema.clone());
        if let Some(layout) = self.layout.as_ref().filter(|_| !self.rows.is_empty()) {
            let kept = layout.kept().max(1);
            let mut misfits: Vec<Option<usize>> = Vec::new();
            let mut columns = Vec::with_capacity(layout.places.len());
            for (i, (field, place)) in self.schema.fields().iter().zip(&layout.places).enumerate() {
                let spans = self.spans[*place..].iter().step_by(kept);
                let read = values::read(field, text, spans, &self.dialect)?;
                columns.push(read.array);
                for row in read.misfits {
                    misfits.resize(self.rows.len(), None);
                    misfits[row].get_or_insert(i);
                }
            }
            let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
            batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            if !misfits.is_empty() {
                let fits: BooleanArray = misfits.iter().map(|m| Some(m.is_none())).collect();
                batch = filter_record_batch(&batch, &fits)?;
                let bad = misfits.iter().enumerate().filter_map(|(row, m)| m.map(|column| (row, column)));
                for (row, column) in bad {
                    let value = self.spans[row * kept + layout.places[column]]
                        .value(text, self.dialect.quote.unwrap_or_default());
                    let field = self.schema.field(column);
                    let error = wrong_type(field.name(), field.data_type(), &String::from_utf8_lossy(&value));
                    let Row { range, line } = self.rows[row].clone();
                    faults.push(Fault { line, range, error });
                }
            }
        }
        faults.sort_by_key(|f| f.line);
        let left_out = self.layout.as_ref().filter(|_| !self.is_choice).map_or(0, |l| l.names.len() - l.kept());
        let unknown = (left_out * batch.num_rows()) as u64;
        Ok(Decoded { batch, faults, bytes, lines, unknown })
    }

    fn drop_what_is_no_text(&mut self, text: &[u8], faults: &mut Vec<Fault>) {
        let kept = self.layout.as_ref().map_or(0, Layout::kept);
        let (spans, rows) = (std::mem::take(&mut self.spans), std::mem::take(&mut self.rows));
        for (i, row) in rows.into_iter().enumerate() {
            let bytes = &text[row.range.clone()];
            if let Err(error) = std::str::from_utf8(bytes) {
                faults.push(Fault { line: row.line, range: row.range.clone(), error: not_utf8(bytes, error) });
            } else {
                self.spans.extend_from_slice(&spans[i * kept..(i + 1) * kept]);
                self.rows.push(row);
            }
        }
    }
}

fn at_field(message: &'static str, layout: &Layout, field: usize) -> Error {
    let name = layout.names.get(field).cloned().unwrap_or_else(|| header::column_name(field));
    Error::validation(message).at_field(name)
}

/// A record without its line end.
fn trim_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}
