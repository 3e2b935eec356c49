//! One file of lines: JSON, CSV or plain.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StringBuilder, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Chunk, Rejected};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::{Error, Result};

use crate::codec::compression::Text;
use crate::codec::csv;
use crate::codec::json::decode::overlong;
use crate::codec::json::{Columns, Decoded, Decoder, Fault};
use crate::codec::lines::{BLOCK, LINE_MAX, LineBuffer, Overlong, Piece, Place, not_utf8, split};

/// Lines of one input, read as they come.
pub struct LinesOf {
    text: Text,
    lines: LineBuffer,
    decoder: LineDecoder,
    split: Split,
}

impl LinesOf {
    /// The lines from `place` on of the text that `open` opens.
    pub fn open(open: impl Fn() -> Result<Text>, split: Split, place: Place, mut decoder: LineDecoder) -> Result<Self> {
        let mut text = open()?;
        if place.offset > 0 {
            text.skip_to(place.offset)?;
            decoder.read_header(open()?)?;
        }
        Ok(Self { text, lines: LineBuffer::at(place), decoder, split })
    }

    /// Bytes of the file read so far.
    pub fn bytes_read(&self) -> u64 {
        self.text.bytes_read()
    }

    /// The next rows and rejected lines; `None` at the end.
    pub fn read(&mut self) -> Result<Option<Chunk>> {
        while !self.lines.is_done() {
            let named = |e: Error| e.context(self.split.name());
            if let Some(chunk) = next_chunk(&mut self.lines, &mut self.decoder, &self.split).map_err(named)? {
                return Ok(Some(chunk));
            }
            if self.lines.is_done() {
                break;
            }
            let count = self.text.read(self.lines.space(BLOCK)).map_err(named)?;
            self.lines.filled(count);
        }
        Ok(None)
    }
}

/// The next chunk of the whole lines at hand; `None` when more must be read first, or nothing is left.
pub(crate) fn next_chunk(lines: &mut LineBuffer, into: &mut LineDecoder, split: &Split) -> Result<Option<Chunk>> {
    loop {
        let place = lines.place();
        // A record of CSV may go on in the next line, though not for ever.
        let last = lines.is_read() || lines.held() > LINE_MAX;
        let (decoded, rejected, unknown) = match lines.piece() {
            None => return Ok(None),
            Some(Piece::Overlong(long)) => {
                lines.consume_overlong(&long);
                (None, vec![reject_overlong(&long, split, place)], 0)
            }
            Some(Piece::Lines(text)) => {
                let decoded = into.decode(text, last, split, place)?;
                if decoded.bytes == 0 {
                    return Ok(None);
                }
                let reject = |f: &Fault| reject(&text[f.range.clone()], f, split, place);
                let rejected = decoded.faults.iter().map(reject).collect();
                let (bytes, count) = (decoded.bytes, decoded.lines);
                lines.consume(bytes, count);
                (Some(decoded.batch), rejected, decoded.unknown)
            }
        };
        let batch = decoded.unwrap_or_else(|| RecordBatch::new_empty(into.schema()));
        if batch.num_rows() > 0 || !rejected.is_empty() {
            let position = Position::of(&lines.place())?;
            return Ok(Some(
                Chunk::new(batch, split.clone(), position).with_rejected(rejected).with_unknown_fields(unknown),
            ));
        }
    }
}

fn reject(line: &[u8], fault: &Fault, split: &Split, place: Place) -> Rejected {
    let error = fault.error.summary().at_input(format!("{split}:{}", place.line + fault.line + 1));
    Rejected::text(String::from_utf8_lossy(line), error)
}

fn reject_overlong(long: &Overlong, split: &Split, place: Place) -> Rejected {
    let error = overlong().at_input(format!("{split}:{}", place.line + 1));
    Rejected::text(format!("{}… ({} bytes)", String::from_utf8_lossy(&long.shown), long.length), error)
}

/// What lines become.
pub enum LineDecoder {
    /// Rows of JSON.
    Json(Decoder),
    /// Rows of CSV.
    Csv(csv::Decoder),
    /// Rows of text, file and number.
    Lines(SchemaRef),
}

impl LineDecoder {
    /// JSON into `columns`.
    pub fn json(columns: Columns) -> Result<Self> {
        Ok(Self::Json(Decoder::new(columns)?))
    }

    /// Plain lines, in those columns of [`schema`] that are wanted.
    pub fn lines(wanted: SchemaRef) -> Self {
        Self::Lines(wanted)
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Self::Json(decoder) => decoder.schema().clone(),
            Self::Csv(decoder) => decoder.schema().clone(),
            Self::Lines(wanted) => wanted.clone(),
        }
    }

    /// Reads the header of a file that is read from further behind.
    pub(super) fn read_header(&mut self, mut text: Text) -> Result<()> {
        let Self::Csv(decoder) = self else { return Ok(()) };
        let mut lines = LineBuffer::default();
        while decoder.needs_header() {
            let is_enough = lines.is_read() || lines.held() > LINE_MAX;
            if let Some(Piece::Lines(at_hand)) = lines.piece()
                && decoder.read_header(at_hand)?.is_some()
            {
                break;
            }
            if is_enough {
                return Err(Error::validation("has no header any more: it is another file"));
            }
            let count = text.read(lines.space(BLOCK))?;
            lines.filled(count);
        }
        Ok(())
    }

    /// Nothing is decoded where the first record goes on behind the text, unless the text is the `last`.
    pub(super) fn decode(&mut self, text: &[u8], last: bool, split: &Split, place: Place) -> Result<Decoded> {
        match self {
            Self::Json(decoder) => decoder.decode(text),
            Self::Csv(decoder) => decoder.decode(text, last),
            Self::Lines(wanted) => plain(text, wanted, split, place),
        }
    }
}

/// The columns of plain lines.
pub fn schema() -> SchemaRef {
    let number = Field::new("number", DataType::UInt64, false);
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![text("text"), text("file"), number]))
}

fn plain(text: &[u8], wanted: &SchemaRef, file: &Split, place: Place) -> Result<Decoded> {
    let (mut texts, mut numbers, mut faults) = (StringBuilder::new(), Vec::new(), Vec::new());
    let (mut bytes, mut lines) = (0, 0);
    for range in split(text).take(ROWS_MAX) {
        bytes = memchr::memchr(b'\n', &text[range.end..]).map_or(text.len(), |i| range.end + i + 1);
        lines += 1;
        match std::str::from_utf8(&text[range.clone()]) {
            Ok(line) => {
                texts.append_value(line);
                numbers.push(place.line + lines);
            }
            Err(e) => {
                let error = not_utf8(&text[range.clone()], e);
                faults.push(Fault { line: lines - 1, range, error });
            }
        }
    }
    let files = StringArray::from_iter_values(std::iter::repeat_n(file.name(), numbers.len()));
    let columns: Vec<ArrayRef> = vec![Arc::new(texts.finish()), Arc::new(files), Arc::new(UInt64Array::from(numbers))];
    let all = RecordBatch::try_new(schema(), columns)?;
    let indices: Result<Vec<_>, _> = wanted.fields().iter().map(|f| all.schema_ref().index_of(f.name())).collect();
    Ok(Decoded { batch: all.project(&indices?)?, faults, bytes, lines, unknown: 0 })
}
