//! NATS `JetStream`: a queue whose messages are acknowledged when their epoch has committed.

mod connect;
mod decode;
mod keep;
mod read;
mod write;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Known, Replay, Side, SinkContext,
    SourceContext,
};
use bourn_engine::data::position::Split;
use bourn_engine::data::secret::Secret;
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::types::Declared;

/// Reads and writes the messages of NATS `JetStream`.
///
/// A source reads a stream through a durable consumer, which it makes if it is not there, and acknowledges each message
/// when every sink has committed the epoch of its row; what was not acknowledged comes again after a crash. With
/// `from: position` it reads by the sequence of the stream and needs no acknowledgement. A message that can't be read is
/// rejected alone. A sink publishes each row as a message with a `Nats-Msg-Id`, and is done with a batch when the stream
/// has acknowledged every message. Columns whose names begin with `_bourn_` are not sent.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nats {
    /// The servers of one cluster, between commas: `nats://127.0.0.1:4222`, `tls://nats.example.com`.
    pub servers: String,
    /// For a source: the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// For a source: the subjects of the stream to read, such as `orders.*`; all of them if it is not said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// For a source: the name of its durable consumer. Jobs with the same name share the messages among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Where a source goes on after a crash.
    #[serde(default)]
    pub from: From,
    /// What a message holds.
    #[serde(default)]
    pub format: NatsFormat,
    /// The columns of JSON with their types; inferred from the first 1,000 messages or 1 MiB of the stream if it is not
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// For a source: columns with what NATS knows of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// For a source: how long the server waits for an acknowledgement before it sends a message again. It is told in time
    /// that a message is still being worked on, so this says how soon another job gets the messages of one that died.
    #[serde(default = "ack_wait")]
    pub ack_wait: Interval,
    /// The most messages that wait for an acknowledgement at once, of a source or of a sink.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 65536))]
    pub in_flight: usize,
    /// For a sink: the subject to publish to, with places for columns: `orders.${region}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// For a sink: the id of a message, with places for columns: `${order_id}`. The stream drops a message whose id it has
    /// seen within its window for duplicates, so rows that come again after a crash within it are there once. Without it
    /// an id is drawn for each row, and only a repeated attempt within a job is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A token in place of user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The seed of an `NKey` in place of user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey: Option<Secret>,
    /// The content of a credentials file (a JWT and its seed) in place of user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Secret>,
    /// A file with certificates (PEM) to trust beside those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
    /// What planning found and the source needs.
    #[serde(skip)]
    #[schemars(skip)]
    pub planned: Planned,
}

/// The columns of JSON that have several types, as planning found them.
#[derive(Debug, Default)]
pub struct Planned(Mutex<Vec<String>>);

impl Default for Nats {
    fn default() -> Self {
        Self {
            servers: String::new(),
            stream: None,
            subjects: Vec::new(),
            consumer: None,
            from: From::default(),
            format: NatsFormat::default(),
            schema: None,
            metadata: None,
            ack_wait: ack_wait(),
            in_flight: in_flight(),
            subject: None,
            id: None,
            user: None,
            password: None,
            token: None,
            nkey: None,
            credentials: None,
            certificates: None,
            planned: Planned::default(),
        }
    }
}

/// What `in_flight` may be.
const IN_FLIGHT_MAX: usize = 65_536;

fn ack_wait() -> Interval {
    Interval(Duration::from_secs(30))
}

fn in_flight() -> usize {
    8_192
}

/// Where a source goes on after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// With what was not acknowledged: the server knows it by the durable `consumer`.
    #[default]
    Unacknowledged,
    /// Behind its position in the stream, which the job keeps. From the beginning of the stream without one.
    Position,
}

/// What a message holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatsFormat {
    /// One JSON object.
    #[default]
    Json,
    /// Text: the column `text`.
    Text,
}

/// The names of columns for what NATS knows of a message; a column that is not named is not there.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Its subject; a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its number in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// When the stream took it; a timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Its headers; JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
}

impl Nats {
    /// The servers, at `nats://HOST:PORT`.
    pub fn at(servers: impl Into<String>) -> Self {
        Self { servers: servers.into(), ..Self::default() }
    }

    fn mixed(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.planned.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self) -> Result<&str, Problem> {
        self.stream.as_deref().ok_or_else(|| Problem::new("a source needs `stream`, the one to read"))
    }

    /// The columns of messages, where they are not to be inferred.
    fn columns(&self) -> Result<Option<SchemaRef>, Problems> {
        match (self.format, &self.schema) {
            (NatsFormat::Text, _) => Ok(Some(decode::text_schema())),
            (NatsFormat::Json, Some(declared)) => declared.schema().map(Some).map_err(|p| p.under("schema")),
            (NatsFormat::Json, None) => Ok(None),
        }
    }

    fn with_metadata(&self, columns: &SchemaRef) -> Result<SchemaRef, Problems> {
        decode::with_metadata(columns, self.metadata.as_ref()).map_err(|p| p.under("metadata").into())
    }

    /// What must be said of a source, whether or not the server is there.
    fn check_source(&self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        problems.extend(self.stream().err());
        if self.from == From::Unacknowledged && self.consumer.is_none() {
            let problem = Problem::new("a source needs `consumer`, the name of its durable consumer");
            problems.push(problem.help("`from: position` reads without one"));
        }
        if self.from == From::Position && self.consumer.is_some() {
            problems.push(Problem::new("`consumer` is for `from: unacknowledged`").under("consumer"));
        }
        if self.format == NatsFormat::Text && self.schema.is_some() {
            problems.push(Problem::new("`schema` is for `format: json`").under("schema"));
        }
        Problems::check(problems)
    }
}

fn first(Problems(problems): Problems) -> Error {
    Error::validation(problems.into_iter().next().map(|p| p.message).unwrap_or_default())
}

impl Connector for Nats {
    const NAME: &'static str = "nats";

    fn capabilities(&self) -> Capabilities {
        let replay = match self.from {
            From::Unacknowledged => Replay::Unacknowledged,
            From::Position => Replay::FromPosition,
        };
        Capabilities::source(replay, false).and_sink(Delivery::Plain)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        self.check_source()?;
        let columns = if let Some(columns) = self.columns()? {
            columns
        } else {
            let inferred = read::infer(self, &context.env).await?;
            *self.mixed() = inferred.mixed;
            inferred.schema
        };
        self.with_metadata(&columns)
    }

    async fn known(&self, _: &ConnectContext) -> Result<Known, Problems> {
        self.check_source()?;
        match self.columns()? {
            Some(columns) => self.with_metadata(&columns).map(Known::Schema),
            None => self.with_metadata(&Schema::empty().into()).map(|_| Known::Asks(connect::place(self))),
        }
    }

    async fn reach(&self, side: Side<'_>, _: &ConnectContext) -> Result<(), Problems> {
        match side {
            Side::Source => read::reach(self).await,
            Side::Sink(schema) => write::reach(self, &write::Publication::of(self, schema)?).await,
        }
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new(self.stream().map_err(|p| Error::validation(p.message))?)])
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        self.check_source().map_err(first)?;
        read::source(self, context).await
    }

    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        write::Publication::of(self, schema).map(drop)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let publication = write::Publication::of(self, &context.schema).map_err(first)?;
        write::sink(self, publication, context).await
    }
}
