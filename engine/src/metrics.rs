//! Counters of stages, edges and jobs: kept here, shown by the command line, published to a recorder on demand.

pub mod histogram;
pub mod limits;
pub mod publish;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::time::Timestamp;
pub use histogram::{Histogram, LocalHistogram};
pub use limits::{Bucket, Limit, Standing};
pub use publish::{histograms, publish};

/// What one lane of one stage, source or sink has done so far. Written by its task alone, read by anyone.
#[derive(Debug, Default)]
pub struct StageStats {
    /// Rows that entered; for a source, rows that it read, the unreadable ones included.
    pub rows_in: AtomicU64,
    /// Rows that left by all ports.
    pub rows_out: AtomicU64,
    /// Rows that failed here.
    pub rows_rejected: AtomicU64,
    /// Rows that came too late.
    pub rows_late: AtomicU64,
    /// Rows dropped on purpose.
    pub rows_filtered: AtomicU64,
    /// Rows whose answers were in the journal, so that nobody was asked.
    pub rows_known: AtomicU64,
    /// Rows whose answers were in the cache.
    pub rows_cached: AtomicU64,
    /// Rows whose answers it did not have.
    pub cache_misses: AtomicU64,
    /// How often it could not be asked, or told.
    pub cache_errors: AtomicU64,
    /// Rows about which nobody was asked, since the budget was spent.
    pub rows_degraded: AtomicU64,
    /// Tokens that models have read.
    pub input_tokens: AtomicU64,
    /// Tokens that models have written.
    pub output_tokens: AtomicU64,
    /// What that cost, in billionths of a US dollar.
    pub cost: AtomicU64,
    /// Rows held back now.
    pub rows_held: AtomicU64,
    /// Bytes that entered, as held in memory.
    pub bytes_in: AtomicU64,
    /// Bytes that left, as held in memory.
    pub bytes_out: AtomicU64,
    /// Nanoseconds of work.
    pub busy: AtomicU64,
    /// Nanoseconds without input.
    pub idle: AtomicU64,
    /// Nanoseconds in which a full edge behind it held it up.
    pub backpressured: AtomicU64,
    /// Nanoseconds in which something outside held it up: an input, an answer, a disk.
    pub waiting: AtomicU64,
    /// Nanoseconds that a batch took.
    pub latency: Histogram,
    /// Nanoseconds until the first piece of an answer that came in pieces.
    pub first_piece: Histogram,
    /// Requests tried again.
    pub retries: AtomicU64,
    /// Of the rows that left a sink, those that a fallback has taken.
    pub rows_fallback: AtomicU64,
    /// Fields of rows for which a source has no column, and left out.
    pub unknown_fields: AtomicU64,
    /// The watermark that a sink has come to.
    pub event_time: EventTime,
}

/// How far event time has come: none before the first watermark, and none after the last.
#[derive(Debug)]
pub struct EventTime(AtomicI64);

impl Default for EventTime {
    fn default() -> Self {
        Self(AtomicI64::new(Timestamp::MIN.0))
    }
}

impl EventTime {
    /// Notes a watermark.
    pub fn advance(&self, to: Timestamp) {
        self.0.store(to.0, Relaxed);
    }

    /// The last watermark.
    pub fn get(&self) -> Option<Timestamp> {
        let time = Timestamp(self.0.load(Relaxed));
        (time != Timestamp::MIN && time != Timestamp::MAX).then_some(time)
    }
}

/// The counts of a task between two looks, without atomics: added to the shared ones when the task waits.
#[derive(Debug, Default)]
pub struct Tally {
    /// As in [`StageStats`].
    pub rows_in: u64,
    /// As in [`StageStats`].
    pub rows_out: u64,
    /// As in [`StageStats`].
    pub rows_rejected: u64,
    /// As in [`StageStats`].
    pub rows_late: u64,
    /// As in [`StageStats`].
    pub rows_filtered: u64,
    /// As in [`StageStats`].
    pub bytes_in: u64,
    /// As in [`StageStats`].
    pub bytes_out: u64,
    /// As in [`StageStats`].
    pub busy: u64,
    /// As in [`StageStats`].
    pub latency: LocalHistogram,
}

impl Tally {
    /// Notes one batch's time.
    pub fn batch(&mut self, took: Duration) {
        self.batches(took, 1);
    }

