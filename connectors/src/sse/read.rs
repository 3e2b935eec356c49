//! The source: events from one connection after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::limits::Retries;
use bourn_engine::api::{Chunk, Outage, Rejected, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::Env;
use bourn_engine::error::Retry;
use bourn_engine::{Error, Kind, Result};
use bourn_http::errors::Redirects;
use bourn_http::{Attempts, Body, Options, errors};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use sse_stream::SseByteStream;

use super::Sse;
use crate::codec::json::{Columns, messages};
use crate::http::ask::{refusal, within};
use crate::http::config;

/// What a server is told of the last event that came.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The most events of one chunk, and about the most bytes.
const EVENTS_MAX: usize = 1_024;
const BYTES_MAX: usize = 1 << 20;

/// The last event that came with an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Reads events.
pub struct SseSource {
    env: Env,
    client: Client,
    url: Url,
    headers: HeaderMap,
    asked: String,
    timeout: Duration,
    retry: Retries,
    event_max: u64,
    columns: Option<Columns>,
    schema: SchemaRef,
    split: Split,
    at: At,
    /// The wait before a new connection, as the server asks or the spec says.
    pause: Duration,
    open: Option<Events>,
    attempts: Option<Attempts>,
    outage: Outage,
    /// Whether there was a connection before.
    again: bool,
    waiting: VecDeque<RecordBatch>,
    over: bool,
}

/// The events of one connection.
struct Events {
    stream: SseByteStream<BoxStream<'static, Result<Bytes, Broken>>>,
    /// How many bytes came since the last event or blank line.
    unfinished: Arc<AtomicU64>,
}

/// Where the lines of a stream are: a blank one ends an event, or comments that keep a quiet connection alive.
#[derive(Default)]
struct Lines {
    /// Whether nothing has come since the end of a line.
    blank: bool,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    returned: bool,
}

impl Lines {
    /// How many bytes there are behind the last blank line, when `before` came before this piece.
    fn unfinished(&mut self, before: u64, piece: &[u8]) -> u64 {
        let mut bytes = before;
        for byte in piece {
            bytes += 1;
            match byte {
                b'\n' if self.returned => {}
                b'\n' | b'\r' if self.blank => bytes = 0,
                b'\n' | b'\r' => self.blank = true,
                _ => self.blank = false,
            }
            self.returned = *byte == b'\r';
        }
        bytes
    }
}

/// What ends a connection, as an error that the decoder of events can carry.
struct Broken(Error);

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Broken {}

impl SseSource {
    pub fn new(config: &Sse, context: SourceContext, split: Split, at: At) -> Result<Self> {
        let told = |p: bourn_engine::diagnostic::Problem| Error::validation(p.message);
        let url = config::url(&config.url, &["http", "https"]).map_err(told)?;
        let mut headers = config::headers(&config.headers).map_err(|p| Error::validation(p.0[0].message.clone()))?;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("text/event-stream"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let options = Options { url: url.as_str(), redirects: 0, same_host: true, idle_max: 1 };
        Ok(Self {
            client: config.client.get(&options)?,
            asked: format!("GET {}", errors::shown(&url)),
            url,
            headers,
            timeout: config.timeout.0,
            retry: config.retry.0.clone(),
            event_max: config.event_max.0,
            columns: config.schema.is_some().then(|| Columns::new(context.schema.clone(), &[])),
            schema: context.schema,
            split,
            at,
            pause: config.retry.0.initial_interval.0,
            open: None,
            attempts: None,
            outage: Outage::of(&context.id, &context.env),
            again: false,
            waiting: VecDeque::new(),
            over: false,
            env: context.env,
        })
    }

    /// Connects; false when the server says that nothing will follow.
    async fn connect(&mut self) -> Result<bool> {
        let mut request = self.client.get(self.url.clone()).headers(self.headers.clone());
        if let Some(id) = &self.at.id {
            // Ids are UTF-8 (HTML, 9.2.6), and a header may have such bytes.
            request = request.header(LAST_EVENT_ID, HeaderValue::from_bytes(id.as_bytes())?);
        }
        let response = within(&self.env, self.timeout, &self.asked, request.send()).await?;
        let response = response.map_err(|e| errors::transport(&self.asked, e))?;
        match response.status() {
            StatusCode::NO_CONTENT => return Ok(false),
            status if !status.is_success() => {
                return Err(refusal(&self.env, self.timeout, (&self.asked, Redirects::Never), response).await);
            }
            _ => {}
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
            let message = format!("{}: the answer is no `text/event-stream`", self.asked);
            return Err(Error::validation(message));
        }
        self.open = Some(self.events(response)?);
        Ok(true)
    }

    fn events(&self, response: Response) -> Result<Events> {
        let body = Body::of(response).map_err(|e| e.context(&self.asked))?;
        let unfinished = Arc::new(AtomicU64::new(0));
        let (env, timeout, asked) = (self.env.clone(), self.timeout, self.asked.clone());
        let (count, most) = (unfinished.clone(), self.event_max);
        let pieces = stream::try_unfold((body, Lines::default()), move |(mut body, mut lines)| {
            let (env, asked, count) = (env.clone(), asked.clone(), count.clone());
            async move {
                if count.load(Ordering::Relaxed) > most {
                    let message = format!("{asked}: an event has more than {most} bytes (`event_max`)");
                    return Err(Broken(Error::new(Kind::Budget, message)));
                }
                let piece = within(&env, timeout, &asked, body.piece()).await.and_then(|piece| piece);
                let piece = piece.map_err(|e| Broken(e.context(&asked)))?;
                if let Some(piece) = &piece {
                    count.store(lines.unfinished(count.load(Ordering::Relaxed), piece), Ordering::Relaxed);
                }
                Ok(piece.map(|piece| (piece, (body, lines))))
            }
        });
        Ok(Events { stream: SseByteStream::new(pieces.boxed()), unfinished })
    }

    /// The events that are there, at least one; `None` when the connection has ended.
    async fn gather(&mut self) -> Result<Option<Vec<sse_stream::Sse>>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < EVENTS_MAX && bytes < BYTES_MAX {
            let next = if events.is_empty() {
                open.stream.next().await
            } else {
                // An end or an error is met again by the next read.
                let Some(next) = open.stream.next().now_or_never() else { break };
                next
            };
            let event = match next {
                Some(Ok(event)) => event,
                Some(Err(_)) | None if !events.is_empty() => {
                    self.open = None;
                    break;
                }
                Some(Err(error)) => return Err(cause(error, &self.asked)),
                None => return Ok(None),
            };
            open.unfinished.store(0, Ordering::Relaxed);
            if let Some(millis) = event.retry {
                self.pause = Duration::from_millis(millis).min(self.retry.max_interval.0);
            }
            if let Some(id) = &event.id {
                self.at.id = Some(id.clone()).filter(|id| !id.is_empty());
            }
            // Without data there is no event (HTML, 9.2.6).
            if let Some(data) = &event.data {
                bytes += data.len();
                events.push(sse_stream::Sse { id: self.at.id.clone(), ..event });
            }
        }
        Ok(Some(events))
    }

    fn rows(&self, events: Vec<sse_stream::Sse>) -> Result<(Vec<RecordBatch>, Vec<Rejected>)> {
        if let Some(columns) = &self.columns {
            let place = |id: &Option<String>| match id {
                Some(id) => format!("{}, event {id}", self.split),
                None => self.split.to_string(),
            };
            let messages = events.into_iter().map(|e| (e.data.unwrap_or_default().into_bytes(), place(&e.id)));
            return messages::rows(columns, messages);
        }
        let column = |of: fn(&sse_stream::Sse) -> Option<&str>| -> ArrayRef {
            Arc::new(events.iter().map(of).collect::<StringArray>())
        };
        let columns = vec![column(|e| e.id.as_deref()), column(|e| e.event.as_deref()), column(|e| e.data.as_deref())];
        Ok((vec![RecordBatch::try_new(self.schema.clone(), columns)?], Vec::new()))
    }

    fn chunk(&mut self, rejected: Vec<Rejected>) -> Result<Chunk> {
        let records = self.waiting.pop_front().unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone()));
        Ok(Chunk::new(records, self.split.clone(), Position::of(&self.at)?).with_rejected(rejected))
    }
}

