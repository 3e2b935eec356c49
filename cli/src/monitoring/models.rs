//! What models were asked, in the metrics that the conventions of OpenTelemetry name for it: tokens, and how long it took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bourn_engine::api::observer::Asked;
use bourn_engine::data::secret::Secrets;
use bourn_engine::time::Timestamp;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Histogram, HistogramDataPoint, Metric};

use super::attributes::Attributes;
use super::spans::{nanos, server};

/// The bounds that the conventions ask for.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const SECONDS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// So many sets of labels are kept apart; services name their models themselves.
const SETS_MAX: usize = 1_024;

/// The questions of a job.
pub struct Models {
    secrets: Secrets,
    sets: Mutex<Sets>,
}

/// By whether it is the time (none) or which tokens, and the labels.
type Sets = BTreeMap<(Option<&'static str>, Labels), Counted>;

/// What questions are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    operation: &'static str,
    provider: String,
    request: Option<String>,
    response: Option<String>,
    address: Option<String>,
    port: Option<u16>,
    error: Option<String>,
    /// Those of all that are too many.
    is_overflow: bool,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    sum: f64,
    counts: [u64; TOKENS.len() + 1],
}

impl Models {
    /// None asked yet.
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, sets: Mutex::default() }
    }

    /// A model was asked, and has answered or not.
    pub fn asked(&self, asked: &Asked<'_>) {
        let (address, port) = server(asked.question.address);
        let answer = asked.ended.as_ref().ok();
        let labels = Labels {
            operation: asked.question.operation,
            provider: asked.question.provider.to_owned(),
            request: asked.question.model.map(str::to_owned),
            response: answer.and_then(|answer| answer.model).map(str::to_owned),
            address,
            port,
            ..Labels::default()
        };
        if let Some(answer) = answer {
            for (which, count) in [("input", answer.usage.input_tokens), ("output", answer.usage.output_tokens)] {
                if count > 0 {
                    self.record((Some(which), labels.clone()), count as f64);
                }
            }
        }
        let error = asked.ended.as_ref().err().map(|(class, _)| (*class).to_owned());
        self.record((None, Labels { error, ..labels }), asked.took.as_secs_f64());
    }

    fn record(&self, (which, labels): (Option<&'static str>, Labels), value: f64) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (which, labels);
        let is_full = sets.len() >= SETS_MAX && !sets.contains_key(&key);
        let key = if is_full { (which, Labels { is_overflow: true, ..Labels::default() }) } else { key };
        let bounds = if which.is_some() { TOKENS } else { SECONDS };
        let counted = sets.entry(key).or_default();
        counted.sum += value;
        counted.counts[bounds.partition_point(|bound| *bound < value)] += 1;
    }

    /// As they stand, of a job that has begun at `began`; nothing where no model was asked.
    pub fn metrics(&self, began: Timestamp, now: Timestamp) -> Vec<Metric> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let points = |bounds: [f64; TOKENS.len()], is_of: fn(Option<&str>) -> bool| {
            let of = sets.iter().filter(|((which, _), _)| is_of(*which));
            let point = |((which, labels), counted): (&(Option<&'static str>, Labels), &Counted)| HistogramDataPoint {
                attributes: self.attributes(*which, labels),
                start_time_unix_nano: nanos(began),
                time_unix_nano: nanos(now),
                count: counted.counts.iter().sum(),
                sum: Some(counted.sum),
                bucket_counts: counted.counts.to_vec(),
                explicit_bounds: bounds.to_vec(),
                ..HistogramDataPoint::default()
            };
            of.map(point).collect::<Vec<_>>()
        };
        let about = [
            (
                "gen_ai.client.token.usage",
                "tokens that models have read and written",
                "{token}",
                points(TOKENS, |which| which.is_some()),
            ),
            (
                "gen_ai.client.operation.duration",
                "how long models took for an answer",
                "s",
                points(SECONDS, |which| which.is_none()),
            ),
        ];
        let metric = |(name, description, unit, data_points): (&str, &str, &str, Vec<_>)| Metric {
            name: name.to_owned(),
            description: description.to_owned(),
            unit: unit.to_owned(),
            data: Some(Data::Histogram(Histogram {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            })),
            ..Metric::default()
        };
        about.into_iter().filter(|(.., points)| !points.is_empty()).map(metric).collect()
    }

    fn attributes(&self, which: Option<&str>, labels: &Labels) -> Vec<KeyValue> {
        let attributes = Attributes::without(&self.secrets);
        if labels.is_overflow {
            return attributes.text_of("gen_ai.token.type", which).flag("otel.metric.overflow", true).all();
        }
        attributes
            .text("gen_ai.operation.name", labels.operation)
            .text_of("gen_ai.provider.name", Some(labels.provider.as_str()).filter(|provider| !provider.is_empty()))
            .text_of("gen_ai.token.type", which)
            .text_of("gen_ai.request.model", labels.request.as_deref())
            .text_of("gen_ai.response.model", labels.response.as_deref())
            .text_of("server.address", labels.address.as_deref())
            .count("server.port", labels.port.unwrap_or(0).into())
            .text_of("error.type", labels.error.as_deref())
            .all()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bourn_engine::api::Usage;
    use bourn_engine::api::observer::{Answered, Question};

    use super::*;

    fn asked<'a>(model: &'a str, took: u64, ended: Result<Answered<'a>, (&'a str, String)>) -> Asked<'a> {
        let address = Some("https://models.example.com/v1");
        let question =
            Question { operation: "chat", provider: "openai", model: Some(model), address, ..Question::default() };
        let (began, took) = (Timestamp(0), Duration::from_millis(took));
        Asked { step: None, stage: "s", key: "k", attempt: 1, question, began, took, ended }
    }

    fn answered(model: &str, input_tokens: u64, output_tokens: u64) -> Answered<'_> {
        let usage = Usage { input_tokens, output_tokens, usd: 0.0 };
        Answered { model: Some(model), usage, ..Answered::default() }
    }

    fn points(metric: &Metric) -> &[HistogramDataPoint] {
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        &histogram.data_points
    }

    #[test]
    fn questions_are_counted_by_model_in_the_buckets_of_the_conventions() {
        let models = Models::new(Secrets::default());
        assert!(models.metrics(Timestamp(1), Timestamp(2)).is_empty());
        models.asked(&asked("m", 20, Ok(answered("m-1", 4, 5))));
        models.asked(&asked("m", 21, Ok(answered("m-1", 100_000_000, 0))));
        models.asked(&asked("m", 90_000, Err(("timeout", "late".into()))));
        let metrics = models.metrics(Timestamp(1), Timestamp(2));
        let names: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
        assert_eq!(names, [("gen_ai.client.token.usage", "{token}"), ("gen_ai.client.operation.duration", "s")]);
        let counts = |point: &HistogramDataPoint| {
            let of = point.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0);
            (of.map(|(at, count)| (at, *count)).collect::<Vec<_>>(), point.sum.unwrap())
        };
        // What is as large as a bound lies below it.
        let tokens: Vec<_> = points(&metrics[0]).iter().map(counts).collect();
        assert_eq!(tokens, [(vec![(1, 1), (14, 1)], 100_000_004.0), (vec![(2, 1)], 5.0)]);
        let times: Vec<_> = points(&metrics[1]).iter().map(counts).collect();
        assert_eq!(times, [(vec![(14, 1)], 90.0), (vec![(1, 1), (2, 1)], 0.041)]);
        let keys = |point: &HistogramDataPoint| point.attributes.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>();
        let common = ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"];
        let server = ["server.address", "server.port"];
        assert_eq!(keys(&points(&metrics[1])[0]), [&common[..], &server[..], &["error.type"]].concat());
        let all =
            [&common[..2], &["gen_ai.token.type"], &common[2..], &["gen_ai.response.model"], &server[..]].concat();
        assert_eq!(keys(&points(&metrics[0])[0]), all);
    }

    #[test]
    fn labels_that_are_too_many_are_counted_together() {
        let models = Models::new(Secrets::default());
        for n in 0..SETS_MAX + 100 {
            models.asked(&asked(&n.to_string(), 1, Err(("timeout", String::new()))));
        }
        let metrics = models.metrics(Timestamp(1), Timestamp(2));
        let [duration] = &metrics[..] else { panic!("{metrics:?}") };
        let points = points(duration);
        let keys: Vec<_> = points[0].attributes.iter().map(|kv| kv.key.as_str()).collect();
        assert_eq!((points.len(), points.iter().map(|point| point.count).sum::<u64>()), (SETS_MAX + 1, 1_124));
        assert!(
            points.iter().any(|point| point.count == 100 && point.attributes[0].key == "otel.metric.overflow"),
            "{keys:?}"
        );
    }
}
