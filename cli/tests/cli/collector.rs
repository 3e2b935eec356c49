//! A collector on this machine: what is sent to it by OTLP, decoded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// What it does with what comes.
#[derive(Clone, Copy)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Refuses it with this status.
    Refuses(u16),
    /// Never answers.
    Hangs,
}

/// All that came.
#[derive(Default)]
pub struct Came {
    pub spans: Vec<Span>,
    pub metrics: Vec<Metric>,
    pub resource: BTreeMap<String, Value>,
    pub headers: Vec<HeaderMap>,
    /// The bodies, as they came.
    pub bytes: Vec<u8>,
}

pub struct Collector {
    came: Arc<Mutex<Came>>,
    pub url: String,
}

#[derive(Clone)]
struct Serving(Arc<Mutex<Came>>, Manner);

impl Serving {
    async fn takes(&self, headers: HeaderMap, body: &Bytes, note: impl FnOnce(&mut Came)) -> StatusCode {
        {
            let mut came = self.0.lock().unwrap();
            assert_eq!(headers["content-type"], "application/x-protobuf");
            came.headers.push(headers);
            came.bytes.extend_from_slice(body);
            if matches!(self.1, Manner::Takes) {
                note(&mut came);
            }
        }
        match self.1 {
            Manner::Takes => StatusCode::OK,
            Manner::Refuses(status) => StatusCode::from_u16(status).unwrap(),
            Manner::Hangs => std::future::pending().await,
        }
    }
}

async fn traces(State(serving): State<Serving>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let all = ExportTraceServiceRequest::decode(body.clone()).unwrap().resource_spans;
    let note = |came: &mut Came| {
        for one in all {
            came.resource = plain(&one.resource.unwrap().attributes);
            came.spans.extend(one.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    };
    serving.takes(headers, &body, note).await
}

async fn metrics(State(serving): State<Serving>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let all = ExportMetricsServiceRequest::decode(body.clone()).unwrap().resource_metrics;
    let of = all.into_iter().flat_map(|one| one.scope_metrics).flat_map(|scope| scope.metrics);
    let note = |came: &mut Came| came.metrics = of.collect();
    serving.takes(headers, &body, note).await
}

impl Collector {
    pub async fn start() -> Self {
        Self::that(Manner::Takes).await
    }

    pub async fn that(manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::<Mutex<Came>>::default();
        let routes = Router::new().route("/v1/traces", post(traces)).route("/v1/metrics", post(metrics));
        let app = routes.with_state(Serving(came.clone(), manner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { came, url }
    }

    pub fn came(&self) -> std::sync::MutexGuard<'_, Came> {
        self.came.lock().unwrap()
    }

    /// Waits until a span of this name has come.
    pub async fn has(&self, name: &str) {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let found = async {
            while !self.came().spans.iter().any(|span| span.name == name) {
                tick.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no span `{name}` came"));
    }
}

impl Came {
    /// The span of this name.
    #[track_caller]
    pub fn span(&self, name: &str) -> &Span {
        let found: Vec<_> = self.spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {:?}", self.spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        found[0]
    }

    /// The spans below the one of this id, each with what it is called, further in the further below.
    pub fn tree(&self, parent: &[u8], depth: usize) -> String {
        let mut below: Vec<_> = self.spans.iter().filter(|span| span.parent_span_id == parent).collect();
        let step = |span: &&Span| {
            of(span).get("bourn.step").and_then(|name| name.as_str()).map_or(String::new(), |name| format!(" ({name})"))
        };
        below.sort_by_key(|span| (span.name.clone(), step(span)));
        let line = |span: &&Span| {
            format!("{}{}{}\n{}", "  ".repeat(depth), span.name, step(span), self.tree(&span.span_id, depth + 1))
        };
        below.iter().map(line).collect()
    }

    /// The points of a histogram: what each is told apart by, how many values, and their sum.
    pub fn histogram(&self, name: &str) -> Vec<(BTreeMap<String, Value>, u64, f64)> {
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        let metric = self.metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        let points = histogram.data_points.iter();
        points.map(|point| (plain(&point.attributes), point.count, point.sum.unwrap())).collect()
    }

    /// The values of all lanes of a counter of this stage.
    pub fn total(&self, name: &str, stage: &str) -> i64 {
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt;
        let metric = self.metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"));
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        let points = sum.data_points.iter().filter(|point| plain(&point.attributes)["stage"] == stage);
        points.map(|point| if let Some(AsInt(value)) = point.value { value } else { panic!("{point:?}") }).sum()
    }
}

/// What a span says.
pub fn of(span: &Span) -> BTreeMap<String, Value> {
    plain(&span.attributes)
}

pub fn plain(attributes: &[KeyValue]) -> BTreeMap<String, Value> {
    fn value(any: &AnyValue) -> Value {
        match any.value.as_ref().unwrap() {
            Any::StringValue(text) => json!(text),
            Any::BoolValue(holds) => json!(holds),
            Any::IntValue(number) => json!(number),
            Any::DoubleValue(number) => json!(number),
            Any::ArrayValue(array) => array.values.iter().map(value).collect(),
            other => panic!("{other:?}"),
        }
    }
    attributes.iter().map(|kv| (kv.key.clone(), value(kv.value.as_ref().unwrap()))).collect()
}
