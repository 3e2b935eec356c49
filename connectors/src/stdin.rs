//! Standard input: JSON or plain lines.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::Split;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::json::infer::BYTES_MAX;
use crate::codec::json::{Columns, Inference, Inferred};
use crate::codec::lines::{LineBuffer, Piece};
use crate::codec::types::Declared;
use crate::file::read_lines::{LineDecoder, next_chunk, schema};
use crate::generate::Nothing;

/// Reads lines from the standard input, once, as they come.
///
/// Where no schema is declared, planning waits for the first 1,000 rows, 1 MiB or the end of the input. What was read
/// can't be read again: after a crash it is gone.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdin {
    /// What the lines are.
    #[serde(default)]
    pub format: StdinFormat,
    /// The columns of JSON with their types; inferred if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    #[serde(skip)]
    #[schemars(skip)]
    input: Mutex<Input>,
}

/// What the lines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdinFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Plain lines, with the columns `text`, `file` (which is `stdin`) and `number`, from 1.
    Lines,
}

/// What planning has read is kept for the source.
#[derive(Debug, Default)]
enum Input {
    #[default]
    Fresh,
    Open(Box<Open>),
    Taken,
}

struct Open {
    reader: Box<dyn Read + Send>,
    lines: LineBuffer,
    mixed: Vec<String>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// How much is read at once, in bytes.
const STEP: usize = 256 << 10;

impl Stdin {
    /// Reads `input` in place of the standard input.
    pub fn of(input: impl Read + Send + 'static) -> Self {
        Self { input: Mutex::new(Input::Open(open(input))), ..Self::default() }
    }

    fn take(&self) -> Result<Box<Open>> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *input, Input::Taken) {
            Input::Fresh => Ok(open(io::stdin())),
            Input::Open(open) => Ok(open),
            Input::Taken => Err(Error::validation("stdin is read already, and can be read only once")),
        }
    }
}

fn open(reader: impl Read + Send + 'static) -> Box<Open> {
    Box::new(Open { reader: Box::new(reader), lines: LineBuffer::default(), mixed: Vec::new() })
}

impl Open {
    fn fill(&mut self) -> io::Result<()> {
        let count = loop {
            match self.reader.read(&mut self.lines.space(STEP)[..STEP]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.lines.filled(count);
        Ok(())
    }

    /// Looks at the first rows, and leaves them for the source.
    fn infer(&mut self) -> io::Result<SchemaRef> {
        let mut inference = Inference::default();
        let mut looked = 0;
        loop {
            // Lines looked at stay in the buffer, so an unfinished one behind them must not grow without end.
            let enough = self.lines.is_read() || (looked > 0 && self.lines.held() >= BYTES_MAX);
            match self.lines.piece() {
                Some(Piece::Lines(text)) if text.len() > looked => {
                    let more = inference.look(&text[looked..]);
                    looked = text.len();
                    if !more || looked >= BYTES_MAX {
                        break;
                    }
                }
                Some(Piece::Overlong(long)) => {
                    self.lines.put_back(long);
                    break;
                }
                _ if enough => break,
                _ => self.fill()?,
            }
        }
        let Inferred { schema, mixed } = inference.finish();
        self.mixed = mixed;
        Ok(schema)
    }
}

impl Connector for Stdin {
    const NAME: &'static str = "stdin";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        match (self.format, &self.schema) {
            (StdinFormat::Json, Some(declared)) => declared.schema().map_err(|p| p.under("schema")),
            (StdinFormat::Lines, Some(_)) => {
                let problem = Problem::new("plain lines have the columns `text`, `file` and `number`").under("schema");
                Err(problem.help("leave `schema` out, or say `format: json`").into())
            }
            (StdinFormat::Lines, None) => Ok(schema()),
            (StdinFormat::Json, None) => {
                let mut open = self.take()?;
                let (open, schema) = context
                    .env
                    .blocking(move || {
                        let schema = open.infer();
                        (open, schema)
                    })
                    .await?;
                *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Input::Open(open);
                schema.map_err(|e| Error::from(e).context("stdin").into())
            }
        }
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Some((split, _)) = context.splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        let open = self.take()?;
        let decoder = match self.format {
            StdinFormat::Json => LineDecoder::json(Columns::new(context.schema, &open.mixed))?,
            StdinFormat::Lines => LineDecoder::lines(context.schema),
        };
        Ok(BoxSource::new(StdinSource { env: context.env, open: Some(open), decoder, split }))
    }
}

