//! Standard input: JSON, CSV, plain lines or Arrow, as it is or compressed.

mod arrow;
mod aside;
mod lines;

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use ::arrow::datatypes::SchemaRef;
use bourn_engine::api::{BoxSource, Capabilities, ConnectContext, Connector, Replay, SourceContext};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::compression::{Limits, Packing, Text};
use crate::codec::csv::{self, Csv, Dialect};
use crate::codec::ipc::Stream;
use crate::codec::json::Columns;
use crate::codec::types::Declared;
use crate::file::read_lines::{LineDecoder, schema};
use crate::file::readable;
use crate::generate::Nothing;
use arrow::ArrowSource;
use lines::{LinesSource, Open};

/// Reads rows from the standard input, once, as they come.
///
/// Where no schema of lines is declared, planning looks at the first 1,000 rows or 1 MiB, or at what there is at the end of
/// the input or, once there is a row, at a pause of 100 ms: so a pipe that trickles starts at once. Arrow brings its schema,
/// for which planning waits. What was read can't be read again: after a crash it is gone.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdin {
    /// What comes.
    #[serde(default)]
    pub format: StdinFormat,
    /// How it is compressed; not at all if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Packing>,
    /// How far it may grow when it is decompressed, so that a few bytes do not fill the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decompress: Option<Limits>,
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

/// What comes.
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
    /// Arrow IPC as a stream, which keeps every type: what `stdout` writes as `arrow`, or other programs.
    Arrow,
}

/// What planning has read is kept for the source.
#[derive(Default)]
enum Input {
    /// The standard input.
    #[default]
    Fresh,
    /// What a program gives in place of it.
    Given(Box<dyn Read + Send>),
    Lines(Box<Open>),
    Arrow(Box<Stream>),
    Taken,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

impl Stdin {
    /// Reads `input` in place of the standard input.
    pub fn of(input: impl Read + Send + 'static) -> Self {
        Self { input: Mutex::new(Input::Given(Box::new(input))), ..Self::default() }
    }

    /// The same in this format.
    #[must_use]
    pub fn with_format(self, format: StdinFormat) -> Self {
        Self { format, ..self }
    }

    /// The same, compressed so.
    #[must_use]
    pub fn compressed(self, compression: Option<Packing>) -> Self {
        Self { compression, ..self }
    }

    fn dialect(&self) -> Result<Dialect, Problems> {
        self.csv.clone().unwrap_or_default().dialect(b',').map_err(|p| p.under("csv"))
    }

    fn check(&self) -> Result<(), Problem> {
        if self.csv.is_some() && self.format != StdinFormat::Csv {
            return Err(Problem::new("`csv` is for the format CSV").under("csv").help("say `format: csv`"));
        }
        if self.decompress.is_some() && self.compression.is_none() {
            let problem = Problem::new("`decompress` is for what is compressed").under("decompress");
            return Err(problem.help("say `compression: gzip` or `zstd`"));
        }
        let (message, help) = match self.format {
            StdinFormat::Lines => (
                "plain lines have the columns `text`, `file` and `number`",
                "leave `schema` out, or say `format: json`",
            ),
            StdinFormat::Arrow => ("an Arrow stream brings its own schema", "leave `schema` out"),
            StdinFormat::Json | StdinFormat::Csv => return Ok(()),
        };
        if self.schema.is_some() { Err(Problem::new(message).under("schema").help(help)) } else { Ok(()) }
    }

    fn take(&self) -> Input {
        std::mem::replace(&mut *self.input.lock().unwrap_or_else(PoisonError::into_inner), Input::Taken)
    }

    fn keep(&self, input: Input) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = input;
    }

    fn text(&self, input: Input) -> Result<Text> {
        let pipe: Box<dyn Read + Send> = match input {
            Input::Fresh => Box::new(io::stdin()),
            Input::Given(reader) => reader,
            _ => return Err(Error::validation("stdin is read already, and can be read only once")),
        };
        Ok(Text::of_pipe(pipe, self.compression, self.decompress.unwrap_or_default()))
    }

    fn take_lines(&self) -> Result<Box<Open>> {
        match self.take() {
            Input::Lines(open) => Ok(open),
            other => Ok(Box::new(Open::new(self.text(other)?))),
        }
    }

    async fn take_arrow(&self, env: &Env) -> Result<Box<Stream>> {
        let text = match self.take() {
            Input::Arrow(stream) => return Ok(stream),
            other => self.text(other)?,
        };
        let stream = env.blocking(move || Stream::open(text)).await?;
        stream.map(Box::new).map_err(|e| e.context("stdin"))
    }
}

impl Connector for Stdin {
    const NAME: &'static str = "stdin";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        self.check()?;
        let declared = self.schema.as_ref().map(Declared::schema).transpose().map_err(|p| p.under("schema"))?;
        match (self.format, declared) {
            (StdinFormat::Lines, _) => Ok(schema()),
            (StdinFormat::Arrow, _) => {
                let stream = self.take_arrow(&context.env).await?;
                let schema = stream.schema().clone();
                self.keep(Input::Arrow(stream));
                Ok(schema)
            }
            (StdinFormat::Json, Some(declared)) => Ok(declared),
            (StdinFormat::Json, None) => {
                let mut open = self.take_lines()?;
                let schema = open.infer_json(&context.env).await?;
                self.keep(Input::Lines(open));
                Ok(schema)
            }
            (StdinFormat::Csv, Some(declared)) => {
                self.dialect()?;
                readable(Some(&declared))?;
                Ok(declared)
            }
            (StdinFormat::Csv, None) => {
                let dialect = Arc::new(self.dialect()?);
                let mut open = self.take_lines()?;
                let schema = open.infer_csv(&context.env, &dialect).await?;
                self.keep(Input::Lines(open));
                Ok(schema)
            }
        }
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Some((split, _)) = context.splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        if self.format == StdinFormat::Arrow {
            let stream = self.take_arrow(&context.env).await?;
            return Ok(BoxSource::new(ArrowSource::new(context.env, *stream, split, context.schema)?));
        }
        let open = self.take_lines()?;
        let decoder = match self.format {
            StdinFormat::Json => LineDecoder::json(Columns::new(context.schema, &open.mixed))?,
            StdinFormat::Csv => {
                let dialect = self.dialect().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
                let declared = || context.schema.fields().iter().map(|f| f.name().clone()).collect();
                let names = if self.schema.is_some() { declared() } else { open.names.clone() };
                LineDecoder::Csv(csv::Decoder::new(Arc::new(dialect), context.schema.clone(), &names)?)
            }
            StdinFormat::Lines | StdinFormat::Arrow => LineDecoder::lines(context.schema),
        };
        Ok(BoxSource::new(LinesSource { env: context.env, open, decoder, split }))
    }
}

#[cfg(test)]
mod tests;
