//! Pipelines from end to end.

use std::process::{Command, Stdio};

use crate::support::Folder;

const FILTER: &str = "\
source:
  file: { path: in.jsonl }
stages:
  - filter: n > 1
sink:
  file: { path: out/result.jsonl }
";

#[test]
fn json_lines_are_filtered_into_json_lines() {
    let rows = "{\"n\":1,\"s\":\"a\"}\n{\"n\":2,\"s\":\"ü\"}\n{\"n\":3,\"s\":null}\n";
    let folder = Folder::with(&[("a.yaml", FILTER), ("in.jsonl", rows)]);
    assert_eq!(folder.bourn(&["run", "a.yaml"]).quietly(), "");
    assert_eq!(folder.read("out/result.jsonl"), "{\"n\":2,\"s\":\"ü\"}\n{\"n\":3,\"s\":null}\n");
}

#[test]
fn a_row_that_can_not_be_read_ends_the_job_with_its_place() {
    let folder = Folder::with(&[("a.yaml", FILTER), ("in.jsonl", "{\"n\":1}\n{\"n\":\n{\"n\":3}\n")]);
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml"]).refused(1), @"error: `source`, in.jsonl:2: not JSON: EOF while parsing a value at column 5");
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml", "-o", "json", "-q"]).refused(1), @r#"{"error":{"class":"validation","message":"not JSON: EOF while parsing a value at column 5","stage":"source","input":"in.jsonl:2","row":null,"field":null,"causes":[]}}"#);
}

#[test]
fn rejected_rows_are_in_the_dead_letters_with_their_reason_and_no_other_is_lost() {
    let spec = format!("{FILTER}on_error: dead_letter\ndead_letters: {{ file: {{ path: out/rejected.jsonl }} }}\n");
    let folder =
        Folder::with(&[("a.yaml", &spec), ("in.jsonl", "{\"n\":5}\nrubbish\n{\"n\":7}\n{\"n\":\"x\"}\n{\"n\":8}\n")]);
    let ended = folder.bourn(&["run", "a.yaml"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.err);
    insta::assert_snapshot!(ended.err, @"warning: 2 rows rejected: `source` 1, `filter` 1");
    let (kept, rejected) = (folder.read("out/result.jsonl"), folder.read("out/rejected.jsonl"));
    assert_eq!(kept.lines().count() + rejected.lines().count(), 5, "{kept}{rejected}");
    assert!(
        rejected.contains("rubbish") && rejected.contains("in.jsonl:2") && rejected.contains("\"reason\""),
        "{rejected}"
    );
    let silent = folder.bourn(&["run", "a.yaml", "-q"]);
    assert_eq!((silent.code, silent.err.as_str()), (Some(0), ""));
}

#[test]
fn more_failures_than_are_tolerated_end_the_job() {
    let spec = "source: { file: { path: in.jsonl, schema: { n: bigint } } }\nsink: { file: { path: out.jsonl } }\n\
                on_error: dead_letter\ndead_letters: { file: { path: rejected.jsonl } }\n\
                tolerated_failure_percentage: 5\n";
    let rows =
        |bad: usize| (0..100usize).map(move |n| if n < bad { "oops\n".into() } else { format!("{{\"n\":{n}}}\n") });
    let folder = Folder::with(&[("a.yaml", spec), ("in.jsonl", &rows(5).collect::<String>())]);
    assert_eq!(folder.bourn(&["run", "a.yaml"]).code, Some(0));
    assert!(folder.bourn(&["plan", "a.yaml"]).quietly().contains("ends when more than 5 % of the rows fail"));
    std::fs::write(folder.path("in.jsonl"), rows(11).collect::<String>()).unwrap();
    let said = folder.bourn(&["run", "a.yaml"]).refused(1);
    let told =
        "11 of 100 rows have failed, most of them in `source`: 11.0 %, and `tolerated_failure_percentage` is 5 %";
    assert!(said.contains(told), "{said}");
    assert_eq!(folder.read("rejected.jsonl").lines().count(), 11, "what failed can be looked at");
    std::fs::write(folder.path("a.yaml"), spec.replace("age: 5", "age: 500%")).unwrap();
    let said = folder.bourn(&["validate", "a.yaml"]).refused(2);
    assert!(said.contains("no percentage from `0%` to `100%`"), "{said}");
}

#[test]
fn rows_go_from_stdin_to_stdout() {
    let folder =
        Folder::with(&[("a.yaml", "source: { stdin: {} }\nstages: [ { filter: n > 1 } ]\nsink: { stdout: {} }\n")]);
    let out = folder.fed(&["run", "a.yaml"], "{\"n\":1}\n{\"n\":2}\n").quietly();
    assert_eq!(out, "{\"n\":2}\n");
}

#[test]
fn rows_go_into_a_named_pipe() {
    let spec = "source: { file: { path: in.jsonl } }\nsink: { file: { path: pipe, format: json } }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("in.jsonl", "{\"n\":1}\n{\"n\":2}\n")]);
    assert!(Command::new("mkfifo").arg(folder.path("pipe")).status().unwrap().success());
    let reader = Command::new("cat").arg(folder.path("pipe")).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(folder.bourn(&["run", "a.yaml"]).quietly(), "");
    assert_eq!(reader.wait_with_output().unwrap().stdout, b"{\"n\":1}\n{\"n\":2}\n");
}

