//! Lines to columns: rows that can be read become a batch, the others faults, each by itself.

use std::ops::Range;

use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_json::ReaderBuilder;
use bourn_engine::data::columns::is_json;
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::{Error, Result};

use super::exact;
use super::row;
use super::scan::Scanner;
use crate::codec::lines::{LINE_MAX, is_blank};

/// What the rows are to become.
#[derive(Clone, Debug)]
pub struct Columns {
    schema: SchemaRef,
    verbatim: Vec<(String, Verbatim)>,
    numbers: bool,
}

/// How a column keeps values that are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verbatim {
    /// A text stays itself, anything else is kept as its JSON.
    Mixed,
    /// Everything is kept as its JSON.
    Document,
}

impl Columns {
    /// Columns of `schema`; those in `mixed` are text, and keep a value that is none as its JSON.
    pub fn new(schema: SchemaRef, mixed: &[String]) -> Self {
        let verbatim = schema.fields().iter().filter(|f| *f.data_type() == DataType::Utf8).filter_map(|f| {
            let mixed = mixed.contains(f.name()).then_some(Verbatim::Mixed);
            is_json(f).then_some(Verbatim::Document).or(mixed).map(|v| (f.name().clone(), v))
        });
        let verbatim = verbatim.collect();
        let numbers = exact::has_numbers(schema.fields());
        Self { schema, verbatim, numbers }
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn verbatim(&self, name: &str) -> Option<Verbatim> {
        self.verbatim.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }

    pub(super) fn has_verbatim(&self) -> bool {
        !self.verbatim.is_empty()
    }

    pub(super) fn is_verbatim(&self, name: &str) -> bool {
        self.verbatim(name).is_some()
    }

    pub(super) fn is_mixed(&self, name: &str) -> bool {
        self.verbatim(name) == Some(Verbatim::Mixed)
    }

    pub(super) fn is_document(&self, name: &str) -> bool {
        self.verbatim(name) == Some(Verbatim::Document)
    }

    pub(super) fn has_numbers(&self) -> bool {
        self.numbers
    }
}

/// Decodes JSON lines into batches of at most 8,192 rows.
#[derive(Debug)]
pub struct Decoder {
    columns: Columns,
    /// For schemas without nested types.
    scanner: Option<Scanner>,
    lines: Vec<Line>,
}

/// What became of some lines.
#[derive(Debug)]
pub struct Decoded {
    /// The rows that could be read, in order.
    pub batch: RecordBatch,
    /// The lines that could not.
    pub faults: Vec<Fault>,
    /// How many bytes of the text were worked.
    pub bytes: usize,
    /// How many lines these are, blank ones included.
    pub lines: u64,
    /// How many fields of rows had no column, as far as they were counted: nested columns make arrow-json skip them.
    pub unknown: u64,
}

/// A line that is no row.
#[derive(Debug)]
pub struct Fault {
    /// How many lines of the text lie before it.
    pub line: u64,
    /// Where it stands in the text.
    pub range: Range<usize>,
    /// Why.
    pub error: Error,
}

#[derive(Clone, Debug)]
struct Line {
    number: u64,
    range: Range<usize>,
}

impl Decoder {
    /// A decoder into `columns`.
    ///
    /// # Errors
    /// When a column has a type that JSON can't be read into.
    pub fn new(columns: Columns) -> Result<Self> {
        ReaderBuilder::new(columns.schema.clone()).with_batch_size(0).build_decoder()?;
        Ok(Self { scanner: Scanner::new(&columns), columns, lines: Vec::new() })
    }

    /// A decoder that leaves every line to arrow-json: what [`Decoder::new`] is tested and measured against.
    ///
    /// # Errors
    /// As [`Decoder::new`].
    pub fn general(columns: Columns) -> Result<Self> {
        Ok(Self { scanner: None, ..Self::new(columns)? })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.columns.schema
    }

    /// Decodes whole lines: all of them, or the first 8,192 that are not blank.
    ///
    /// # Errors
    /// Never for what the lines hold.
    pub fn decode(&mut self, text: &[u8]) -> Result<Decoded> {
        let (mut lines, mut faults) = (std::mem::take(&mut self.lines), Vec::new());
        lines.clear();
        let (bytes, count) = cut(text, &mut lines, &mut faults);
        let text = &text[..bytes];
        let (batch, unknown) = if let Some(scanner) = &mut self.scanner {
            scan(scanner, &self.columns, text, &lines, &mut faults)?
        } else {
            let mut batches = Vec::new();
            self.read(text, &lines, &mut batches, &mut faults);
            (self.join(batches)?, 0)
        };
        faults.sort_by_key(|f| f.line);
        self.lines = lines;
        Ok(Decoded { batch, faults, bytes, lines: count, unknown })
    }