    /// Notes the time of so many batches, each of which took as long.
    pub fn batches(&mut self, took: Duration, count: u32) {
        let nanos = nanos(took);
        self.busy += nanos * u64::from(count);
        self.latency.record_times(nanos, count);
    }

    /// Adds the counts to the shared ones and starts anew.
    pub fn flush(&mut self, to: &StageStats) {
        let pairs = [
            (&mut self.rows_in, &to.rows_in),
            (&mut self.rows_out, &to.rows_out),
            (&mut self.rows_rejected, &to.rows_rejected),
            (&mut self.rows_late, &to.rows_late),
            (&mut self.rows_filtered, &to.rows_filtered),
            (&mut self.bytes_in, &to.bytes_in),
            (&mut self.bytes_out, &to.bytes_out),
            (&mut self.busy, &to.busy),
        ];
        for (from, to) in pairs {
            if *from != 0 {
                to.fetch_add(std::mem::take(from), Relaxed);
            }
        }
        self.latency.flush(&to.latency);
    }
}

/// A duration as the counters keep it.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a channel holds now. Each count has one writer, so none needs an atomic addition.
#[derive(Debug, Default)]
pub struct EdgeStats {
    /// Rows and bytes that were sent.
    sent: (AtomicU64, AtomicU64),
    /// Rows and bytes that were taken out.
    taken: (AtomicU64, AtomicU64),
    /// Rows that were dropped because it was full.
    dropped: AtomicU64,
    /// Rows and bytes that wait on the disk before it.
    spooled: (AtomicU64, AtomicU64),
    /// Bytes reserved for it at planning.
    pub capacity_bytes: u64,
}

impl EdgeStats {
    /// The counts of an empty channel with so many bytes reserved.
    pub fn of(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, ..Self::default() }
    }

    /// Notes what the writer of the channel has sent.
    pub fn sent(&self, rows: u64, bytes: u64) {
        add(&self.sent.0, rows);
        add(&self.sent.1, bytes);
    }

    /// Notes what the reader of the channel has taken out.
    pub fn taken(&self, rows: u64, bytes: u64) {
        add(&self.taken.0, rows);
        add(&self.taken.1, bytes);
    }

    /// Notes rows that the writer has dropped.
    pub fn dropped(&self, rows: u64) {
        add(&self.dropped, rows);
    }

    /// Notes what waits on the disk before the channel.
    pub fn spooled(&self, rows: u64, bytes: u64) {
        self.spooled.0.store(rows, Relaxed);
        self.spooled.1.store(bytes, Relaxed);
    }

    /// Rows that were dropped so far.
    pub fn rows_dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Rows that wait on the disk.
    pub fn spooled_rows(&self) -> u64 {
        self.spooled.0.load(Relaxed)
    }

    /// Bytes on the disk.
    pub fn spooled_bytes(&self) -> u64 {
        self.spooled.1.load(Relaxed)
    }

    /// Rows queued.
    pub fn queued_rows(&self) -> u64 {
        queued(&self.sent.0, &self.taken.0)
    }

    /// Bytes queued.
    pub fn queued_bytes(&self) -> u64 {
        queued(&self.sent.1, &self.taken.1)
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}

/// What was taken is read first, and may lag behind: never less than nothing is queued.
fn queued(sent: &AtomicU64, taken: &AtomicU64) -> u64 {
    let taken = taken.load(Relaxed);
    sent.load(Relaxed).saturating_sub(taken)
}

/// The counters of a stage's lane, with what they are labelled by.
#[derive(Clone, Debug)]
pub struct StageEntry {
    /// The id in the spec.
    pub stage: Arc<str>,
    /// `source`, `sink`, or the stage's kind.
    pub kind: &'static str,
    /// The role, for tables.
    pub role: StageRole,
    /// Which lane.
    pub lane: usize,
    /// The counters.
    pub stats: Arc<StageStats>,
}

/// What a counted thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageRole {
    /// It reads.
    Source,
    /// It transforms.
    Stage,
    /// It writes.
    Sink,
}

/// The counters of a channel, with what they are labelled by.
#[derive(Clone, Debug)]
pub struct EdgeEntry {
    /// The stage that reads it.
    pub stage: Arc<str>,
    /// The lane that reads it.
    pub lane: usize,
    /// The counters.
    pub stats: Arc<EdgeStats>,
}

