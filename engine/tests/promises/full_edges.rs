//! What an edge does when it is full: a branch that drops or that is isolated does not stop the others.

use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::OnFull;
use bourn_engine::graph::Graph;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::testing::simulation::files::Fault;
use bourn_engine::{Engine, Kind, Result};

use crate::support::{Collect, Counting, Func, Log, simulate};

/// A source with a quick sink and one whose writes take a minute.
fn branches(rows: i64, policy: OnFull) -> (Graph, Collect, Collect) {
    let quick = Collect { transactional: true, ..Collect::default() };
    let slow = Collect { slow: Duration::from_mins(1), ..Collect::default() };
    let mut graph = Graph::new("two branches");
    graph.source("numbers", Counting { acks: true, ..Counting::to(rows, 100) });
    graph.stage("pass", Func::pass());
    graph.sink("quick", quick.clone()).from(["pass"]);
    graph.sink("slow", slow.clone()).from(["pass"]).on_full(policy);
    graph.options.edge_rows = Some(250);
    graph.options.epoch_every = Some(Duration::from_secs(1));
    (graph, quick, slow)
}

fn engine(simulation: &Simulation) -> Engine {
    Engine::new(bourn_engine::api::Registry::new()).with_env(simulation.env())
}

fn spooled(simulation: &Simulation) -> u64 {
    let paths = simulation.files().paths();
    let sizes = paths.iter().filter(|p| p.extension().is_some_and(|e| e == "spool"));
    sizes.map(|p| simulation.files().get(p).unwrap_or_default().len() as u64).sum()
}

#[test]
fn a_full_edge_that_drops_counts_its_rows_and_the_other_branch_gets_all() {
    for seed in 0..10 {
        let (graph, quick, slow) = branches(5_000, OnFull::Drop);
        let dropped = simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            let stats = Arc::clone(job.stats());
            job.wait().await.unwrap();
            stats.dropped("slow")
        });
        assert_eq!(quick.sorted(), (0..5_000).collect::<Vec<_>>());
        assert!(dropped > 0);
        assert_eq!(slow.values().len() as u64 + dropped, 5_000);
    }
}

#[test]
fn an_isolated_branch_stops_no_other_and_gets_every_row_in_order() {
    for seed in 0..10 {
        let (graph, quick, slow) = branches(20_000, OnFull::isolate(1 << 20));
        let simulation = Simulation::new(seed);
        let engine = engine(&simulation);
        let job = simulation.run(async { engine.start(engine.plan(graph).await.unwrap()).await }).done().unwrap();
        simulation.run(simulation.env().sleep(Duration::from_secs(30))).done();
        // The slow sink has not written its first batch, and the other one shows every row.
        assert_eq!((slow.values().len(), quick.sorted()), (0, (0..20_000).collect()));
        assert!(spooled(&simulation) > 100_000);
        simulation.run(job.wait()).done().unwrap();
        assert_eq!(slow.values(), (0..20_000).collect::<Vec<_>>());
        assert_eq!(spooled(&simulation), 0);
    }
}

#[test]
fn a_row_is_acknowledged_when_the_isolated_branch_has_it_too() {
    let log = Log::default();
    let (mut graph, quick, _) = branches(0, OnFull::isolate(1 << 20));
    let mut graph = {
        graph.nodes.clear();
        graph
    };
    let slow = Collect { slow: Duration::from_mins(1), transactional: true, ..Collect::default() };
    let source = Counting { acks: true, log: log.clone(), every: Duration::from_secs(2), ..Counting::to(1_000, 100) };
    graph.source("numbers", source);
    graph.sink("quick", quick.clone());
    graph.sink("slow", slow.clone()).on_full(OnFull::isolate(1 << 20));
    let simulation = Simulation::new(3);
    let engine = engine(&simulation);
    let job = simulation.run(async { engine.start(engine.plan(graph).await.unwrap()).await }).done().unwrap();
    simulation.run(simulation.env().sleep(Duration::from_secs(30))).done();
    // Every epoch is committed at the quick sink, none at the slow one, and so no ack has fired.
    assert_eq!((quick.values().len(), slow.values().len(), log.said()), (1_000, 0, Vec::new()));
    assert!(job.stats().epochs.load(std::sync::atomic::Ordering::Relaxed) > 10);
    simulation.run(simulation.env().sleep(Duration::from_mins(4))).done();
    let acked = log.said().len();
    assert!((1..10).contains(&acked) && slow.values().len() >= acked * 100, "{acked} acks");
    simulation.run(job.wait()).done().unwrap();
    assert_eq!((slow.values().len(), log.said().len()), (1_000, 10));
}

