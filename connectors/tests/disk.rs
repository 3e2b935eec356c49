//! A disk that fails at any call, is full, or moves half of what it is told; files that vanish or shrink: the job is whole,
//! or it ends and names the file. Locks, on a real one.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bourn_connectors::file::{File, Format, Rotate};
use bourn_engine::api::Registry;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::{Env, Files};
use bourn_engine::graph::Graph;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::testing::simulation::files::{Fault, MemoryFiles};
use bourn_engine::{Engine, Error, Kind, Result};

const ROWS: usize = 500;

/// 500 rows and two lines that are none.
fn input() -> String {
    let rows: Vec<_> = (0..ROWS).map(|n| format!("{{\"n\":{n},\"text\":\"row {n}\"}}")).collect();
    format!("{{\n{}\n[1]\n", rows.join("\n"))
}

fn copy(ending: &str) -> Graph {
    let mut graph = Graph::new("copy");
    graph.source("in", File::new("in.jsonl"));
    graph.sink("out", File::new(format!("out/rows.{ending}")));
    graph.dead_letters("rejected", File::new("out/rejected.jsonl"));
    graph
}

/// Copies the input on a disk of which one call fails.
fn run(ending: &str, fault: Option<(u64, Fault)>) -> (Result<()>, MemoryFiles) {
    let simulation = Simulation::new(1);
    let files = simulation.files().clone();
    files.put("in.jsonl", input());
    if let Some((nth, fault)) = fault {
        files.fail(nth, fault);
    }
    let engine = Engine::new(Registry::new()).with_env(simulation.env());
    let ended = simulation.run(async move { engine.run(copy(ending)).await }).done();
    (ended, files)
}

fn rejected(files: &MemoryFiles) -> usize {
    let letters = files.get("out/rejected.jsonl").unwrap_or_default();
    String::from_utf8_lossy(&letters).lines().count()
}

/// What was written, without the mark of Avro, which is drawn anew for each file.
fn as_comes(bytes: &[u8]) -> Vec<u8> {
    let mark = bytes.starts_with(b"Obj").then(|| bytes.last_chunk::<16>()).flatten();
    match mark {
        None => bytes.to_vec(),
        Some(mark) => {
            let mut parts = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                if bytes[at..].starts_with(mark) {
                    at += mark.len();
                } else {
                    parts.push(bytes[at]);
                    at += 1;
                }
            }
            parts
        }
    }
}

#[test]
fn whichever_call_fails_the_result_is_whole_or_the_file_is_named() {
    for ending in ["jsonl", "jsonl.zst", "parquet", "arrow", "avro"] {
        let path = format!("out/rows.{ending}");
        let (ended, files) = run(ending, None);
        assert!(ended.is_ok(), "{ended:?}");
        let (whole, calls) = (files.get(&path).expect("it was written"), files.calls());
        assert_eq!(rejected(&files), 2);
        let (mut failed, mut full) = (0, 0);
        for nth in 1..=calls {
            for fault in [Fault::Io, Fault::Full, Fault::Short] {
                let (ended, files) = run(ending, Some((nth, fault)));
                let written = files.get(&path);
                let case = format!("{ending}, call {nth} of {calls}, {fault:?}: {ended:?}");
                let Err(error) = ended else {
                    let written = written.map(|w| as_comes(&w));
                    assert!(written == Some(as_comes(&whole)) && rejected(&files) == 2, "{case}");
                    continue;
                };
                failed += 1;
                let told = error.to_string();
                assert!(["in.jsonl", "out/rows.", "out/rejected.jsonl"].iter().any(|f| told.contains(f)), "{case}");
                full += u64::from(fault == Fault::Full && told.contains("No space left on device"));
                // Lines are there as far as they were written; a file of columns is whole or not there.
                let written = written.unwrap_or_default();
                assert!(as_comes(&whole).starts_with(&as_comes(&written)), "{case}");
                let as_it_comes = ["jsonl", "jsonl.zst"].contains(&ending);
                assert!(as_it_comes || written.is_empty() || as_comes(&written) == as_comes(&whole), "{case}");
            }
        }
        // The test sees the faults that it is about.
        assert!(failed > 4 && full > 2, "{ending}: {failed} failures, {full} for want of room");
    }
}

