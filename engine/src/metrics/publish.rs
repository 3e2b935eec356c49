//! The counters of a job, handed to a recorder under the names of the field: `bourn_stage_rows_in_total` and so on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, Unit};

use super::{EdgeStats, Histogram, JobStats, StageEntry, StageStats};
use crate::time::Timestamp;

const ABOUT: Metadata<'static> = Metadata::new("bourn", Level::INFO, None);

type Counter = (&'static str, &'static str, fn(&StageStats) -> &AtomicU64);

const ROWS: [Counter; 17] = [
    ("bourn_stage_rows_in_total", "rows that entered", |s| &s.rows_in),
    ("bourn_stage_rows_out_total", "rows that left by all ports", |s| &s.rows_out),
    ("bourn_stage_rows_rejected_total", "rows that failed", |s| &s.rows_rejected),
    ("bourn_stage_rows_late_total", "rows that came too late", |s| &s.rows_late),
    ("bourn_stage_rows_filtered_total", "rows dropped on purpose", |s| &s.rows_filtered),
    ("bourn_stage_bytes_in_total", "bytes that entered, as held in memory", |s| &s.bytes_in),
    ("bourn_stage_bytes_out_total", "bytes that left, as held in memory", |s| &s.bytes_out),
    ("bourn_stage_retries_total", "requests tried again", |s| &s.retries),
    ("bourn_stage_rows_known_total", "rows whose answers were in the journal", |s| &s.rows_known),
    ("bourn_stage_rows_cached_total", "rows whose answers were in the cache", |s| &s.rows_cached),
    ("bourn_stage_cache_misses_total", "rows whose answers were not in the cache", |s| &s.cache_misses),
    ("bourn_stage_cache_errors_total", "lookups and answers that the cache did not take", |s| &s.cache_errors),
    ("bourn_stage_rows_degraded_total", "rows not asked about, since the budget was spent", |s| &s.rows_degraded),
    ("bourn_stage_input_tokens_total", "tokens that models have read", |s| &s.input_tokens),
    ("bourn_stage_output_tokens_total", "tokens that models have written", |s| &s.output_tokens),
    ("bourn_stage_rows_fallback_total", "rows that a fallback has taken", |s| &s.rows_fallback),
    ("bourn_stage_unknown_fields_total", "fields without a column, left out", |s| &s.unknown_fields),
];

/// Nanoseconds and billionths of a dollar.
const BILLIONTHS: [Counter; 5] = [
    ("bourn_stage_busy_seconds_total", "time at work", |s| &s.busy),
    ("bourn_stage_idle_seconds_total", "time without input", |s| &s.idle),
    ("bourn_stage_backpressured_seconds_total", "time held up by a full edge", |s| &s.backpressured),
    ("bourn_stage_waiting_seconds_total", "time held up by something outside", |s| &s.waiting),
    ("bourn_stage_cost_usd_total", "what models have cost, in US dollars", |s| &s.cost),
];

type EdgeGauge = (&'static str, &'static str, fn(&EdgeStats) -> u64);

const EDGES: [EdgeGauge; 5] = [
    ("bourn_edge_queued_rows", "rows queued before a stage", EdgeStats::queued_rows),
    ("bourn_edge_queued_bytes", "bytes queued before a stage", EdgeStats::queued_bytes),
    ("bourn_edge_capacity_bytes", "bytes reserved for the queue", |e| e.capacity_bytes),
    ("bourn_edge_spooled_rows", "rows that wait on the disk", EdgeStats::spooled_rows),
    ("bourn_edge_spooled_bytes", "bytes on the disk", EdgeStats::spooled_bytes),
];

/// The channels into each lane of each stage: several where it reads several lanes or stages.
fn edges_of_lanes(stats: &JobStats) -> Vec<(Arc<str>, usize, Vec<&EdgeStats>)> {
    let mut lanes: Vec<(Arc<str>, usize, Vec<&EdgeStats>)> = Vec::new();
    for edge in &stats.edges {
        match lanes.iter_mut().find(|(stage, lane, _)| *stage == edge.stage && *lane == edge.lane) {
            Some((_, _, edges)) => edges.push(&edge.stats),
            None => lanes.push((edge.stage.clone(), edge.lane, vec![&edge.stats])),
        }
    }
    lanes
}

