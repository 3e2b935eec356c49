//! Which stage holds the others up: the one whose queue is full while what it writes to is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use bourn_engine::metrics::JobStats;
use bourn_engine::plan::Plan;

/// A queue fuller than this is full: a reader that keeps up leaves it almost empty.
const FULL: f64 = 0.5;

/// How the tasks of a plan are joined, as far as the question needs it.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    chains: Vec<Chain>,
}

/// Stages that share a task.
#[derive(Clone, Debug, Default)]
struct Chain {
    stages: Vec<Arc<str>>,
    /// The chains that read it.
    readers: Vec<usize>,
    /// Rows that each channel before it holds.
    rows: usize,
}

impl Shape {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Self {
        let home = |node: usize| plan.chains.iter().position(|chain| chain.contains(&node));
        let chain = |nodes: &Vec<usize>| Chain {
            stages: nodes.iter().map(|n| plan.nodes[*n].id.clone()).collect(),
            readers: plan
                .edges
                .iter()
                .filter(|e| !e.fused && nodes.contains(&e.from))
                .filter_map(|e| home(e.to))
                .collect(),
            rows: plan.edges.iter().filter(|e| !e.fused && nodes.contains(&e.to)).map(|e| e.rows).max().unwrap_or(0),
        };
        Self { chains: plan.chains.iter().map(chain).collect() }
    }

    /// The stage that holds the others up now. When no queue is full, that is a source: everybody waits for rows.
    pub fn bottleneck(&self, stats: &JobStats) -> Option<Arc<str>> {
        let fill: Vec<f64> = self.chains.iter().map(|chain| chain.fill(stats)).collect();
        let held_up = |chain: &Chain| chain.readers.iter().any(|r| fill[*r] >= FULL);
        let slow = self.chains.iter().zip(&fill).filter(|(chain, fill)| **fill >= FULL && !held_up(chain));
        let slowest = slow.max_by(|a, b| a.1.total_cmp(b.1)).map(|(chain, _)| chain);
        let sources = || self.chains.iter().filter(|chain| chain.rows == 0).max_by_key(|chain| chain.work(stats, 0));
        slowest.or_else(sources)?.busiest(stats)
    }
}

impl Chain {
    /// How full the fullest channel before it is, from 0 to about 1.
    fn fill(&self, stats: &JobStats) -> f64 {
        let queued = |n: &AtomicI64| n.load(Relaxed).max(0) as f64;
        let channels = stats.edges.iter().filter(|e| Some(&e.stage) == self.stages.first());
        let fill = channels.map(|e| {
            let bytes = queued(&e.stats.queued_bytes) / (e.stats.capacity_bytes.max(1)) as f64;
            bytes.max(queued(&e.stats.queued_rows) / self.rows.max(1) as f64)
        });
        fill.fold(0.0, f64::max)
    }

    /// Nanoseconds that a stage of it has worked, or waited for something outside.
    fn work(&self, stats: &JobStats, stage: usize) -> u64 {
        let id = &self.stages[stage];
        stats.total(id, |s| &s.busy) + stats.total(id, |s| &s.waiting)
    }

    fn busiest(&self, stats: &JobStats) -> Option<Arc<str>> {
        // The first wins among equals: stages that share a task wait together.
        let busiest = (0..self.stages.len()).rev().max_by_key(|i| self.work(stats, *i))?;
        Some(self.stages[busiest].clone())
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::metrics::{EdgeEntry, EdgeStats, StageEntry, StageRole, StageStats};

    use super::*;

    /// `in -> (parse, shape) -> out`, with this many bytes queued before the second and the third.
    fn job(queued: [i64; 2]) -> (Shape, JobStats) {
        let chain = |stages: &[&str], readers: &[usize], rows| Chain {
            stages: stages.iter().map(|s| Arc::from(*s)).collect(),
            readers: readers.to_vec(),
            rows,
        };
        let shape = Shape {
            chains: vec![chain(&["in"], &[1], 0), chain(&["parse", "shape"], &[2], 100), chain(&["out"], &[], 100)],
        };
        let stage = |id: &str, busy: u64| StageEntry {
            stage: id.into(),
            kind: "test",
            role: StageRole::Stage,
            lane: 0,
            stats: Arc::new(StageStats { busy: busy.into(), ..StageStats::default() }),
        };
        let edge = |id: &str, bytes: i64| EdgeEntry {
            stage: id.into(),
            lane: 0,
            stats: Arc::new(EdgeStats { queued_bytes: bytes.into(), capacity_bytes: 1_000, ..EdgeStats::default() }),
        };
        let stats = JobStats {
            stages: vec![stage("in", 5), stage("parse", 1), stage("shape", 9), stage("out", 2)],
            edges: vec![edge("parse", queued[0]), edge("out", queued[1])],
            ..JobStats::default()
        };
        (shape, stats)
    }

    fn found(queued: [i64; 2]) -> Option<Arc<str>> {
        let (shape, stats) = job(queued);
        shape.bottleneck(&stats)
    }

    #[test]
    fn a_full_queue_before_a_free_one_names_the_busiest_stage_of_the_task() {
        assert_eq!(found([900, 10]).as_deref(), Some("shape"));
    }

    #[test]
    fn a_stage_that_is_held_up_itself_is_not_blamed() {
        assert_eq!(found([1_000, 900]).as_deref(), Some("out"));
    }

    #[test]
    fn without_a_full_queue_it_is_the_source() {
        assert_eq!(found([0, 10]).as_deref(), Some("in"));
    }
}
