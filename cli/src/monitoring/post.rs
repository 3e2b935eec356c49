//! Requests to a collector: protobuf over HTTP, and what became of them.

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
        let options = Options { url: to.url.as_str(), redirects: 0, same_host: true, idle_max: 1 };
        let never = |why: String| Refused { why, is_passing: false };
        let client = self.client.get(&options).map_err(|e| never(e.to_string()))?;
        let asked = format!("POST {}", errors::shown(&to.url));
        let request = client.post(to.url.clone()).headers(to.headers.clone()).timeout(to.timeout);
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        let answer = request.header(CONTENT_TYPE, protobuf).body(bytes).send().await;
        let passing = |e: bourn_engine::Error| Refused { why: e.to_string(), is_passing: true };
        let answer = answer.map_err(|e| passing(errors::transport(&asked, e)))?;
        let status = answer.status();
        let read = body::read(answer, ANSWER_MAX, "answers of collectors").await;
        if status.is_success() {
            return Ok(read.unwrap_or_default());
        }
        // Those that the specification of OTLP says to try again.
        let is_passing = [429, 502, 503, 504].contains(&status.as_u16());
        Err(Refused { why: format!("{asked}: {status}"), is_passing })
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "bourn".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}