#[test]
fn an_input_that_is_not_there_is_told_before_anything_starts() {
    let folder = Folder::with(&[("a.yaml", FILTER)]);
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml"]).refused(2), @"
    a.yaml:2:17 there is no file `in.jsonl` (paths are relative to the folder that the job is started in)
    a.yaml: 1 problem
    ");
    assert!(!folder.path("out").exists());
}

#[test]
fn input_for_a_workflow_is_refused_by_a_pipeline() {
    let folder = Folder::with(&[("a.yaml", FILTER), ("in.jsonl", "{\"n\":1}\n")]);
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml", "--input", "{}"]).refused(2), @"error: --input is for workflows, and a.yaml is a pipeline: its rows come from its `sources` (`source: { stdin: {} }` reads stdin)");
    let many = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl"]).refused(2);
    assert!(many.starts_with("error: --inputs is for workflows"), "{many}");
}

#[test]
fn the_table_at_the_end_comes_when_asked_for() {
    let folder = Folder::with(&[("a.yaml", FILTER), ("in.jsonl", "{\"n\":1}\n{\"n\":2}\n")]);
    let ended = folder.bourn(&["run", "a.yaml", "--stats"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""));
    let ids: Vec<_> = ended.err.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(ids, ["stage", "source", "filter", "sink"], "{}", ended.err);
    let ended = folder.bourn(&["run", "a.yaml", "--stats", "-o", "json"]);
    assert!(ended.err.contains(r#""rows_read":2,"rows_written":1"#), "{}", ended.err);
}

#[test]
fn logs_go_to_stderr_at_the_level_that_is_asked_for() {
    let folder = Folder::with(&[("a.yaml", "source: { generate: { rows: 1 } }\nsink: { stdout: {} }\n")]);
    let ended =
        super::support::ended(folder.command(&["run", "a.yaml"]).env("BOURN_LOG", "no such=level").output().unwrap());
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "{\"n\":0}\n"));
    assert!(ended.err.starts_with("warning: BOURN_LOG: "), "{}", ended.err);
}

#[test]
fn a_sink_that_would_empty_its_own_input_is_refused_and_the_input_stays() {
    let rows = "{\"n\":1}\n{\"n\":2}\n";
    let spec = "source: { file: { path: in.jsonl } }\nsink: { file: { path: ./out.jsonl } }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("in.jsonl", rows)]);
    // By another name, it is the same file.
    std::fs::hard_link(folder.path("in.jsonl"), folder.path("out.jsonl")).unwrap();
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml"]).refused(2), @"
    a.yaml:2:23 `sink` would empty `in.jsonl`, which `source` reads (write to another file)
    a.yaml: 1 problem
    ");
    assert_eq!(folder.read("in.jsonl"), rows);
}

