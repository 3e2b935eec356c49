//! `http_server`: rows that others send, answered once they are safe.

mod answer;
mod listen;
mod request;
mod rows;
mod source;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bourn_engine::api::{BoxSource, Capabilities, ConnectContext, Connector, Replay, SourceContext};
use bourn_engine::data::position::Split;
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::types::Declared;
use crate::generate::Nothing;

/// Listens for rows: each POST brings one JSON object, an array of them, or JSON lines.
///
/// `http_server: { listen: "127.0.0.1:8080", path: /events, schema: { id: bigint, name: text } }`. A request is answered 200 when the epoch
/// that holds its rows has been committed by every sink, about 200 ms later, so a client that sends again whatever was
/// not answered so loses nothing. Where a sink can commit, the job keeps checkpoints unless it says `checkpoint: false`, and goes
/// on with its files when it is started again. A request with a bad row is refused as a whole: 400 says which lines and why. 401: the token is
/// missing; 408: the body took longer than `timeout`; 413: it is larger than `max_body`; 415: it is compressed by something else than gzip;
/// 503 with `Retry-After`: the job is behind by `buffer`, or stops. A job that stops answers what it has taken, and takes no more.
///
/// There is no TLS here: put a proxy before it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpServer {
    /// The address and port: `127.0.0.1:8080`. Another address than loopback needs a `token`.
    pub listen: String,
    /// The path that rows are sent to; any other is 404.
    #[serde(default = "root")]
    pub path: String,
    /// What is in a body.
    #[serde(default)]
    pub format: Format,
    /// The columns of JSON with their types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// When a request is answered.
    #[serde(default)]
    pub ack: AckWhen,
    /// What becomes of a request with a row that can't be read.
    #[serde(default)]
    pub bad_rows: BadRows,
    /// The most that a body may have, also once it is inflated.
    #[serde(default = "max_body")]
    pub max_body: Size,
    /// How much may wait for the job at once, over all requests.
    #[serde(default = "buffer")]
    pub buffer: Size,
    /// How long a client may take for the head of a request, and for its body.
    #[serde(default = "timeout")]
    pub timeout: Interval,
    /// What a client must send as `Authorization: Bearer TOKEN`: `"${secret.TOKEN}"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What is in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object, an array of them, or one a line.
    #[default]
    Json,
    /// Plain lines, in the column `text`.
    Lines,
}

/// When a request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckWhen {
    /// When its rows are safe.
    #[default]
    Committed,
    /// At once: a job that is cut off loses rows that it has taken.
    None,
}

/// What becomes of a request with a row that can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadRows {
    /// 400, and none of its rows is taken.
    #[default]
    Refuse,
    /// The others are taken, and the row goes where `on_error` says.
    Reject,
}

fn root() -> String {
    "/".into()
}

fn max_body() -> Size {
    Size(10 << 20)
}

fn buffer() -> Size {
    Size(64 << 20)
}

fn timeout() -> Interval {
    Interval(Duration::from_secs(30))
}

impl HttpServer {
    fn address(&self) -> Result<SocketAddr, Problem> {
        let text = self.listen.replace("localhost", "127.0.0.1");
        text.parse().map_err(|_| {
            let problem = Problem::new(format!("`{}` is no address with a port", self.listen)).under("listen");
            problem.help("such as `127.0.0.1:8080`, or `0.0.0.0:8080` for every network")
        })
    }

    fn check(&self) -> Result<SchemaRef, Problems> {
        let mut problems = Vec::new();
        match self.address() {
            Ok(address) if !address.ip().is_loopback() && self.token.as_deref().is_none_or(str::is_empty) => {
                let problem = Problem::new(format!("whoever reaches {address} may send rows")).under("listen");
                problems.push(problem.help("set `token: \"${secret.NAME}\"`, or listen on 127.0.0.1"));
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
        if !self.path.starts_with('/') {
            problems.push(Problem::new("a path begins with `/`").under("path"));
        }
        if self.token.as_deref() == Some("") {
            problems.push(Problem::new("an empty token lets everyone in").under("token"));
        }
        if self.max_body.0 == 0 || self.max_body.0 > self.buffer.0 || self.buffer.0 > u64::from(u32::MAX) {
            let problem = Problem::new("`max_body` is at least 1 byte and at most `buffer`, which is below 4 GiB");
            problems.push(problem.under("max_body"));
        }
        let schema = match (self.format, &self.schema) {
            (Format::Json, Some(declared)) => declared.schema().map_err(|p| p.under("schema")),
            (Format::Json, None) => {
                let problem = Problem::new("nothing has come yet to tell the columns by");
                Err(problem.help("declare them: `schema: { id: bigint, name: text, rest: json }`").into())
            }
            (Format::Lines, None) => Ok(SchemaRef::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]))),
            (Format::Lines, Some(_)) => {
                Err(Problem::new("plain lines have the column `text` alone").under("schema").into())
            }
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

impl Connector for HttpServer {
    const NAME: &'static str = "http_server";

    fn capabilities(&self) -> Capabilities {
        let replay = match self.ack {
            AckWhen::Committed => Replay::Unacknowledged,
            AckWhen::None => Replay::Nothing,
        };
        Capabilities::source(replay, false)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        self.check()
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Some((split, _)) = context.splits.first().cloned() else {
            return Ok(BoxSource::new(Nothing));
        };
        let told = |Problems(p): Problems| Error::validation(p[0].message.clone());
        self.check().map_err(told)?;
        let address = self.address().map_err(|p| told(p.into()))?;
        let listener = listen::bind(address, &context.env).await?;
        // Nobody else knows which port the system chose for 0.
        let bound = listener.local_addr().unwrap_or(address);
        tracing::info!(target: "bourn_listens", "listening on http://{bound}{}", self.path);
        Ok(BoxSource::new(source::ServerSource::start(self, listener, split, context)))
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new(Self::NAME)])
    }
}