#[test]
fn rows_on_the_disk_are_under_way_too() {
    let (quick, slow) = (Collect::default(), Collect { slow: Duration::from_mins(1), ..Collect::default() });
    let mut graph = Graph::new("two branches");
    graph.options.edge_rows = Some(50);
    graph.source("numbers", Counting::to(2_000, 50)).admission(400);
    graph.sink("quick", quick.clone());
    graph.sink("slow", slow.clone()).on_full(OnFull::isolate(1 << 20));
    let simulation = Simulation::new(7);
    let engine = engine(&simulation);
    let job = simulation.run(async { engine.start(engine.plan(graph).await.unwrap()).await }).done().unwrap();
    simulation.run(simulation.env().sleep(Duration::from_secs(30))).done();
    assert!(spooled(&simulation) > 0);
    assert_eq!(quick.values().len(), 400);
    simulation.run(job.wait()).done().unwrap();
    assert_eq!(slow.values(), (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_spool_that_is_full_blocks_and_never_exceeds_its_cap() {
    let (mut graph, quick, slow) = branches(1 << 40, OnFull::isolate(100_000));
    graph.options.edge_rows = Some(250);
    let simulation = Simulation::new(5);
    let engine = engine(&simulation);
    let job = simulation.run(async { engine.start(engine.plan(graph).await.unwrap()).await }).done().unwrap();
    for _ in 0..20 {
        simulation.run(simulation.env().sleep(Duration::from_secs(50))).done();
        let (disk, known) =
            (spooled(&simulation), job.stats().edges.iter().map(|e| e.stats.spooled_bytes()).sum::<u64>());
        assert!(disk <= 100_000, "{disk} bytes");
        assert_eq!(disk, known);
    }
    // The cap holds some ten thousand rows; the source waits behind them.
    assert!(quick.values().len() < 20_000 && job.stats().rows_read() < 20_000);
    assert!(slow.values().len() >= 1_000);
}

#[test]
fn whatever_call_of_the_disk_fails_the_job_is_right_or_ends_with_a_clear_error() {
    let run = |fault: Option<(u64, Fault)>| -> (Result<()>, Vec<i64>, u64, u64) {
        let (graph, _, slow) = branches(1_500, OnFull::isolate(1 << 20));
        let simulation = Simulation::new(1);
        if let Some((nth, fault)) = fault {
            simulation.files().fail(nth, fault);
        }
        let engine = engine(&simulation);
        let result = simulation.run(async {
            let job = engine.start(engine.plan(graph).await.unwrap()).await?;
            job.wait().await
        });
        (result.done(), slow.values(), simulation.files().calls(), spooled(&simulation))
    };
    let (result, rows, calls, _) = run(None);
    assert!(result.is_ok() && rows.len() == 1_500 && calls > 20, "{calls} calls");
    let mut failed = 0_u64;
    for nth in 1..=calls {
        for fault in [Fault::Io, Fault::Full, Fault::Short] {
            let (result, rows, ..) = run(Some((nth, fault)));
            match result {
                Ok(()) => assert_eq!(rows.len(), 1_500, "call {nth} {fault:?}"),
                Err(error) => {
                    failed += 1;
                    let text = error.to_string();
                    assert_eq!(error.kind(), Kind::Io, "{text}");
                    assert!(text.contains(" `slow`: ") && text.contains(".bourn/spool/two_branches"), "{text}");
                    assert!(text.contains("os error"), "{text}");
                }
            }
        }
    }
    assert!(failed > calls, "{failed} of {calls} calls");
}

#[test]
fn what_a_dead_job_has_left_is_removed_and_a_living_one_is_not_touched() {
    let simulation = Simulation::new(1);
    let left = ".bourn/spool/two_branches/gone.0.0.00000007.spool";
    simulation.files().put(left, "what a killed process has left");
    let engine = engine(&simulation);
    let start = |engine: Engine| async move {
        let (graph, ..) = branches(1_000, OnFull::isolate(1 << 20));
        engine.start(engine.plan(graph).await.unwrap()).await
    };
    let first = simulation.run(start(engine.clone())).done().unwrap();
    assert_eq!(simulation.files().get(left), None);
    let second = simulation.run(start(engine.clone())).done().map(drop).unwrap_err();
    assert!(second.to_string().contains("another job `two branches` has its spools here"), "{second}");
    simulation.run(first.wait()).done().unwrap();
    simulation.run(start(engine)).done().unwrap();
}

#[test]
fn changed_bytes_on_the_disk_are_told_and_never_used() {
    let (graph, _, slow) = branches(20_000, OnFull::isolate(1 << 20));
    let simulation = Simulation::new(1);
    let engine = engine(&simulation);
    let job = simulation.run(async { engine.start(engine.plan(graph).await.unwrap()).await }).done().unwrap();
    simulation.run(simulation.env().sleep(Duration::from_secs(30))).done();
    let path = simulation.files().paths().into_iter().find(|p| p.extension().is_some_and(|e| e == "spool")).unwrap();
    simulation.files().change(&path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let error = simulation.run(job.wait()).done().unwrap_err();
    assert!(error.to_string().contains("what was spooled here is damaged"), "{error}");
    let rows = slow.values();
    assert_eq!(rows, (0..rows.len() as i64).collect::<Vec<_>>());
}
