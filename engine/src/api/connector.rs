//! The configuration of a source, a sink, or both: what a spec says below the connector's name.

use std::future::Future;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sink::{BoxSink, Receipt};
use super::source::BoxSource;
use crate::data::message::Epoch;
use crate::data::position::{Position, Split};
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;

/// The configuration of a source, a sink, or both. Its doc comments become the page of `bourn list NAME`, its fields
/// the JSON Schema of the spec; give it `#[serde(deny_unknown_fields)]`, so that a slip in a key is an error.
pub trait Connector: DeserializeOwned + Serialize + JsonSchema + Send + Sync + 'static {
    /// The key in a spec.
    const NAME: &'static str;

    /// Whether what it has written as a sink can be read again; see [`Connector::read_back`].
    const READS_BACK: bool = false;

    /// What it can do, as configured. The planner computes the delivery guarantee of each pair from it.
    fn capabilities(&self) -> Capabilities;

    /// The schema of the rows that the source reads. May look at the input, and ask a server. Asked once, when a job is
    /// planned that is to run.
    ///
    /// # Errors
    /// When the configuration is at fault, or the input is not there.
    fn schema(&self, context: &ConnectContext) -> impl Future<Output = Result<SchemaRef, Problems>> + Send {
        let _ = context;
        async { Err(Problem::new(format!("`{}` can't be a source", Self::NAME)).into()) }
    }

    /// What is known of [`Connector::schema`] without a network, for `bourn plan` and `bourn validate`, which may open files
    /// and ask no server. A connector that may have to ask one says so here; for any other this stays as it is.
    ///
    /// # Errors
    /// When the configuration is at fault: it is checked all the same.
    fn known(&self, context: &ConnectContext) -> impl Future<Output = Result<Known, Problems>> + Send {
        async { self.schema(context).await.map(Known::Schema) }
    }

    /// The parts that lanes can read side by side. Asked once, at the start of a job.
    ///
    /// # Errors
    /// When the input can't be listed.
    fn splits(&self, context: &ConnectContext) -> impl Future<Output = crate::Result<Vec<Split>>> + Send {
        let _ = context;
        async { Ok(vec![Split::new(Self::NAME)]) }
    }

    /// A source for the splits of one lane, behind their positions.
    ///
    /// # Errors
    /// When it can't be opened.
    fn source(&self, context: SourceContext) -> impl Future<Output = crate::Result<BoxSource>> + Send {
        let _ = context;
        async { Err(crate::Error::unsupported(format!("`{}` can't be a source", Self::NAME))) }
    }

    /// Checks the configuration of a sink against the schema of the rows it will get; changes nothing.
    ///
    /// # Errors
    /// When the configuration is at fault, or a column has a type that the sink can't take.
    fn check_sink(
        &self,
        schema: &SchemaRef,
        context: &ConnectContext,
    ) -> impl Future<Output = Result<(), Problems>> + Send {
        let _ = (schema, context);
        async { Ok(()) }
    }

    /// Looks whether the server is there, lets us in and has what is read or takes what is written; changes nothing, and tries
    /// nothing for long. Asked by `bourn validate --connect` alone, before [`Connector::schema`] and behind
    /// [`Connector::check_sink`]; what `schema` asks anyhow it can leave to it.
    ///
    /// # Errors
    /// When it can't be reached, or does not fit.
    fn reach(&self, side: Side<'_>, context: &ConnectContext) -> impl Future<Output = Result<(), Problems>> + Send {
        let _ = (side, context);
        async { Ok(()) }
    }

    /// The files that it reads as a source, and those that it writes as a sink. The planner refuses a job that would empty what
    /// it reads, and one of which two sinks would write to one place. Asked at planning.
    fn files(&self, context: &ConnectContext) -> UsedFiles {
        let _ = context;
        UsedFiles::default()
    }

    /// A sink for one lane.
    ///
    /// # Errors
    /// When it can't be opened.
    fn sink(&self, context: SinkContext) -> impl Future<Output = crate::Result<BoxSink>> + Send {
        let _ = context;
        async { Err(crate::Error::unsupported(format!("`{}` can't be a sink", Self::NAME))) }
    }

    /// Sources that end, of the rows with this schema that it has written as a sink, and of those that were written
    /// [beside](Connector::beside) them; none while there is nothing. Types may be what the place has in their stead, such as text.
    /// Asked when dead letters are looked at, of connectors with [`Connector::READS_BACK`]; a job may be writing there.
    ///
    /// # Errors
    /// When the place can't be looked at, or what stands there can't be read.
    fn read_back(
        &self,
        rows: &SchemaRef,
        context: &ConnectContext,
    ) -> impl Future<Output = Result<Vec<Self>, Problems>> + Send {
        let _ = (rows, context);
        async { Err(Problem::new(format!("what `{}` has written can't be read back", Self::NAME)).into()) }
    }

    /// The sink for rows that are added to those of a job, while it may be writing: replayed dead letters. `None` if it adds
    /// to what is there anyway. One that begins a place of its own anew writes them beside it, so that whoever reads by a
    /// pattern finds both; written again with the same `mark`, which has letters and digits, they replace what was there.
    fn beside(&self, mark: &str, context: &ConnectContext) -> Option<Self> {
        let _ = (mark, context);
        None
    }

    /// What it would make today of texts that it has rejected as a source: a batch of the schema for each, or why it still is
    /// none. `None` if it reads no text by itself. Asked behind [`Connector::schema`], when dead letters are replayed.
    fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<crate::Result<RecordBatch>>> {
        let _ = (texts, schema);
        None
    }
}

