//! Jobs that are killed end as those that nobody touched: each kind of file, killed at least fifty times.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests look at the command from outside")]
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "cli/support.rs"]
#[expect(dead_code, reason = "it is shared with other tests")]
mod support;

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;
use support::Folder;

const KILLS: usize = 50;
/// Enough for three at each of the 24 named points, and for the detours that lead to those of recovery.
const AT_EACH_POINT: usize = 90;

/// A folder with 2,000 orders and a job that reads them for a quarter of a second. Edges are so narrow that most of them
/// are still to be read when an epoch begins.
fn folder(stages: &str, sink: &str) -> Folder {
    let folder = Folder::with(&[]);
    std::fs::create_dir(folder.path("orders")).unwrap();
    for file in 0..20 {
        let mut orders = String::new();
        for id in file * 100..file * 100 + 100 {
            let _ = writeln!(
                orders,
                r#"{{"id":{},"customer":{},"region":{},"note":"{id:0>600}"}}"#,
                id - id % 2,
                id % 37,
                id % 3
            );
        }
        std::fs::write(folder.path(&format!("orders/{file:02}.jsonl")), orders).unwrap();
    }
    let spec = format!(
        "name: orders\ncheckpoint: {{ every: 10ms }}\nlimits: {{ memory: 2MiB }}\n\
         source: {{ file: {{ path: \"orders/*.jsonl\" }} }}\n\
         stages:\n  - id: paced\n    throttle: {{ rate: 8000/s }}\n{stages}sink: {{ {sink} }}\n"
    );
    std::fs::write(folder.path("job.yaml"), spec).unwrap();
    folder
}

const COUNTED: &str = "  - id: counted\n    count: { by: [customer] }\n";
const ONCE: &str = "  - id: once\n    dedupe: { by: [id], keys: 100000 }\n";

/// Tortures the job, and returns what is reported.
#[track_caller]
fn tortured(folder: &Folder, kills: usize) -> Value {
    let ended = folder.bourn(&["torture", "job.yaml", "--kills", &kills.to_string(), "-o", "json"]);
    let report: Value = serde_json::from_str(&ended.out).unwrap_or_default();
    let faults = &report["faults"];
    assert_eq!(ended.code, Some(0), "seed {}: {faults:#}\n{}", report["seed"], ended.err);
    assert_eq!(report["kills"].as_array().map(Vec::len), Some(kills));
    assert_eq!(report["left"], serde_json::json!([]));
    report
}

fn rows(report: &Value) -> (u64, &str) {
    let sink = &report["sinks"]["sink"];
    (sink["rows"].as_u64().unwrap(), sink["order"].as_str().unwrap())
}

#[test]
fn counts_into_json_lines() {
    let report = tortured(&folder(COUNTED, "file: { path: out.jsonl }"), KILLS);
    assert_eq!(rows(&report), (2_000, "by key"));
}

#[test]
fn lines_in_their_order_into_compressed_csv() {
    let report = tortured(&folder("", "file: { path: out.csv.gz }"), KILLS);
    assert_eq!(rows(&report), (2_000, "all"));
}

#[test]
fn what_was_seen_once_into_parquet() {
    let report = tortured(&folder(ONCE, "file: { path: out.parquet }"), KILLS);
    assert_eq!(rows(&report), (1_000, "not"));
}

#[test]
fn numbered_files() {
    let sink = r#"file: { path: "out/{number}.jsonl", rotate: { rows: 30 } }"#;
    let report = tortured(&folder(COUNTED, sink), AT_EACH_POINT);
    assert_eq!(rows(&report), (2_000, "not"));
    let points = report["points"].as_array().unwrap();
    assert!(points.len() > 20 && points.iter().all(|p| p[1].as_u64() >= Some(3)), "{points:?}");
}

#[test]
fn folders_by_value() {
    let sink = "file: { path: out, format: json, partition_by: [region] }";
    assert_eq!(rows(&tortured(&folder(ONCE, sink), KILLS)), (1_000, "not"));
}

/// What is different in each run shows that the comparison compares.
#[test]
fn an_output_that_is_another_is_told_and_the_exit_code_is_1() {
    let spec = "checkpoint: { every: 10ms }\nsource: { generate: { rows: 20, rate: 100/s } }\n\
                stages: [ { id: timed, process: { command: [date, +%N] } } ]\nsink: { file: { path: out.jsonl } }\n";
    let folder = Folder::with(&[("job.yaml", spec)]);
    let ended = folder.bourn(&["torture", "job.yaml", "--kills", "1", "--seed", "5", "--dir", "runs"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("20 lost, 0 too often, 20 strange"), "{}", ended.out);
    assert!(ended.out.contains("bourn torture job.yaml --seed 5"), "{}", ended.out);
    assert!(folder.path("runs/torn/1/out.jsonl").exists(), "what differs is kept");
}

#[test]
fn a_process_ends_itself_at_the_point_that_it_is_told() {
    let folder = folder(COUNTED, "file: { path: out.jsonl }");
    let run = |at: Option<&str>| {
        let mut command = folder.command(&["run", "job.yaml"]);
        command.envs(at.map(|at| ("BOURN_KILL_AT", at))).env("BOURN_POINTS", folder.path("points.txt"));
        command.output().unwrap().status
    };
    assert_eq!(run(Some("commit:3")).signal(), Some(9));
    let points = folder.read("points.txt");
    assert_eq!(points.lines().filter(|p| *p == "commit").count(), 3);
    assert_eq!(points.lines().last(), Some("commit"));
    assert_eq!(run(Some("recovered")).signal(), Some(9));
    assert!(run(None).success());
    assert_eq!(folder.read("out.jsonl").lines().count(), 2_000);
    assert_eq!(folder.read("points.txt").lines().last(), Some("settled"));
}

#[test]
fn what_can_not_be_compared_is_refused_with_the_reason() {
    let refused = |stages: &str, sink: &str, from: &str, to: &str| {
        let folder = folder(stages, sink);
        let spec = folder.read("job.yaml").replace(from, to);
        std::fs::write(folder.path("job.yaml"), spec).unwrap();
        folder.bourn(&["torture", "job.yaml"]).refused(2)
    };
    let file = "file: { path: out.jsonl }";
    let said = refused("", "stdout: {}", "", "");
    assert!(said.contains("the sink `sink` (`stdout`) can't be compared"), "{said}");
    let said = refused("", "file: { path: ../out.jsonl }", "", "");
    assert!(said.contains("the path of a sink must be one below it"), "{said}");
    let said = refused("", file, "checkpoint: { every: 10ms }\n", "");
    assert!(said.contains("job.yaml keeps no checkpoints"), "{said}");
    let said = refused("", file, "*.jsonl\"", "*.jsonl\", follow: true");
    assert!(said.contains("the source `source` (`file`) does not end"), "{said}");
    let said = refused("", file, "{ file: { path: \"orders/*.jsonl\" } }", "{ stdin: { format: lines } }");
    assert!(said.contains("can't be read again"), "{said}");
}
