//! What a sink refuses for good, or fails to take after its attempts, goes to its fallback, and is counted.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, Capabilities, Connector, Delivery, Outcome, Receipt, Rejected, Sink, SinkContext, Written,
};
use bourn_engine::env::Env;
use bourn_engine::error::Error;
use bourn_engine::graph::{Graph, OnError};
use bourn_engine::{Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Counting, numbers, simulate, values};

/// A sink that is dead in a span of time, and refuses every `refused`th number.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Frail {
    #[serde(skip)]
    dead: (u64, u64),
    refused: i64,
    #[serde(skip)]
    taken: Arc<Mutex<Vec<i64>>>,
    #[serde(skip)]
    tried: Arc<Mutex<u64>>,
}

struct FrailSink(Frail, Env);

impl Connector for Frail {
    const NAME: &'static str = "frail";
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }
    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(FrailSink(self.clone(), context.env)))
    }
}

impl Sink for FrailSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        *self.0.tried.lock().unwrap() += 1;
        let now = self.1.monotonic().as_secs();
        if (self.0.dead.0..self.0.dead.1).contains(&now) {
            return Err(Error::new(Kind::Io, "the connection was refused").transient());
        }
        let refused = |n: &i64| self.0.refused > 0 && n % self.0.refused == 0;
        let (bad, good): (Vec<i64>, Vec<i64>) = values(rows).into_iter().partition(refused);
        self.0.taken.lock().unwrap().extend(good);
        let rejected = (!bad.is_empty()).then(|| Rejected::rows(numbers(bad), Error::validation("refused")));
        Ok(Written { rejected: rejected.into_iter().collect() })
    }
    async fn prepare(&mut self, _: u64) -> Result<Option<Receipt>> {
        Ok(None)
    }
    async fn commit(&mut self, _: &Receipt) -> Result<Outcome> {
        Ok(Outcome::Committed)
    }
}

#[test]
fn refused_rows_go_to_the_fallback_and_what_that_refuses_meets_the_error_policy() {
    for seed in 0..10 {
        let (first, second) = (Frail { refused: 3, ..Frail::default() }, Frail { refused: 2, ..Frail::default() });
        let mut graph = Graph::new("fallback");
        graph.source("numbers", Counting::to(300, 40));
        graph.sink("out", first.clone()).fallback(second.clone()).on_error(OnError::Drop);
        let stats = simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            let stats = job.stats().clone();
            job.wait().await.unwrap();
            stats
        });
        assert_eq!(*first.taken.lock().unwrap(), (0..300).filter(|n| n % 3 != 0).collect::<Vec<_>>());
        assert_eq!(*second.taken.lock().unwrap(), (0..300).filter(|n| n % 3 == 0 && n % 2 != 0).collect::<Vec<_>>());
        let count = |counter: fn(&bourn_engine::metrics::StageStats) -> &std::sync::atomic::AtomicU64| {
            counter(&stats.stages[1].stats).load(Relaxed)
        };
        let counts = (count(|s| &s.rows_in), count(|s| &s.rows_out), count(|s| &s.rows_rejected));
        assert_eq!((counts, count(|s| &s.rows_fallback)), ((300, 250, 50), 50));
    }
}

#[test]
fn a_dead_sink_is_tried_and_then_left_alone_for_a_while() {
    let dead = Frail { dead: (5, 100), ..Frail::default() };
    let standby = Collect { transactional: true, ..Collect::default() };
    let mut graph = Graph::new("fallback");
    graph.source("numbers", Counting { every: Duration::from_secs(1), ..Counting::to(200, 1) });
    graph.sink("out", dead.clone()).fallback(standby.clone());
    graph.options.epoch_every = Some(Duration::from_secs(7));
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    let (first, second) = (dead.taken.lock().unwrap().clone(), standby.values());
    let mut all = [first.as_slice(), &second].concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    assert!((60..130).contains(&second.len()), "{second:?}");
    // Six attempts for each of a few rests, not for each of a hundred batches.
    let tried = *dead.tried.lock().unwrap() - first.len() as u64;
    assert!((6..40).contains(&tried), "{tried} attempts failed");
}

#[test]
fn when_the_last_one_fails_too_the_job_ends() {
    let dead = || Frail { dead: (0, 1_000), ..Frail::default() };
    let mut graph = Graph::new("fallback");
    graph.source("numbers", Counting::to(10, 5));
    graph.sink("out", dead()).fallback(dead());
    let error = simulate(1, async |engine| engine.run(graph).await).unwrap_err();
    assert_eq!(error.to_string(), "sink `out`: the connection was refused");
}
