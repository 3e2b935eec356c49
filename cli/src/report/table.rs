//! What every stage has done, as a table or as JSON.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bourn_engine::data::units::Size;
use bourn_engine::metrics::{JobStats, StageEntry, StageStats};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanCount;
use serde_json::{Value, json};

/// The lanes of a stage together.
struct Row<'a> {
    id: &'a str,
    kind: &'static str,
    lanes: Vec<&'a StageStats>,
}

fn rows(stats: &JobStats) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for StageEntry { stage, kind, stats, .. } in &stats.stages {
        match rows.iter_mut().find(|row| row.id == &**stage) {
            Some(row) => row.lanes.push(stats),
            None => rows.push(Row { id: stage, kind, lanes: vec![stats] }),
        }
    }
    rows
}

impl Row<'_> {
    fn sum(&self, counter: fn(&StageStats) -> &AtomicU64) -> u64 {
        self.lanes.iter().map(|lane| counter(lane).load(Relaxed)).sum()
    }

    /// The shares of the time at work, without input, held up by a full edge, and held up by something outside.
    fn shares(&self) -> [f64; 4] {
        let counters: [fn(&StageStats) -> &AtomicU64; 4] =
            [|s| &s.busy, |s| &s.idle, |s| &s.backpressured, |s| &s.waiting];
        let times = counters.map(|counter| self.sum(counter) as f64);
        let all: f64 = times.iter().sum();
        times.map(|time| if all > 0.0 { time / all } else { 0.0 })
    }

    /// The time below which the share `q` of the batches took, in seconds.
    fn latency(&self, q: f64) -> Option<f64> {
        let mut buckets: Vec<(f64, u64)> = self.lanes.iter().flat_map(|lane| lane.latency.buckets()).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rank = (buckets.iter().map(|(_, count)| *count as f64).sum::<f64>() * q).ceil();
        let mut seen = 0.0;
        buckets.into_iter().find_map(|(middle, count)| {
            seen += count as f64;
            (seen >= rank).then_some(middle)
        })
    }

    /// Rows a second. A source's are those that it gave.
    fn rate(&self, time: Duration) -> f64 {
        let rows = self.sum(|s| &s.rows_in);
        if time.is_zero() { 0.0 } else { rows as f64 / time.as_secs_f64() }
    }
}

/// The columns; rows that came late have none while no stage knows the time of a row.
const HEADER: [&str; 14] = [
    "stage",
    "kind",
    "in",
    "out",
    "rejected",
    "filtered",
    "rows/s",
    "busy",
    "idle",
    "held up",
    "waiting",
    "p50",
    "p99",
    "bytes out",
];

/// A table for people; `time` is how long the job took.
pub fn text(stats: &JobStats, time: Duration) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADER);
    for row in rows(stats) {
        let count = |counter| HumanCount(row.sum(counter)).to_string();
        let mut cells = vec![row.id.to_owned(), row.kind.to_owned()];
        cells.extend([
            count(|s| &s.rows_in),
            count(|s| &s.rows_out),
            count(|s| &s.rows_rejected),
            count(|s| &s.rows_filtered),
            format!("{:.0}", row.rate(time)),
        ]);
        cells.extend(row.shares().map(|share| format!("{:.0}%", share * 100.0)));
        cells.extend([0.5, 0.99].map(|q| row.latency(q).map_or_else(|| "-".into(), duration)));
        cells.push(Size(row.sum(|s| &s.bytes_out)).to_string());
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.extend(rows(stats).iter().filter_map(spent));
    lines.join("\n")
}

/// What a stage that asks models has spent, and what it had not to ask.
fn spent(row: &Row<'_>) -> Option<String> {
    let [known, cached, input, output] = [
        row.sum(|s| &s.rows_known),
        row.sum(|s| &s.rows_cached),
        row.sum(|s| &s.input_tokens),
        row.sum(|s| &s.output_tokens),
    ];
    if known + cached + input + output == 0 {
        return None;
    }
    let count = |n| HumanCount(n).to_string();
    let cost = row.sum(|s| &s.cost) as f64 / 1e9;
    let mut text = format!("`{}`: {} tokens read, {} written", row.id, count(input), count(output));
    if cost > 0.0 {
        let _ = write!(text, ", {cost:.6} US dollars");
    }
    if known > 0 {
        let _ = write!(text, "; {} rows answered from the journal", count(known));
    }
    if cached > 0 {
        let _ = write!(text, "; {} rows answered from the cache", count(cached));
    }
    Some(text)
}

