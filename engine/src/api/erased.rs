//! Private object-safe twins of the public traits with `async fn`.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, ready};

use super::cache::Turn;
use super::call::{Accounts, Backoff, Call, CallContext, Next, Reply, Tried, Usage};
use super::connector::{
    Capabilities, ConnectContext, Connector, Known, Side, SinkContext, SourceContext, Unread, UsedFiles,
};
use super::limits::Deadlines;
use super::memo::Key;
use super::registry::BoxConnector;
use super::sink::{BoxSink, Outcome, Receipt, Sink, Written};
use super::source::{BoxSource, Chunk, Source};
use super::stage_config::{BuildContext, Cardinality, Distribution, Inputs, Operator, SILENT, StageConfig, WaitFor};
use crate::data::message::Epoch;
use crate::data::position::Split;
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Result};
use crate::time::Timestamp;

pub trait ErasedCall: Send + Sync {
    fn call<'a>(&'a self, rows: RecordBatch, context: &'a CallContext) -> BoxFuture<'a, Result<Reply>>;
    fn known<'a>(
        &'a self,
        rows: &'a RecordBatch,
        context: &'a CallContext,
    ) -> BoxFuture<'a, Result<Option<RecordBatch>>>;
    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>>;
    fn turn<'a>(&'a self, rows: &'a RecordBatch) -> Option<BoxFuture<'a, Option<Turn>>>;
    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>>;
    fn postponed(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>>;
    fn accounts(&self) -> Accounts;
    fn estimate(&self, rows: &RecordBatch) -> Usage;
    fn again<'a>(
        &'a self,
        rows: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Next>>>;
    fn tried(&self, rows: &RecordBatch) -> Result<Option<Tried>>;
    fn payer(&self, rows: &RecordBatch) -> Option<u64>;
    fn deadlines(&self) -> Option<Deadlines>;
    fn scheduled(&self, rows: &RecordBatch, context: &CallContext) -> Result<Timestamp>;
    fn backs_off<'a>(
        &'a self,
        rows: &'a RecordBatch,
        backoff: Backoff<'a>,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>>;
    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>>;
    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch>;
}

impl<C: Call> ErasedCall for C {
    fn call<'a>(&'a self, rows: RecordBatch, context: &'a CallContext) -> BoxFuture<'a, Result<Reply>> {
        Call::call(self, rows, context).boxed()
    }
    fn known<'a>(
        &'a self,
        rows: &'a RecordBatch,
        context: &'a CallContext,
    ) -> BoxFuture<'a, Result<Option<RecordBatch>>> {
        Call::known(self, rows, context).boxed()
    }
    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>> {
        Call::key(self, rows)
    }
    fn turn<'a>(&'a self, rows: &'a RecordBatch) -> Option<BoxFuture<'a, Option<Turn>>> {
        Call::turn(self, rows)
    }
    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        Call::unasked(self, rows)
    }
    fn postponed(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        Call::postponed(self, rows)
    }
    fn accounts(&self) -> Accounts {
        Call::accounts(self)
    }
    fn estimate(&self, rows: &RecordBatch) -> Usage {
        Call::estimate(self, rows)
    }
    fn again<'a>(
        &'a self,
        rows: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Next>>> {
        Call::again(self, rows, answer, context)
    }
    fn tried(&self, rows: &RecordBatch) -> Result<Option<Tried>> {
        Call::tried(self, rows)
    }
    fn payer(&self, rows: &RecordBatch) -> Option<u64> {
        Call::payer(self, rows)
    }
    fn deadlines(&self) -> Option<Deadlines> {
        Call::deadlines(self)
    }
    fn scheduled(&self, rows: &RecordBatch, context: &CallContext) -> Result<Timestamp> {
        Call::scheduled(self, rows, context)
    }
    fn backs_off<'a>(
        &'a self,
        rows: &'a RecordBatch,
        backoff: Backoff<'a>,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>> {
        Call::backs_off(self, rows, backoff, context)
    }
    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        Call::unwanted(self, rows)
    }
    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        Call::failed(self, rows, error, context)
    }
}

pub trait ErasedSource: Send {
    fn read(&mut self) -> BoxFuture<'_, Result<Option<Chunk>>>;
}

impl<S: Source> ErasedSource for S {
    fn read(&mut self) -> BoxFuture<'_, Result<Option<Chunk>>> {
        Source::read(self).boxed()
    }
}

