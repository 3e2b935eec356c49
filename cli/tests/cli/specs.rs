//! Specs at fault: every problem at once, in the form that fits the reader, with exit code 2.

use crate::support::Folder;

const BAD: &str = "\
source:
  generate: { row: 1 }
stages:
  - id: even
    filtr: n % 2 = 0
sink:
  stdout: {}
";

#[test]
fn every_problem_is_told_with_its_place_and_the_way_out() {
    let folder = Folder::with(&[("bad.yaml", BAD)]);
    for verb in ["validate", "plan", "run"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(folder.bourn(&[verb, "bad.yaml"]).refused(2), @"
            bad.yaml:2:15 unknown key `row` (did you mean `rows`?)
            bad.yaml:5:5 unknown kind of stage `filtr` (did you mean `filter`?)
            bad.yaml: 2 problems
            ");
        }
    }
}

#[test]
fn a_report_can_be_drawn() {
    let folder = Folder::with(&[("bad.yaml", "source: { generate: { row: 1 } }\nsink: { stdout: {} }\n")]);
    let drawn = folder.bourn(&["validate", "bad.yaml", "--color", "always"]).refused(2);
    assert!(drawn.contains("\u{1b}[") && drawn.contains("╭─["), "{drawn}");
    let plain = folder.bourn(&["validate", "bad.yaml", "--color", "never"]).refused(2);
    assert!(!plain.contains(['\u{1b}', '╭']), "{plain}");
}

