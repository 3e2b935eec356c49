//! A source of letters: their rows as batches, each with the place that the letter tells.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows that came from one place.
#[derive(Debug)]
pub struct Part {
    /// The rows, in the order of the ids; a text may have become several.
    pub rows: RecordBatch,
    /// The letters.
    pub ids: Vec<String>,
    /// Where they came from.
    pub split: Option<String>,
    /// Where in it.
    pub position: Option<String>,
}

/// The ids of letters whose rows were given to the job. A clone is the same list.
#[derive(Clone, Debug, Default)]
pub struct Given(Arc<Mutex<Vec<String>>>);

impl Given {
    /// All so far. When the job has ended well, every row of them is committed.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0))
    }
}

/// A source that gives rows and notes their letters.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Feed {
    #[serde(skip, default = "nothing")]
    #[schemars(skip)]
    schema: SchemaRef,
    #[serde(skip)]
    #[schemars(skip)]
    parts: Mutex<VecDeque<Part>>,
    #[serde(skip)]
    #[schemars(skip)]
    given: Given,
}

fn nothing() -> SchemaRef {
    Arc::new(Schema::empty())
}

impl Feed {
    /// A source of these rows, which notes in `given` those that it has given.
    pub fn new(schema: SchemaRef, parts: Vec<Part>, given: Given) -> Self {
        Self { schema, parts: Mutex::new(parts.into()), given }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

impl Connector for Feed {
    const NAME: &'static str = "letters";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(self.schema.clone())
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        // The one split goes to one lane; the others have nothing to read.
        let parts = if context.splits.is_empty() { VecDeque::new() } else { std::mem::take(&mut *lock(&self.parts)) };
        Ok(BoxSource::new(Reading { parts, given: self.given.clone() }))
    }
}

struct Reading {
    parts: VecDeque<Part>,
    given: Given,
}

impl Source for Reading {
    /// Nothing is waited for, so that a part that is noted is given, and reaches the sinks unless the job fails.
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(Part { rows, ids, split, position }) = self.parts.pop_front() else { return Ok(None) };
        lock(&self.given.0).extend(ids);
        let (split, position) = (split.unwrap_or_default(), position.unwrap_or_else(|| "null".to_owned()));
        Ok(Some(Chunk::new(rows, Split::new(split), Position::shown(position))))
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
