//! Bad input, by the real command: a clear message with file, row and field, or dead letters with their reason; no other
//! row is lost, and nothing panics. docs/bad-input.md is the list.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Ended, Folder};

const DECLARED: &str = "\
source:
  file: { path: in.jsonl, schema: { id: bigint, weight: double, name: text, price: 'decimal(10,2)' } }
sink:
  file: { path: out.jsonl }
";
const LETTERS: &str = "on_error: dead_letter\ndead_letters: { file: { path: rejected.jsonl } }\n";

/// Lines that are no rows, and what is said of each.
const BAD: [(&[u8], &str); 10] = [
    (b"{\"id\":", "not JSON: EOF while parsing a value at column 6"),
    (b"rubbish", "not JSON: expected value at column 1"),
    (b"[1,2]", "a row is an object, and this is a list"),
    (b"{\"id\":\"x\"}", "field `id`: `\"x\"` does not fit bigint"),
    (b"{\"id\":{\"a\":1}}", "field `id`: `{\"a\":1}` does not fit bigint"),
    (b"{\"id\":99999999999999999999}", "field `id`: `99999999999999999999` does not fit bigint"),
    (b"{\"weight\":1e999}", "field `weight`: `1e999` does not fit double"),
    (b"{\"price\":12.999}", "field `price`: `12.999` does not fit decimal(10, 2)"),
    (b"{\"name\":[1]}", "field `name`: `[1]` does not fit text"),
    (b"{\"name\":\"a\xFF\"}", "not UTF-8: byte 0xff at column 11"),
];

/// A line that is a row, as it is written again.
fn good(n: usize) -> String {
    format!("{{\"id\":{n},\"weight\":0.5,\"name\":\"n{n}\",\"price\":12.50}}\n")
}

fn folder(spec: &str, input: &[u8]) -> Folder {
    let folder = Folder::with(&[("a.yaml", spec)]);
    std::fs::write(folder.path("in.jsonl"), input).unwrap();
    folder
}

