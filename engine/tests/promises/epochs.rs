//! Epochs: barriers flow, sinks prepare and commit on them, acks fire after the commit, a stop is a last epoch.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bourn_engine::api::checkpointing::Timeout;
use bourn_engine::api::{Checkpointing, Checkpoints, Outcome};
use bourn_engine::graph::Graph;
use bourn_engine::{Error, Kind};

use crate::support::{Collect, Counting, Func, Log, simulate};

fn place(log: &[String], what: &str) -> Option<usize> {
    log.iter().position(|l| l == what)
}

#[test]
fn an_ack_fires_only_after_the_epoch_of_its_rows_was_committed() {
    for seed in 0..30 {
        let log = Log::default();
        let sink = Collect { transactional: true, log: log.clone(), ..Collect::default() };
        let mut graph = Graph::new("acks");
        let every = Duration::from_millis(70);
        graph.source("numbers", Counting { acks: true, every, log: log.clone(), ..Counting::to(100, 10) });
        graph.stage("pass", Func::pass());
        graph.sink("out", sink.clone());
        simulate(seed, async |engine| engine.run(graph).await).unwrap();
        let said = log.said();
        assert_eq!(sink.values(), (0..100).collect::<Vec<_>>());
        assert_eq!(said.iter().filter(|l| l.starts_with("ack")).count(), 10, "{said:?}");
        // A queue-like source gets an epoch every 200 ms: several before the end.
        assert!(place(&said, "commit 2").is_some(), "{said:?}");
        let acked_before_commit = said.iter().take_while(|l| !l.starts_with("commit")).any(|l| l.starts_with("ack"));
        assert!(!acked_before_commit, "{said:?}");
        assert!(place(&said, "ack 10") < place(&said, "commit 3"), "the first ack waits for the last commit: {said:?}");
    }
}

#[test]
fn rows_of_an_epoch_are_committed_together_across_a_diamond() {
    for seed in 0..30 {
        let (left, right) = (
            Collect { transactional: true, ..Collect::default() },
            Collect { transactional: true, ..Collect::default() },
        );
        let mut graph = Graph::new("diamond");
        graph.source("numbers", Counting { every: Duration::from_millis(3), ..Counting::to(300, 1) });
        graph.stage("a", Func::pass());
        graph.stage("b", Func::pass()).from(["a"]);
        graph.stage("c", Func::pass()).from(["a"]);
        graph.stage("d", Func::pass()).from(["b", "c"]);
        graph.sink("left", left.clone()).from(["d"]);
        graph.sink("right", right.clone()).from(["a"]);
        graph.options.edge_rows = Some(1);
        graph.options.epoch_every = Some(Duration::from_millis(20));
        simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            engine.env().sleep(Duration::from_millis(450)).await;
            // Between two commits both sinks may differ for a moment, never by a row that only one branch of `d` brought.
            let twice = left.sorted();
            assert!(twice.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]), "seed {seed}: {twice:?}");
            job.wait().await.unwrap();
        });
        assert_eq!(right.sorted(), (0..300).collect::<Vec<_>>());
        assert_eq!(left.sorted(), (0..300).flat_map(|n| [n, n]).collect::<Vec<_>>());
    }
}

#[test]
fn a_graceful_stop_drains_commits_and_acknowledges() {
    for seed in 0..20 {
        let log = Log::default();
        let sink =
            Collect { transactional: true, log: log.clone(), slow: Duration::from_millis(40), ..Collect::default() };
        let mut graph = Graph::new("stop");
        let every = Duration::from_millis(10);
        graph.source(
            "numbers",
            Counting { acks: true, endless: true, every, log: log.clone(), ..Counting::to(100_000, 1) },
        );
        graph.stage("pass", Func::pass());
        graph.sink("out", sink.clone());
        simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            engine.env().sleep(Duration::from_secs(2)).await;
            job.stop();
            job.stop();
            job.wait().await.unwrap();
        });
        let (rows, acks) = (sink.values(), log.said().iter().filter(|l| l.starts_with("ack")).count());
        assert_eq!(rows, (0..rows.len() as i64).collect::<Vec<_>>());
        assert!(!rows.is_empty() && acks == rows.len(), "seed {seed}: {} rows, {acks} acks", rows.len());
        assert_eq!(log.said().last().map(String::as_str), Some("finish"));
    }
}

