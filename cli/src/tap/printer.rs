//! A sink that prints rows, by itself or in front of the sink that they are for.

use std::fmt;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_connectors::console::{Console, ConsoleFormat};
use bourn_engine::Result;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::api::{
    BoxSink, Capabilities, ConnectContext, Connector, Delivery, Outcome, Receipt, Sink, SinkContext, Written,
};
use bourn_engine::data::message::Epoch;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_expr::Predicate;
use futures::channel::oneshot;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a problem of the condition begins with.
pub const FILTER: &str = "--filter: ";

/// Prints the rows that it is asked for. A clone counts with it.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Printer {
    #[serde(skip)]
    #[schemars(skip)]
    console: Console,
    #[serde(skip)]
    #[schemars(skip)]
    then: Option<BoxConnector>,
    #[serde(skip)]
    #[schemars(skip)]
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    filter: Option<String>,
    rows_max: Option<u64>,
    shown: AtomicU64,
    enough: Mutex<Option<oneshot::Sender<()>>>,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printer")
    }
}

impl Printer {
    /// One that shows `rows` of those for which `filter` is true, as a table or as JSON, and what is told when it has.
    pub fn new(as_json: bool, rows: Option<u64>, filter: Option<String>) -> (Self, impl Future<Output = ()>) {
        let (told, enough) = oneshot::channel();
        let shared = Shared { filter, rows_max: rows, shown: AtomicU64::new(0), enough: Mutex::new(Some(told)) };
        let format = if as_json { ConsoleFormat::Json } else { ConsoleFormat::Table };
        let mut console = Console::default();
        console.format = format;
        let enough = async {
            // A printer that is gone has not had enough: its job has ended.
            if enough.await.is_err() {
                pending::<()>().await;
            }
        };
        (Self { console, then: None, shared: Arc::new(shared) }, enough)
    }

    /// The same in front of a sink, which gets every row.
    pub fn before(self, sink: BoxConnector) -> Self {
        Self { then: Some(sink), ..self }
    }

    fn condition(&self, schema: &SchemaRef) -> Result<Option<Predicate>, Problem> {
        self.shared.filter.as_ref().map(|sql| Predicate::compile(sql, schema)).transpose()
    }
}

impl Connector for Printer {
    const NAME: &'static str = "tap";

    fn capabilities(&self) -> Capabilities {
        self.then
            .as_ref()
            .map_or(Capabilities::sink(Delivery::Plain), |sink| Capabilities { source: None, ..sink.capabilities() })
    }

    async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        let checked = self.condition(schema).map(drop);
        checked.map_err(|p| Problem { message: format!("{FILTER}{}", p.message), ..p })?;
        self.console.check_sink(schema, context).await?;
        match &self.then {
            Some(sink) => sink.check_sink(schema, context).await,
            None => Ok(()),
        }
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let condition = self.condition(&context.schema).map_err(|p| bourn_engine::Error::validation(p.message))?;
        let then = match &self.then {
            Some(sink) => Some(sink.sink(context.clone()).await?),
            None => None,
        };
        let console = self.console.sink(context).await?;
        Ok(BoxSink::new(Printing { console, then, condition, shared: self.shared.clone() }))
    }
}

struct Printing {
    console: BoxSink,
    then: Option<BoxSink>,
    condition: Option<Predicate>,
    shared: Arc<Shared>,
}

impl Printing {
    async fn print(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = match &self.condition {
            Some(condition) => selected(condition, rows)?,
            None => rows.clone(),
        };
        let count = rows.num_rows() as u64;
        let before = self.shared.shown.fetch_add(count, Relaxed);
        let left = self.shared.rows_max.map_or(u64::MAX, |max| max.saturating_sub(before));
        let shown = usize::try_from(count.min(left)).unwrap_or(usize::MAX);
        if shown > 0 {
            self.console.write(&rows.slice(0, shown)).await?;
        }
        if count >= left {
            let told = self.shared.enough.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever waited may have ended with the job.
            let _ = told.map(|told| told.send(()));
        }
        Ok(())
    }
}

/// The rows for which the condition is true. One for which it can't be said is not shown, and nothing else happens to it.
fn selected(condition: &Predicate, rows: &RecordBatch) -> Result<RecordBatch> {
    if let Ok(selected) = condition.select(rows) {
        return Ok(selected);
    }
    let each = (0..rows.num_rows()).filter_map(|row| condition.select(&rows.slice(row, 1)).ok());
    Ok(concat_batches(rows.schema_ref(), &each.collect::<Vec<_>>())?)
}

impl Sink for Printing {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        // What the sink refuses is tried again as a whole, and would be printed twice.
        let written = match &mut self.then {
            Some(sink) => sink.write(rows).await?,
            None => Written::all(),
        };
        self.print(rows).await?;
        Ok(written)
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        match &mut self.then {
            Some(sink) => sink.prepare(epoch).await,
            None => Ok(None),
        }
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        match &mut self.then {
            Some(sink) => sink.commit(receipt).await,
            None => Ok(Outcome::Committed),
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        self.then.as_ref().and_then(Sink::wake_at)
    }

    async fn tick(&mut self) -> Result<()> {
        match &mut self.then {
            Some(sink) => sink.tick().await,
            None => Ok(()),
        }
    }

    async fn finish(&mut self) -> Result<()> {
        if let Some(sink) = &mut self.then {
            sink.finish().await?;
        }
        self.console.finish().await
    }
}