struct StdinSource {
    env: Env,
    /// Away while it waits for input.
    open: Option<Box<Open>>,
    decoder: LineDecoder,
    split: Split,
}

impl Source for StdinSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            let lost = || Error::engine("stdin was lost by a read that was given up");
            let mut open = self.open.take().ok_or_else(lost)?;
            if let Some(chunk) = next_chunk(&mut open.lines, &mut self.decoder, &self.split)? {
                self.open = Some(open);
                return Ok(Some(chunk));
            }
            if open.lines.is_done() {
                self.open = Some(open);
                return Ok(None);
            }
            // A pipe may wait for a person.
            let (open, read) = self
                .env
                .blocking(move || {
                    let read = open.fill();
                    (open, read)
                })
                .await?;
            self.open = Some(open);
            read.map_err(|e| Error::from(e).context("stdin"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, faults, open, open_as, read_all, rows};
    use serde_json::json;

    /// Gives a few bytes at a time, as a pipe does.
    struct Trickle(io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(7);
            self.0.read(&mut buffer[..most])
        }
    }

    fn stdin(text: &str) -> Stdin {
        Stdin::of(Trickle(io::Cursor::new(text.as_bytes().to_vec())))
    }

    #[tokio::test]
    async fn what_planning_has_read_is_not_lost() {
        let lines: Vec<_> =
            (0..1_500).map(|i| format!("{{\"a\":{i},\"m\":{}}}", if i % 2 == 0 { "1" } else { "\"x\"" })).collect();
        let read = read_all(&stdin(&lines.join("\n"))).await.unwrap();
        let numbers: Vec<_> = rows(&read).iter().map(|r| r["a"].as_i64().unwrap()).collect();
        assert!(numbers.into_iter().eq(0..1_500));
        assert_eq!(rows(&read)[..2], [json!({"a": 0, "m": "1"}), json!({"a": 1, "m": "x"})]);
    }

    #[tokio::test]
    async fn a_bad_line_is_rejected_with_its_number() {
        let read = read_all(&stdin("{\"a\":1}\n{\n{\"a\":2}")).await.unwrap();
        assert_eq!(rows(&read).len(), 2);
        assert_eq!(faults(&read), ["stdin:2: not JSON: EOF while parsing an object at column 1"]);
    }

    #[tokio::test]
    async fn an_overlong_line_met_by_planning_is_rejected_by_the_source() {
        let text = format!("{{\"a\":1}}\n{}\n{{\"a\":2}}\n", "x".repeat(crate::codec::lines::LINE_MAX + STEP));
        let read = read_all(&Stdin::of(io::Cursor::new(text.into_bytes()))).await.unwrap();
        assert_eq!((rows(&read).len(), faults(&read).len()), (2, 1));
    }

    #[tokio::test]
    async fn plain_lines_are_counted() {
        let read = read_all(&Stdin { format: StdinFormat::Lines, ..stdin("a\nb") }).await.unwrap();
        assert_eq!(rows(&read)[1], json!({"text": "b", "file": "stdin", "number": 2}));
    }

    #[tokio::test]
    async fn it_is_read_once() {
        let stdin = stdin("{\"a\":1}");
        let source = open(&stdin, None).await.unwrap();
        assert_eq!(chunks(source).await.unwrap().len(), 1);
        let again = open_as(&stdin, schema(), None).await;
        assert!(again.err().unwrap().message().contains("only once"));
    }
}
