//! Standard input: JSON or plain lines.

use std::fmt;
use std::io::{self, Read};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::Split;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
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
/// Where no schema is declared, planning looks at the first 1,000 rows or 1 MiB, or at what there is at the end of the
/// input or, once there is a row, at a pause of 100 ms: so a pipe that trickles starts at once. What was read can't be
/// read again: after a crash it is gone.
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

/// The input and what was read of it.
struct Open {
    /// Away while it is being read.
    input: Option<Pipe>,
    reading: Option<Reading>,
    lines: LineBuffer,
    mixed: Vec<String>,
}

/// A read under way: the input comes back with what it gave.
type Reading = BoxFuture<'static, Result<(Pipe, io::Result<usize>)>>;

/// The input with a buffer of its own, since a read may outlast the wait for it.
struct Pipe {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// How much is read at once, in bytes.
const STEP: usize = 256 << 10;
/// How long planning waits for a further row once there is one.
const PAUSE: Duration = Duration::from_millis(100);

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
    let pipe = Pipe { reader: Box::new(reader), buffer: vec![0; STEP] };
    Box::new(Open { input: Some(pipe), reading: None, lines: LineBuffer::default(), mixed: Vec::new() })
}

impl Pipe {
    fn read(&mut self) -> io::Result<usize> {
        loop {
            match self.reader.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Open {
    /// Reads on. A pipe may wait for a person, so it is read on a thread that may wait.
    ///
    /// Cancel safety: dropped before its end, it goes on with the same read when it is called again.
    async fn fill(&mut self, env: &Env) -> Result<()> {
        if let Some(mut pipe) = self.input.take() {
            let env = env.clone();
            let read = async move {
                let read = env.blocking(move || (pipe.read(), pipe)).await;
                read.map(|(count, pipe)| (pipe, count))
            };
            self.reading = Some(read.boxed());
        }
        let lost = || Error::engine("stdin was lost by a read that failed");
        let read = self.reading.as_mut().ok_or_else(lost)?.await;
        self.reading = None;
        let (pipe, count) = read?;
        let count = count.map_err(|e| Error::from(e).context("stdin"))?;
        self.lines.space(STEP)[..count].copy_from_slice(&pipe.buffer[..count]);
        self.lines.filled(count);
        self.input = Some(pipe);
        Ok(())
    }

    /// Looks at the first rows, and leaves them for the source.
    async fn infer(&mut self, env: &Env) -> Result<SchemaRef> {
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
                _ if looked == 0 => self.fill(env).await?,
                _ => match select(pin!(self.fill(env)), env.sleep(PAUSE)).await {
                    Either::Left((filled, _)) => filled?,
                    Either::Right(_) => break,
                },
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
                let schema = open.infer(&context.env).await?;
                *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Input::Open(open);
                Ok(schema)
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
        Ok(BoxSource::new(StdinSource { env: context.env, open, decoder, split }))
    }
}

struct StdinSource {
    env: Env,
    open: Box<Open>,
    decoder: LineDecoder,
    split: Split,
}

impl Source for StdinSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(chunk) = next_chunk(&mut self.open.lines, &mut self.decoder, &self.split)? {
                return Ok(Some(chunk));
            }
            if self.open.lines.is_done() {
                return Ok(None);
            }
            self.open.fill(&self.env).await?;
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

    /// Gives a row, and then nothing until it is let go.
    struct Stalls(Option<std::sync::mpsc::Receiver<&'static str>>);

    impl Read for Stalls {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let text = self.0.as_ref().and_then(|r| r.recv().ok()).unwrap_or_default();
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    #[tokio::test]
    async fn planning_does_not_wait_for_a_pipe_that_pauses() {
        let (send, receive) = std::sync::mpsc::channel();
        send.send("{\"a\":1}\n").unwrap();
        let mut source = open(&Stdin::of(Stalls(Some(receive))), None).await.unwrap();
        assert_eq!(rows(&[source.read().await.unwrap().unwrap()]), [json!({"a": 1})]);
        send.send("{\"a\":2}\n").unwrap();
        drop(send);
        assert_eq!(rows(&chunks(source).await.unwrap()), [json!({"a": 2})]);
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