pub trait ErasedSink: Send {
    fn write<'a>(&'a mut self, rows: &'a RecordBatch) -> BoxFuture<'a, Result<Written>>;
    fn prepare(&mut self, epoch: Epoch) -> BoxFuture<'_, Result<Option<Receipt>>>;
    fn commit<'a>(&'a mut self, receipt: &'a Receipt) -> BoxFuture<'a, Result<Outcome>>;
    fn wake_at(&self) -> Option<Duration>;
    fn tick(&mut self) -> BoxFuture<'_, Result<()>>;
    fn finish(&mut self) -> BoxFuture<'_, Result<()>>;
}

impl<S: Sink> ErasedSink for S {
    fn write<'a>(&'a mut self, rows: &'a RecordBatch) -> BoxFuture<'a, Result<Written>> {
        Sink::write(self, rows).boxed()
    }
    fn prepare(&mut self, epoch: Epoch) -> BoxFuture<'_, Result<Option<Receipt>>> {
        Sink::prepare(self, epoch).boxed()
    }
    fn commit<'a>(&'a mut self, receipt: &'a Receipt) -> BoxFuture<'a, Result<Outcome>> {
        Sink::commit(self, receipt).boxed()
    }
    fn wake_at(&self) -> Option<Duration> {
        Sink::wake_at(self)
    }
    fn tick(&mut self) -> BoxFuture<'_, Result<()>> {
        Sink::tick(self).boxed()
    }
    fn finish(&mut self) -> BoxFuture<'_, Result<()>> {
        Sink::finish(self).boxed()
    }
}

/// Resolves when a job has ended, with the error that ended it.
pub type JobEnd = Shared<BoxFuture<'static, Arc<Option<Error>>>>;

/// The defaults are for the ends of pipelines inside a program (`embed`), which have one side each.
pub trait ErasedConnector: Send + Sync {
    fn kind(&self) -> &'static str;
    fn capabilities(&self) -> Capabilities;
    fn schema<'a>(&'a self, _: &'a ConnectContext) -> BoxFuture<'a, Result<SchemaRef, Problems>> {
        ready(Err(Error::unsupported(format!("`{}` can't be a source", self.kind())).into())).boxed()
    }
    fn known<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Known, Problems>> {
        self.schema(context).map(|schema| schema.map(Known::Schema)).boxed()
    }
    fn reach<'a>(&'a self, _: Side<'a>, _: &'a ConnectContext) -> BoxFuture<'a, Result<(), Problems>> {
        ready(Ok(())).boxed()
    }
    fn splits<'a>(&'a self, _: &'a ConnectContext) -> BoxFuture<'a, Result<Vec<Split>>> {
        ready(Ok(vec![Split::new(self.kind())])).boxed()
    }
    fn source(&self, _: SourceContext) -> BoxFuture<'_, Result<BoxSource>> {
        ready(Err(Error::unsupported(format!("`{}` can't be a source", self.kind())))).boxed()
    }
    fn check_sink<'a>(&'a self, _: &'a SchemaRef, _: &'a ConnectContext) -> BoxFuture<'a, Result<(), Problems>> {
        ready(Ok(())).boxed()
    }
    fn files(&self, _: &ConnectContext) -> UsedFiles {
        UsedFiles::default()
    }
    fn sink(&self, _: SinkContext) -> BoxFuture<'_, Result<BoxSink>> {
        ready(Err(Error::unsupported(format!("`{}` can't be a sink", self.kind())))).boxed()
    }
    fn reads_back(&self) -> bool {
        false
    }
    fn read_back<'a>(
        &'a self,
        _: &'a SchemaRef,
        _: &'a ConnectContext,
    ) -> BoxFuture<'a, Result<Vec<BoxConnector>, Problems>> {
        ready(Err(Error::unsupported(format!("what `{}` has written can't be read back", self.kind())).into())).boxed()
    }
    fn beside(&self, _: &str, _: &ConnectContext) -> Option<BoxConnector> {
        None
    }
    fn reread(&self, _: &[Unread<'_>], _: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        None
    }
    fn describe(&self) -> serde_json::Value;
    /// A job with this source or sink is being started; called once for each start, before anything is opened.
    fn started(&self, _: JobEnd) {}
}