/// What has ended the stream of events.
fn cause(error: sse_stream::Error, asked: &str) -> Error {
    match error {
        sse_stream::Error::Body(broken) => match broken.downcast::<Broken>() {
            Ok(broken) => broken.0,
            Err(other) => Error::new(Kind::Io, format!("{asked}: {other}")).transient(),
        },
        other => Error::validation(format!("{asked}: {other}")),
    }
}

impl Source for SseSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            if !self.waiting.is_empty() {
                return self.chunk(Vec::new()).map(Some);
            }
            if self.over {
                return Ok(None);
            }
            if self.open.is_none() {
                if std::mem::replace(&mut self.again, true) && self.attempts.is_none() {
                    self.env.sleep(self.pause).await;
                }
                match self.connect().await {
                    Ok(true) => {
                        self.attempts = None;
                        self.outage.passed();
                    }
                    Ok(false) => self.over = true,
                    Err(error) => {
                        let (policy, env) = (&self.retry, &self.env);
                        let attempts =
                            self.attempts.get_or_insert_with(|| Attempts::new(policy, env.random(), &self.outage));
                        let wait = attempts.after(error)?;
                        env.sleep(wait).await;
                    }
                }
                continue;
            }
            match self.gather().await {
                Ok(Some(events)) if events.is_empty() => {}
                Ok(Some(events)) => {
                    let (batches, rejected) = self.rows(events)?;
                    self.waiting.extend(batches);
                    if !self.waiting.is_empty() || !rejected.is_empty() {
                        return self.chunk(rejected).map(Some);
                    }
                }
                // What would come again just so is told; what breaks off goes on elsewhere.
                Err(error) if error.retry() == Retry::Never => return Err(error),
                Ok(None) | Err(_) => self.open = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn a_blank_line_of_any_kind_ends_what_is_counted_and_no_other_line_does() {
        for (text, left) in [
            ("data: x\n\n", 0),
            (": alive\r\n\r\nab", 3),
            (": a\r\rab", 2),
            ("data: x\r\ndata: y\r\n", 18),
            ("data: x\ndata: y\n", 16),
        ] {
            assert_eq!(Lines::default().unfinished(0, text.as_bytes()), left, "{text:?} at once");
            let mut lines = Lines::default();
            let trickled = text.bytes().fold(0, |before, byte| lines.unfinished(before, &[byte]));
            assert_eq!(trickled, left, "{text:?} byte by byte");
        }
    }
}
