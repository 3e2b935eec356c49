//! The sink: the rows of a batch in requests, several at once, each tried again under its own key.

use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::limits::Retries;
use bourn_engine::api::{Outage, Receipt, Rejected, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use bourn_http::body::read;
use bourn_http::errors::Redirects;
use bourn_http::{Attempts, Method, errors};
use bytes::Bytes;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url};

use super::ask::{client, refusal, within};
use super::{Batch, Compression, Format, Http, config, told};
use crate::codec::json::Encoder;

/// What a service tells repeated requests by.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How many requests wait for their answer at once, if nothing is said.
const IN_FLIGHT: usize = 8;
/// A longer answer is not read: the connection is closed instead.
const ANSWER_MAX: usize = 64 << 10;
/// How long it is worth to wait for the end of an answer that has said yes, so that its connection can be used again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends the rows of one lane.
pub struct HttpSink {
    requests: Sending,
    encoder: Encoder,
    batch: Batch,
    in_flight: usize,
    /// What the keys of this lane begin with, and how many there were.
    key: String,
    count: u64,
    lines: Vec<u8>,
}

/// What a request needs beside its rows.
struct Sending {
    env: Env,
    client: Client,
    url: Url,
    method: reqwest::Method,
    headers: HeaderMap,
    format: Format,
    compression: Option<Compression>,
    timeout: Duration,
    retry: Retries,
    outage: Outage,
    asked: String,
}

/// A request that was not taken.
struct Refused {
    status: Option<StatusCode>,
    error: Error,
}

impl HttpSink {
    pub fn new(config: &Http, context: SinkContext) -> Result<Self> {
        let url = told(config::url(&config.url, &["http", "https"]).map_err(Into::into))?;
        let in_flight = config.in_flight.unwrap_or(IN_FLIGHT);
        let method: reqwest::Method = config.method.unwrap_or(Method::Post).into();
        let mut headers = told(config::headers(&config.headers))?;
        let kind = if config.format == Format::JsonLines { "application/x-ndjson" } else { "application/json" };
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        let requests = Sending {
            client: client(config, &url, 0, in_flight)?,
            asked: format!("{method} {}", errors::shown(&url)),
            url,
            method,
            headers,
            format: config.format,
            compression: config.compression,
            timeout: config.timeout.0,
            retry: config.retry.0.clone(),
            outage: Outage::of(&context.id, &context.env),
            env: context.env,
        };
        let batch = config.batch.unwrap_or_default();
        let batch = if config.format == Format::Object { Batch { rows: 1, ..batch } } else { batch };
        let key = format!("{:016x}-{}", requests.env.random(), context.lane);
        let encoder = Encoder::new(&context.schema)?;
        Ok(Self { requests, encoder, batch, in_flight, key, count: 0, lines: Vec::new() })
    }
}

impl Sink for HttpSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.lines.clear();
        self.encoder.encode(rows, &mut self.lines)?;
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &self.lines).map(|i| i + 1).collect();
        let parts = cut(&ends, self.batch);
        let first = self.count;
        self.count += parts.len() as u64;
        let this = &*self;
        let lines = Lines { text: &this.lines, ends: &ends };
        let deliver = |(n, part)| this.requests.deliver(lines, part, format!("{}-{n}", this.key));
        let mut answers = stream::iter((first..).zip(parts)).map(deliver).buffer_unordered(this.in_flight);
        let mut outcome = Written::all();
        while let Some(refused) = answers.next().await {
            let reject =
                |(part, error): (Range<usize>, Error)| Rejected::rows(rows.slice(part.start, part.len()), error);
            outcome.rejected.extend(refused?.into_iter().map(reject));
        }
        Ok(outcome)
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

/// The rows of a batch as lines, each with where it ends.
#[derive(Clone, Copy)]
struct Lines<'a> {
    text: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Lines<'a> {
    fn of(self, rows: &Range<usize>) -> &'a [u8] {
        let begin = if rows.start == 0 { 0 } else { self.ends[rows.start - 1] };
        &self.text[begin..self.ends[rows.end - 1]]
    }
}

/// The requests of rows that end at `ends`.
fn cut(ends: &[usize], batch: Batch) -> Vec<Range<usize>> {
    let most = usize::try_from(batch.bytes.0).unwrap_or(usize::MAX);
    let (mut parts, mut start, mut from) = (Vec::new(), 0, 0);
    for (row, end) in ends.iter().enumerate() {
        if row > start && (row - start == batch.rows || end - from > most) {
            parts.push(start..row);
            (start, from) = (row, ends[row - 1]);
        }
    }
    if start < ends.len() {
        parts.push(start..ends.len());
    }
    parts
}