/// The same for programs.
pub fn json(stats: &JobStats, time: Duration) -> Value {
    let one = |row: Row<'_>| {
        let [busy, idle, backpressured, waiting] = row.shares();
        json!({
            "stage": row.id, "kind": row.kind, "lanes": row.lanes.len(),
            "rows_in": row.sum(|s| &s.rows_in), "rows_out": row.sum(|s| &s.rows_out),
            "rows_rejected": row.sum(|s| &s.rows_rejected), "rows_late": row.sum(|s| &s.rows_late),
            "rows_filtered": row.sum(|s| &s.rows_filtered), "rows_per_second": row.rate(time),
            "bytes_in": row.sum(|s| &s.bytes_in), "bytes_out": row.sum(|s| &s.bytes_out),
            "busy": busy, "idle": idle, "backpressured": backpressured, "waiting": waiting,
            "latency_p50_seconds": row.latency(0.5), "latency_p99_seconds": row.latency(0.99),
            "retries": row.sum(|s| &s.retries), "rows_dropped": stats.dropped(row.id),
            "rows_fallback": row.sum(|s| &s.rows_fallback), "unknown_fields": row.sum(|s| &s.unknown_fields),
            "rows_known": row.sum(|s| &s.rows_known), "rows_cached": row.sum(|s| &s.rows_cached),
            "cache_misses": row.sum(|s| &s.cache_misses), "cache_errors": row.sum(|s| &s.cache_errors), "rows_degraded": row.sum(|s| &s.rows_degraded),
            "input_tokens": row.sum(|s| &s.input_tokens), "output_tokens": row.sum(|s| &s.output_tokens),
            "cost_usd": row.sum(|s| &s.cost) as f64 / 1e9,
        })
    };
    json!({
        "pipeline": stats.pipeline, "seconds": time.as_secs_f64(), "rows_read": stats.rows_read(),
        "rows_written": stats.rows_written(), "stages": rows(stats).into_iter().map(one).collect::<Vec<_>>(),
    })
}

/// Stages that rejected rows, and how many: `in 2, shape 1`.
pub fn rejected(stats: &JobStats) -> Option<String> {
    let counted: Vec<_> = rows(stats).iter().map(|r| (r.id.to_owned(), r.sum(|s| &s.rows_rejected))).collect();
    let all: u64 = counted.iter().map(|(_, n)| n).sum();
    let stages: Vec<_> = counted.into_iter().filter(|(_, n)| *n > 0).map(|(id, n)| format!("`{id}` {n}")).collect();
    (all > 0).then(|| format!("{all} row{} rejected: {}", if all == 1 { "" } else { "s" }, stages.join(", ")))
}

/// What is said of a job that met rows, rejected as many, and wrote none but to the sink of its `dead_letters`: something is
/// wrong with all of them.
pub fn nothing_but_rejected(stats: &JobStats, dead_letters: Option<&str>) -> Option<String> {
    if !stats.gets_nothing_through(dead_letters) {
        return None;
    }
    let (met, rejected) = (stats.rows_met(), stats.rows_rejected());
    let rows = rows(stats);
    let worst = rows.iter().max_by_key(|row| row.sum(|s| &s.rows_rejected)).map_or("", |row| row.id);
    Some(format!(
        "no row has got through: {rejected} of {met} were rejected, most of them in `{worst}` \
         (`tolerated_failure_percentage: 100%` takes that for a success)"
    ))
}

