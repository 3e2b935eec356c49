//! A disk that fails at any call, is full, or moves half of what it is told; files that vanish or shrink: the job is whole,
//! or it ends and names the file.

use std::path::Path;

use bourn_connectors::file::File;
use bourn_engine::api::Registry;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Files;
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

#[test]
fn whichever_call_fails_the_result_is_whole_or_the_file_is_named() {
    for ending in ["jsonl", "parquet"] {
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
                    assert!(written.as_ref() == Some(&whole) && rejected(&files) == 2, "{case}");
                    continue;
                };
                failed += 1;
                let told = error.to_string();
                assert!(["in.jsonl", "out/rows.", "out/rejected.jsonl"].iter().any(|f| told.contains(f)), "{case}");
                full += u64::from(fault == Fault::Full && told.contains("No space left on device"));
                // Lines are there as far as they were written; a Parquet file is whole or not there.
                let written = written.unwrap_or_default();
                assert!(whole.starts_with(&written), "{case}");
                assert!(ending == "jsonl" || written.is_empty() || written == whole, "{case}");
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
    assert_eq!(error.to_string(), "stage `in`: in.jsonl was there when the job was planned, and is gone");
}
