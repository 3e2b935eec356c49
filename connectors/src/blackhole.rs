//! Rows into nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BoxSink, Capabilities, Connector, Delivery, Receipt, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes every row and drops it: for measuring what lies before.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blackhole {
    #[serde(skip)]
    #[schemars(skip)]
    rows: Arc<AtomicU64>,
}

impl Blackhole {
    /// How many rows all lanes took so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Connector for Blackhole {
    const NAME: &'static str = "blackhole";

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    async fn sink(&self, _: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(Drop(self.rows.clone())))
    }
}

struct Drop(Arc<AtomicU64>);

impl Sink for Drop {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.0.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
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
    use serde_json::json;

    #[tokio::test]
    async fn it_counts_what_it_drops() {
        let blackhole = Blackhole::default();
        let batch = batch_of(&[json!({"a": 1}), json!({"a": 2})]);
        write_all(&blackhole, &[batch.clone(), batch]).await.unwrap();
        assert_eq!(blackhole.rows(), 4);
    }
}