/// What else became of rows and is no error: dropped at a full edge, taken by a fallback, fields that were left out.
pub fn remarks(stats: &JobStats) -> Vec<String> {
    let s = |n: u64| if n == 1 { "" } else { "s" };
    let mut remarks = Vec::new();
    for row in rows(stats) {
        let (dropped, unknown) = (stats.dropped(row.id), row.sum(|s| &s.unknown_fields));
        if dropped > 0 {
            remarks.push(format!("{dropped} row{} dropped before `{}`, whose edge was full", s(dropped), row.id));
        }
        let fallback = row.sum(|s| &s.rows_fallback);
        if fallback > 0 {
            remarks.push(format!("{fallback} row{} of `{}` went to its fallback", s(fallback), row.id));
        }
        let degraded = row.sum(|s| &s.rows_degraded);
        if degraded > 0 {
            remarks.push(format!(
                "{degraded} row{} passed `{}` without an answer, since the budget was spent",
                s(degraded),
                row.id
            ));
        }
        if unknown > 0 {
            let id = row.id;
            remarks.push(format!("`{id}` left out {unknown} field{} for which it has no column", s(unknown)));
        }
    }
    remarks
}

/// Three figures are enough.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bourn_engine::metrics::StageRole;

    use super::*;

    fn job() -> JobStats {
        let lane = |id: &str, rows: u64, lane| {
            let stats = StageStats {
                rows_in: rows.into(),
                rows_out: (rows - 1).into(),
                rows_rejected: 1.into(),
                busy: 750.into(),
                idle: 250.into(),
                bytes_out: 2_048.into(),
                ..StageStats::default()
            };
            stats.latency.record(1_000_000);
            StageEntry { stage: id.into(), kind: "filter", role: StageRole::Stage, lane, stats: Arc::new(stats) }
        };
        JobStats {
            pipeline: "p".into(),
            stages: vec![lane("a", 10, 0), lane("a", 20, 1), lane("long", 4, 0)],
            ..JobStats::default()
        }
    }

    #[test]
    fn the_lanes_of_a_stage_are_one_line() {
        insta::assert_snapshot!(text(&job(), Duration::from_secs(2)), @"
        stage  kind    in  out  rejected  filtered  rows/s  busy  idle  held up  waiting    p50    p99  bytes out
        a      filter  30   28         2         0      15   75%   25%       0%       0%  983us  983us    4.0 KiB
        long   filter   4    3         1         0       2   75%   25%       0%       0%  983us  983us    2.0 KiB
        ");
    }

    #[test]
    fn rejected_rows_are_told_by_stage() {
        assert_eq!(rejected(&job()).unwrap(), "3 rows rejected: `a` 2, `long` 1");
        assert_eq!(rejected(&JobStats::default()), None);
    }

    #[test]
    fn a_job_fails_when_rows_were_rejected_and_none_was_written() {
        let node = |id: &str, role, [rows_in, rows_out, rejected]: [u64; 3]| {
            let stats = StageStats {
                rows_in: rows_in.into(),
                rows_out: rows_out.into(),
                rows_rejected: rejected.into(),
                ..StageStats::default()
            };
            StageEntry { stage: id.into(), kind: "file", role, lane: 0, stats: Arc::new(stats) }
        };
        let told = |by_stage: u64, by_sink: u64, other: u64| {
            let stages = vec![
                node("in", StageRole::Source, [2, 2, 0]),
                node("a", StageRole::Stage, [2, 2 - by_stage, by_stage]),
                node("out", StageRole::Sink, [2, 2 - by_stage - by_sink, by_sink]),
                node("other", StageRole::Sink, [2, other, 0]),
                node("rejected", StageRole::Sink, [2, 2, 0]),
            ];
            nothing_but_rejected(&JobStats { stages, ..JobStats::default() }, Some("rejected")).is_some()
        };
        assert!(told(2, 0, 0) && told(0, 2, 0) && told(1, 1, 0));
        assert!(!told(1, 0, 0) && !told(0, 2, 2), "some have got through");
        assert_eq!(nothing_but_rejected(&JobStats::default(), None), None);
    }

    #[test]
    fn the_shares_of_a_stage_add_up() {
        let all = json(&job(), Duration::from_secs(2));
        let stage = &all["stages"][0];
        let shares: f64 = ["busy", "idle", "backpressured", "waiting"].iter().map(|s| stage[s].as_f64().unwrap()).sum();
        assert_eq!((shares, stage["rows_in"].as_u64()), (1.0, Some(30)));
    }
}