impl Sending {
    /// Sends these rows, in halves where they are too many at once. The rows that were refused come back.
    async fn deliver(&self, lines: Lines<'_>, rows: Range<usize>, key: String) -> Result<Vec<(Range<usize>, Error)>> {
        let (mut waiting, mut refused) = (vec![(rows, key)], Vec::new());
        while let Some((rows, key)) = waiting.pop() {
            let Err(Refused { status, error }) = self.send(lines.of(&rows), &key).await else { continue };
            match status {
                Some(StatusCode::PAYLOAD_TOO_LARGE) if rows.len() > 1 => {
                    let middle = rows.start + rows.len() / 2;
                    waiting.push((middle..rows.end, format!("{key}b")));
                    waiting.push((rows.start..middle, format!("{key}a")));
                }
                Some(status) if is_refusal(status) => refused.push((rows, error)),
                // A redirect, or a server that stays broken: no row of any batch would arrive.
                Some(_) if error.kind() == Kind::Validation => return Err(error.with_kind(Kind::Other)),
                _ => return Err(error),
            }
        }
        Ok(refused)
    }

    /// One request, tried again as long as that may help.
    async fn send(&self, lines: &[u8], key: &str) -> Result<(), Refused> {
        let body = self.body(lines).map_err(|error| Refused { status: None, error })?;
        let mut attempts = Attempts::new(&self.retry, self.env.random(), &self.outage);
        loop {
            let Err(Refused { status, error }) = self.send_once(body.clone(), key).await else {
                self.outage.passed();
                return Ok(());
            };
            match attempts.after(error) {
                Ok(wait) => self.env.sleep(wait).await,
                Err(error) => return Err(Refused { status, error }),
            }
        }
    }

    async fn send_once(&self, body: Bytes, key: &str) -> Result<(), Refused> {
        let unanswered = |error| Refused { status: None, error };
        let mut request = self.client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if !self.headers.contains_key(IDEMPOTENCY_KEY) {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if self.compression.is_some() {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let answer = within(&self.env, self.timeout, &self.asked, request.body(body).send()).await;
        let answer = answer.and_then(|sent| sent.map_err(|e| errors::transport(&self.asked, e)));
        let response = answer.map_err(unanswered)?;
        let status = response.status();
        if !status.is_success() {
            let error = refusal(&self.env, self.timeout, (&self.asked, Redirects::Never), response).await;
            return Err(Refused { status: Some(status), error });
        }
        if response.content_length().is_none_or(|n| n <= ANSWER_MAX as u64) {
            // The rows are there; what else the answer says does not matter.
            let _rest = within(&self.env, PATIENCE, "", read(response, ANSWER_MAX, "")).await;
        }
        Ok(())
    }

    fn body(&self, lines: &[u8]) -> Result<Bytes> {
        let plain = match self.format {
            Format::Json => {
                let mut array = Vec::with_capacity(lines.len() + 1);
                array.push(b'[');
                array.extend_from_slice(lines);
                let last = array.len() - 1;
                for byte in &mut array[..last] {
                    if *byte == b'\n' {
                        *byte = b',';
                    }
                }
                array[last] = b']';
                array
            }
            Format::Object => lines.strip_suffix(b"\n").unwrap_or(lines).to_vec(),
            _ => lines.to_vec(),
        };
        if self.compression.is_none() {
            return Ok(plain.into());
        }
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain)?;
        Ok(encoder.finish()?.into())
    }
}

/// Whether an answer says that these rows will never be taken.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::data::units::Size;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_is_in_one_request_that_is_no_larger_than_said(
            lengths in proptest::collection::vec(1_usize..30, 0..60), rows in 1_usize..9, bytes in 1_u64..50,
        ) {
            let ends: Vec<usize> = lengths.iter().scan(0, |at, n| { *at += n; Some(*at) }).collect();
            let parts = cut(&ends, Batch { rows, bytes: Size(bytes) });
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            prop_assert!(all.into_iter().eq(0..lengths.len()));
            for part in parts {
                let size: usize = lengths[part.clone()].iter().sum();
                prop_assert!(part.len() <= rows && (part.len() == 1 || size as u64 <= bytes));
            }
        }
    }
}
