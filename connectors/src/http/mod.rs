//! `http`: rows that a server is asked for, once or again and again; rows that are sent to one.

pub(crate) mod ask;
pub(crate) mod config;
mod infer;
mod page;
mod read;
mod write;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Known, Replay, Side, SinkContext,
    SourceContext,
};
use bourn_engine::data::position::Split;
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use bourn_http::{Method, SharedClient, errors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::csv::Csv;
use crate::codec::json::Encoder;
use crate::codec::types::Declared;
use crate::file::read_lines;
use crate::generate::Nothing;
pub use config::{Batch, Compression, Cursor, Format, Numbered, Pagination};

/// Asks a server for rows, once or again and again, or sends rows to one.
///
/// `http: { url: "https://api.example.com/orders", rows: /data, pagination: { cursor: { from: /next, parameter: after } },
/// schema: { id: bigint, total: double } }`.
/// A source ends after one round of pages, unless it is told `every` how long to ask anew; what has not changed since (`ETag`,
/// `Last-Modified`) is not read again then. Without `schema` a job that is to run asks once for the first 1,000 rows or 1 MiB. 408, 425, 429,
/// 5xx, answers that break off, documents that are none and failing connections are tried again as `retry` says, not before
/// an asked `Retry-After`, and reading goes on behind the last row that came; what fails for good ends the job. A broken row is
/// rejected alone.
///
/// A sink sends the rows of a batch (gathered by the stage `batch` if they are few) in requests of `batch.rows` and
/// `batch.bytes` at most, and a batch is done when all of them were answered 2xx. Each carries an `Idempotency-Key` that is the same at each
/// attempt. 413 halves a request; any other 4xx rejects its rows; what fails for good otherwise ends the job.
///
/// Gzip is understood, up to 200 times its size. Proxies are not taken from the environment. Headers, and user, password and query of
/// the URL, are never shown.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The URL. A user and password in it are sent as basic authentication.
    pub url: String,
    /// The method: `GET`, or `POST` for a sink and where there is a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Headers of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body that a source sends: a text, or any JSON, which is sent as such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// How long after the beginning of one round of a source the next one begins; one round only if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Interval>,
    /// What is in a body.
    #[serde(default)]
    pub format: Format,
    /// The columns of a source with their types; inferred if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// What CSV looks like, where it is not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// Where the rows are in a document, as a JSON pointer: `/data/items`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// Where the next page of a source is: `next_link`, a `cursor` or a `page` by its number; there is one page if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
    /// How long an answer may take to begin, and then to go on.
    #[serde(default = "config::timeout")]
    pub timeout: Interval,
    /// When to try again.
    #[serde(default)]
    pub retry: config::Returns,
    /// The most redirects that a source follows for one request; never to another scheme, and with `headers` or a password
    /// never to another host. A sink follows none.
    #[serde(default)]
    pub redirects: usize,
    /// The most that a document may have; other formats are read as they come.
    #[serde(default = "config::response_max")]
    pub response_max: Size,
    /// How many rows one request of a sink carries: 1,000 and 1 MiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// The most requests of a sink that wait for their answer at once, in each lane: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub in_flight: Option<usize>,
    /// How a sink compresses bodies; not at all if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    #[serde(skip)]
    #[schemars(skip)]
    client: SharedClient,
    #[serde(skip)]
    #[schemars(skip)]
    planned: Mutex<Planned>,
}

/// What planning found and the source needs.
#[derive(Clone, Debug, Default)]
struct Planned {
    /// Columns of JSON that have several types.
    mixed: Vec<String>,
    /// The columns of CSV.
    names: Vec<String>,
}

impl Http {
    fn planned(&self) -> std::sync::MutexGuard<'_, Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The columns of a source, where they are not to be inferred.
    fn columns(&self) -> Result<Option<SchemaRef>, Problems> {
        let declared = self.schema.as_ref().map(Declared::schema).transpose().map_err(|p| p.under("schema"))?;
        match (self.format, declared) {
            (Format::Lines, Some(_)) => {
                let problem = Problem::new("plain lines have the columns `text`, `file` and `number`").under("schema");
                Err(problem.help("leave `schema` out, or say `format: json_lines`").into())
            }
            (Format::Lines, None) => Ok(Some(read_lines::schema())),
            (Format::Csv, Some(declared)) => {
                self.planned().names = declared.fields().iter().map(|f| f.name().clone()).collect();
                Ok(Some(declared))
            }
            (_, declared) => Ok(declared),
        }
    }

    /// The address without what may be secret in it.
    fn shown(&self) -> Result<String> {
        Ok(errors::shown(&told(config::url(&self.url, &["http", "https"]).map_err(Problems::from))?))
    }
}

/// Problems that planning would have told.
fn told<T>(checked: Result<T, Problems>) -> Result<T> {
    checked.map_err(|Problems(p)| Error::validation(p[0].message.clone()))
}

impl Connector for Http {
    const NAME: &'static str = "http";

    fn capabilities(&self) -> Capabilities {
        let replay = match (&self.every, &self.pagination) {
            (None, _) | (Some(_), Some(Pagination::Cursor(_))) => Replay::FromPosition,
            // What one poll has given, the next one may not give.
            (Some(_), _) => Replay::Nothing,
        };
        Capabilities::source(replay, self.every.is_none()).and_sink(Delivery::Plain)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        let reading = self.check_source()?;
        if let Some(columns) = self.columns()? {
            return Ok(columns);
        }
        let (columns, planned) = infer::columns(self, reading, context).await.map_err(|e| {
            let problem = Problem::new(e.message().to_owned()).under("url");
            problem.help("with `schema: { … }` nobody is asked before the job starts")
        })?;
        *self.planned() = planned;
        Ok(columns)
    }

    async fn known(&self, _: &ConnectContext) -> Result<Known, Problems> {
        self.check_source()?;
        match self.columns()? {
            Some(columns) => Ok(Known::Schema(columns)),
            None => Ok(Known::Asks(self.shown()?)),
        }
    }

    async fn reach(&self, _: Side<'_>, context: &ConnectContext) -> Result<(), Problems> {
        ask::reach(&self.url, self.timeout.0, &context.env).await
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new(self.shown()?)])
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let SourceContext { env, id, splits, schema } = context;
        let Some((split, position)) = splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        let reading = told(self.check_source())?;
        let at = position.map(|p| p.read()).transpose()?.unwrap_or_default();
        let asking = ask::Asking::new(self, &env)?;
        let decoding = page::Decoding::new(self, &reading, schema, self.planned().clone());
        Ok(BoxSource::new(read::HttpSource::new(self, asking, decoding, read::Begin { id, split, at })))
    }

    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        self.check_sending()?;
        Encoder::new(schema).map(drop).map_err(|e| Problem::new(e.message().to_owned()).into())
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        told(self.check_sending())?;
        Ok(BoxSink::new(write::HttpSink::new(self, context)?))
    }
}
