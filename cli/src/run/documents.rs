//! The documents of runs: written to stdout as they come, or kept for one that asks.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, StringArray};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Capabilities, Connector, Delivery, Receipt, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::journal::RunState;
use bourn_engine::workflow::record::UNPAID_FOR;
use bourn_engine::workflow::result::ResultDocument;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::targets::Measured;
use super::writer::Writer;
use crate::monitoring::Eyes;

/// How many failed runs are told one by one.
const TOLD_MAX: usize = 10;

/// A sink for what the node `@result` gives. A clone is the same one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Documents {
    #[serde(skip)]
    #[schemars(skip)]
    keep: bool,
    #[serde(skip)]
    #[schemars(skip)]
    seen: Arc<Mutex<Seen>>,
    #[serde(skip)]
    #[schemars(skip)]
    eyes: Eyes,
}

/// What went by.
#[derive(Debug, Default)]
pub struct Seen {
    /// Runs that ended.
    pub runs: u64,
    /// Runs that did not complete.
    pub failed: u64,
    /// Runs that wait for a time or a signal.
    pub waiting: u64,
    /// Runs that somebody has paused, or that have spent what they may.
    pub paused: u64,
    /// Those that have, whatever became of them.
    unpaid: u64,
    /// Runs in which a step gave its default.
    pub degraded: u64,
    /// Runs among those whose input was no good.
    pub refused: u64,
    /// The first of those that failed, a line for each.
    pub told: Vec<String>,
    /// The last document, when it is kept.
    pub last: Option<String>,
    /// What was measured of runs that ended, when somebody asks.
    pub measured: Option<Measured>,
}

impl Seen {
    /// Runs that have not ended.
    pub fn open(&self) -> u64 {
        self.waiting + self.paused
    }

    /// Runs that are paused since they have spent what they may. What has gone on since is none.
    pub fn unpaid(&self) -> u64 {
        self.unpaid.min(self.paused)
    }
}

impl Documents {
    /// Writes each document as a line on stdout.
    pub fn lines() -> Self {
        Self::default()
    }

    /// Keeps the last one.
    pub fn kept() -> Self {
        Self { keep: true, ..Self::default() }
    }

    /// Measures runs too.
    #[must_use]
    pub fn measuring(self, wanted: bool) -> Self {
        self.seen().measured = wanted.then(Measured::default);
        self
    }

    /// Has runs seen by their documents, when nobody sees them elsewhere.
    #[must_use]
    pub fn seen_by(self, eyes: Eyes) -> Self {
        Self { eyes, ..self }
    }

    /// What went by so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector for Documents {
    const NAME: &'static str = "documents";

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    async fn sink(&self, _: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(DocumentsSink { documents: self.clone(), writer: None }))
    }
}

struct DocumentsSink {
    documents: Documents,
    writer: Option<Writer>,
}

fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let column = rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
    column.ok_or_else(|| Error::engine(format!("the results have no column `{name}`")))
}

impl Sink for DocumentsSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let (documents, states, before) = (texts(rows, "document")?, texts(rows, "status")?, texts(rows, "before")?);
        let mut lines = Vec::new();
        for row in 0..rows.num_rows() {
            let document = documents.value(row);
            let mut seen = self.documents.seen();
            seen.runs += 1;
            // One that has come back counts as it stands now.
            match before.is_valid(row).then(|| RunState::of(before.value(row))).flatten() {
                None => {}
                Some(RunState::Paused) => (seen.runs, seen.paused) = (seen.runs - 1, seen.paused.saturating_sub(1)),
                Some(_) => (seen.runs, seen.waiting) = (seen.runs - 1, seen.waiting.saturating_sub(1)),
            }
            // Most documents do not have the word, and need not be read for it.
            if document.contains("\"degraded\":[") {
                let read: ResultDocument = serde_json::from_str(document)?;
                seen.degraded += u64::from(!read.degraded.is_empty());
            }
            let state = states.value(row);
            let unknown = || Error::engine(format!("no run stands as `{state}`"));
            let state = RunState::of(state).ok_or_else(unknown)?;
            if let Some(measured) = seen.measured.as_mut().filter(|_| state.has_ended()) {
                measured.add(&serde_json::from_str(document)?, state == RunState::Completed);
            }
            self.documents.eyes.document(document, state)?;
            seen.waiting += u64::from(state == RunState::Waiting);
            seen.paused += u64::from(state == RunState::Paused);
            seen.unpaid += u64::from(state == RunState::Paused && document.contains(UNPAID_FOR));
            if state.has_ended() && state != RunState::Completed {
                let (instance, line) = failure(document)?;
                seen.failed += 1;
                seen.refused += u64::from(instance == "/input");
                if seen.told.len() < TOLD_MAX {
                    seen.told.push(line);
                }
            }
            if self.documents.keep {
                seen.last = Some(document.to_owned());
            } else {
                lines.extend_from_slice(document.as_bytes());
                lines.push(b'\n');
            }
        }
        if !lines.is_empty() {
            self.writer()?.write(lines).await?;
        }
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        if let Some(writer) = &mut self.writer {
            writer.flush().await?;
        }
        Ok(None)
    }
}

impl DocumentsSink {
    /// Started by the first lines, so that planning starts no thread.
    fn writer(&mut self) -> Result<&mut Writer> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::start(io::stdout())?,
        };
        Ok(self.writer.insert(writer))
    }
}

/// Where a run failed, and a line that tells it: `0198f…: /steps/fix: the model answered 400`.
fn failure(document: &str) -> Result<(String, String)> {
    let document: ResultDocument = serde_json::from_str(document)?;
    let Some(error) = document.error_analysis else {
        return Ok((String::new(), format!("{}: canceled", document.run_id)));
    };
    let line = format!("{}: {}: {}", document.run_id, error.instance, error.detail);
    Ok((error.instance, line))
}
