//! What a run says without being asked: where it listens, what it left out, that nothing got through.

use std::io::{BufRead, BufReader};
use std::process::Command;

use crate::support::{Folder, ended};

const ROWS: &str = "source: { memory: { rows: [ { n: 1 }, { n: 2 } ] } }\n";

#[test]
fn a_job_of_which_every_row_was_rejected_has_failed() {
    let broken = format!("{ROWS}stages: [ map: {{ x: n / 0 }} ]\nsink: {{ stdout: {{}} }}\non_error: drop\n");
    let wanted = format!("{broken}tolerated_failure_percentage: 100%\n");
    let partly = broken.replace("n / 0", "1 / (n - 1)");
    let folder = Folder::with(&[("broken.yaml", &broken), ("wanted.yaml", &wanted), ("partly.yaml", &partly)]);
    insta::assert_snapshot!(folder.bourn(&["run", "broken.yaml"]).refused(1), @"
    warning: 2 rows rejected: `map` 2
    error: no row has got through: 2 of 2 were rejected, most of them in `map` (`tolerated_failure_percentage: 100%` takes that for a success)
    ");
    for spec in ["wanted.yaml", "partly.yaml"] {
        assert_eq!(folder.bourn(&["run", spec]).code, Some(0), "{spec}");
    }
}

#[test]
fn columns_of_csv_that_the_schema_leaves_out_are_counted_and_those_nobody_chose_alone() {
    let spec = |columns| format!("source: {{ file: {{ path: a.csv, {columns} }} }}\nsink: {{ stdout: {{}} }}\n");
    let folder = Folder::with(&[
        ("a.csv", "a,b,c\n1,2,3\n4,5,6\n"),
        ("schema.yaml", &spec("schema: { a: bigint }")),
        ("columns.yaml", &spec("columns: [a]")),
    ]);
    let hidden = folder.bourn(&["run", "schema.yaml"]);
    assert_eq!(hidden.err.trim(), "warning: `source` left out 4 fields for which it has no column");
    assert_eq!(folder.bourn(&["run", "columns.yaml"]).quietly(), "{\"a\":1}\n{\"a\":4}\n");
}

#[cfg(feature = "http")]
#[test]
fn a_server_says_where_it_listens_and_a_job_that_was_stopped_that_it_was() {
    let spec =
        "source: { http_server: { listen: '127.0.0.1:0', path: /in, schema: { id: bigint } } }\nsink: { stdout: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec)]);
    let mut child = folder.command(&["run", "a.yaml"]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.next().unwrap();
    let (_, address) = line.split_once("INFO listening on http://127.0.0.1:").unwrap();
    let port = address.strip_suffix("/in").unwrap();
    assert!(port.parse::<u16>().is_ok_and(|port| port != 0), "{line}");
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(ended(child.wait_with_output().unwrap()).code, Some(0));
    assert!(said.next().unwrap().starts_with("stopped by a signal: "));
}
