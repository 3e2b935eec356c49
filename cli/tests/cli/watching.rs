//! What watches a running job: signals, metrics, whoever reads stdout.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command};

use crate::support::{Folder, ended};

const ENDLESS: &str = "source: { generate: { rate: 2000/s } }\nsink: { stdout: {} }\n";
/// Has many rows under way when it is stopped, and lets few of them go.
const SLOW: &str = "\
source: { generate: {} }
stages: [ { throttle: { rate: 5/s } } ]
sink: { stdout: {} }
";

/// Starts the command and waits for its first row, so that it is known to run.
fn started(folder: &Folder, args: &[&str]) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = folder.command(args).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    (child, out, first)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn the_first_signal_stops_an_endless_job_gracefully() {
    for name in ["TERM", "INT"] {
        let folder = Folder::with(&[("a.yaml", ENDLESS)]);
        let (child, mut out, first) = started(&folder, &["run", "a.yaml"]);
        signal(&child, name);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let ended = ended(child.wait_with_output().unwrap());
        let said = "stopped by a signal: what had not been read is missing, and the next run begins anew";
        assert_eq!((ended.code, ended.err.trim()), (Some(0), said));
        // Whatever was read was written, each row once and whole.
        let rows: Vec<_> = first.lines().chain(rest.lines()).map(str::to_owned).collect();
        assert!(rows.iter().cloned().eq((0..rows.len()).map(|n| format!("{{\"n\":{n}}}"))));
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let folder = Folder::with(&[("a.yaml", SLOW)]);
    let (child, _out, _) = started(&folder, &["run", "a.yaml", "--drain-timeout", "1d"]);
    signal(&child, "TERM");
    signal(&child, "INT");
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (Some(130), ""));
}

#[test]
fn a_job_that_does_not_drain_in_time_is_ended() {
    let folder = Folder::with(&[("a.yaml", SLOW)]);
    let (child, _out, _) = started(&folder, &["run", "a.yaml", "--drain-timeout", "100ms"]);
    signal(&child, "TERM");
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130));
    insta::assert_snapshot!(ended.err, @"error: the job did not drain within 100ms; see --drain-timeout");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let workflow = "steps: [ { id: a, command: set, args: \"${input.n}\" } ]\n";
    let inputs = "{\"n\":1}\n".repeat(50_000);
    let folder = Folder::with(&[("a.yaml", ENDLESS), ("b.yaml", workflow), ("in.jsonl", &inputs)]);
    for args in [&["run", "a.yaml"][..], &["run", "b.yaml", "--inputs", "in.jsonl"]] {
        let (child, out, first) = started(&folder, args);
        assert!(first.starts_with('{'));
        drop(out);
        let ended = ended(child.wait_with_output().unwrap());
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Those of a stage's time, latency and edges included; that of a watermark comes with one.
const METRICS: [&str; 21] = [
    "bourn_stage_rows_in_total",
    "bourn_stage_rows_out_total",
    "bourn_stage_rows_rejected_total",
    "bourn_stage_rows_late_total",
    "bourn_stage_rows_filtered_total",
    "bourn_stage_bytes_in_total",
    "bourn_stage_bytes_out_total",
    "bourn_stage_latency_seconds_bucket",
    "bourn_stage_latency_seconds_sum",
    "bourn_stage_latency_seconds_count",
    "bourn_stage_busy_seconds_total",
    "bourn_stage_idle_seconds_total",
    "bourn_stage_backpressured_seconds_total",
    "bourn_stage_waiting_seconds_total",
    "bourn_edge_queued_rows",
    "bourn_edge_queued_bytes",
    "bourn_edge_capacity_bytes",
    "bourn_pipeline_latency_seconds_bucket",
    "bourn_pipeline_latency_seconds_count",
    "bourn_checkpoint_epochs_total",
    "bourn_checkpoint_duration_seconds_bucket",
];

/// Histograms are histograms to Prometheus: buckets that rise to `+Inf`, which is the count.
fn check_histograms(answer: &str) {
    for name in ["bourn_stage_latency_seconds", "bourn_pipeline_latency_seconds", "bourn_checkpoint_duration_seconds"] {
        assert_eq!(answer.matches(&format!("# TYPE {name} histogram\n")).count(), 1, "{answer}");
        assert!(!answer.contains(&format!("# TYPE {name}_")), "{answer}");
        let of = |part: &str| -> Vec<(&str, f64)> {
            let start = format!("{name}_{part}{{");
            let lines = answer.lines().filter_map(|line| line.strip_prefix(&start)?.rsplit_once(' '));
            lines.map(|(labels, value)| (labels, value.parse().unwrap())).collect()
        };
        let (buckets, counts) = (of("bucket"), of("count"));
        assert!(!counts.is_empty() && of("sum").len() == counts.len(), "{answer}");
        for (labels, count) in counts {
            let labels = labels.trim_end_matches('}');
            let own: Vec<_> = buckets.iter().filter(|(l, _)| l.starts_with(&format!("{labels},le="))).collect();
            assert!(own.windows(2).all(|two| two[0].1 <= two[1].1), "{own:?}");
            assert!(own[0].0.ends_with("le=\"0.000000512\"}"), "{own:?}");
            assert!(own[own.len() - 1].0.ends_with("le=\"+Inf\"}") && own[own.len() - 1].1 == count, "{own:?}");
        }
    }
}

#[test]
fn the_metrics_of_a_running_job_can_be_scraped() {
    let spec = "name: numbers\nsource: { generate: { rate: 2000/s } }\nstages: [ { id: even, filter: n % 2 = 0 } ]\nsink: { stdout: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec)]);
    let (mut child, mut out, _) = started(&folder, &["run", "a.yaml", "--metrics", "127.0.0.1:0"]);
    let mut told = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut told).unwrap();
    let address = told.trim().strip_prefix("metrics: http://").and_then(|t| t.strip_suffix("/metrics")).unwrap();
    let answer = get(address, "/metrics");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    let missing: Vec<_> = METRICS.iter().filter(|name| !answer.contains(&format!("\n{name}{{"))).collect();
    assert!(missing.is_empty(), "{missing:?} in {answer}");
    for labels in [
        r#"{pipeline="numbers",stage="even",kind="filter",lane="0"}"#,
        r#"{pipeline="numbers",stage="source",kind="generate",lane="0"}"#,
    ] {
        assert!(answer.contains(&format!("bourn_stage_rows_in_total{labels} ")), "{answer}");
    }
    assert!(!answer.contains("bourn_watermark_lag_seconds"), "no source has an event time: {answer}");
    check_histograms(&answer);
    assert!(get(address, "/livez").ends_with("ok\n"));
    signal(&child, "TERM");
    out.read_to_string(&mut String::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_others_can_reach_is_warned_of() {
    let folder = Folder::with(&[("a.yaml", "source: { generate: { rows: 1 } }\nsink: { blackhole: {} }\n")]);
    let ended = folder.bourn(&["run", "a.yaml", "--metrics", "0.0.0.0:0"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.starts_with("warning: --metrics 0.0.0.0:"), "{}", ended.err);
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::with(&[("a.yaml", ENDLESS)]);
    let told = folder.bourn(&["run", "a.yaml", "--metrics", &address]).refused(1);
    assert!(told.starts_with(&format!("error: --metrics {address}: ")), "{told}");
}