/// The dead letters, as objects.
fn letters(folder: &Folder) -> Vec<Value> {
    folder.read("rejected.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn no_panic(ended: &Ended) {
    assert!(ended.code.is_some(), "ended by a signal: {}", ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}

#[test]
fn lines_that_are_no_rows_are_dead_letters_and_no_other_row_is_lost() {
    let mut input = Vec::new();
    for (n, (bad, _)) in BAD.iter().enumerate() {
        input.extend_from_slice(good(n).as_bytes());
        input.extend_from_slice(bad);
        input.push(b'\n');
    }
    let folder = folder(&format!("{DECLARED}{LETTERS}"), &input);
    let ended = folder.bourn(&["run", "a.yaml"]);
    no_panic(&ended);
    assert_eq!((ended.code, ended.err.trim()), (Some(0), "warning: 10 rows rejected: `source` 10"));
    let kept: Vec<_> = (0..BAD.len()).map(good).collect();
    assert_eq!(folder.read("out.jsonl"), kept.concat());
    let rejected = letters(&folder);
    assert_eq!(rejected.len(), BAD.len());
    for (n, (letter, (bad, reason))) in rejected.iter().zip(BAD).enumerate() {
        assert_eq!(
            (&letter["reason"], &letter["stage"], &letter["kind"]),
            (&reason.into(), &"source".into(), &"validation".into())
        );
        assert_eq!(letter["position"], format!("in.jsonl:{}", 2 * n + 2), "{letter}");
        assert_eq!(letter["row"], *String::from_utf8_lossy(bad), "{letter}");
    }
}

#[test]
fn a_line_that_is_no_row_ends_a_job_without_dead_letters_and_is_named() {
    for (bad, reason) in BAD {
        let folder = folder(DECLARED, &[b"{\"id\":1}\n", bad, b"\n{\"id\":3}\n"].concat());
        let ended = folder.bourn(&["run", "a.yaml"]);
        no_panic(&ended);
        let reason = reason.strip_prefix("field").map_or(format!(": {reason}"), |rest| format!(", field{rest}"));
        assert_eq!((ended.code, ended.err.trim()), (Some(1), format!("error: `source`, in.jsonl:2{reason}").as_str()));
    }
}

#[test]
fn a_row_that_can_not_be_worked_is_a_dead_letter_with_the_expression() {
    let spec = "\
source: { file: { path: in.jsonl } }
stages: [ { map: { next: n + 1, small: cast(n as int), share: 10 / n } } ]
sink: { file: { path: out.jsonl } }
";
    let input = b"{\"n\":2}\n{\"n\":9999999999}\n{\"n\":0}\n{\"n\":9223372036854775807}\n{\"n\":null}\n{\"n\":5}\n";
    let folder = folder(&format!("{spec}{LETTERS}"), input);
    let ended = folder.bourn(&["run", "a.yaml"]);
    no_panic(&ended);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let kept = "{\"next\":3,\"small\":2,\"share\":5}\n{\"next\":null,\"small\":null,\"share\":null}\n{\"next\":6,\"small\":5,\"share\":2}\n";
    assert_eq!(folder.read("out.jsonl"), kept);
    let told: Vec<_> = letters(&folder).iter().map(|l| format!("{} {}", l["row"], l["reason"])).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    {"n":9999999999} "`cast(n as int)`: can't cast value 9999999999 to type int"
    {"n":0} "`10 / n`: divide by zero error"
    {"n":9223372036854775807} "`n + 1`: overflow happened on: 9223372036854775807 + 1"
    "#);
}

#[test]
fn a_column_that_is_missing_in_a_later_file_is_named_with_the_file() {
    let write = |columns: &str, path: &str| {
        format!("source: {{ generate: {{ rows: 10, columns: {columns} }} }}\nsink: {{ file: {{ path: {path} }} }}\n")
    };
    let spec = "source: { file: { path: \"*.parquet\" } }\nsink: { stdout: {} }\n";
    for (columns, said) in [
        ("{ m: n }", "error: `source`, field `n`: b.parquet: has no column `n`, which the first file has"),
        ("{ n: \"'x'\" }", "error: `source`, field `n`: b.parquet: column `n` is text, and bigint in the first file"),
    ] {
        let folder = Folder::with(&[
            ("1.yaml", &write("{ n: n }", "a.parquet")),
            ("2.yaml", &write(columns, "b.parquet")),
            ("a.yaml", spec),
        ]);
        assert_eq!(folder.bourn(&["run", "1.yaml"]).quietly() + &folder.bourn(&["run", "2.yaml"]).quietly(), "");
        let ended = folder.bourn(&["run", "a.yaml"]);
        no_panic(&ended);
        assert_eq!((ended.code, ended.err.trim()), (Some(1), said));
    }
}

#[test]
fn an_empty_file_has_no_rows_and_says_so_where_columns_are_asked_for() {
    let filter = "source: { file: { path: in.jsonl } }\nstages: [ { filter: n > 1 } ]\nsink: { stdout: {} }\n";
    let empty = folder(filter, b"");
    insta::assert_snapshot!(empty.bourn(&["run", "a.yaml"]).refused(2), @r#"
    a.yaml:2:21 unknown column `n` (a source whose files have no rows yet says their columns with `schema`)
    a.yaml: 1 problem
    "#);
    let all = "source: { file: { path: in.jsonl } }\nsink: { stdout: {} }\n";
    assert_eq!(folder(all, b"").bourn(&["run", "a.yaml"]).quietly(), "");
    let declared = filter.replace("in.jsonl }", "in.jsonl, schema: { n: bigint } }");
    assert_eq!(folder(&declared, b"\n  \n").bourn(&["run", "a.yaml"]).quietly(), "");
    let among = folder(
        "source: { file: { path: \"*.jsonl\" } }\nstages: [ { filter: n > 1 } ]\nsink: { stdout: {} }\n",
        b"{\"n\":2}\n",
    );
    std::fs::write(among.path("a.jsonl"), "").unwrap();
    assert_eq!(among.bourn(&["run", "a.yaml"]).quietly(), "{\"n\":2}\n");
    let parquet =
        Folder::with(&[("a.yaml", "source: { file: { path: a.parquet } }\nsink: { stdout: {} }\n"), ("a.parquet", "")]);
    insta::assert_snapshot!(parquet.bourn(&["run", "a.yaml"]).refused(2), @r#"
    a.yaml:1:25 a.parquet: the file is empty, and a Parquet file has at least a footer
    a.yaml: 1 problem
    "#);
    let spec = Folder::with(&[("a.yaml", "")]);
    insta::assert_snapshot!(spec.bourn(&["run", "a.yaml"]).refused(2), @r#"
    a.yaml:1:1 a spec is a map, and this is nothing (a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`)
    a.yaml: 1 problem
    "#);
    let inputs = Folder::with(&[("a.yaml", "steps: [ { id: a, command: set, args: 1 } ]\n"), ("in.jsonl", "")]);
    assert_eq!(inputs.bourn(&["run", "a.yaml", "--inputs", "in.jsonl"]).quietly(), "");
}

#[test]
fn a_truncated_parquet_file_is_named_before_the_job_or_when_it_is_met() {
    let make = "source: { generate: { rows: 20000 } }\nsink: { file: { path: a.parquet } }\n";
    let read = "source: { file: { path: \"*.parquet\" } }\nsink: { file: { path: out.jsonl } }\n";
    let folder = Folder::with(&[("make.yaml", make), ("read.yaml", read)]);
    assert_eq!(folder.bourn(&["run", "make.yaml"]).quietly(), "");
    let whole = std::fs::read(folder.path("a.parquet")).unwrap();
    for length in [1, 4, 11, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        std::fs::write(folder.path("a.parquet"), &whole[..length]).unwrap();
        let ended = folder.bourn(&["run", "read.yaml"]);
        no_panic(&ended);
        assert!(
            ended.code == Some(2) && ended.err.starts_with("read.yaml:1:25 a.parquet: is no whole Parquet file: "),
            "{}",
            ended.err
        );
    }
    std::fs::write(folder.path("b.parquet"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(folder.path("a.parquet"), &whole).unwrap();
    let ended = folder.bourn(&["run", "read.yaml"]);
    no_panic(&ended);
    assert!(
        ended.code == Some(1) && ended.err.starts_with("error: `source`: b.parquet: is no whole Parquet file: "),
        "{}",
        ended.err
    );
    // Bytes that are wrong in the middle: the decoders of the library may give up, and that is no panic of ours.
    std::fs::remove_file(folder.path("b.parquet")).unwrap();
    for at in (4..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(folder.path("a.parquet"), &bytes).unwrap();
        let ended = folder.bourn(&["run", "read.yaml"]);
        no_panic(&ended);
        assert!(ended.code == Some(0) || ended.err.contains("a.parquet"), "{}", ended.err);
    }
}

#[test]
fn a_full_disk_is_told_with_the_file() {
    let folder = Folder::with(&[
        ("json.yaml", "source: { generate: { rows: 20000 } }\nsink: { file: { path: /dev/full, format: json } }\n"),
        ("out.yaml", "source: { generate: { rows: 20000 } }\nsink: { stdout: {} }\n"),
        ("console.yaml", "source: { generate: { rows: 20000 } }\nsink: { console: {} }\n"),
        (
            "letters.yaml",
            "source: { file: { path: in.jsonl } }\nsink: { blackhole: {} }\non_error: dead_letter\ndead_letters: { file: { path: /dev/full, format: json } }\n",
        ),
        ("steps.yaml", "steps: [ { id: a, command: set, args: 1 } ]\n"),
        ("in.jsonl", "{\"n\":1}\n{\n"),
    ]);
    for (args, place) in [
        (&["run", "json.yaml"][..], "`sink`: /dev/full"),
        (&["run", "out.yaml"], "`sink`: stdout"),
        (&["run", "console.yaml"], "`sink`: stdout"),
        (&["run", "letters.yaml"], "sink `dead_letters`: /dev/full"),
        (&["run", "steps.yaml", "--inputs", "in.jsonl"], "sink `@documents`: stdout"),
        (&["run", "steps.yaml"], "stdout"),
        (&["plan", "out.yaml"], "stdout"),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = crate::support::ended(folder.command(args).stdout(full).output().unwrap());
        no_panic(&ended);
        assert_eq!(ended.code, Some(1), "{args:?}: {}", ended.err);
        let told = format!("error: {place}: No space left on device (os error 28)");
        assert!(ended.err.lines().any(|line| line == told), "{args:?}: {}", ended.err);
    }
}

#[test]
fn a_program_that_stays_loses_the_rows_alone_that_end_it() {
    let spec = "\
source: { file: { path: in.jsonl } }
stages:
  - process:
      command: [sh, serve.sh]
      mode: stream
      limits: { timeout: 2s, retry: { max_attempts: 2, initial_interval: 1ms } }
sink: { file: { path: out.jsonl } }
";
    let input: String = ["a", "die", "b", "rubbish", "c", "hang", "d"].map(|n| format!("{{\"n\":\"{n}\"}}\n")).concat();
    let folder = folder(&format!("{spec}{LETTERS}"), input.as_bytes());
    let serve = "while read -r line; do case $line in *die*) echo why >&2; exit 4;; *rubbish*) echo oops;; \
                 *hang*) sleep 1000;; *) echo \"$line\";; esac; done";
    std::fs::write(folder.path("serve.sh"), serve).unwrap();
    let ended = folder.bourn(&["run", "a.yaml"]);
    no_panic(&ended);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("warning: 3 rows rejected: `process` 3"), "{}", ended.err);
    // What it complains about is in the log.
    assert!(ended.err.contains("process: why"), "{}", ended.err);
    let rows: Vec<_> = folder.read("out.jsonl").lines().map(|l| l.chars().nth(6).unwrap()).collect();
    assert_eq!(rows, ['a', 'b', 'c', 'd']);
    // A row that was with the program when another one ended it is at its second attempt.
    let reason = |l: &Value| l["reason"].as_str().unwrap().replace("after 2 attempts: ", "");
    let told: Vec<_> = letters(&folder).iter().map(|l| format!("{} {}", l["row"]["n"], reason(l))).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    "die" `sh` ended with status 4 before it answered: why
    "rubbish" `sh` wrote no JSON document: expected value at line 1 column 1
    "hang" `sh` gave no answer within 2s and was ended
    "#);
}

#[test]
fn a_child_that_dies_is_a_dead_letter_and_no_other_row_is_lost() {
    let spec = "\
source: { file: { path: in.jsonl } }
stages: [ { process: { command: [sh, \"-c\", \"${run}\"], limits: { retry: { max_attempts: 1 } } } } ]
sink: { file: { path: out.jsonl } }
";
    let run = ["echo 1", "kill -9 $$", "echo why >&2; exit 4", "printf '\\377'", "echo 2"];
    let input = run.map(|run| format!("{}\n", serde_json::json!({"run": run}))).concat();
    let folder = folder(&format!("{spec}{LETTERS}"), input.as_bytes());
    let ended = folder.bourn(&["run", "a.yaml"]);
    no_panic(&ended);
    assert_eq!((ended.code, ended.err.trim()), (Some(0), "warning: 3 rows rejected: `process` 3"));
    assert_eq!(
        folder.read("out.jsonl"),
        "{\"run\":\"echo 1\",\"result\":\"1\"}\n{\"run\":\"echo 2\",\"result\":\"2\"}\n"
    );
    let told: Vec<_> = letters(&folder).iter().map(|l| format!("{} {}", l["row"]["run"], l["reason"])).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    "kill -9 $$" "`sh` was ended by signal 9 (SIGKILL)"
    "echo why >&2; exit 4" "`sh` ended with status 4: why"
    "printf '\\377'" "`sh` wrote no UTF-8: invalid utf-8 sequence of 1 bytes from index 0"
    "#);
}

/// Answers each request by what its path says, and hangs when it says so.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut hanging = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4_096];
            let count = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..count]);
            let answer = |body: &str| {
                let length = body.len();
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                )
            };
            let answer = match asked.split([' ', '/']).nth(2).unwrap_or_default() {
                "hang" => {
                    hanging.push(stream);
                    continue;
                }
                "rubbish" => "rubbish\r\n\r\n".to_owned(),
                "broken" => answer("{\"a\": <html>"),
                other => answer(&format!("\"{other}\"")),
            };
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_service_that_answers_rubbish_is_told_and_no_other_row_is_lost() {
    let spec = format!(
        "source: {{ memory: {{ rows: [ {{ id: a }}, {{ id: rubbish }}, {{ id: broken }}, {{ id: b }} ] }} }}\n\
         stages: [ {{ http: {{ url: \"{}/${{id}}\", limits: {{ retry: {{ max_attempts: 1 }} }} }} }} ]\n\
         sink: {{ file: {{ path: out.jsonl }} }}\n{LETTERS}",
        service()
    );
    let folder = folder(&spec, b"");
    let ended = folder.bourn(&["run", "a.yaml"]);
    no_panic(&ended);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(folder.read("out.jsonl"), "{\"id\":\"a\",\"result\":\"a\"}\n{\"id\":\"b\",\"result\":\"b\"}\n");
    let told: Vec<_> = letters(&folder).iter().map(|l| format!("{}: {}", l["row"]["id"], l["reason"])).collect();
    assert!(told[0].starts_with("\"rubbish\": \"GET http://127.0.0.1:") && told[0].contains("/rubbish: "), "{told:?}");
    assert!(told[1].contains("/broken: the answer is no JSON document: ") && told.len() == 2, "{told:?}");
}

#[test]
fn a_service_that_hangs_is_given_up() {
    let url = service();
    let limits = "limits: { timeout: 100ms, retry: { max_attempts: 2, initial_interval: 1ms } }";
    let spec = format!(
        "source: {{ memory: {{ rows: [ {{ id: 1 }} ] }} }}\nstages: [ {{ http: {{ url: \"{url}/hang/${{id}}\", {limits} }} }} ]\n\
         sink: {{ file: {{ path: out.jsonl }} }}\n"
    );
    let steps = format!(
        "steps:\n  - {{ id: ask, http: {{ url: \"{url}/hang\" }}, timeout: 100ms, retry: {{ max_attempts: 1 }} }}\n  - {{ id: after, set: 1 }}\n"
    );
    let folder = Folder::with(&[("fail.yaml", &spec), ("a.yaml", &format!("{spec}{LETTERS}")), ("steps.yaml", &steps)]);
    let told = folder.bourn(&["run", "fail.yaml"]).refused(1);
    insta::assert_snapshot!(told, @r#"error: stage `http`, memory: after 2 attempts: no answer within 100ms (in the row {"id":1})"#);
    let ended = folder.bourn(&["run", "a.yaml"]);
    no_panic(&ended);
    // Nothing got through.
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert_eq!((&letters(&folder)[0]["kind"], &letters(&folder)[0]["row"]["id"]), (&"timeout".into(), &1.into()));
    let ended = folder.bourn(&["run", "steps.yaml", "-o", "json"]);
    let run: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (ended.code, &run["execution_metrics"]["steps"]["ask"]["status"]),
        (Some(1), &"TIMED_OUT".into()),
        "{run}"
    );
    assert_eq!(run["execution_metrics"]["steps"]["after"]["status"], "COMPLETED", "{run}");
}

#[test]
fn an_input_of_a_workflow_that_is_no_text_is_told_with_line_and_offset() {
    let folder = Folder::with(&[("a.yaml", "steps: [ { id: a, command: set, args: \"${input.n}\" } ]\n")]);
    std::fs::write(folder.path("in.jsonl"), b"\xEF\xBB\xBF{\"n\":1}\n{\"n\":\"\xff\"}\n{\"n\":\n{\"n\":2}\n").unwrap();
    let ended = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl"]);
    no_panic(&ended);
    let runs: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = runs.iter().map(|run| run["error_analysis"]["detail"].as_str().unwrap_or("-")).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    -
    in.jsonl:2: the input is not UTF-8: byte 0xff at column 7, at offset 17 of the whole
    in.jsonl:3: the input is not JSON: EOF while parsing a value at column 5
    -
    "#);
    assert_eq!((ended.code, &runs[0]["final_output"], &runs[3]["final_output"]), (Some(1), &1.into(), &2.into()));
}
