//! The ends of a job over objects: those of files, on threads that may wait for the network.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, BoxSource, Chunk, Outcome, Receipt, Sink, Source, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use futures::executor::block_on;

use super::files::{Objects, Stop};

/// The source of files, on a thread that may wait for the network.
pub struct ObjectSource {
    env: Env,
    /// Away while it reads; lost for good when a read was dropped.
    source: Option<BoxSource>,
    _stop: Stop,
}

impl ObjectSource {
    /// Over a source of files, with what ends its requests.
    pub fn new(env: Env, source: BoxSource, stop: Stop) -> Self {
        Self { env, source: Some(source), _stop: stop }
    }
}

fn lost() -> Error {
    Error::engine("an earlier request was dropped before its end")
}

impl Source for ObjectSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let mut source = self.source.take().ok_or_else(lost)?;
        let (source, read) = self
            .env
            .blocking(move || {
                let read = block_on(source.read());
                (source, read)
            })
            .await?;
        self.source = Some(source);
        read
    }
}

/// The sink of files, on a thread that may wait for the network.
pub struct ObjectSink {
    env: Env,
    /// Away while it writes; lost for good when a write was dropped.
    sink: Option<BoxSink>,
    objects: Objects,
    stop: Option<Stop>,
}

impl ObjectSink {
    /// Over a sink of files, with its objects and what ends their requests.
    pub fn new(env: Env, sink: BoxSink, objects: Objects, stop: Stop) -> Self {
        Self { env, sink: Some(sink), objects, stop: Some(stop) }
    }

    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut BoxSink) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut sink = self.sink.take().ok_or_else(lost)?;
        let (sink, done) = self
            .env
            .blocking(move || {
                let done = work(&mut sink);
                (sink, done)
            })
            .await?;
        self.sink = Some(sink);
        done
    }
}

impl Sink for ObjectSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let rows = rows.clone();
        self.with(move |sink| block_on(sink.write(&rows))).await
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        self.with(move |sink| block_on(sink.prepare(epoch))).await
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        let receipt = receipt.clone();
        self.with(move |sink| block_on(sink.commit(&receipt))).await
    }

    fn wake_at(&self) -> Option<Duration> {
        self.sink.as_ref().and_then(Sink::wake_at)
    }

    async fn tick(&mut self) -> Result<()> {
        self.with(|sink| block_on(sink.tick())).await
    }

    async fn finish(&mut self) -> Result<()> {
        let objects = self.objects.clone();
        self.with(move |sink| {
            block_on(sink.finish())?;
            objects.complete_all()?;
            objects.forget_placing()
        })
        .await
    }
}

impl Drop for ObjectSink {
    /// Throws away what was uploaded of objects that never will be whole. It takes a few seconds at most, on a thread of its
    /// own, since nobody is there to wait for it.
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.objects.is_unfinished() {
            let objects = self.objects.clone();
            drop(self.env.spawn_blocking(Box::new(move || objects.abort_all())));
        }
    }
}
