//! Requests to a collector or whoever else is told something, and what became of them.

use bourn_http::{Options, SharedClient, body, errors};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::settings::Target;

/// The most bytes of an answer.
const ANSWER_MAX: usize = 64 << 10;

/// Why something was not taken.
#[derive(Debug)]
pub struct Refused {
    /// In words.
    pub why: String,
    /// Whether it may be taken another time.
    pub is_passing: bool,
}

/// Who sends.
pub struct Sender {
    client: SharedClient,
    resource: Resource,
}

impl Sender {
    /// One with this said of it.
    pub fn new(resource: Vec<KeyValue>) -> Self {
        Self { client: SharedClient::default(), resource: Resource { attributes: resource, ..Resource::default() } }
    }

    /// Sends spans; how many of them were not taken, and why.
    ///
    /// # Errors
    /// When none was.
    pub async fn spans(&self, to: &Target, spans: Vec<Span>) -> Result<(u64, String), Refused> {
        let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }];
        let all = ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() };
        let answer = self.post(to, ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()).await?;
        // An answer that can't be read is one of somebody who has taken it.
        let answer = ExportTraceServiceResponse::decode(&*answer).unwrap_or_default();
        let part = answer.partial_success.unwrap_or_default();
        Ok((u64::try_from(part.rejected_spans).unwrap_or(0), part.error_message))
    }

    /// Sends metrics; how many points of them were not taken, and why.
    ///
    /// # Errors
    /// When none was.
    pub async fn metrics(&self, to: &Target, metrics: Vec<Metric>) -> Result<(u64, String), Refused> {
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
        let all =
            ResourceMetrics { resource: Some(self.resource.clone()), scope_metrics, ..ResourceMetrics::default() };
        let answer = self.post(to, ExportMetricsServiceRequest { resource_metrics: vec![all] }.encode_to_vec()).await?;
        let answer = ExportMetricsServiceResponse::decode(&*answer).unwrap_or_default();
        let part = answer.partial_success.unwrap_or_default();
        Ok((u64::try_from(part.rejected_data_points).unwrap_or(0), part.error_message))
    }

    async fn post(&self, to: &Target, bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
        let posting = Posting {
            to,
            shown: errors::shown(&to.url),
            content_type: "application/x-protobuf",
            bytes,
            // Those that the specification of OTLP says to try again.
            passing: |status| [429, 502, 503, 504].contains(&status),
        };
        post(&self.client, posting).await
    }
}

/// A request.
pub struct Posting<'a> {
    /// Where it goes.
    pub to: &'a Target,
    /// The same, as it may be shown.
    pub shown: String,
    /// What it is.
    pub content_type: &'static str,
    /// The body.
    pub bytes: Vec<u8>,
    /// Whether one that is answered with this status may be taken another time.
    pub passing: fn(u16) -> bool,
}

/// Sends it; the answer.
///
/// # Errors
/// When it was not taken.
pub async fn post(client: &SharedClient, posting: Posting<'_>) -> Result<Vec<u8>, Refused> {
    let Posting { to, shown, content_type, bytes, passing } = posting;
    let options = Options { url: to.url.as_str(), redirects: 0, same_host: true, idle_max: 1 };
    let never = |why: String| Refused { why, is_passing: false };
    let client = client.get(&options).map_err(|e| never(e.to_string()))?;
    let asked = format!("POST {shown}");
    let request = client.post(to.url.clone()).headers(to.headers.clone()).timeout(to.timeout);
    let answer = request.header(CONTENT_TYPE, HeaderValue::from_static(content_type)).body(bytes).send().await;
    let transport = |e: bourn_engine::Error| Refused { why: e.to_string(), is_passing: true };
    let answer = answer.map_err(|e| transport(errors::transport(&asked, e)))?;
    let status = answer.status();
    let read = body::read(answer, ANSWER_MAX, "answers of whom is told").await;
    if status.is_success() {
        return Ok(read.unwrap_or_default());
    }
    Err(Refused { why: format!("{asked}: {status}"), is_passing: passing(status.as_u16()) })
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "bourn".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}
