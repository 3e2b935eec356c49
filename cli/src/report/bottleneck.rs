//! Which stage holds the others up: the one whose queue is full while what it writes to is not.

use std::sync::Arc;

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

    /// The stage that holds the others up now. When no queue is full it is the one with the most to do: a source that all
    /// others wait for, or, where a source may not read on before runs end, whatever those runs take.
    pub fn bottleneck(&self, stats: &JobStats) -> Option<Arc<str>> {
        let fill: Vec<f64> = self.chains.iter().map(|chain| chain.fill(stats)).collect();
        let held_up = |chain: &Chain| chain.readers.iter().any(|r| fill[*r] >= FULL);
        let slow = self.chains.iter().zip(&fill).filter(|(chain, fill)| **fill >= FULL && !held_up(chain));
        match slow.max_by(|a, b| a.1.total_cmp(b.1)) {
            Some((chain, _)) => busiest(chain.stages.iter(), stats),
            None => busiest(self.chains.iter().flat_map(|chain| &chain.stages), stats),
        }
    }
}

impl Chain {
    /// How full the fullest channel before it is, from 0 to about 1.
    fn fill(&self, stats: &JobStats) -> f64 {
        let channels = stats.edges.iter().filter(|e| Some(&e.stage) == self.stages.first());
        let fill = channels.map(|e| {
            let bytes = e.stats.queued_bytes() as f64 / e.stats.capacity_bytes.max(1) as f64;
            bytes.max(e.stats.queued_rows() as f64 / self.rows.max(1) as f64)
        });
        fill.fold(0.0, f64::max)
    }
}

/// The stage that was at work for the longest, or waited for something outside; the first among equals.
fn busiest<'a>(stages: impl DoubleEndedIterator<Item = &'a Arc<str>>, stats: &JobStats) -> Option<Arc<str>> {
    let work = |id: &Arc<str>| {
        let lanes = stats.stages.iter().filter(|s| s.stage == *id).count().max(1) as u64;
        (stats.total(id, |s| &s.busy) + stats.total(id, |s| &s.waiting)) / lanes
    };
    stages.rev().max_by_key(|id| work(id)).cloned()
}

#[cfg(test)]
mod tests {
    use bourn_engine::metrics::{EdgeEntry, EdgeStats, StageEntry, StageRole, StageStats};

    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    /// `in -> (parse, shape) -> out`, with this many bytes queued before the second and the third.
    fn job(queued: [u64; 2]) -> (Shape, JobStats) {
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
        let edge = |id: &str, bytes: u64| {
            let stats = EdgeStats::of(1_000);
            stats.sent(0, bytes);
            EdgeEntry { stage: id.into(), lane: 0, stats: Arc::new(stats) }
        };
        let stats = JobStats {
            stages: vec![stage("in", 5), stage("parse", 1), stage("shape", 9), stage("out", 2)],
            edges: vec![edge("parse", queued[0]), edge("out", queued[1])],
            ..JobStats::default()
        };
        (shape, stats)
    }

    fn found(queued: [u64; 2]) -> Option<Arc<str>> {
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
    fn without_a_full_queue_it_is_the_one_with_the_most_to_do() {
        assert_eq!(found([0, 10]).as_deref(), Some("shape"));
        let (shape, stats) = job([0, 10]);
        stats.stages[0].stats.waiting.store(10, Relaxed);
        assert_eq!(shape.bottleneck(&stats).as_deref(), Some("in"));
    }
}