/// A text that a source has rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread<'a> {
    /// The text of one row.
    pub text: &'a str,
    /// The split that it came from, as far as it is known.
    pub split: Option<&'a str>,
}

/// What is known of the schema of a source without a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// All of it.
    Schema(SchemaRef),
    /// It takes asking this server, as it may be shown: `s3://bucket/key`, `postgres at db:5432`.
    Asks(String),
}

/// The side of a connector that a job uses.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// It reads.
    Source,
    /// It writes rows of this schema.
    Sink(&'a SchemaRef),
}

/// Files that a connector uses, as paths from the folder that the job is started in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedFiles {
    /// As a source, it reads these.
    pub read: Vec<PathBuf>,
    /// As a sink, it empties these when it starts.
    pub emptied: Vec<PathBuf>,
    /// As a sink, it writes here, and needs it for itself: the path or the name of an object, as it is configured.
    pub written: Option<PathBuf>,
}

/// What a connector can do, as configured. `None` for a side that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// As a source.
    pub source: Option<SourceCapabilities>,
    /// As a sink.
    pub sink: Option<Delivery>,
}

/// What a source can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCapabilities {
    /// What it can read again.
    pub replay: Replay,
    /// Whether its input ends.
    pub finite: bool,
}

impl Capabilities {
    /// A source and no sink.
    pub fn source(replay: Replay, finite: bool) -> Self {
        Self { source: Some(SourceCapabilities { replay, finite }), sink: None }
    }

    /// A sink and no source.
    pub fn sink(delivery: Delivery) -> Self {
        Self { source: None, sink: Some(delivery) }
    }

    /// Both.
    #[must_use]
    pub fn and_sink(self, delivery: Delivery) -> Self {
        Self { sink: Some(delivery), ..self }
    }
}

/// What a source can read again after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Everything, from any position.
    FromPosition,
    /// What was not acknowledged.
    Unacknowledged,
    /// Nothing.
    Nothing,
}

/// What a sink's epoch protocol gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Staged rows become visible once, by receipt.
    Transactional,
    /// Rows are visible at once; after a crash those that no checkpoint has are taken back.
    Revocable,
    /// Rows are visible at once; after a crash some may be there twice.
    Plain,
}

/// What a connector may use at planning.
#[derive(Clone, Debug)]
pub struct ConnectContext {
    /// The world.
    pub env: Env,
    /// The id of the source or sink in the spec.
    pub id: String,
    /// How many lanes it has.
    pub lanes: usize,
}

/// What a source is made with.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The world.
    pub env: Env,
    /// The id of the source in the spec.
    pub id: String,
    /// The splits of this lane; those with a position go on behind it.
    pub splits: Vec<(Split, Option<Position>)>,
    /// The schema that was planned.
    pub schema: SchemaRef,
}

/// What a sink is made with.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The world.
    pub env: Env,
    /// The id of the sink in the spec.
    pub id: String,
    /// Which lane, from 0.
    pub lane: usize,
    /// Of how many.
    pub lanes: usize,
    /// The schema of the rows.
    pub schema: SchemaRef,
    /// What a job that keeps checkpoints says of them; none where rows may be visible at once.
    pub epochs: Option<Epochs>,
}

impl SinkContext {
    /// The only lane of a job that keeps no checkpoints.
    pub fn new(env: Env, id: impl Into<String>, schema: SchemaRef) -> Self {
        Self { env, id: id.into(), lane: 0, lanes: 1, schema, epochs: None }
    }
}

/// What a sink is told by a job that keeps checkpoints. Such a sink stages rows until they are committed, and returns a
/// receipt for each epoch in which it got any.
#[derive(Clone, Debug)]
pub struct Epochs {
    /// Which run of the job: the same for all that go on from each other, another after a new beginning.
    pub run: String,
    /// The epoch behind which the job goes on; 0 at a new beginning. What is staged of later ones was never committed: it
    /// must be thrown away.
    pub behind: Epoch,
    /// The receipts of that epoch with the lanes that prepared them. They may be committed already: the engine calls
    /// [`Sink::commit`](super::Sink::commit) of lane `of % lanes` with each.
    pub receipts: Vec<(usize, Receipt)>,
    /// A folder for what is staged outside of the target. It is the job's own, and survives it.
    pub folder: PathBuf,
}
