//! Rows for people: an aligned table, or JSON lines.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bourn_engine::Result;
use bourn_engine::api::{
    BoxSink, Capabilities, ConnectContext, Connector, Delivery, Receipt, Sink, SinkContext, Written,
};
use bourn_engine::data::message::Epoch;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::json::Encoder;
use crate::file::without_reserved;
use crate::output::Output;

/// Prints rows for people to read.
///
/// Columns whose names begin with `_bourn_` are not shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// How rows are shown.
    #[serde(default)]
    pub format: ConsoleFormat,
    /// How many rows are shown; all if it is not said. The others are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where to.
    #[serde(skip)]
    #[schemars(skip)]
    pub output: Output,
    #[serde(skip)]
    #[schemars(skip)]
    table: Arc<Mutex<Table>>,
}

/// How rows are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleFormat {
    /// Columns below each other.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

impl Console {
    /// Prints to `output`.
    pub fn to(output: Output) -> Self {
        Self { output, ..Self::default() }
    }
}

/// What the lanes of a console share.
#[derive(Debug, Default)]
struct Table {
    widths: Vec<usize>,
    shown: usize,
    hidden: u64,
    lanes: usize,
}

impl Connector for Console {
    const NAME: &'static str = "console";

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        Encoder::new(schema).map(drop).map_err(|e| Problem::new(e.message().to_owned()).into())
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let (_, indices) = without_reserved(&context.schema);
        let encoder = Encoder::new(&context.schema)?;
        self.table.lock().unwrap_or_else(PoisonError::into_inner).lanes += 1;
        Ok(BoxSink::new(ConsoleSink { env: context.env, console: self.clone(), encoder, indices }))
    }
}

struct ConsoleSink {
    env: Env,
    console: Console,
    encoder: Encoder,
    indices: Vec<usize>,
}

impl ConsoleSink {
    /// The text of those rows that are still to be shown.
    fn show(&mut self, rows: &RecordBatch) -> Result<Vec<u8>> {
        let mut table = self.console.table.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.console.limit.map_or(usize::MAX, |l| l.saturating_sub(table.shown)).min(rows.num_rows());
        table.shown += count;
        table.hidden += (rows.num_rows() - count) as u64;
        let rows = rows.slice(0, count);
        let mut text = Vec::new();
        match self.console.format {
            _ if count == 0 => {}
            ConsoleFormat::Json => self.encoder.encode(&rows, &mut text)?,
            ConsoleFormat::Table => text = lay_out(&rows.project(&self.indices)?, &mut table.widths)?.into_bytes(),
        }
        Ok(text)
    }
}

impl Sink for ConsoleSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let text = self.show(rows)?;
        if !text.is_empty() {
            self.console.output.write(text, &self.env).await?;
        }
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }

    async fn finish(&mut self) -> Result<()> {
        let hidden = {
            let mut table = self.console.table.lock().unwrap_or_else(PoisonError::into_inner);
            table.lanes -= 1;
            if table.lanes == 0 { std::mem::take(&mut table.hidden) } else { 0 }
        };
        // Between lines of JSON there is no place for a remark.
        if hidden > 0 && self.console.format == ConsoleFormat::Table {
            let text = format!("… and {hidden} more {}\n", if hidden == 1 { "row" } else { "rows" });
            self.console.output.write(text.into_bytes(), &self.env).await?;
        }
        Ok(())
    }
}

/// The longest cell that is shown whole, in characters.
const CELL_MAX: usize = 60;

/// Lines of aligned cells, with a line of names before the first. Columns only grow wider, batch by batch.
fn lay_out(rows: &RecordBatch, widths: &mut Vec<usize>) -> Result<String> {
    let schema = rows.schema();
    let options = FormatOptions::new().with_null("null");
    let mut columns = Vec::with_capacity(rows.num_columns());
    for column in rows.columns() {
        let cells = ArrayFormatter::try_new(column, &options)?;
        let cells: Result<Vec<_>, _> = (0..rows.num_rows()).map(|i| cells.value(i).try_to_string()).collect();
        columns.push(cells?.iter().map(|c| cell(c)).collect::<Vec<_>>());
    }
    let names: Vec<_> = schema.fields().iter().map(|f| cell(f.name())).collect();
    let first = widths.is_empty();
    widths.resize(columns.len(), 0);
    for ((width, name), cells) in widths.iter_mut().zip(&names).zip(&columns) {
        *width = cells.iter().chain([name]).map(|c| c.chars().count()).fold(*width, usize::max);
    }
    let right: Vec<_> = schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
    let mut text = String::new();
    if first {
        line(&mut text, names.iter(), widths, &right);
    }
    for row in 0..rows.num_rows() {
        line(&mut text, columns.iter().map(|c| &c[row]), widths, &right);
    }
    Ok(text)
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = &'a String>, widths: &[usize], right: &[bool]) {
    let begin = text.len();
    for ((cell, width), right) in cells.zip(widths).zip(right) {
        let written = if *right { write!(text, "{cell:>width$}  ") } else { write!(text, "{cell:<width$}  ") };
        written.expect("a String takes whatever is written");
    }
    text.truncate(begin + text[begin..].trim_end().len());
    text.push('\n');
}

/// One line without control characters, which would move the terminal, and not too long.
fn cell(value: &str) -> String {
    let mut cell = String::new();
    for (i, c) in value.chars().enumerate() {
        match c {
            _ if i == CELL_MAX => {
                cell.push('…');
                break;
            }
            c if c.is_control() => cell.extend(c.escape_default()),
            c => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, write_all};
    use serde_json::json;

    #[tokio::test]
    async fn rows_stand_below_each_other_up_to_the_limit() {
        let (output, captured) = Output::captured();
        let console = Console { limit: Some(3), output, ..Console::default() };
        let first = batch_of(&[json!({"name": "é", "n": 5, "_bourn_x": 1}), json!({"name": "a\tb\u{1b}", "n": null})]);
        let second =
            batch_of(&[json!({"name": "x".repeat(70), "n": 12345, "_bourn_x": 1}), json!({"name": "y", "n": 1})]);
        write_all(&console, &[first, second]).await.unwrap();
        let long = "x".repeat(60);
        let expected =
            format!("name           n\né              5\na\\tb\\u{{1b}}  null\n{long}…  12345\n… and 1 more row\n");
        assert_eq!(captured.text(), expected);
    }

    #[tokio::test]
    async fn json_has_nothing_but_json() {
        let (output, captured) = Output::captured();
        let console = Console { format: ConsoleFormat::Json, limit: Some(1), output, ..Console::default() };
        write_all(&console, &[batch_of(&[json!({"a": 1}), json!({"a": 2})])]).await.unwrap();
        assert_eq!(captured.text(), "{\"a\":1}\n");
    }
}
