//! The inputs of runs: lines of a file, of stdin, or the one that the command line gives.

use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much is read at once, in bytes.
const STEP: usize = 64 << 10;
/// The most lines of a chunk.
const LINES_MAX: usize = 1_024;
/// A longer line is no input, in bytes.
const LINE_MAX: usize = 16 << 20;
/// What some programs begin a text with; it is no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A source of lines with the columns `text`, `file`, `number` and `fault`. Unlike a file of a pipeline it rejects none: a
/// line that can't be an input, for the reason in `fault`, is still a run, which fails.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Inputs {
    #[serde(skip)]
    #[schemars(skip)]
    name: String,
    #[serde(skip)]
    #[schemars(skip)]
    lines: Mutex<Option<Box<Lines>>>,
    #[serde(skip)]
    #[schemars(skip)]
    ended: Ended,
}

/// Whether all inputs were read. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Ended(Arc<AtomicBool>);

impl Ended {
    /// Whether they were.
    pub fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    name: String,
    /// Bytes of the whole input, when it is known.
    total: Option<u64>,
    read: u64,
    number: u64,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.number)
    }
}

impl Inputs {
    /// The lines of what is open under this name; `total` is its length in bytes, when it is known.
    pub fn of(name: impl Into<String>, reader: impl Read + Send + 'static, total: Option<u64>) -> Self {
        let name = name.into();
        let reader = BufReader::with_capacity(STEP, Box::new(reader) as _);
        let lines = Lines { reader, name: name.clone(), total, read: 0, number: 0 };
        Self { name, lines: Mutex::new(Some(Box::new(lines))), ended: Ended::default() }
    }

    /// Tells when all were read.
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// One line.
    pub fn one(name: impl Into<String>, line: String) -> Self {
        Self::of(name, Cursor::new(line), None)
    }
}

fn columns() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let number = Field::new("number", DataType::UInt64, false);
    Arc::new(Schema::new(vec![text("text", true), text("file", false), number, text("fault", true)]))
}

impl Connector for Inputs {
    const NAME: &'static str = "inputs";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(columns())
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lines = Some(lines.ok_or_else(|| Error::engine("the inputs were opened twice"))?);
        Ok(BoxSource::new(InputsSource {
            env: context.env,
            split: Split::new(&self.name),
            lines,
            ended: self.ended.clone(),
        }))
    }
}

struct InputsSource {
    env: Env,
    split: Split,
    /// Away while it waits for input.
    lines: Option<Box<Lines>>,
    ended: Ended,
}

impl Source for InputsSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let lost = || Error::engine("the inputs were lost by a read that was given up");
        let mut lines = self.lines.take().ok_or_else(lost)?;
        // A pipe may wait for a person.
        let (lines, read) = self
            .env
            .blocking(move || {
                let read = lines.next();
                (lines, read)
            })
            .await?;
        let (total, at) = (lines.total, (lines.read, lines.number));
        let read = read.map_err(|e| e.context(&lines.name));
        self.lines = Some(lines);
        let Some(batch) = read? else {
            self.ended.0.store(true, Relaxed);
            return Ok(None);
        };
        let chunk = Chunk::new(batch, self.split.clone(), Position::of(&at)?);
        Ok(Some(match total {
            Some(total) => chunk.with_progress(at.0, total),
            None => chunk,
        }))
    }
}

impl Lines {
    /// The lines that are there, at least one; none at the end.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (mut texts, mut numbers, mut faults, mut held) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some(line) = self.line()? {
            held += line.as_ref().map_or(0, String::len);
            faults.push(line.as_ref().err().cloned());
            texts.push(line.ok());
            numbers.push(self.number);
            // A line that is here does not wait for one that is not.
            if texts.len() == LINES_MAX || held >= STEP || !self.reader.buffer().contains(&b'\n') {
                break;
            }
        }
        if texts.is_empty() {
            return Ok(None);
        }
        let files: StringArray = texts.iter().map(|_| Some(self.name.as_str())).collect();
        let columns_of: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(texts)),
            Arc::new(files),
            Arc::new(UInt64Array::from(numbers)),
            Arc::new(StringArray::from(faults)),
        ];
        Ok(Some(RecordBatch::try_new(columns(), columns_of)?))
    }

    /// The next line, or why it can't be an input.
    fn line(&mut self) -> Result<Option<Result<String, String>>> {
        let mut bytes = Vec::new();
        let mut offset = self.read;
        let count = (&mut self.reader).take(LINE_MAX as u64).read_until(b'\n', &mut bytes)?;
        if count == 0 {
            return Ok(None);
        }
        (self.read, self.number) = (self.read + count as u64, self.number + 1);
        let is_whole = bytes.ends_with(b"\n") || count < LINE_MAX;
        if !is_whole {
            self.skip_line()?;
            return Ok(Some(Err(format!("the input is longer than {} MiB", LINE_MAX >> 20))));
        }
        if offset == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            offset += bytes.drain(..BYTE_ORDER_MARK.len()).len() as u64;
        }
        Ok(Some(String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let (byte, column, offset) = (e.as_bytes()[at], at + 1, offset + at as u64);
            format!("the input is not UTF-8: byte 0x{byte:02x} at column {column}, at offset {offset} of the whole")
        })))
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let here = self.reader.fill_buf()?;
            let end = here.iter().position(|b| *b == b'\n');
            let (count, is_over) = (end.map_or(here.len(), |end| end + 1), end.is_some() || here.is_empty());
            self.reader.consume(count);
            self.read += count as u64;
            if is_over {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::UInt64Type;

    use super::*;

    /// Numbers and lines; a line that is none is the reason, after a `!`.
    fn read(text: impl Into<Vec<u8>>) -> Vec<(u64, String)> {
        let inputs = Inputs::of("in", Cursor::new(text.into()), None);
        let mut lines = inputs.lines.lock().unwrap().take().unwrap();
        let mut all = Vec::new();
        while let Some(batch) = lines.next().unwrap() {
            let numbers = batch.column(2).as_primitive::<UInt64Type>().values().to_vec();
            let (texts, faults) = (batch.column(0).as_string::<i32>(), batch.column(3).as_string::<i32>());
            let lines = texts.iter().zip(faults).map(|(text, fault)| match (text, fault) {
                (Some(text), None) => text.trim_end().to_owned(),
                (None, Some(fault)) => format!("!{fault}"),
                both => panic!("{both:?}"),
            });
            all.extend(numbers.into_iter().zip(lines));
        }
        all
    }

    #[test]
    fn lines_are_numbered_and_none_is_lost() {
        let text = (1..=5_000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert!(read(text).into_iter().eq((1..=5_000).map(|n| (n, n.to_string()))));
        assert_eq!(read("1\n\n3"), [(1, "1".into()), (2, String::new()), (3, "3".into())]);
    }

    #[test]
    fn a_line_that_can_not_be_an_input_is_told_with_its_reason_and_the_others_stay() {
        let text = b"\xEF\xBB\xBF1\n\"\xff\"\n\xEF\xBB\xBF2\n".to_vec();
        let no_text = "!the input is not UTF-8: byte 0xff at column 2, at offset 6 of the whole";
        assert_eq!(read(text), [(1, "1".into()), (2, no_text.into()), (3, "\u{feff}2".into())]);
        let long = [vec![b'1'; LINE_MAX + STEP], b"\n2\n".to_vec()].concat();
        assert_eq!(read(long), [(1, "!the input is longer than 16 MiB".into()), (2, "2".into())]);
    }
}
