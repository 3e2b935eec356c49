//! Standard output: JSON lines, CSV or Arrow, as it is or compressed.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, Capabilities, ConnectContext, Connector, Delivery, Receipt, Sink, SinkContext, Written,
};
use bourn_engine::data::message::Epoch;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::compression::{Packer, Packing};
use crate::codec::csv::{self, Csv};
use crate::codec::rows::RowEncoder;
use crate::codec::{ipc, json};
use crate::file::without_reserved;
use crate::output::Output;

/// Writes rows to the standard output, each batch as soon as it comes.
///
/// A reader that goes away (`| head`) ends the job as canceled. Columns whose names begin with `_bourn_` are not written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdout {
    /// How rows are written.
    #[serde(default)]
    pub format: StdoutFormat,
    /// How it is compressed; not at all if it is not said. Each batch is whole by itself, so that its reader sees its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Packing>,
    /// What CSV looks like, where it is not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// Where to.
    #[serde(skip)]
    #[schemars(skip)]
    pub output: Output,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StdoutFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Values between commas, or what `csv` says; the names of the columns come first.
    Csv,
    /// Arrow IPC as a stream, which keeps every type: for the `stdin` of another job, or other programs.
    Arrow,
}

impl Stdout {
    fn encoder(&self, schema: &SchemaRef) -> Result<RowEncoder, Problems> {
        let told = |e: Error| Problem::new(e.message().to_owned());
        if self.csv.is_some() && self.format != StdoutFormat::Csv {
            return Err(Problem::new("`csv` is for the format CSV").under("csv").help("say `format: csv`").into());
        }
        match self.format {
            StdoutFormat::Json => Ok(RowEncoder::Json(json::Encoder::new(schema).map_err(told)?)),
            StdoutFormat::Csv => {
                let dialect = self.csv.clone().unwrap_or_default().for_sink(b',').map_err(|p| p.under("csv"))?;
                Ok(RowEncoder::Csv(csv::Encoder::new(dialect, schema).map_err(told)?))
            }
            StdoutFormat::Arrow => {
                ipc::check(schema).map_err(told)?;
                Ok(RowEncoder::Arrow(Box::new(ipc::StreamEncoder::new(schema).map_err(told)?)))
            }
        }
    }
}

impl Connector for Stdout {
    const NAME: &'static str = "stdout";

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        if context.lanes > 1 && self.format != StdoutFormat::Json {
            let lanes = context.lanes;
            let problem = Problem::new(format!("{lanes} lanes can't write what has one beginning"));
            return Err(problem.help("leave `lanes` out, or write JSON").into());
        }
        self.encoder(&without_reserved(schema).0).map(drop)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let (schema, kept) = without_reserved(&context.schema);
        let mut encoder = self.encoder(&schema).map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
        let mut plain = Vec::new();
        encoder.begin(&mut plain);
        Ok(BoxSink::new(StdoutSink {
            env: context.env,
            output: self.output.clone(),
            encoder,
            kept,
            packer: self.compression.map(Packer::new),
            plain,
            buffer: Vec::new(),
            begun: false,
        }))
    }
}

struct StdoutSink {
    env: Env,
    output: Output,
    encoder: RowEncoder,
    /// The columns that are written.
    kept: Vec<usize>,
    packer: Option<Packer>,
    /// What is not in the buffer yet.
    plain: Vec<u8>,
    /// What is written next.
    buffer: Vec<u8>,
    /// Whether something was written.
    begun: bool,
}

impl StdoutSink {
    /// Writes what there is, in members or frames that are whole.
    async fn flush(&mut self) -> Result<()> {
        match &mut self.packer {
            Some(packer) if !self.plain.is_empty() => {
                packer.pack(&self.plain, &mut self.buffer)?;
                packer.end(&mut self.buffer)?;
                self.plain.clear();
            }
            Some(_) => {}
            None => std::mem::swap(&mut self.plain, &mut self.buffer),
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.begun = true;
        self.buffer = self.output.write(std::mem::take(&mut self.buffer), &self.env).await?;
        Ok(())
    }
}

impl Sink for StdoutSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.encoder.encode(&rows.project(&self.kept)?, &mut self.plain)?;
        self.flush().await?;
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        // What stands before the first row: whoever reads may wait for it.
        self.flush().await?;
        Ok(None)
    }

    async fn finish(&mut self) -> Result<()> {
        self.encoder.end(&mut self.plain)?;
        // What holds no text is still to be gzip.
        if let Some(packer) = self.packer.as_mut().filter(|_| !self.begun && self.plain.is_empty()) {
            packer.begin()?;
            packer.end(&mut self.buffer)?;
        }
        self.flush().await
    }
}

#[cfg(test)]
mod tests;