#[test]
fn two_sinks_and_two_lanes_that_would_write_to_one_place_are_refused() {
    let spec = "\
source: { generate: { rows: 1 } }
sinks:
  all: { file: { path: ./out.jsonl } }
  more: { file: { path: out.jsonl }, fallback: [{ file: { path: rest.jsonl } }] }
on_error: dead_letter
dead_letters: { file: { path: rest.jsonl } }
";
    let apart = spec.replace("path: out", "path: more").replace("rest.jsonl } }]", "other.jsonl } }]");
    let wide = "source: { generate: { rows: 1 } }\nsink: { file: { path: 'out.jsonl' }, lanes: 2 }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("apart.yaml", &apart), ("wide.yaml", wide)]);
    insta::assert_snapshot!(folder.bourn(&["validate", "a.yaml"]).refused(2), @"
    a.yaml:4:17 `all` and `more` would write to `./out.jsonl`, each over the other (give each a path of its own, or let one sink read what both read)
    a.yaml:6:23 `more` and `dead_letters` would write to `rest.jsonl`, each over the other (give each a path of its own, or let one sink read what both read)
    a.yaml: 2 problems
    ");
    assert_eq!(folder.bourn(&["run", "a.yaml"]).code, Some(2));
    assert_eq!(folder.bourn(&["run", "apart.yaml"]).code, Some(0));
    let told = folder.bourn(&["validate", "wide.yaml"]).refused(2);
    assert!(
        told.contains("wide.yaml:2:23 2 lanes can't write to one path, `out.jsonl` (put `{lane}` into it"),
        "{told}"
    );
    std::fs::write(folder.path("wide.yaml"), wide.replace("out.", "out-{lane}.")).unwrap();
    assert_eq!(folder.bourn(&["run", "wide.yaml"]).code, Some(0));
}

#[test]
fn what_works_batch_by_batch_is_noted_unless_batches_are_meant() {
    let spec = "\
source: { generate: { rows: 1 } }
stages:
  - id: groups
    sql: select n % 2 as odd, count(*) as c from input group by n % 2
  - dedupe: { by: [odd] }
sink: { blackhole: {} }
";
    let meant = spec.replace("  - id: groups", "  - batch: { rows: 8192, within: 1s }\n  - id: groups");
    let meant = meant.replace("by: [odd]", "by: [odd], keys: 1000");
    let rowwise = "source: { generate: { rows: 1 } }\nstages: [ { sql: select n + 1 as m from input where n > 0 } ]\n\
        sink: { blackhole: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("meant.yaml", &meant), ("rowwise.yaml", rowwise)]);
    insta::assert_snapshot!(folder.bourn(&["validate", "a.yaml"]).out, @"
    a.yaml: valid (pipeline: the spec has `source`)
      note: a.yaml:4:10 `groups` groups the rows of each batch by itself, not of all that come (a `batch` before it makes batches larger, and says that this is meant)
      note: a.yaml:5:13 `dedupe` looks at one batch at a time: rows alike that come in two batches both stay (`keys: 1000000` or `within: 1d` remembers what has passed; a `batch` before it says that this is meant)
    ");
    assert!(
        folder.bourn(&["plan", "a.yaml"]).out.contains("\nnote: a.yaml:4:10 `groups` groups the rows of each batch")
    );
    for quiet in ["meant.yaml", "rowwise.yaml"] {
        let said = folder.bourn(&["validate", quiet]).out;
        assert!(!said.contains("note"), "{said}");
    }
}

#[test]
fn fields_without_a_column_are_told() {
    let spec = "source: { file: { path: in.jsonl, schema: { n: bigint } } }\nsink: { blackhole: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("in.jsonl", "{\"n\":1,\"x\":2}\n{\"n\":2,\"y\":3,\"z\":4}\n")]);
    let ended = folder.bourn(&["run", "a.yaml"]);
    insta::assert_snapshot!(ended.err, @"warning: `source` left out 3 fields for which it has no column");
}

#[test]
fn an_error_of_a_row_says_where_the_row_was_read() {
    let spec =
        "source: { file: { path: in.jsonl } }\nstages: [ { map: { n: cast(t as int) } } ]\nsink: { blackhole: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("in.jsonl", "{\"t\":\"1\"}\n{\"t\":\"two\"}\n")]);
    let told = folder.bourn(&["run", "a.yaml"]).refused(1);
    assert!(told.contains("in.jsonl, line 2 or before") && told.contains("two"), "{told}");
}
