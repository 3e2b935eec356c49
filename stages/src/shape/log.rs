//! `log`: writes rows to the log and lets them pass.

use std::fmt::Write;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::template::Template;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::data::json::row_value;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::state::{StateVisitor, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::places::{Check, template};

/// The most characters of one line.
const CHARACTERS_MAX: usize = 8_192;

/// Writes rows to the log of the program and lets all of them pass unchanged.
///
/// `log: { every: 1000 }` writes the first row and then each thousandth of a lane, as JSON; `message: "got ${id}"` writes
/// this text instead, with places filled from the row. The command `bourn` has its log on stderr and shows these
/// lines at the usual level; `BOURN_LOG` says otherwise, as in `BOURN_LOG=warn,bourn_log=debug`. In a program they are
/// events of `tracing` with the target `bourn_log` and the field `stage`.
///
/// A line is cut after 8,192 characters, and control characters in it are escaped, so that no value can forge a line.
/// A message whose place has no value in a row says so and does not fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What is written; the whole row as JSON when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Write one row of so many.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub every: u64,
    /// The level at which it is written.
    #[serde(default)]
    pub level: Level,
}

/// The level of a line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// What is going on.
    #[default]
    Info,
    /// For the one who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

fn one() -> u64 {
    1
}

impl Default for Log {
    fn default() -> Self {
        Self { message: None, every: one(), level: Level::default() }
    }
}

impl StageConfig for Log {
    const NAME: &'static str = "log";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        if let Some(message) = &self.message {
            check.text(&["message".into()], message);
        }
        if self.every == 0 {
            check.add(Problem::new("every row is `every: 1`; 0 has no meaning").under("every"));
        }
        check.finish(Ok(inputs[0].clone()))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let message = self.message.as_deref().map(template).transpose()?;
        let (every, level) = (self.every.max(1), self.level);
        Ok(Operator::stage(Lines { id: context.id.clone(), message, every, level, seen: Value::new(0) }))
    }
}

struct Lines {
    id: String,
    message: Option<Template>,
    every: u64,
    level: Level,
    /// How many rows came since the last that was written, itself included.
    seen: Value<u64>,
}

impl Lines {
    fn line(&self, rows: &RecordBatch, row: usize) -> String {
        let text = match &self.message {
            Some(message) => message.render(rows, row),
            None => row_value(rows, row).map(|row| serde_json::Value::Object(row).to_string()),
        };
        shown(&text.unwrap_or_else(|e| e.message().to_owned()))
    }
}

impl Stage for Lines {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut seen = *self.seen.get();
        let is_shown = is_enabled(self.level);
        for row in 0..rows.num_rows() {
            if seen == 0 && is_shown {
                write(self.level, &self.id, &self.line(rows, row));
            }
            seen = (seen + 1) % self.every;
        }
        self.seen.set(seen);
        out.emit(rows.clone());
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("seen", &mut self.seen)
    }
}

/// The text in one line of bounded length.
fn shown(text: &str) -> String {
    let mut line = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == CHARACTERS_MAX {
            line.push('…');
            break;
        }
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Whether anyone reads this level: if not, no line is made.
fn is_enabled(level: Level) -> bool {
    match level {
        Level::Error => tracing::enabled!(target: "bourn_log", tracing::Level::ERROR),
        Level::Warn => tracing::enabled!(target: "bourn_log", tracing::Level::WARN),
        Level::Info => tracing::enabled!(target: "bourn_log", tracing::Level::INFO),
        Level::Debug => tracing::enabled!(target: "bourn_log", tracing::Level::DEBUG),
        Level::Trace => tracing::enabled!(target: "bourn_log", tracing::Level::TRACE),
    }
}

fn write(level: Level, stage: &str, line: &str) {
    match level {
        Level::Error => tracing::error!(target: "bourn_log", stage, "{line}"),
        Level::Warn => tracing::warn!(target: "bourn_log", stage, "{line}"),
        Level::Info => tracing::info!(target: "bourn_log", stage, "{line}"),
        Level::Debug => tracing::debug!(target: "bourn_log", stage, "{line}"),
        Level::Trace => tracing::trace!(target: "bourn_log", stage, "{line}"),
    }
}

#[cfg(test)]
mod tests;
