//! A source: the numbers from `from` down to 1, in chunks.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts down to 1, so that one can see a pipeline move.
///
/// In a spec: `countdown: { from: 10 }`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Countdown {
    /// Where to begin.
    pub from: u32,
}

impl Connector for Countdown {
    const NAME: &'static str = "countdown";

    // It can begin behind any position again, and it ends: the planner and the conformance suite go by this.
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])))
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        // There is one split, named after the connector, since `splits` is not implemented here.
        let (split, position) = context.splits.into_iter().next().expect("a source has at least one split");
        let next = position.map_or(Ok(self.from), |position| position.read())?;
        Ok(BoxSource::new(Counting { next, split, schema: context.schema }))
    }
}

struct Counting {
    next: u32,
    split: Split,
    schema: SchemaRef,
}

impl Source for Counting {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.next == 0 {
            return Ok(None);
        }
        let last = self.next.saturating_sub(1_000);
        let numbers = Int64Array::from_iter_values((last + 1..=self.next).rev().map(i64::from));
        self.next = last;
        let records = RecordBatch::try_new(self.schema.clone(), vec![Arc::new(numbers)])?;
        // The position says where to go on behind these rows.
        Ok(Some(Chunk::new(records, self.split.clone(), Position::of(&last)?)))
    }
}
