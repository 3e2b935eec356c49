//! Standard output: JSON lines or CSV.

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

use crate::codec::csv::{self, Csv};
use crate::codec::json;
use crate::codec::rows::RowEncoder;
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
}

impl Stdout {
    fn encoder(&self, schema: &SchemaRef) -> Result<RowEncoder, Problems> {
        let told = |e: Error| Problem::new(e.message().to_owned());
        match self.format {
            StdoutFormat::Json if self.csv.is_some() => {
                Err(Problem::new("`csv` is for the format CSV").under("csv").help("say `format: csv`").into())
            }
            StdoutFormat::Json => Ok(RowEncoder::Json(json::Encoder::new(schema).map_err(told)?)),
            StdoutFormat::Csv => {
                let dialect = self.csv.clone().unwrap_or_default().for_sink(b',').map_err(|p| p.under("csv"))?;
                Ok(RowEncoder::Csv(csv::Encoder::new(dialect, schema).map_err(told)?))
            }
        }
    }
}

impl Connector for Stdout {
    const NAME: &'static str = "stdout";

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        self.encoder(schema).map(drop)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let mut encoder =
            self.encoder(&context.schema).map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
        let mut buffer = Vec::new();
        encoder.begin(&mut buffer);
        Ok(BoxSink::new(StdoutSink { env: context.env, output: self.output.clone(), encoder, buffer }))
    }
}

struct StdoutSink {
    env: Env,
    output: Output,
    encoder: RowEncoder,
    buffer: Vec<u8>,
}

impl Sink for StdoutSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.encoder.encode(rows, &mut self.buffer)?;
        self.buffer = self.output.write(std::mem::take(&mut self.buffer), &self.env).await?;
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, write_all};
    use bourn_engine::Kind;
    use serde_json::json;
    use std::io::{self, Write};

    #[tokio::test]
    async fn rows_are_lines_of_json() {
        let (output, captured) = Output::captured();
        let batch = batch_of(&[json!({"a": 1, "b": "x"}), json!({"a": null})]);
        write_all(&Stdout { output, ..Stdout::default() }, &[batch]).await.unwrap();
        assert_eq!(captured.text(), "{\"a\":1,\"b\":\"x\"}\n{\"a\":null,\"b\":null}\n");
    }

    #[tokio::test]
    async fn csv_has_its_header_once() {
        let (output, captured) = Output::captured();
        let batch = batch_of(&[json!({"a": 1, "b": "x,y"})]);
        let stdout = Stdout { output, format: StdoutFormat::Csv, ..Stdout::default() };
        write_all(&stdout, &[batch.clone(), batch]).await.unwrap();
        assert_eq!(captured.text(), "a,b\n1,\"x,y\"\n1,\"x,y\"\n");
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_cancels_the_job() {
        let stdout = Stdout { output: Output::to(Closed), ..Stdout::default() };
        let error = write_all(&stdout, &[batch_of(&[json!({"a": 1})])]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Canceled);
    }
}
