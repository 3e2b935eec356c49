//! `sse`: the events of a server, as they come (server-sent events).

mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bourn_engine::api::{BoxSource, Capabilities, ConnectContext, Connector, Replay, Side, SourceContext};
use bourn_engine::data::position::Split;
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use bourn_http::{SharedClient, errors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::types::Declared;
use crate::generate::Nothing;
use crate::http::{ask, config};

/// Reads server-sent events, for as long as the server has any.
///
/// `sse: { url: "https://stream.example.com/changes", schema: { id: bigint, title: text } }`. Without `schema` the columns are `id`,
/// `event` and `data`, all text. A connection that ends, breaks off or is silent for `timeout` is made anew, with `Last-Event-ID`, after the wait that
/// the server asked for; whether it then sends what was missed is up to the server. 204 is the end. Data that is no row is
/// rejected alone; an event of more than `event_max`, or one that is no UTF-8, ends the job.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sse {
    /// The URL. A user and password in it are sent as basic authentication.
    pub url: String,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The columns of data that is JSON (an object, or an array of them) with their types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// How long the server may take to answer, and then be silent: comments count as a sign of life.
    #[serde(default = "timeout")]
    pub timeout: Interval,
    /// When to try again to connect.
    #[serde(default)]
    pub retry: config::Returns,
    /// The most that one event may have.
    #[serde(default = "event_max")]
    pub event_max: Size,
    #[serde(skip)]
    #[schemars(skip)]
    client: SharedClient,
}

fn timeout() -> Interval {
    Interval(Duration::from_mins(1))
}

fn event_max() -> Size {
    Size(1 << 20)
}

impl Sse {
    fn check(&self) -> Result<SchemaRef, Problems> {
        let mut problems = Vec::new();
        problems.extend(config::url(&self.url, &["http", "https"]).err());
        problems.extend(config::headers(&self.headers).err().into_iter().flat_map(|p| p.0));
        if self.event_max.0 == 0 {
            problems.push(Problem::new("an event has at least one byte").under("event_max"));
        }
        let schema = match &self.schema {
            Some(declared) => declared.schema().map_err(|p| p.under("schema")),
            None => Ok(texts()),
        };
        match schema {
            Ok(schema) => Problems::check(problems).map(|()| schema),
            Err(Problems(more)) => {
                problems.extend(more);
                Err(Problems(problems))
            }
        }
    }
}

/// The columns of events as they are.
fn texts() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    SchemaRef::new(Schema::new(vec![text("id"), text("event"), text("data")]))
}

impl Connector for Sse {
    const NAME: &'static str = "sse";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, false)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        self.check()
    }

    async fn reach(&self, _: Side<'_>, context: &ConnectContext) -> Result<(), Problems> {
        ask::reach(&self.url, self.timeout.0, &context.env).await
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        let told = |p: Problem| Error::validation(p.message);
        let url = config::url(&self.url, &["http", "https"]).map_err(told)?;
        Ok(vec![Split::new(errors::shown(&url))])
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        self.check().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
        let Some((split, position)) = context.splits.first().cloned() else {
            return Ok(BoxSource::new(Nothing));
        };
        let id = position.map(|p| p.read::<read::At>()).transpose()?.unwrap_or_default();
        Ok(BoxSource::new(read::SseSource::new(self, context, split, id)?))
    }
}