/// Plans the copy, changes what was planned on, and runs it.
fn meanwhile(change: impl FnOnce(&MemoryFiles) + Send + 'static) -> Result<()> {
    let simulation = Simulation::new(1);
    let files = simulation.files().clone();
    files.put("in.jsonl", input());
    let engine = Engine::new(Registry::new()).with_env(simulation.env());
    let work = async move {
        let planned = engine.plan(copy("jsonl")).await;
        let plan = planned.map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
        change(&files);
        engine.start(plan).await?.wait().await
    };
    simulation.run(work).done()
}

#[test]
fn a_file_that_vanishes_behind_the_planning_is_named() {
    let error = meanwhile(|files| files.remove(Path::new("in.jsonl")).expect("it was there")).expect_err("it is gone");
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.to_string(), "source `in`: in.jsonl was there when the job was planned, and is gone");
}

/// Spreads the input over folders on a disk of which one call fails.
fn spread(ending: &str, fault: Option<(u64, Fault)>) -> (Result<()>, MemoryFiles) {
    let simulation = Simulation::new(1);
    let files = simulation.files().clone();
    files.put("in.jsonl", input());
    if let Some((nth, fault)) = fault {
        files.fail(nth, fault);
    }
    let engine = Engine::new(Registry::new()).with_env(simulation.env());
    let mut graph = Graph::new("spread");
    graph.source("in", File::new("in.jsonl"));
    let rotate = Rotate { rows: Some(200), ..Rotate::default() };
    graph.sink("out", File::new(format!("out/{{number}}.{ending}")).rotated(rotate));
    graph.dead_letters("rejected", File::new("out/rejected.log").with_format(Format::Json));
    let ended = simulation.run(async move { engine.run(graph).await }).done();
    (ended, files)
}

#[test]
fn whichever_call_fails_every_file_that_appeared_is_whole() {
    for ending in ["jsonl", "csv.gz", "parquet", "arrow"] {
        let (ended, files) = spread(ending, None);
        assert!(ended.is_ok(), "{ended:?}");
        let appeared = |files: &MemoryFiles| -> Vec<_> {
            let paths = files
                .paths()
                .into_iter()
                .filter(|p| p.to_string_lossy().ends_with(&format!(".{ending}")) && p.starts_with("out"));
            paths.map(|p| (files.get(&p), p)).collect()
        };
        let whole = appeared(&files);
        assert_eq!(whole.len(), 3);
        let mut failed = 0;
        for nth in 1..=files.calls() {
            for fault in [Fault::Io, Fault::Short] {
                let (ended, files) = spread(ending, Some((nth, fault)));
                let there = appeared(&files);
                let case = format!("{ending}, call {nth}, {fault:?}: {ended:?}");
                assert!(there.iter().all(|file| whole.contains(file)), "{case}");
                match ended {
                    Ok(()) => assert_eq!(there, whole, "{case}"),
                    Err(error) => {
                        failed += 1;
                        let told = error.to_string();
                        assert!(told.contains("in.jsonl") || told.contains("out/"), "{case}");
                    }
                }
            }
        }
        assert!(failed > 8, "{ending}: {failed} failures");
    }
}

#[test]
fn a_lock_is_held_by_one_and_leaves_nothing_behind() {
    let folder = tempfile::TempDir::new().unwrap();
    let (env, path) = (Env::system(), folder.path().join("it.lock"));
    let held = env.files().lock(&path).unwrap().unwrap();
    assert!(env.files().lock(&path).unwrap().is_none());
    drop(held);
    assert_eq!(env.files().identify(&path).unwrap(), None);
    // One that a dead process has left is taken over.
    drop(env.files().create(&path).unwrap());
    assert!(env.files().lock(&path).unwrap().is_some());
}

#[test]
fn many_that_ask_for_a_lock_at_once_hold_it_one_after_the_other() {
    let folder = tempfile::TempDir::new().unwrap();
    let (env, path) = (Env::system(), folder.path().join("it.lock"));
    let (holders, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let take_turns = || {
        while turns.load(SeqCst) < 2_000 {
            let Some(held) = env.files().lock(&path).unwrap() else { continue };
            assert_eq!(holders.fetch_add(1, SeqCst), 0);
            turns.fetch_add(1, SeqCst);
            holders.fetch_sub(1, SeqCst);
            drop(held);
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(take_turns))));
    assert_eq!(env.files().identify(&path).unwrap(), None);
}