#[test]
fn problems_come_as_json_too() {
    let folder = Folder::with(&[("bad.yaml", "source: { generate: { row: 1 } }\nsink: { stdout: {} }\n")]);
    let run = folder.bourn(&["run", "bad.yaml", "-o", "json"]).refused(2);
    insta::assert_snapshot!(run, @r#"{"problems":[{"file":"bad.yaml","line":1,"column":23,"message":"unknown key `row`","label":null,"help":"did you mean `rows`?"}]}"#);
    let validate = folder.bourn(&["validate", "bad.yaml", "-o", "json"]);
    assert_eq!((validate.code, validate.err.as_str()), (Some(2), ""));
    assert!(validate.out.contains(r#""valid":false"#), "{}", validate.out);
}

#[test]
fn a_column_that_is_not_there_is_marked_in_the_expression() {
    let spec = "source: { generate: {} }\nstages:\n  - filter: m > 1\nsink: { stdout: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec)]);
    insta::assert_snapshot!(folder.bourn(&["validate", "a.yaml"]).refused(2), @"
    a.yaml:3:13 unknown column `m` (there is: n)
    a.yaml: 1 problem
    ");
}

#[test]
fn a_good_spec_is_said_to_be_good() {
    let folder = Folder::with(&[("a.yaml", "source: { generate: {} }\nsink: { stdout: {} }\n")]);
    insta::assert_snapshot!(folder.bourn(&["validate", "a.yaml"]).quietly(), @"a.yaml: valid (pipeline: the spec has `source`)");
    insta::assert_snapshot!(folder.bourn(&["validate", "a.yaml", "-o", "json"]).quietly(), @r#"{"valid":true,"mode":"pipeline","problems":[],"notes":[],"open":[]}"#);
}

#[test]
fn a_spec_may_come_on_stdin() {
    let folder = Folder::with(&[]);
    let spec = "source: { generate: { rows: 2 } }\nsink: { stdout: {} }\n";
    assert_eq!(folder.fed(&["run", "-"], spec).quietly(), "{\"n\":0}\n{\"n\":1}\n");
    insta::assert_snapshot!(folder.fed(&["run", "-"], "source: 1").refused(2), @"
    stdin:1:1 there is nothing to do: no sink (add `sinks: { out: { file: … } }`, or `sink: { blackhole: {} }`)
    stdin:1:9 expected a map, found a number (for example `file: { path: data.jsonl }`)
    stdin: 2 problems
    ");
}

#[test]
fn a_spec_that_is_not_there_or_no_text_is_told() {
    let folder = Folder::with(&[]);
    std::fs::write(folder.path("bytes.yaml"), b"name: x\nsource: \xff").unwrap();
    insta::assert_snapshot!(folder.bourn(&["run", "none.yaml"]).refused(2), @"error: none.yaml: No such file or directory (os error 2)");
    insta::assert_snapshot!(folder.bourn(&["run", "bytes.yaml"]).refused(2), @"error: bytes.yaml:2: not UTF-8: byte 0xff at column 9");
    insta::assert_snapshot!(folder.bourn(&["run", "none.yaml", "-o", "json"]).refused(2), @r#"{"error":{"class":"permanent","message":"none.yaml: No such file or directory (os error 2)","stage":null,"input":null,"row":null,"field":null,"causes":[]}}"#);
}

#[test]
fn a_mode_that_the_spec_can_not_honour_is_refused() {
    let folder = Folder::with(&[("a.yaml", "source: { generate: { rows: 1 } }\nsink: { stdout: {} }\n")]);
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml", "--mode", "chain"]).refused(2), @"
    a.yaml:1:1 this spec can't be run as a chain: the spec has `source`
    a.yaml: 1 problem
    ");
    let unknown = folder.bourn(&["run", "a.yaml", "--mode", "hain"]).refused(2);
    assert!(unknown.contains("there are chain, flow, swarm, pipeline and hybrid"), "{unknown}");
}

#[test]
fn a_spec_of_ten_mebibytes_is_refused() {
    let folder = Folder::with(&[("long.yaml", &"key: 12\n".repeat((10 << 20) / 8))]);
    insta::assert_snapshot!(folder.bourn(&["validate", "long.yaml"]).refused(2), @"
    long.yaml:1:1 this spec has 10485760 bytes; at most 1048576 are read (put data into a file that a source reads)
    long.yaml: 1 problem
    ");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    let spec = (1..12).fold(first, |spec, n| {
        let before = format!("*a{}", n - 1);
        format!("{spec}a{n}: &a{n} [{}]\n", vec![before; 9].join(", "))
    });
    let folder = Folder::with(&[("bomb.yaml", &spec)]);
    insta::assert_snapshot!(folder.bourn(&["validate", "bomb.yaml"]).refused(2), @"
    bomb.yaml:6:10 this spec is too large or nested too deeply, with its aliases followed
    bomb.yaml: 1 problem
    ");
}

#[test]
fn brackets_without_end_are_refused() {
    let deep = |n: usize| format!("a: {}{}\n", "[".repeat(n), "]".repeat(n));
    let folder = Folder::with(&[
        ("deep.yaml", &deep(100_000)),
        ("open.yaml", &"[".repeat(100_000)),
        ("deep.json", &format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000))),
    ]);
    for name in ["deep.yaml", "open.yaml", "deep.json"] {
        let told = folder.bourn(&["validate", name]).refused(2);
        assert!(
            told.starts_with(&format!("{name}:1:")) && told.contains(" this spec is nested too deeply\n"),
            "{told}"
        );
    }
}

#[test]
fn a_variable_that_is_not_set_is_told() {
    let folder =
        Folder::with(&[("a.yaml", "source: { generate: {} }\nsink: { file: { path: \"${env.BOURN_TEST_OUT}\" } }\n")]);
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml"]).refused(2), @"
    a.yaml:2:24 there is no environment variable `BOURN_TEST_OUT` (set it: `export BOURN_TEST_OUT=…`, or say what holds without it: `${env.BOURN_TEST_OUT:-…}`)
    a.yaml: 1 problem
    ");
}

#[test]
fn the_value_of_a_variable_is_never_printed() {
    let secret = "s3cr3t-folder";
    let source = "source: { file: { path: \"${env.BOURN_TEST_PATH}/in.jsonl\" } }\nsink: { stdout: {} }\n";
    let sink = "source: { generate: { rows: 1 } }\nsink: { file: { path: \"${env.BOURN_TEST_PATH}/out.jsonl\" } }\n";
    // A file where the sink would make a folder: it fails when it is opened, not when it is planned.
    let folder = Folder::with(&[("source.yaml", source), ("sink.yaml", sink), (secret, "")]);
    for (args, code) in [
        (&["plan", "source.yaml"][..], 2),
        (&["run", "source.yaml"], 2),
        (&["run", "source.yaml", "-o", "json"], 2),
        (&["plan", "sink.yaml"], 0),
        (&["plan", "sink.yaml", "-o", "json"], 0),
        (&["run", "sink.yaml"], 1),
        (&["run", "sink.yaml", "-o", "json"], 1),
    ] {
        let ended = super::support::ended(folder.command(args).env("BOURN_TEST_PATH", secret).output().unwrap());
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.err);
        assert!(!ended.err.contains(secret) && !ended.out.contains(secret), "{args:?}: {}{}", ended.out, ended.err);
    }
}