#[test]
fn an_unknown_outcome_of_a_commit_is_never_taken_for_a_success() {
    let log = Log::default();
    let mut graph = Graph::new("unknown");
    graph.source("numbers", Counting { acks: true, log: log.clone(), ..Counting::to(10, 1) });
    graph.sink(
        "out",
        Collect { transactional: true, outcome: Some(Outcome::Unknown), log: log.clone(), ..Collect::default() },
    );
    let error = simulate(1, async |engine| engine.run(graph).await).unwrap_err();
    assert!(error.message().contains("unknown"), "{error}");
    assert_eq!(error.kind(), Kind::Io);
    let said = log.said();
    assert!(said.iter().filter(|l| l.starts_with("commit")).count() > 1, "it asks again: {said:?}");
    assert!(!said.iter().any(|l| l.starts_with("ack")), "{said:?}");
}

#[test]
fn an_epoch_ends_while_a_source_has_nothing_to_read() {
    let sink = Collect { transactional: true, ..Collect::default() };
    let mut graph = Graph::new("idle");
    graph.source("numbers", Counting { endless: true, ..Counting::to(5, 5) });
    graph.sink("out", sink.clone());
    simulate(3, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        engine.env().sleep(Duration::from_millis(1_500)).await;
        assert_eq!(sink.values(), [0, 1, 2, 3, 4]);
        job.stop();
        job.wait().await.unwrap();
    });
}

/// A job whose sink takes so long for each of its three writes, and whose checkpoints may take ten seconds: its error, how often
/// one has taken longer, and the rows that were committed.
fn run_slowly(slow: Duration, tolerated: u32) -> (Option<Error>, u64, Vec<i64>) {
    let sink = Collect { transactional: true, slow, ..Collect::default() };
    let mut graph = Graph::new("slow");
    graph.source("numbers", Counting::to(3, 1));
    graph.sink("out", sink.clone());
    let timeout = Some(Timeout { after: Duration::from_secs(10), tolerated });
    graph.options.checkpoints = Checkpointing::On(Checkpoints { timeout, ..Checkpoints::in_folder("c") });
    graph.options.epoch_every = Some(Duration::from_secs(1));
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let stats = job.stats().clone();
        (job.wait().await.err(), stats.checkpoint_timeouts.load(Relaxed), sink.sorted())
    })
}

#[test]
fn a_checkpoint_that_takes_too_long_too_often_ends_the_job_and_commits_nothing() {
    let (error, timeouts, rows) = run_slowly(Duration::from_mins(10), 2);
    let error = error.unwrap();
    assert_eq!((error.kind(), timeouts, rows), (Kind::Timeout, 3, vec![]));
    assert_eq!(
        error.message(),
        "checkpoint 1 has waited 30s for `out`, 3 times its `timeout`: it is given up, and the next run goes on behind the \
         one before it"
    );
    let (error, timeouts, _) = run_slowly(Duration::from_mins(10), 0);
    assert_eq!((error.unwrap().kind(), timeouts), (Kind::Timeout, 1));
}

#[test]
fn one_that_is_late_and_tolerated_is_complete_when_it_has_come_and_the_next_begins_anew() {
    for (seconds, tolerated, expected) in [(6, 1, 1), (2, 0, 0)] {
        let (error, timeouts, rows) = run_slowly(Duration::from_secs(seconds), tolerated);
        assert!(error.is_none(), "{error:?}");
        assert_eq!((timeouts, rows), (expected, vec![0, 1, 2]));
    }
}
