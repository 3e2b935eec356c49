//! Standard input: JSON, CSV or plain lines.

use std::fmt;
use std::io::{self, Read};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::codec::csv::{self, Csv, Dialect};
use crate::codec::json::infer::BYTES_MAX;
use crate::codec::json::{Columns, Inference, Inferred};
use crate::codec::lines::{BYTE_ORDER_MARK, LineBuffer, Piece};
use crate::codec::types::Declared;
use crate::file::read_lines::{LineDecoder, next_chunk, schema};
use crate::file::readable;
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
    /// The columns of JSON or CSV with their types; inferred if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// What CSV looks like, where it is not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
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
    /// Values between commas, or what `csv` says (RFC 4180).
    Csv,
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
    /// Columns of JSON that have several types.
    mixed: Vec<String>,
    /// The columns of CSV.
    names: Vec<String>,
}

/// What a look at the first rows came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is no row yet.
    NoRow,
    /// More would be better.
    More,
    /// It is enough.
    Enough,
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

    fn dialect(&self) -> Result<Dialect, Problems> {
        self.csv.clone().unwrap_or_default().dialect(b',').map_err(|p| p.under("csv"))
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
    Box::new(Open {
        input: Some(pipe),
        reading: None,
        lines: LineBuffer::default(),
        mixed: Vec::new(),
        names: Vec::new(),
    })
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

    /// Has `look` look at the whole lines at hand, and at how many of their bytes it saw before, until it has enough; leaves
    /// them for the source.
    async fn look_ahead(&mut self, env: &Env, mut look: impl FnMut(&[u8], usize, bool) -> Result<Look>) -> Result<()> {
        let (mut looked, mut seen) = (0, Look::NoRow);
        loop {
            // Lines looked at stay in the buffer, so an unfinished one behind them must not grow without end.
            let is_read = self.lines.is_read();
            let enough = is_read || (looked > 0 && self.lines.held() >= BYTES_MAX);
            match self.lines.piece() {
                Some(Piece::Lines(text)) if text.len() > looked || (is_read && seen == Look::NoRow) => {
                    seen = look(text, looked, is_read)?;
                    looked = text.len();
                    if seen == Look::Enough || looked >= BYTES_MAX || is_read {
                        return Ok(());
                    }
                }
                Some(Piece::Overlong(long)) => {
                    self.lines.put_back(long);
                    return Ok(());
                }
                _ if enough => return Ok(()),
                _ if seen == Look::NoRow => self.fill(env).await?,
                _ => match select(pin!(self.fill(env)), env.sleep(PAUSE)).await {
                    Either::Left((filled, _)) => filled?,
                    Either::Right(_) => return Ok(()),
                },
            }
        }
    }

    async fn infer_json(&mut self, env: &Env) -> Result<SchemaRef> {
        let mut inference = Inference::default();
        let look =
            |text: &[u8], looked: usize, _| Ok(if inference.look(&text[looked..]) { Look::More } else { Look::Enough });
        self.look_ahead(env, look).await?;
        let Inferred { schema, mixed } = inference.finish();
        self.mixed = mixed;
        Ok(schema)
    }

    async fn infer_csv(&mut self, env: &Env, dialect: &Arc<Dialect>) -> Result<SchemaRef> {
        let mut found = csv::infer::Inference::new(dialect.clone());
        let look = |text: &[u8], _, last: bool| {
            let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            // Its types come from all lines together, so it begins anew each time.
            let mut inference = csv::infer::Inference::new(dialect.clone());
            let more = match inference.look(text, last) {
                // The header may end in a line to come.
                Err(_) if !last && text.len() < BYTES_MAX => return Ok(Look::NoRow),
                other => other.map_err(|e| e.context("stdin"))?,
            };
            let look = if !more {
                Look::Enough
            } else if inference.has_rows() {
                Look::More
            } else {
                Look::NoRow
            };
            found = inference;
            Ok(look)
        };
        self.look_ahead(env, look).await?;
        let (names, schema) = found.finish();
        self.names = names;
        Ok(schema)
    }
}

impl Connector for Stdin {
    const NAME: &'static str = "stdin";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        if self.csv.is_some() && self.format != StdinFormat::Csv {
            return Err(Problem::new("`csv` is for the format CSV").under("csv").help("say `format: csv`").into());
        }
        let declared = self.schema.as_ref().map(Declared::schema).transpose().map_err(|p| p.under("schema"))?;
        match (self.format, declared) {
            (StdinFormat::Lines, Some(_)) => {
                let problem = Problem::new("plain lines have the columns `text`, `file` and `number`").under("schema");
                return Err(problem.help("leave `schema` out, or say `format: json`").into());
            }
            (StdinFormat::Lines, None) => return Ok(schema()),
            (StdinFormat::Csv, Some(declared)) => {
                self.dialect()?;
                readable(Some(&declared))?;
                return Ok(declared);
            }
            (StdinFormat::Json, Some(declared)) => return Ok(declared),
            (_, None) => {}
        }
        let dialect = self.dialect()?;
        let mut open = self.take()?;
        let schema = match self.format {
            StdinFormat::Csv => open.infer_csv(&context.env, &Arc::new(dialect)).await?,
            _ => open.infer_json(&context.env).await?,
        };
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = Input::Open(open);
        Ok(schema)
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Some((split, _)) = context.splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        let open = self.take()?;
        let decoder = match self.format {
            StdinFormat::Json => LineDecoder::json(Columns::new(context.schema, &open.mixed))?,
            StdinFormat::Csv => {
                let dialect = self.dialect().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
                let declared = || context.schema.fields().iter().map(|f| f.name().clone()).collect();
                let names = if self.schema.is_some() { declared() } else { open.names.clone() };
                LineDecoder::Csv(csv::Decoder::new(Arc::new(dialect), context.schema.clone(), &names)?)
            }
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
mod tests;