/// Sets every counter and gauge of the job in `recorder` to its value at `now`. Call it when someone looks: it costs a few
/// microseconds per stage, and the data path nothing.
///
/// Times and costs are gauges that only rise, since the counters of the `metrics` crate hold whole numbers. Histograms are
/// counted already, and a recorder takes only single values: [`histograms`] gives them.
pub fn publish(stats: &JobStats, now: Timestamp, recorder: &dyn Recorder) {
    let pipeline = Label::new("pipeline", stats.pipeline.clone());
    for entry in &stats.stages {
        let labels = stage_labels(&pipeline, entry);
        for (name, about, counter) in ROWS {
            set_counter(recorder, name, about, labels.clone(), counter(&entry.stats).load(Relaxed));
        }
        for (name, about, counter) in BILLIONTHS {
            let value = counter(&entry.stats).load(Relaxed) as f64 / 1e9;
            set_gauge(recorder, name, about, labels.clone(), value);
        }
        let held = entry.stats.rows_held.load(Relaxed) as f64;
        set_gauge(recorder, "bourn_stage_rows_held", "rows held back now", labels, held);
    }
    for (stage, lane, edges) in edges_of_lanes(stats) {
        let labels = vec![pipeline.clone(), Label::new("stage", stage), Label::new("lane", lane.to_string())];
        for (name, about, get) in EDGES {
            let sum: u64 = edges.iter().map(|e| get(e)).sum();
            set_gauge(recorder, name, about, labels.clone(), sum as f64);
        }
        let dropped = edges.iter().map(|e| e.rows_dropped()).sum();
        let name = "bourn_edge_dropped_rows_total";
        set_counter(recorder, name, "rows dropped because the queue was full", labels, dropped);
    }
    let job = vec![pipeline];
    if let Some(event_time) = stats.event_time() {
        let lag = now.since(event_time).as_secs_f64();
        set_gauge(
            recorder,
            "bourn_watermark_lag_seconds",
            "how far event time lags behind the clock",
            job.clone(),
            lag,
        );
    }
    for (name, about, count) in [
        ("bourn_checkpoint_epochs_total", "epochs committed", &stats.epochs),
        ("bourn_checkpoint_written_total", "checkpoints written", &stats.checkpoints),
        ("bourn_checkpoint_bytes_total", "bytes written for checkpoints", &stats.checkpoint_bytes),
        ("bourn_checkpoint_timeouts_total", "times that a checkpoint took too long", &stats.checkpoint_timeouts),
    ] {
        set_counter(recorder, name, about, job.clone(), count.load(Relaxed));
    }
}

/// The histograms of one name.
#[derive(Debug)]
pub struct Family<'a> {
    /// The name, which ends with the unit.
    pub name: &'static str,
    /// What is measured.
    pub about: &'static str,
    /// Each with its labels.
    pub members: Vec<(Key, &'a Histogram)>,
}

/// Every histogram of the job, for an exporter that takes counted ones.
pub fn histograms(stats: &JobStats) -> Vec<Family<'_>> {
    let pipeline = Label::new("pipeline", stats.pipeline.clone());
    let of_job = |name, about, histogram| Family {
        name,
        about,
        members: vec![(Key::from_parts(name, vec![pipeline.clone()]), histogram)],
    };
    let name = "bourn_stage_latency_seconds";
    let of_stage = |entry| (Key::from_parts(name, stage_labels(&pipeline, entry)), &entry.stats.latency);
    let mut all = vec![
        Family { name, about: "time that a batch took", members: stats.stages.iter().map(of_stage).collect() },
        of_job("bourn_pipeline_latency_seconds", "time from reading a row to writing it", &stats.latency),
        of_job("bourn_checkpoint_duration_seconds", "time from barrier to commit", &stats.epoch_duration),
    ];
    // Few stages have answers in pieces.
    let name = "bourn_stage_first_piece_seconds";
    let in_pieces = stats.stages.iter().filter(|entry| entry.stats.first_piece.count() > 0);
    let of_stage = |entry| (Key::from_parts(name, stage_labels(&pipeline, entry)), &entry.stats.first_piece);
    let members: Vec<_> = in_pieces.map(of_stage).collect();
    if !members.is_empty() {
        all.push(Family { name, about: "time to the first piece of an answer that comes in pieces", members });
    }
    all
}

