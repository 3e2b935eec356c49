//! What stands in for the sources and sinks of a spec while a case runs.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_connectors::codec::json::Encoder;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, Chunk, ConnectContext, Connector, Delivery, Receipt, Rejected, Replay, Sink,
    SinkContext, Source, SourceContext, Written,
};
use bourn_engine::data::message::Epoch;
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::Problems;
use bourn_engine::spec::case::Fail;
use bourn_engine::{Error, Kind, Result};
use futures::StreamExt;
use futures::channel::mpsc::{Receiver, Sender, channel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rows that a source gives at once, and those among them that do not fit its columns.
pub type Given = (RecordBatch, Vec<Rejected>);

/// A source that gives what a case says, when it says so. It ends when its sender is dropped.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Feed {
    #[serde(skip, default = "nothing")]
    #[schemars(skip)]
    schema: SchemaRef,
    #[serde(skip)]
    #[schemars(skip)]
    given: Mutex<Option<Receiver<Given>>>,
}

fn nothing() -> SchemaRef {
    Arc::new(Schema::empty())
}

impl Feed {
    /// A source with these columns, of at most so many batches.
    pub fn new(schema: SchemaRef, batches: usize) -> (Self, Sender<Given>) {
        let (send, given) = channel(batches);
        (Self { schema, given: Mutex::new(Some(given)) }, send)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

impl Connector for Feed {
    const NAME: &'static str = "given";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(self.schema.clone())
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        // The one split goes to one lane; the others have nothing to read.
        let split = context.splits.into_iter().next().map(|(split, _)| split);
        let given = split.as_ref().and_then(|_| lock(&self.given).take());
        Ok(BoxSource::new(Reading { split: split.unwrap_or_else(|| Split::new("given")), given, count: 0 }))
    }
}

struct Reading {
    split: Split,
    given: Option<Receiver<Given>>,
    count: u64,
}

impl Source for Reading {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(given) = &mut self.given else { return Ok(None) };
        let Some((rows, rejected)) = given.next().await else { return Ok(None) };
        self.count += 1;
        Ok(Some(Chunk::new(rows, self.split.clone(), Position::of(&self.count)?).with_rejected(rejected)))
    }
}

/// A sink that keeps rows, and fails before that as often as a case says. A clone is the same one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    #[serde(skip)]
    #[schemars(skip)]
    rows: Arc<Mutex<Vec<Value>>>,
    #[serde(skip)]
    #[schemars(skip)]
    fails: Arc<Mutex<VecDeque<(String, bool)>>>,
}

impl Taken {
    /// One whose first writes fail.
    pub fn failing(fail: Option<&Fail>) -> Self {
        let taken = Self::default();
        if let Some(fail) = fail {
            let reason = fail.reason.clone().unwrap_or_else(|| "the case lets this sink fail".to_owned());
            lock(&taken.fails).extend((0..fail.times).map(|_| (reason.clone(), fail.permanent)));
        }
        taken
    }

    /// The rows so far, as JSON lines would hold them.
    pub fn rows(&self) -> Vec<Value> {
        lock(&self.rows).clone()
    }
}

impl Connector for Taken {
    const NAME: &'static str = "taken";

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(Taking { taken: self.clone(), encoder: Encoder::new(&context.schema)? }))
    }
}

struct Taking {
    taken: Taken,
    encoder: Encoder,
}

impl Sink for Taking {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        match lock(&self.taken.fails).pop_front() {
            Some((reason, true)) => return Err(Error::validation(reason)),
            Some((reason, false)) => return Err(Error::new(Kind::Io, reason).transient()),
            None => {}
        }
        let mut lines = Vec::new();
        self.encoder.encode(rows, &mut lines)?;
        let values = serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<Vec<Value>, _>>()?;
        lock(&self.taken.rows).extend(values);
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