    fn join(&self, mut batches: Vec<RecordBatch>) -> Result<RecordBatch> {
        let schema = &self.columns.schema;
        match batches.len() {
            0 => Ok(RecordBatch::new_empty(schema.clone())),
            1 => Ok(batches.remove(0)),
            _ => Ok(concat_batches(schema, &batches)?),
        }
    }

    /// Reads the lines at once; where that fails, smaller parts of them, down to the lines at fault.
    fn read(&self, text: &[u8], lines: &[Line], batches: &mut Vec<RecordBatch>, faults: &mut Vec<Fault>) {
        const PARTS: usize = 16;
        match lines {
            [] => {}
            [line] => match row::decode(&self.columns, &text[line.range.clone()]) {
                Ok(row) => batches.push(row),
                Err(error) => faults.push(Fault { line: line.number, range: line.range.clone(), error }),
            },
            _ => match self.read_at_once(text, lines) {
                Some(batch) => batches.push(batch),
                None => {
                    for part in lines.chunks(lines.len().div_ceil(PARTS)) {
                        self.read(text, part, batches, faults);
                    }
                }
            },
        }
    }

    /// `None` when a line needs a closer look.
    fn read_at_once(&self, text: &[u8], lines: &[Line]) -> Option<RecordBatch> {
        if self.columns.has_verbatim() {
            return None;
        }
        let schema = self.columns.schema.clone();
        let mut decoder = ReaderBuilder::new(schema).with_batch_size(lines.len()).build_decoder().ok()?;
        for (i, line) in lines.iter().enumerate() {
            let line = &text[line.range.clone()];
            // Each line is one row: an object that goes on in the next line, or two in one, must not pass.
            let whole = !row::is_too_deep(line)
                && decoder.decode(line).ok()? == line.len()
                && decoder.len() == i + 1
                && !decoder.has_partial_record()
                && (!self.columns.has_numbers() || exact::keeps_all(self.columns.schema.fields(), line));
            if !whole {
                return None;
            }
        }
        decoder.flush().ok()?
    }
}

/// Notes the lines that are to be decoded; returns how many bytes and lines were passed.
fn cut(text: &[u8], lines: &mut Vec<Line>, faults: &mut Vec<Fault>) -> (usize, u64) {
    let (mut begin, mut count) = (0, 0);
    while begin < text.len() && lines.len() + faults.len() < ROWS_MAX {
        let end = memchr::memchr(b'\n', &text[begin..]).map_or(text.len(), |i| begin + i);
        let range = begin..end - usize::from(end > begin && text[end - 1] == b'\r');
        if range.len() > LINE_MAX {
            faults.push(Fault { line: count, range, error: overlong() });
        } else if !is_blank(&text[range.clone()]) {
            lines.push(Line { number: count, range });
        }
        count += 1;
        begin = end + 1;
    }
    (begin.min(text.len()), count)
}

/// Scans each line, and leaves to the general way what the scanner does not understand.
fn scan(
    scanner: &mut Scanner,
    columns: &Columns,
    text: &[u8],
    lines: &[Line],
    faults: &mut Vec<Fault>,
) -> Result<(RecordBatch, u64)> {
    let is_text = simdutf8::basic::from_utf8(text).is_ok();
    scanner.reserve(lines.len());
    for line in lines {
        let bytes = &text[line.range.clone()];
        let understood = (is_text || simdutf8::basic::from_utf8(bytes).is_ok()) && scanner.scan(bytes);
        if !understood {
            match row::decode(columns, bytes) {
                Ok(row) => scanner.append(&row),
                Err(error) => faults.push(Fault { line: line.number, range: line.range.clone(), error }),
            }
        }
    }
    scanner.finish()
}

/// Why a line longer than [`LINE_MAX`] is rejected.
pub fn overlong() -> Error {
    Error::validation(format!("longer than {} MiB, the most that a line may have", LINE_MAX >> 20))
}
