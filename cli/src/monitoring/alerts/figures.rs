//! The figures of a job, as conditions of alerts read them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bourn_engine::api::{Budget, Usage};
use bourn_engine::journal::RunState;
use bourn_engine::metrics::{EdgeStats, JobStats, StageRole, StageStats};
use serde_json::{Map, Value, json};

use super::counts::Counts;

type Count = (&'static str, fn(&StageStats) -> &AtomicU64);

/// What of a stage is counted, by the names of its metrics.
const COUNTS: [Count; 10] = [
    ("rows_in", |s| &s.rows_in),
    ("rows_out", |s| &s.rows_out),
    ("rows_rejected", |s| &s.rows_rejected),
    ("rows_late", |s| &s.rows_late),
    ("rows_filtered", |s| &s.rows_filtered),
    ("rows_degraded", |s| &s.rows_degraded),
    ("rows_fallback", |s| &s.rows_fallback),
    ("retries", |s| &s.retries),
    ("input_tokens", |s| &s.input_tokens),
    ("output_tokens", |s| &s.output_tokens),
];

/// Its time, in nanoseconds: what is told is the share of it.
const SHARES: [Count; 3] =
    [("busy", |s| &s.busy), ("backpressured", |s| &s.backpressured), ("waiting", |s| &s.waiting)];

type Gauge = (&'static str, fn(&EdgeStats) -> u64);

/// What stands before a stage now.
const QUEUES: [Gauge; 3] = [
    ("queued_rows", EdgeStats::queued_rows),
    ("queued_bytes", EdgeStats::queued_bytes),
    ("spooled_rows", EdgeStats::spooled_rows),
];

/// A job that is looked at.
pub struct Job {
    /// Of the spec.
    pub name: String,
    /// What may be spent.
    pub budget: Budget,
    /// The sink of its dead letters.
    pub dead_letters: Option<String>,
    /// Whether its inputs are runs.
    pub has_runs: bool,
    /// How its runs stand.
    pub counts: Arc<Counts>,
}

/// A job that has started.
#[derive(Clone)]
pub struct Started {
    /// Its counters.
    pub stats: Arc<JobStats>,
    /// When.
    pub at: Duration,
}

/// What only rises, as it stood at one time.
#[derive(Default)]
pub struct Snapshot {
    /// Since the job began.
    pub at: Duration,
    /// Runs that started, completed, failed and were canceled.
    runs: [u64; 4],
    stages: BTreeMap<Arc<str>, Counted>,
}

#[derive(Default)]
struct Counted {
    counts: [u64; COUNTS.len()],
    times: [u64; SHARES.len()],
    cost: u64,
    dropped: u64,
    /// How many batches took so long, by the bits of the middle of the bucket, which sort as the numbers do.
    latency: BTreeMap<u64, u64>,
}

#[cfg(test)]
impl Snapshot {
    /// One in which nothing has happened.
    pub fn empty(at: Duration) -> Self {
        Self { at, ..Self::default() }
    }
}

impl Job {
    /// What has been counted at `now`.
    pub fn snapshot(&self, Started { stats, at }: &Started, now: Duration) -> Snapshot {
        let mut stages: BTreeMap<Arc<str>, Counted> = BTreeMap::new();
        for entry in &stats.stages {
            let counted = stages.entry(entry.stage.clone()).or_default();
            let add = |sums: &mut [u64], all: &[Count]| {
                sums.iter_mut().zip(all).for_each(|(sum, (_, of))| *sum += of(&entry.stats).load(Relaxed));
            };
            add(&mut counted.counts, &COUNTS);
            add(&mut counted.times, &SHARES);
            counted.cost += entry.stats.cost.load(Relaxed);
            for (middle, count) in entry.stats.latency.buckets() {
                *counted.latency.entry(middle.to_bits()).or_default() += count;
            }
        }
        for (stage, counted) in &mut stages {
            counted.dropped = stats.dropped(stage);
        }
        let runs = self.counts.runs();
        // Each row that is read is the input of a run.
        let started = runs.started.unwrap_or_else(|| if self.has_runs { stats.rows_read() } else { 0 });
        let runs = [started, runs.completed, runs.failed, runs.canceled];
        Snapshot { at: now.saturating_sub(*at), runs, stages }
    }

    /// The figures at the time of `now`, with what was counted since `before`; `spent` is what earlier processes have.
    pub fn figures(&self, started: &Started, before: &Snapshot, now: &Snapshot, spent: Usage) -> Value {
        let span = now.at.saturating_sub(before.at);
        let stages: BTreeMap<_, _> = now
            .stages
            .iter()
            .map(|(id, counted)| {
                let none = Counted::default();
                let counted = counted.since(before.stages.get(id).unwrap_or(&none));
                (id.clone(), counted)
            })
            .collect();
        let of_stage =
            |(id, counted): (&Arc<str>, &Counted)| (id.to_string(), stage(id, counted, span, &started.stats).into());
        json!({
            "job": { "name": self.name, "elapsed_seconds": now.at.as_secs_f64() },
            "runs": self.runs(before, now, started),
            "rows": self.rows(&stages, &started.stats),
            "budget": self.budget(now, spent),
            "stages": stages.iter().map(of_stage).collect::<Map<_, _>>(),
        })
    }

    fn runs(&self, before: &Snapshot, now: &Snapshot, job: &Started) -> Value {
        let mut since = now.runs;
        since.iter_mut().zip(before.runs).for_each(|(now, before)| *now = now.saturating_sub(before));
        let [started, completed, failed, canceled] = since;
        let runs = self.counts.runs();
        let (waiting, paused) = (runs.at_rest(RunState::Waiting), runs.at_rest(RunState::Paused));
        let ended: u64 = now.runs[1..].iter().sum();
        let under_way = runs.started.map_or(now.runs[0].saturating_sub(ended), |_| runs.running() as u64);
        let longest = runs.longest().map(|(id, since)| (id, (job.at + now.at).saturating_sub(*since).as_secs_f64()));
        json!({
            "started": started, "ended": completed + failed + canceled,
            "completed": completed, "failed": failed, "canceled": canceled,
            "failure_rate": share(failed as f64, (completed + failed + canceled) as f64),
            "running": under_way, "waiting": waiting, "paused": paused,
            "longest_running": longest.map_or("", |(id, _)| id), "longest_running_seconds": longest.map_or(0.0, |(_, time)| time),
        })
    }

    fn rows(&self, stages: &BTreeMap<Arc<str>, Counted>, stats: &JobStats) -> Value {
        let is = |role: StageRole| move |id: &str| stats.stages.iter().any(|s| &*s.stage == id && s.role == role);
        let sum = |which: &dyn Fn(&str) -> bool, name: &str| -> u64 {
            stages.iter().filter(|(id, _)| which(id)).map(|(_, counted)| counted.count(name)).sum()
        };
        let (source, sink, all) = (is(StageRole::Source), is(StageRole::Sink), |_: &str| true);
        let letters = |id: &str| self.dead_letters.as_deref() == Some(id);
        let (met, rejected) = (sum(&source, "rows_in"), sum(&all, "rows_rejected"));
        json!({
            "read": sum(&source, "rows_out"), "written": sum(&sink, "rows_out"), "rejected": rejected,
            "rejection_rate": share(rejected as f64, met as f64), "degraded": sum(&all, "rows_degraded"),
            "dropped": stages.values().map(|counted| counted.dropped).sum::<u64>(), "dead_letters": sum(&letters, "rows_out"),
        })
    }

    /// What was spent of all that may be, in this process and those before.
    fn budget(&self, now: &Snapshot, spent: Usage) -> Value {
        let all = now.stages.values();
        let tokens: u64 = all.clone().map(|s| s.count("input_tokens") + s.count("output_tokens")).sum();
        let tokens = tokens + spent.input_tokens + spent.output_tokens;
        let usd = spent.usd + all.map(|s| s.cost).sum::<u64>() as f64 / 1e9;
        let of_usd = self.budget.usd.map_or(0.0, |most| share(usd, most));
        let of_tokens = self.budget.tokens.map_or(0.0, |most| share(tokens as f64, most as f64));
        json!({ "usd": usd, "tokens": tokens, "share": of_usd.max(of_tokens) })
    }
}

fn stage(id: &str, counted: &Counted, span: Duration, stats: &JobStats) -> Map<String, Value> {
    let lanes = || stats.stages.iter().filter(|s| &*s.stage == id);
    let time = span.as_nanos() as f64 * lanes().count() as f64;
    let counts = COUNTS.iter().zip(counted.counts).map(|((name, _), count)| (*name, json!(count)));
    let shares =
        SHARES.iter().zip(counted.times).map(|((name, _), nanos)| (*name, json!(share(nanos as f64, time).min(1.0))));
    let edges = || stats.edges.iter().filter(|edge| &*edge.stage == id);
    let queues = QUEUES.iter().map(|(name, of)| (*name, json!(edges().map(|edge| of(&edge.stats)).sum::<u64>())));
    let held: u64 = lanes().map(|s| s.stats.rows_held.load(Relaxed)).sum();
    let others = [
        ("cost_usd", json!(counted.cost as f64 / 1e9)),
        ("rows_held", json!(held)),
        ("latency_p50_seconds", json!(counted.latency(0.5))),
        ("latency_p99_seconds", json!(counted.latency(0.99))),
    ];
    counts.chain(shares).chain(queues).chain(others).map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Counted {
    fn count(&self, name: &str) -> u64 {
        COUNTS.iter().zip(self.counts).find(|((known, _), _)| *known == name).map_or(0, |(_, count)| count)
    }

    /// What was counted between the two.
    fn since(&self, before: &Self) -> Self {
        let mut since = Self {
            cost: self.cost.saturating_sub(before.cost),
            dropped: self.dropped.saturating_sub(before.dropped),
            ..Self::default()
        };
        let less = |(now, before): (u64, u64)| now.saturating_sub(before);
        since.counts.iter_mut().zip(self.counts.into_iter().zip(before.counts)).for_each(|(to, both)| *to = less(both));
        since.times.iter_mut().zip(self.times.into_iter().zip(before.times)).for_each(|(to, both)| *to = less(both));
        let earlier = |bucket: &u64| before.latency.get(bucket).copied().unwrap_or(0);
        since.latency =
            self.latency.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(earlier(bucket)))).collect();
        since
    }

    /// The seconds within which this share of the batches was done; 0 without any.
    fn latency(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.latency.values().sum::<u64>() as f64).ceil().max(1.0);
        let mut seen = 0.0;
        let found = self.latency.iter().find(|(_, count)| {
            seen += **count as f64;
            seen >= rank
        });
        found.map_or(0.0, |(bucket, _)| f64::from_bits(*bucket))
    }
}