impl<C: Connector> ErasedConnector for C {
    fn kind(&self) -> &'static str {
        C::NAME
    }
    fn capabilities(&self) -> Capabilities {
        Connector::capabilities(self)
    }
    fn schema<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<SchemaRef, Problems>> {
        Connector::schema(self, context).boxed()
    }
    fn known<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Known, Problems>> {
        Connector::known(self, context).boxed()
    }
    fn reach<'a>(&'a self, side: Side<'a>, context: &'a ConnectContext) -> BoxFuture<'a, Result<(), Problems>> {
        Connector::reach(self, side, context).boxed()
    }
    fn splits<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Vec<Split>>> {
        Connector::splits(self, context).boxed()
    }
    fn source(&self, context: SourceContext) -> BoxFuture<'_, Result<BoxSource>> {
        Connector::source(self, context).boxed()
    }
    fn check_sink<'a>(
        &'a self,
        schema: &'a SchemaRef,
        context: &'a ConnectContext,
    ) -> BoxFuture<'a, Result<(), Problems>> {
        Connector::check_sink(self, schema, context).boxed()
    }
    fn files(&self, context: &ConnectContext) -> UsedFiles {
        Connector::files(self, context)
    }
    fn sink(&self, context: SinkContext) -> BoxFuture<'_, Result<BoxSink>> {
        Connector::sink(self, context).boxed()
    }
    fn reads_back(&self) -> bool {
        C::READS_BACK
    }
    fn read_back<'a>(
        &'a self,
        rows: &'a SchemaRef,
        context: &'a ConnectContext,
    ) -> BoxFuture<'a, Result<Vec<BoxConnector>, Problems>> {
        Connector::read_back(self, rows, context)
            .map(|read| Ok(read?.into_iter().map(BoxConnector::new).collect()))
            .boxed()
    }
    fn beside(&self, mark: &str, context: &ConnectContext) -> Option<BoxConnector> {
        Connector::beside(self, mark, context).map(BoxConnector::new)
    }
    fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        Connector::reread(self, texts, schema)
    }
    fn describe(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The defaults are for closures of a program (`embed`).
pub trait ErasedStage: Send + Sync {
    fn kind(&self) -> &'static str;
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems>;
    fn port_schema(&self, _: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.schema(inputs)
    }
    fn distribution(&self) -> Distribution {
        Distribution::Any
    }
    fn ports(&self) -> Vec<String> {
        Vec::new()
    }
    fn inputs(&self) -> Inputs {
        Inputs::Merged
    }
    fn cardinality(&self) -> Cardinality;
    fn by_batch(&self, _: &[SchemaRef]) -> Option<Problem> {
        None
    }
    fn makes_batches(&self) -> bool {
        false
    }
    fn waits(&self) -> Option<WaitFor> {
        None
    }
    fn silent(&self) -> Option<&'static str> {
        Some(SILENT)
    }
    fn is_stateless(&self) -> bool {
        false
    }
    fn is_pure(&self) -> bool {
        false
    }
    fn build(&self, context: &BuildContext) -> Result<Operator>;
    fn describe(&self) -> serde_json::Value;
    /// The same with what was filled in, secrets too: for hashes alone.
    fn filled(&self) -> serde_json::Value {
        self.describe()
    }
}

impl<C: StageConfig> ErasedStage for C {
    fn kind(&self) -> &'static str {
        C::NAME
    }
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        StageConfig::schema(self, inputs)
    }
    fn port_schema(&self, port: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        StageConfig::port_schema(self, port, inputs)
    }
    fn distribution(&self) -> Distribution {
        StageConfig::distribution(self)
    }
    fn ports(&self) -> Vec<String> {
        StageConfig::ports(self)
    }
    fn inputs(&self) -> Inputs {
        StageConfig::inputs(self)
    }
    fn cardinality(&self) -> Cardinality {
        StageConfig::cardinality(self)
    }
    fn by_batch(&self, inputs: &[SchemaRef]) -> Option<Problem> {
        StageConfig::by_batch(self, inputs)
    }
    fn makes_batches(&self) -> bool {
        StageConfig::makes_batches(self)
    }
    fn waits(&self) -> Option<WaitFor> {
        StageConfig::waits(self)
    }
    fn silent(&self) -> Option<&'static str> {
        StageConfig::silent(self)
    }
    fn is_stateless(&self) -> bool {
        StageConfig::is_stateless(self)
    }
    fn is_pure(&self) -> bool {
        StageConfig::is_pure(self)
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        StageConfig::build(self, context)
    }
    fn describe(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
