//! `websocket`: messages in, and rows out as messages.

mod connect;
mod read;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Replay, Side, SinkContext, SourceContext,
};
use bourn_engine::data::position::Split;
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use bourn_http::errors;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::json::Encoder;
use crate::codec::types::Declared;
use crate::generate::Nothing;
use crate::http::{ask, config};

/// Reads the messages of a websocket, or sends rows as messages.
///
/// `websocket: { url: "wss://stream.example.com/trades", subscribe: ["{\"topic\":\"trades\"}"], schema: { id: bigint, price: double } }`. A
/// source without `schema` has the one column `data`, a text. A message that is no row is rejected alone; one of more than
/// `message_max` ends the job. Messages are read as fast as the job takes them, and no faster: the server waits, or drops what it
/// can't send. A connection that ends, breaks off, or answers no ping is made anew; what was sent meanwhile is up to the server.
///
/// A sink sends each row as a text with a JSON object. Behind each batch it sends a ping, and the batch is done when the pong
/// has come, which the other side sends only once it has read what stood before it. If the connection breaks before that, all rows of
/// the batch are sent again.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Websocket {
    /// The URL: `ws://…` or `wss://…`.
    pub url: String,
    /// Headers of the request that opens a connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Texts that are sent on every new connection, before anything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// A source: the columns of messages that are JSON (an object, or an array of them) with their types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// The most that one message may have.
    #[serde(default = "message_max")]
    pub message_max: Size,
    /// How long a connection may take, a batch of a sink, and the answer to a ping.
    #[serde(default = "config::timeout")]
    pub timeout: Interval,
    /// How long a source hears nothing before it sends a ping.
    #[serde(default = "ping")]
    pub ping: Interval,
    /// When to try again to connect, and to send a batch.
    #[serde(default)]
    pub retry: config::Returns,
    /// Whether a source is at its end when the server closes the connection in good order.
    #[serde(default)]
    pub until_closed: bool,
}

fn message_max() -> Size {
    Size(1 << 20)
}

fn ping() -> Interval {
    Interval(Duration::from_secs(30))
}

impl Websocket {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match config::url(&self.url, &["ws", "wss"]) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                let problem = Problem::new("a user and password do not go into this URL").under("url");
                problems.push(problem.help("say `headers: { Authorization: \"Basic …\" }`"));
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
        problems.extend(config::headers(&self.headers).err().into_iter().flat_map(|p| p.0));
        if self.message_max.0 == 0 {
            problems.push(Problem::new("a message has at least one byte").under("message_max"));
        }
        problems
    }

    fn columns(&self) -> Result<SchemaRef, Problems> {
        match &self.schema {
            Some(declared) => declared.schema().map_err(|p| p.under("schema")),
            None => Ok(SchemaRef::new(Schema::new(vec![Field::new("data", DataType::Utf8, false)]))),
        }
    }
}

impl Connector for Websocket {
    const NAME: &'static str = "websocket";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, self.until_closed).and_sink(Delivery::Plain)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        let mut problems = self.problems();
        match self.columns() {
            Ok(schema) => Problems::check(problems).map(|()| schema),
            Err(Problems(more)) => {
                problems.extend(more);
                Err(Problems(problems))
            }
        }
    }

    async fn reach(&self, _: Side<'_>, context: &ConnectContext) -> Result<(), Problems> {
        ask::reach(&self.url, self.timeout.0, &context.env).await
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        let url = config::url(&self.url, &["ws", "wss"]).map_err(|p| Error::validation(p.message))?;
        Ok(vec![Split::new(errors::shown(&url))])
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Some((split, _)) = context.splits.first().cloned() else {
            return Ok(BoxSource::new(Nothing));
        };
        let door = connect::Door::new(self, &context.env)?;
        Ok(BoxSource::new(read::WebsocketSource::new(self, door, context, split)))
    }

    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        let mut problems = self.problems();
        for (key, said) in [("schema", self.schema.is_some()), ("until_closed", self.until_closed)] {
            if said {
                problems.push(Problem::new(format!("`{key}` is for a source")).under(key));
            }
        }
        problems.extend(Encoder::new(schema).err().map(|e| Problem::new(e.message().to_owned())));
        Problems::check(problems)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let door = connect::Door::new(self, &context.env)?;
        Ok(BoxSink::new(write::WebsocketSink::new(self, door, context)?))
    }
}