/// The counters of a job.
#[derive(Debug, Default)]
pub struct JobStats {
    /// The name of the job: the label `pipeline`.
    pub pipeline: String,
    /// Every lane of every source, stage and sink, in the order of the plan.
    pub stages: Vec<StageEntry>,
    /// Every channel.
    pub edges: Vec<EdgeEntry>,
    /// Nanoseconds from reading a row to writing it, per batch.
    pub latency: Histogram,
    /// How much of the finite inputs has been read, in the sources' own units.
    pub input_done: AtomicU64,
    /// How much there is to read; 0 when it is not known.
    pub input_total: AtomicU64,
    /// Epochs committed.
    pub epochs: AtomicU64,
    /// Checkpoints written; epochs in which nothing has happened need none.
    pub checkpoints: AtomicU64,
    /// Bytes written for them.
    pub checkpoint_bytes: AtomicU64,
    /// How often one has taken longer than its `timeout`.
    pub checkpoint_timeouts: AtomicU64,
    /// Nanoseconds that epochs took, from the barrier to the commit.
    pub epoch_duration: Histogram,
    /// Whether it was asked to stop before its inputs had ended.
    pub stopped: AtomicBool,
    /// Why the job has stopped itself, to go on later.
    pub paused: OnceLock<String>,
    /// What requests are limited by, as it stands.
    pub limits: OnceLock<Vec<Limit>>,
}

impl JobStats {
    /// The sum of one counter over the lanes of a stage.
    pub fn total(&self, stage: &str, counter: fn(&StageStats) -> &AtomicU64) -> u64 {
        self.stages.iter().filter(|s| &*s.stage == stage).map(|s| counter(&s.stats).load(Relaxed)).sum()
    }

    /// Bytes that wait in its channels now.
    pub fn queued_bytes(&self) -> u64 {
        self.edges.iter().map(|edge| edge.stats.queued_bytes()).sum()
    }

    /// Rows that the sources have read.
    pub fn rows_read(&self) -> u64 {
        self.sum(StageRole::Source, |s| &s.rows_out)
    }

    /// Rows that the sources have come to, and those among them that were none.
    pub fn rows_met(&self) -> u64 {
        self.sum(StageRole::Source, |s| &s.rows_in)
    }

    /// Rows about which nobody was asked, since a budget was spent.
    pub fn rows_degraded(&self) -> u64 {
        self.sum(StageRole::Stage, |s| &s.rows_degraded)
    }

    /// Rows that the sinks have written.
    pub fn rows_written(&self) -> u64 {
        self.sum(StageRole::Sink, |s| &s.rows_out)
    }

    /// Rows that failed in any source, stage or sink.
    pub fn rows_rejected(&self) -> u64 {
        self.stages.iter().map(|s| s.stats.rows_rejected.load(Relaxed)).sum()
    }

    /// Whether there were rows, and all of them were rejected. What went to the dead letters did not get through.
    pub fn gets_nothing_through(&self, dead_letters: Option<&str>) -> bool {
        let is_written = |s: &StageEntry| {
            s.role == StageRole::Sink && Some(&*s.stage) != dead_letters && s.stats.rows_out.load(Relaxed) > 0
        };
        let met = self.rows_met();
        met > 0 && self.rows_rejected() >= met && !self.stages.iter().any(is_written)
    }

    fn sum(&self, role: StageRole, counter: fn(&StageStats) -> &AtomicU64) -> u64 {
        self.stages.iter().filter(|s| s.role == role).map(|s| counter(&s.stats).load(Relaxed)).sum()
    }

    /// Rows that the edges into a stage or sink have dropped.
    pub fn dropped(&self, stage: &str) -> u64 {
        self.edges.iter().filter(|e| &*e.stage == stage).map(|e| e.stats.rows_dropped()).sum()
    }

    /// How far event time has come in every sink that has any.
    pub fn event_time(&self) -> Option<Timestamp> {
        self.stages.iter().filter_map(|s| s.stats.event_time.get()).min()
    }

    /// The ids of the stages in order, each once.
    pub fn stage_ids(&self) -> Vec<Arc<str>> {
        let mut ids: Vec<Arc<str>> = Vec::new();
        for entry in &self.stages {
            if !ids.contains(&entry.stage) {
                ids.push(entry.stage.clone());
            }
        }
        ids
    }
}