/// A part of a whole; nothing of nothing is 0.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use bourn_engine::metrics::{EdgeEntry, StageEntry};
    use bourn_engine::spec::alerts::FIGURES;
    use bourn_engine::testing::simulation::Simulation;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn job() -> (Job, Started) {
        let entry = |stage: &str, role, lane| StageEntry {
            stage: stage.into(),
            kind: "test",
            role,
            lane,
            stats: Arc::new(StageStats::default()),
        };
        let stages = vec![
            entry("in", StageRole::Source, 0),
            entry("say", StageRole::Stage, 0),
            entry("say", StageRole::Stage, 1),
            entry("dead_letters", StageRole::Sink, 0),
        ];
        let edge = EdgeEntry { stage: "say".into(), lane: 0, stats: Arc::new(EdgeStats::of(9)) };
        let stats = Arc::new(JobStats { stages, edges: vec![edge], ..JobStats::default() });
        let counts = Arc::new(Counts::new(Simulation::new(1).env()));
        let budget = Budget { usd: Some(2.0), tokens: Some(1_000), ..Budget::default() };
        let job = Job { name: "j".into(), budget, dead_letters: Some("dead_letters".into()), has_runs: false, counts };
        (job, Started { stats, at: SECOND })
    }

    #[test]
    fn there_are_the_figures_that_conditions_may_read_and_no_others() {
        let (job, started) = job();
        let figures =
            job.figures(&started, &Snapshot::default(), &job.snapshot(&started, SECOND * 2), Usage::default());
        for (part, names) in FIGURES {
            let found = if part == "stages" { &figures[part]["say"] } else { &figures[part] };
            let mut found: Vec<_> = found.as_object().unwrap().keys().map(String::as_str).collect();
            let mut names = names.to_vec();
            found.sort_unstable();
            names.sort_unstable();
            assert_eq!(found, names, "{part}");
        }
        assert_eq!(figures.as_object().unwrap().len(), FIGURES.len());
    }

    #[test]
    fn what_is_counted_is_that_of_the_time_between_and_shares_are_of_it() {
        let (job, started) = job();
        let add = |at: usize, of: fn(&StageStats) -> &AtomicU64, count| {
            of(&started.stats.stages[at].stats).fetch_add(count, Relaxed)
        };
        add(0, |s| &s.rows_in, 100);
        add(1, |s| &s.rows_rejected, 50);
        add(1, |s| &s.cost, 500_000_000);
        started.stats.stages[1].stats.latency.record(1_000_000_000);
        started.stats.edges[0].stats.sent(7, 70);
        let before = job.snapshot(&started, SECOND * 11);
        add(0, |s| &s.rows_in, 10);
        add(0, |s| &s.rows_out, 8);
        add(1, |s| &s.rows_rejected, 1);
        add(2, |s| &s.rows_rejected, 1);
        add(3, |s| &s.rows_out, 2);
        add(2, |s| &s.backpressured, 2_000_000_000);
        add(2, |s| &s.output_tokens, 800);
        started.stats.stages[2].stats.latency.record(1_000_000);
        let now = job.snapshot(&started, SECOND * 15);
        let figures = job.figures(&started, &before, &now, Usage { usd: 0.25, ..Usage::default() });
        assert_eq!(figures["job"]["elapsed_seconds"], 14.0);
        assert_eq!(
            figures["rows"],
            json!({ "read": 8, "written": 2, "rejected": 2, "rejection_rate": 0.2, "degraded": 0, "dropped": 0, "dead_letters": 2 })
        );
        assert_eq!(figures["budget"], json!({ "usd": 0.75, "tokens": 800, "share": 0.8 }));
        let say = &figures["stages"]["say"];
        assert_eq!(
            (&say["backpressured"], &say["queued_rows"], &say["cost_usd"]),
            (&json!(0.25), &json!(7), &json!(0.0))
        );
        let p99 = |since: &Snapshot| {
            let figures = job.figures(&started, since, &now, Usage::default());
            figures["stages"]["say"]["latency_p99_seconds"].as_f64().unwrap()
        };
        let (window, whole) = (p99(&before), p99(&Snapshot::default()));
        assert!((0.000_9..0.001_3).contains(&window) && (0.9..1.3).contains(&whole), "{window} {whole}");
    }
}
