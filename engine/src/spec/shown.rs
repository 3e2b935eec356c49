//! A configuration that describes itself as it was written, so that no value of the environment is printed.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::api::erased::{ErasedConnector, ErasedStage, JobEnd};
use crate::api::registry::BoxConnector;
use crate::api::{BoxSink, BoxSource, WaitFor};
use crate::api::{
    BuildContext, Capabilities, Cardinality, ConnectContext, Distribution, Inputs, Known, Operator, Side, SinkContext,
    SourceContext, Unread, UsedFiles,
};
use crate::data::position::Split;
use crate::diagnostic::{Problem, Problems};
use crate::error::Result;

/// A configuration and the text of the spec that it came from.
pub(crate) struct Shown<T: ?Sized> {
    pub inner: Arc<T>,
    pub written: Value,
}

impl ErasedConnector for Shown<dyn ErasedConnector> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn schema<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<SchemaRef, Problems>> {
        self.inner.schema(context)
    }
    fn known<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Known, Problems>> {
        self.inner.known(context)
    }
    fn reach<'a>(&'a self, side: Side<'a>, context: &'a ConnectContext) -> BoxFuture<'a, Result<(), Problems>> {
        self.inner.reach(side, context)
    }
    fn splits<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Vec<Split>>> {
        self.inner.splits(context)
    }
    fn source(&self, context: SourceContext) -> BoxFuture<'_, Result<BoxSource>> {
        self.inner.source(context)
    }
    fn check_sink<'a>(
        &'a self,
        schema: &'a SchemaRef,
        context: &'a ConnectContext,
    ) -> BoxFuture<'a, Result<(), Problems>> {
        self.inner.check_sink(schema, context)
    }
    fn files(&self, context: &ConnectContext) -> UsedFiles {
        self.inner.files(context)
    }
    fn sink(&self, context: SinkContext) -> BoxFuture<'_, Result<BoxSink>> {
        self.inner.sink(context)
    }
    fn reads_back(&self) -> bool {
        self.inner.reads_back()
    }
    fn read_back<'a>(
        &'a self,
        rows: &'a SchemaRef,
        context: &'a ConnectContext,
    ) -> BoxFuture<'a, Result<Vec<BoxConnector>, Problems>> {
        self.inner.read_back(rows, context)
    }
    fn beside(&self, mark: &str, context: &ConnectContext) -> Option<BoxConnector> {
        let beside = self.inner.beside(mark, context)?;
        Some(BoxConnector(Arc::new(Self { inner: beside.0, written: self.written.clone() })))
    }
    fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        self.inner.reread(texts, schema)
    }
    fn started(&self, end: JobEnd) {
        self.inner.started(end);
    }
    fn describe(&self) -> Value {
        self.written.clone()
    }
}

impl ErasedStage for Shown<dyn ErasedStage> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.inner.schema(inputs)
    }
    fn port_schema(&self, port: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.inner.port_schema(port, inputs)
    }
    fn distribution(&self) -> Distribution {
        self.inner.distribution()
    }
    fn ports(&self) -> Vec<String> {
        self.inner.ports()
    }
    fn inputs(&self) -> Inputs {
        self.inner.inputs()
    }
    fn cardinality(&self) -> Cardinality {
        self.inner.cardinality()
    }
    fn by_batch(&self, inputs: &[SchemaRef]) -> Option<Problem> {
        self.inner.by_batch(inputs)
    }
    fn makes_batches(&self) -> bool {
        self.inner.makes_batches()
    }
    fn waits(&self) -> Option<WaitFor> {
        self.inner.waits()
    }
    fn is_stateless(&self) -> bool {
        self.inner.is_stateless()
    }
    fn is_pure(&self) -> bool {
        self.inner.is_pure()
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        self.inner.build(context)
    }
    fn describe(&self) -> Value {
        self.written.clone()
    }
    fn filled(&self) -> Value {
        self.inner.filled()
    }
}
