//! `bourn test`: cases of specs, green and red.

use std::path::Path;

use serde_json::Value;

use crate::support::Folder;

/// Its source is not there, and its sink must not appear.
const LATE: &str = "\
source:
  file: { path: nowhere/*.jsonl, schema: { id: bigint, delay: bigint } }
stages:
  - id: late
    filter: delay > 15
  - id: counted
    map: { id: id, hours: delay / 60.0 }
sink:
  file: { path: out/late.jsonl }
on_error: dead_letter
dead_letters:
  file: { path: out/rejected.jsonl }
tests:
  - name: late flights are kept
    given: [{ id: 1, delay: 90 }, { id: 2, delay: 15 }, { id: 3, delay: 30 }]
    expect:
      late: [{ id: 1, delay: 90 }, { id: 3, delay: 30 }]
      sink: [{ id: 1, hours: 1.5 }, { id: 3, hours: 0.5 }]
";

/// The spec with another list of cases.
fn with_cases(cases: &str) -> Folder {
    let spec = LATE.split("tests:").next().unwrap();
    Folder::with(&[("late.yaml", &format!("{spec}tests:\n{}", cases.trim_start_matches('\n')))])
}

/// What is told of cases of which one is red.
fn red(cases: &str) -> String {
    let ended = with_cases(cases).bourn(&["test", "late.yaml"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""), "{}", ended.out);
    ended.out
}

#[test]
fn a_green_case_touches_nothing_outside() {
    let folder = Folder::with(&[("late.yaml", LATE)]);
    insta::assert_snapshot!(folder.bourn(&["test", "late.yaml"]).quietly(), @"
    late.yaml
      ok   late flights are kept
    1 case: all passed
    ");
    assert!(!folder.path("out").exists());
    // The spec is one that runs, too.
    assert!(folder.bourn(&["run", "late.yaml"]).err.contains("nowhere"));
}

#[test]
fn a_red_case_shows_what_differs_and_where_it_was_expected() {
    let cases = "
  - name: wrong
    given: [{ id: 1, delay: 90 }, { id: 2, delay: 30 }, { id: 3, delay: 120 }]
    expect: [{ id: 1, hours: 1.5 }, { id: 2, hours: 1 }, { hours: 2, id: 3 }]
  - name: right
    given: [{ id: 1, delay: 90 }]
    expect: [{ hours: 1.5, id: 1 }]
";
    insta::assert_snapshot!(red(cases), @r#"
    late.yaml
      FAIL wrong
           late.yaml:16:13 `sink` got other rows than expected
           - expected, + found
             {"id":1,"hours":1.5}
           - {"id":2,"hours":1}
           + {"id":2,"hours":0.5}
             {"id":3,"hours":2}
      ok   right
    2 cases: 1 failed
    "#);
    let ended = with_cases(cases).bourn(&["test", "late.yaml", "--color", "always"]);
    assert!(ended.out.contains("\u{1b}[31m") && ended.out.contains("\u{1b}[32m"), "{:?}", ended.out);
    let ended = with_cases(cases).bourn(&["test", "late.yaml", "-o", "json"]);
    assert_eq!(ended.code, Some(1));
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&1.into(), &1.into()));
    let fault = &report["cases"][0]["faults"][0];
    assert_eq!((&fault["line"], &fault["found"][1]), (&16.into(), &r#"{"id":2,"hours":0.5}"#.into()));
}

#[test]
fn a_sink_that_refuses_leaves_its_rows_to_its_fallback() {
    let spec = LATE.split("on_error").next().unwrap().to_owned()
        + "  fallback: { file: { path: out/other.jsonl } }
tests:
  - name: refused
    fail: { sink: { permanent: true } }
    given: { source: { batches: [[{ id: 1, delay: 60 }], [{ id: 2, delay: 60 }]] } }
    expect: { sink.fallback: [{ id: 1, hours: 1 }], sink: [{ id: 2, hours: 1 }] }
";
    let folder = Folder::with(&[("late.yaml", &spec)]);
    folder.bourn(&["test", "late.yaml"]).quietly();
    assert!(!folder.path("out").exists());
}

#[test]
fn the_filter_chooses_cases_and_nothing_chosen_is_no_success() {
    let folder = Folder::with(&[("late.yaml", LATE)]);
    assert!(folder.bourn(&["test", "late.yaml", "--filter", "kept"]).quietly().contains("1 case: all passed"));
    let told = folder.bourn(&["test", "late.yaml", "--filter", "nothing"]).refused(2);
    assert_eq!(told, "error: no case has \"nothing\" in its name; there are: `late flights are kept`\n");
    let folder = Folder::with(&[("late.yaml", LATE.split("tests:").next().unwrap())]);
    let told = folder.bourn(&["test", "late.yaml"]).refused(2);
    assert!(told.contains("write them below `tests:` in late.yaml, or into a file late.test.yaml beside it"), "{told}");
}

#[test]
fn cases_beside_a_spec_are_found_from_either_file() {
    let beside = "tests:\n  - { name: beside, given: [{ id: 1, delay: 60 }], expect: [{ id: 1, hours: 1 }] }\n";
    let folder = Folder::with(&[("late.yaml", LATE), ("late.test.yaml", beside)]);
    for args in [&["test", "late.yaml"][..], &["test", "late.test.yaml"], &["test", "late.yaml", "late.test.yaml"]] {
        let told = folder.bourn(args).quietly();
        assert!(told.contains("ok   beside") && told.ends_with("2 cases: all passed\n"), "{told}");
    }
    let wrong = beside.replace("expect: [{ id: 1, hours: 1 }]", "expect: { snik: [] }");
    let folder = Folder::with(&[("late.yaml", LATE), ("late.test.yaml", &wrong)]);
    let told = folder.bourn(&["test", "late.yaml"]).refused(2);
    assert!(told.starts_with("late.test.yaml:2:") && told.contains("did you mean `sink`?"), "{told}");
}

#[test]
fn every_problem_of_the_cases_is_told_with_its_place() {
    let folder = with_cases(
        "
  - name: nothing
    given: [{ id: 1, delay: 1 }]
  - name: nothing
    givn: []
  - name: names
    given: { sauce: [] }
    expect: { late.early: [] }
    fail: { late: 1 }
    mocks: { other: {} }
  - name: time
    clock: yesterday
    script: [{ at: 5s, advance: 1s }, { at: 5s }, { at: 1s, expect: [] }]
  - name: input
    input: {}
    expect: []
",
    );
    // Also where the spec is only looked at: a case with a problem is a problem of its spec.
    insta::assert_snapshot!(folder.bourn(&["validate", "late.yaml"]).refused(2), @r#"
    late.yaml:14:11 this case expects nothing, so it would never fail (add `expect: …`, `dead_letters: …` or `error: …`)
    late.yaml:17:5 unknown key `givn` (did you mean `given`?)
    late.yaml:19:14 there is no source `sauce` (did you mean `source`?)
    late.yaml:20:15 `late` has no port `early` (`late` has no ports beside the main one: write `late`)
    late.yaml:21:13 there is no sink `late` (there is: sink)
    late.yaml:22:14 there is no stage `other` (there is: late, counted)
    late.yaml:22:21 this answers nothing (say `answer: …` or `fail: REASON`)
    late.yaml:24:12 `yesterday` is no moment (write it as `2024-05-01T12:00:00Z`)
    late.yaml:25:16 time passes once in a move (say `advance` or `at`)
    late.yaml:25:57 it is 5s by then (time does not go back)
    late.yaml:27:12 a pipeline has no input (say what its sources give: `given: { … }`)
    late.yaml: 11 problems
    "#);
    let folder =
        with_cases("  - { name: columns, given: { source: { schema: { id: bigin }, rows: [] } }, expect: [] }\n");
    let told = folder.bourn(&["test", "late.yaml"]).refused(2);
    assert!(told.contains("unknown type `bigin`") && told.contains("late.yaml:14:"), "{told}");
}

#[test]
fn dead_letters_are_expected_or_the_case_is_red() {
    let told = red("
  - name: expected
    fail: { sink: { permanent: true, reason: the disk is full } }
    given: { source: { batches: [[{ id: 1, delay: 60 }], [{ id: x, delay: 60 }], [{ id: 3, delay: 60 }]] } }
    expect: { sink: { partial: true, rows: [{ id: 3 }] } }
    dead_letters:
      - { stage: source, row: { id: x } }
      - { stage: sink, reason: disk is full, kind: validation, row: { id: 1 } }
  - name: not expected
    given: [{ id: x, delay: 1 }]
    expect: []
  - name: others expected
    given: [{ id: x, delay: 1 }]
    dead_letters: [{ stage: late }]
");
    insta::assert_snapshot!(told, @r#"
    late.yaml
      ok   expected
      FAIL not expected
           late.yaml:21:5 1 row was rejected, and 0 were expected
           - expected, + found
           + {"stage":"source","reason":"field `id`: `\"x\"` does not fit bigint","kind":"validation","row":{"id":"x","delay":1}}
      FAIL others expected
           late.yaml:26:19 other rows were rejected than expected
           - expected, + found
           - {"stage":"late"}
           + {"stage":"source","reason":"field `id`: `\"x\"` does not fit bigint","kind":"validation","row":{"id":"x","delay":1}}
    3 cases: 2 failed
    "#);
}

#[test]
fn time_passes_as_the_script_says() {
    let spec = "\
source: { stdin: {} }
stages:
  - id: held
    batch: { rows: 3, within: 10s }
sink: { console: {} }
tests:
  - name: rows wait for others, ten seconds at the most
    given: [{ n: 1 }]
    script:
      - { advance: 9s, give: [{ n: 2 }], expect: [] }
      - { at: 10s, expect: [{ n: 1 }, { n: 2 }] }
      - { give: [{ n: 3 }, { n: 4 }, { n: 5 }, { n: 6 }], expect: { held: { count: 5 } } }
    expect: { sink: { count: 6 } }
";
    let folder = Folder::with(&[("held.yaml", spec)]);
    folder.bourn(&["test", "held.yaml"]).quietly();
    let folder = Folder::with(&[("held.yaml", &spec.replace("at: 10s", "advance: 999ms"))]);
    let ended = folder.bourn(&["test", "held.yaml"]);
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(ended.out.contains("held.yaml:11:35 `sink` got 0 rows, and 2 were expected"), "{}", ended.out);
}

#[test]
fn the_clock_says_when_a_case_begins() {
    let spec = "\
source: { stdin: {} }
stages: [{ id: checked, map: { n: cast(n as bigint) } }]
sink: { stdout: {} }
on_error: dead_letter
dead_letters: { stdout: {} }
tests:
  - name: noon
    clock: 2024-05-01T12:00:00Z
    script: [{ advance: 1h, give: [{ n: x }] }]
    dead_letters: [{ stage: checked, time: 2024-05-01T13:00:00Z }]
";
    Folder::with(&[("clock.yaml", spec)]).bourn(&["test", "clock.yaml"]).quietly();
    let early = spec.replace("clock: 2024-05-01T12:00:00Z", "clock: 2024-05-01T11:59:00+00:00");
    assert!(Folder::with(&[("clock.yaml", &early)]).bourn(&["test", "clock.yaml"]).out.contains("2024-05-01T12:59:00"));
}

#[test]
fn the_end_of_the_job_is_expected_or_the_case_is_red() {
    let spec = "\
source: { stdin: {} }
stages: [{ id: checked, map: { n: cast(n as bigint) } }]
sink: { stdout: {} }
tests:
  - { name: it fails, given: [{ n: x }], error: checked }
  - { name: it must not, given: [{ n: x }], expect: [] }
  - { name: it does not, given: [{ n: '1' }], error: checked }
  - { name: the sink never works, given: [{ n: '1' }], fail: { sink: 100 }, error: lets this sink fail }
";
    let ended = Folder::with(&[("fails.yaml", spec)]).bourn(&["test", "fails.yaml"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.out, @r#"
    fails.yaml
      ok   it fails
      FAIL it must not
           fails.yaml:6:5 the job failed: stage `checked`, given: `cast(n as bigint)`: cannot cast string 'x' to value of bigint type (in the row {"n":"x"})
      FAIL it does not
           fails.yaml:7:54 the job ended well, and "checked" was expected
      ok   the sink never works
    4 cases: 2 failed
    "#);
}

#[test]
fn what_would_ask_something_outside_needs_an_answer() {
    let spec = "\
source: { stdin: {} }
stages:
  - id: found
    http: { url: \"http://127.0.0.1:9/${id}\", output: user, limits: { retry: { max_attempts: 3 } } }
sink: { stdout: {} }
on_error: drop
tests:
  - name: asked
    mocks:
      found:
        when:
          - { row: { id: 2 }, answer: { name: Bo } }
          - { row: { id: 3 }, fail: gone }
        fail: busy
        times: 2
        answer: { name: Al }
    given: [{ id: 1 }, { id: 2 }, { id: 3 }]
    expect: [{ id: 1, user: { name: Al } }, { id: 2, user: { name: Bo } }]
";
    Folder::with(&[("ask.yaml", spec)]).bourn(&["test", "ask.yaml"]).quietly();
    // One attempt less than it takes.
    let ended = Folder::with(&[("ask.yaml", &spec.replace("times: 2", "times: 3"))]).bourn(&["test", "ask.yaml"]);
    assert!(ended.code == Some(1) && ended.out.contains(r#"- {"id":1,"#), "{}", ended.out);
    let (before, rest) = spec.split_once("    mocks:").unwrap();
    let without = before.to_owned() + "    given:" + rest.split_once("    given:").unwrap().1;
    let told = Folder::with(&[("ask.yaml", &without)]).bourn(&["test", "ask.yaml"]).refused(2);
    assert!(told.contains("ask.yaml:8:5 `found` asks something outside (`http`)"), "{told}");
    assert!(told.contains("mocks: { found: { answer: … } }"), "{told}");
}

#[test]
fn a_workflow_is_run_once_for_its_input() {
    let spec = "\
steps:
  - { id: asked, command: /query, args: \"about ${input.topic}\" }
  - { id: told, command: set, args: { text: \"I heard: ${asked.results}\" } }
tests:
  - name: answered
    input: { topic: trains }
    mocks: { asked: { answer: they run } }
    expect: { output: { text: \"I heard: they run\" }, steps: { asked: they run } }
  - name: other
    mocks: { asked: { answer: they run } }
    input: { topic: trains }
    expect: { output: { text: nothing }, skipped: [told] }
  - name: failed
    input: { topic: trains }
    mocks: { asked: { fail: no answer } }
    expect: { error: other }
  - name: asked the mock model
    input: { topic: trains }
    expect: { steps: {} }
";
    let ended = Folder::with(&[("ask.yaml", spec)]).bourn(&["test", "ask.yaml"]);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(ended.out, @r#"
    ask.yaml
      ok   answered
      FAIL other
           ask.yaml:12:23 the final output differs
           - expected, + found
             {
           -   "text": "nothing"
           +   "text": "I heard: they run"
             }
           ask.yaml:12:51 step `told` is COMPLETED, not SKIPPED
      FAIL failed
           ask.yaml:16:22 the error says "no answer", and not "other"
      ok   asked the mock model
    4 cases: 2 failed
    "#);
}

#[test]
fn the_cases_of_the_examples_are_green() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folder = Folder::with(&[]);
    std::os::unix::fs::symlink(examples, folder.path("examples")).unwrap();
    let told = folder.bourn(&["test", "examples"]).quietly();
    let specs = told.lines().filter(|line| line.starts_with("examples/")).count();
    assert!(specs >= 9 && told.ends_with(&format!("in {specs} specs: all passed\n")), "{told}");
    assert!(!folder.path("out").exists());
}
