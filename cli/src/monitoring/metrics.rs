//! The counters of a job in the words of OTLP: the same that `/metrics` has, by the same names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bourn_engine::metrics::publish::Family;
use bourn_engine::metrics::{JobStats, histograms, publish};
use bourn_engine::time::Timestamp;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge as GaugeData, Histogram as HistogramData, HistogramDataPoint, Metric,
    NumberDataPoint, Sum,
};

use super::attributes::text;
use super::spans::nanos;

/// All metrics of a job that has begun at `began`, as they stand at `now`.
pub fn of(stats: &JobStats, began: Timestamp, now: Timestamp) -> Vec<Metric> {
    let gathered = Gathered::default();
    publish(stats, now, &gathered);
    let times = (nanos(began), nanos(now));
    let families = histograms(stats);
    let counted = families.iter().map(|family| of_family(family, times));
    gathered.metrics(times).into_iter().chain(counted).collect()
}

/// A recorder that takes in every counter and gauge once.
#[derive(Default)]
struct Gathered(Mutex<All>);

#[derive(Default)]
struct All {
    about: BTreeMap<String, String>,
    counters: Vec<(Key, Arc<AtomicU64>)>,
    gauges: Vec<(Key, Arc<AtomicU64>)>,
}

impl Gathered {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn about(&self, name: &KeyName, about: &SharedString) {
        self.all().about.insert(name.as_str().to_owned(), about.to_string());
    }

    /// By name, each with all of its points.
    fn metrics(self, times: (u64, u64)) -> Vec<Metric> {
        let All { about, counters, gauges } = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let whole = |value: &AtomicU64| Value::AsInt(i64::try_from(value.load(Relaxed)).unwrap_or(i64::MAX));
        let part = |value: &AtomicU64| Value::AsDouble(f64::from_bits(value.load(Relaxed)));
        let counters = counters.iter().map(|(key, value)| (key, whole(value)));
        let gauges = gauges.iter().map(|(key, value)| (key, part(value)));
        let mut points: BTreeMap<&str, Vec<NumberDataPoint>> = BTreeMap::new();
        for (key, value) in counters.chain(gauges) {
            let point = NumberDataPoint {
                attributes: labels(key),
                start_time_unix_nano: times.0,
                time_unix_nano: times.1,
                value: Some(value),
                ..NumberDataPoint::default()
            };
            points.entry(key.name()).or_default().push(point);
        }
        let metric = |(name, data_points): (&str, _)| {
            // Times and costs are gauges there, since counters hold whole numbers; by their names they only rise.
            let data = if name.ends_with("_total") {
                let aggregation_temporality = AggregationTemporality::Cumulative.into();
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
            } else {
                Data::Gauge(GaugeData { data_points })
            };
            Metric {
                name: name.to_owned(),
                description: about.get(name).cloned().unwrap_or_default(),
                unit: unit(name).to_owned(),
                data: Some(data),
                ..Metric::default()
            }
        };
        points.into_iter().map(metric).collect()
    }
}

/// The unit that a name ends with, as UCUM writes it.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("rows") => "{row}",
        Some("tokens") => "{token}",
        Some("usd") => "USD",
        _ => "1",
    }
}

fn labels(key: &Key) -> Vec<KeyValue> {
    key.labels().map(|label| text(label.key(), label.value())).collect()
}

fn of_family(family: &Family<'_>, times: (u64, u64)) -> Metric {
    let point = |(key, histogram): &(Key, &bourn_engine::metrics::Histogram)| {
        let buckets = histogram.cumulative();
        let below = buckets.iter().map(|(_, below)| *below);
        let before = std::iter::once(0).chain(below.clone());
        HistogramDataPoint {
            attributes: labels(key),
            start_time_unix_nano: times.0,
            time_unix_nano: times.1,
            // Of the same moment as the buckets: the counters go on meanwhile.
            count: buckets.last().map_or(0, |(_, below)| *below),
            sum: Some(Duration::from_nanos(histogram.sum()).as_secs_f64()),
            bucket_counts: below.zip(before).map(|(below, before)| below - before).collect(),
            explicit_bounds: buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..HistogramDataPoint::default()
        }
    };
    let data_points = family.members.iter().map(point).collect();
    Metric {
        name: family.name.to_owned(),
        description: family.about.to_owned(),
        unit: unit(family.name).to_owned(),
        data: Some(Data::Histogram(HistogramData {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        })),
        ..Metric::default()
    }
}

impl Recorder for Gathered {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, about: SharedString) {
        self.about(&key, &about);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, about: SharedString) {
        self.about(&key, &about);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let value = Arc::new(AtomicU64::new(0));
        self.all().counters.push((key.clone(), value.clone()));
        Counter::from_arc(value)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let value = Arc::new(AtomicU64::new(0));
        self.all().gauges.push((key.clone(), value.clone()));
        Gauge::from_arc(value)
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use bourn_engine::metrics::{StageEntry, StageRole, StageStats};

    use super::*;

    #[test]
    fn what_metrics_has_is_there_by_its_name_with_its_value_labels_and_buckets() {
        let lane = |lane, rows| {
            let stats = Arc::new(StageStats::default());
            stats.rows_in.store(rows, Relaxed);
            stats.busy.store(1_500_000_000, Relaxed);
            stats.latency.record(700);
            StageEntry { stage: "s".into(), kind: "map", role: StageRole::Stage, lane, stats }
        };
        let stats = JobStats { pipeline: "p".into(), stages: vec![lane(0, 3), lane(1, 4)], ..JobStats::default() };
        let metrics = of(&stats, Timestamp(1), Timestamp(3));
        let found = |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap();
        let Some(Data::Sum(rows)) = &found("bourn_stage_rows_in_total").data else { panic!("{metrics:?}") };
        let values: Vec<_> = rows.data_points.iter().map(|point| point.value.unwrap()).collect();
        assert_eq!((values, rows.is_monotonic), (vec![Value::AsInt(3), Value::AsInt(4)], true));
        let keys: Vec<_> = rows.data_points[0].attributes.iter().map(|kv| kv.key.as_str()).collect();
        assert_eq!(keys, ["pipeline", "stage", "kind", "lane"]);
        let busy = found("bourn_stage_busy_seconds_total");
        let Some(Data::Sum(seconds)) = &busy.data else { panic!("{busy:?}") };
        assert_eq!((seconds.data_points[0].value, busy.unit.as_str()), (Some(Value::AsDouble(1.5)), "s"));
        let Some(Data::Histogram(latency)) = &found("bourn_stage_latency_seconds").data else { panic!("{metrics:?}") };
        let point = &latency.data_points[0];
        assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>(), point.sum), (1, 1, Some(7e-7)));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_000, 3_000));
        let mut names: Vec<_> = metrics.iter().map(|metric| &metric.name).collect();
        let all = names.len();
        names.dedup();
        assert!(all >= 30 && names.len() == all, "{names:?}");
    }
}