fn stage_labels(pipeline: &Label, entry: &StageEntry) -> Vec<Label> {
    vec![
        pipeline.clone(),
        Label::new("stage", entry.stage.clone()),
        Label::new("kind", entry.kind),
        Label::new("lane", entry.lane.to_string()),
    ]
}

fn set_counter(recorder: &dyn Recorder, name: &'static str, about: &'static str, labels: Vec<Label>, value: u64) {
    recorder.describe_counter(KeyName::from_const_str(name), Some(Unit::Count), about.into());
    recorder.register_counter(&Key::from_parts(name, labels), &ABOUT).absolute(value);
}

fn set_gauge(recorder: &dyn Recorder, name: &'static str, about: &'static str, labels: Vec<Label>, value: f64) {
    recorder.describe_gauge(KeyName::from_const_str(name), None, about.into());
    recorder.register_gauge(&Key::from_parts(name, labels), &ABOUT).set(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{StageRole, StageStats};
    use metrics::{Counter as CounterHandle, Gauge, GaugeFn, SharedString};
    use std::sync::Mutex;

    /// Keeps the gauges of the watermark.
    #[derive(Default)]
    struct Lag(Arc<Mutex<Vec<f64>>>);

    impl GaugeFn for Lag {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}
        fn set(&self, value: f64) {
            self.0.lock().unwrap().push(value);
        }
    }

    impl Recorder for Lag {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> CounterHandle {
            CounterHandle::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            let is_lag = key.name() == "bourn_watermark_lag_seconds";
            if is_lag { Gauge::from_arc(Arc::new(Self(self.0.clone()))) } else { Gauge::noop() }
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
            metrics::Histogram::noop()
        }
    }

    #[test]
    fn the_lag_is_that_of_the_last_sink_and_absent_where_no_event_time_is() {
        let sink = |lane| StageEntry {
            stage: "out".into(),
            kind: "test",
            role: StageRole::Sink,
            lane,
            stats: Arc::new(StageStats::default()),
        };
        let stats = JobStats { stages: vec![sink(0), sink(1)], ..JobStats::default() };
        let lag = || {
            let recorder = Lag::default();
            publish(&stats, Timestamp(10_000_000), &recorder);
            recorder.0.lock().unwrap().clone()
        };
        assert_eq!(lag(), [0.0; 0]);
        stats.stages[0].stats.event_time.advance(Timestamp(7_000_000));
        stats.stages[1].stats.event_time.advance(Timestamp(4_000_000));
        assert_eq!(lag(), [6.0]);
        // What has ended holds nothing back.
        stats.stages[1].stats.event_time.advance(Timestamp::MAX);
        assert_eq!(lag(), [3.0]);
        stats.stages[0].stats.event_time.advance(Timestamp::MAX);
        assert_eq!(lag(), [0.0; 0]);
    }

    #[test]
    fn the_time_to_the_first_piece_is_told_where_answers_come_in_pieces() {
        let entry = |stage: &str| StageEntry {
            stage: stage.into(),
            kind: "model",
            role: StageRole::Stage,
            lane: 0,
            stats: Arc::new(StageStats::default()),
        };
        let stats = JobStats { stages: vec![entry("a"), entry("b")], ..JobStats::default() };
        let told = || {
            let all = histograms(&stats);
            let pieces = all.into_iter().filter(|family| family.name == "bourn_stage_first_piece_seconds");
            pieces.map(|family| family.members.len()).collect::<Vec<_>>()
        };
        assert_eq!(told(), [0; 0]);
        stats.stages[1].stats.first_piece.record(1);
        assert_eq!(told(), [1]);
    }
}
