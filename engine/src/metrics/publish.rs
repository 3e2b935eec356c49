//! The counters of a job, handed to a recorder under the names of the field: `bourn_stage_rows_in_total` and so on.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, Unit};

use super::{Histogram, JobStats, StageEntry, StageStats};

const ABOUT: Metadata<'static> = Metadata::new("bourn", Level::INFO, None);

type Counter = (&'static str, &'static str, fn(&StageStats) -> &AtomicU64);

const ROWS: [Counter; 8] = [
    ("bourn_stage_rows_in_total", "rows that entered", |s| &s.rows_in),
    ("bourn_stage_rows_out_total", "rows that left by all ports", |s| &s.rows_out),
    ("bourn_stage_rows_rejected_total", "rows that failed", |s| &s.rows_rejected),
    ("bourn_stage_rows_late_total", "rows that came too late", |s| &s.rows_late),
    ("bourn_stage_rows_filtered_total", "rows dropped on purpose", |s| &s.rows_filtered),
    ("bourn_stage_bytes_in_total", "bytes that entered, as held in memory", |s| &s.bytes_in),
    ("bourn_stage_bytes_out_total", "bytes that left, as held in memory", |s| &s.bytes_out),
    ("bourn_stage_retries_total", "requests tried again", |s| &s.retries),
];

const TIMES: [Counter; 4] = [
    ("bourn_stage_busy_seconds_total", "time at work", |s| &s.busy),
    ("bourn_stage_idle_seconds_total", "time without input", |s| &s.idle),
    ("bourn_stage_backpressured_seconds_total", "time held up by a full edge", |s| &s.backpressured),
    ("bourn_stage_waiting_seconds_total", "time held up by something outside", |s| &s.waiting),
];

/// Sets every metric of the job in `recorder` to its present value. Call it when someone looks: it costs a few
/// microseconds per stage, and the data path nothing.
///
/// Times are gauges of seconds that only rise, since the counters of the `metrics` crate hold whole numbers; histograms
/// are published as their cumulative buckets (`…_bucket` with the label `le`), `…_sum` and `…_count`.
pub fn publish(stats: &JobStats, recorder: &dyn Recorder) {
    let pipeline = Label::new("pipeline", stats.pipeline.clone());
    for entry in &stats.stages {
        let labels = stage_labels(&pipeline, entry);
        for (name, about, counter) in ROWS {
            set_counter(recorder, name, about, labels.clone(), counter(&entry.stats).load(Relaxed));
        }
        for (name, about, counter) in TIMES {
            let seconds = counter(&entry.stats).load(Relaxed) as f64 / 1e9;
            set_gauge(recorder, name, about, labels.clone(), seconds);
        }
        set_gauge(
            recorder,
            "bourn_stage_rows_held",
            "rows held back now",
            labels.clone(),
            entry.stats.rows_held.load(Relaxed) as f64,
        );
        set_histogram(recorder, "bourn_stage_latency_seconds", "time that a batch took", labels, &entry.stats.latency);
    }
    for edge in &stats.edges {
        let labels =
            vec![pipeline.clone(), Label::new("stage", edge.stage.clone()), Label::new("lane", edge.lane.to_string())];
        let queued = |n: &AtomicI64| n.load(Relaxed).max(0) as f64;
        set_gauge(
            recorder,
            "bourn_edge_queued_rows",
            "rows queued before a stage",
            labels.clone(),
            queued(&edge.stats.queued_rows),
        );
        set_gauge(
            recorder,
            "bourn_edge_queued_bytes",
            "bytes queued before a stage",
            labels.clone(),
            queued(&edge.stats.queued_bytes),
        );
        set_gauge(
            recorder,
            "bourn_edge_capacity_bytes",
            "bytes reserved for the queue",
            labels,
            edge.stats.capacity_bytes as f64,
        );
    }
    let job = vec![pipeline];
    // Sources can't declare an event time yet, so nothing lags behind it.
    set_gauge(recorder, "bourn_watermark_lag_seconds", "how far event time lags behind the clock", job.clone(), 0.0);
    set_histogram(
        recorder,
        "bourn_pipeline_latency_seconds",
        "time from reading a row to writing it",
        job.clone(),
        &stats.latency,
    );
    set_counter(recorder, "bourn_checkpoint_epochs_total", "epochs committed", job.clone(), stats.epochs.load(Relaxed));
    set_histogram(
        recorder,
        "bourn_checkpoint_duration_seconds",
        "time from barrier to commit",
        job,
        &stats.epoch_duration,
    );
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

fn set_histogram(
    recorder: &dyn Recorder,
    name: &'static str,
    about: &'static str,
    labels: Vec<Label>,
    value: &Histogram,
) {
    let part = |suffix: &str| format!("{name}_{suffix}");
    recorder.describe_counter(KeyName::from(part("bucket")), Some(Unit::Count), about.into());
    let (mut shown, count) = (0, value.count());
    for (bound, below) in value.cumulative() {
        // Only bounds at which the count changes are published: a bucket without values says nothing new.
        if below > shown {
            shown = below;
            let mut labels = labels.clone();
            labels.push(Label::new("le", format!("{bound:.9}")));
            recorder.register_counter(&Key::from_parts(part("bucket"), labels), &ABOUT).absolute(below);
        }
    }
    let mut last = labels.clone();
    last.push(Label::new("le", "+Inf"));
    recorder.register_counter(&Key::from_parts(part("bucket"), last), &ABOUT).absolute(count);
    recorder.register_counter(&Key::from_parts(part("count"), labels.clone()), &ABOUT).absolute(count);
    recorder.register_gauge(&Key::from_parts(part("sum"), labels), &ABOUT).set(value.sum() as f64 / 1e9);
}
