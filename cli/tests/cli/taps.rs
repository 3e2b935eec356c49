//! `bourn tap`: what flows at one place of a spec, while the rest goes on or is held dry.

use crate::support::Folder;

const SPEC: &str = "\
source:
  memory: { rows: [ { n: 1 }, { n: 2 }, { n: 3 }, { n: 4 } ] }
stages:
  - id: by_size
    route: { big: n > 2 }
sinks:
  big: { from: by_size.big, file: { path: out/big.jsonl } }
  small: { from: by_size, stdout: {} }
";

fn folder() -> Folder {
    Folder::with(&[("a.yaml", SPEC)])
}

#[test]
fn what_leaves_a_stage_by_each_port_is_printed_and_the_sinks_get_their_rows() {
    let folder = folder();
    assert_eq!(folder.bourn(&["tap", "a.yaml", "by_size"]).quietly(), "n\n1\n2\n");
    assert_eq!(
        folder.bourn(&["tap", "a.yaml", "by_size.big", "--write", "-o", "json"]).quietly(),
        "{\"n\":3}\n{\"n\":4}\n"
    );
    assert_eq!(folder.read("out/big.jsonl"), "{\"n\":3}\n{\"n\":4}\n");
}

#[test]
fn what_goes_into_a_sink_is_printed_and_written() {
    let folder = folder();
    assert_eq!(folder.bourn(&["tap", "a.yaml", "big", "--write", "-o", "json"]).quietly(), "{\"n\":3}\n{\"n\":4}\n");
    assert_eq!(folder.read("out/big.jsonl"), "{\"n\":3}\n{\"n\":4}\n");
    // A sink that prints gives way to the tap.
    assert_eq!(folder.bourn(&["tap", "a.yaml", "small", "-o", "json"]).quietly(), "{\"n\":1}\n{\"n\":2}\n");
}

#[test]
fn a_look_writes_nothing() {
    let folder = folder();
    for stage in ["by_size.big", "big"] {
        let out = folder.bourn(&["tap", "a.yaml", stage, "--filter", "n % 2 = 0", "-o", "json"]).quietly();
        assert_eq!(out, "{\"n\":4}\n");
    }
    assert!(!folder.path("out").exists());
    // What a job has written is there after a look at it.
    folder.bourn(&["run", "a.yaml"]);
    folder.bourn(&["tap", "a.yaml", "source", "--rows", "1"]).quietly();
    assert_eq!(folder.read("out/big.jsonl"), "{\"n\":3}\n{\"n\":4}\n");
}

#[test]
fn enough_rows_end_a_job_without_end() {
    let spec = "source: { generate: { rate: 1000/s } }\nsink: { blackhole: {} }\n";
    let folder = Folder::with(&[("a.yaml", spec)]);
    let out = folder.bourn(&["tap", "a.yaml", "source", "--rows", "3", "--filter", "n > 5", "-o", "json"]).quietly();
    assert_eq!(out, "{\"n\":6}\n{\"n\":7}\n{\"n\":8}\n");
}

#[test]
fn rejected_rows_can_be_tapped_and_stay_dead_letters() {
    let spec = "\
source: { memory: { rows: [ { n: '1' }, { n: x } ] } }
stages:
  - map: { n: cast(n as bigint) }
sink: { blackhole: {} }
on_error: dead_letter
dead_letters: { file: { path: rejected.jsonl } }
";
    let folder = Folder::with(&[("a.yaml", spec)]);
    let ended = folder.bourn(&["tap", "a.yaml", "--write", "dead_letters", "-o", "json"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), "warning: 1 row rejected: `map` 1\n"));
    assert!(ended.out.contains("\"stage\":\"map\"") && ended.out.lines().count() == 1, "{}", ended.out);
    assert_eq!(folder.read("rejected.jsonl"), ended.out);
}

#[test]
fn the_steps_of_a_workflow_can_be_tapped() {
    let spec = "steps:\n  - { id: greeting, set: { value: \"hello ${input.name}\" } }\n";
    let folder = Folder::with(&[("a.yaml", spec), ("in.jsonl", "{\"name\":\"Ann\"}\n{\"name\":\"Bo\"}\n")]);
    let out = folder.bourn(&["tap", "a.yaml", "greeting", "--inputs", "in.jsonl", "-o", "json"]).quietly();
    assert!(out.contains("hello Ann") && out.contains("hello Bo") && out.lines().count() == 2, "{out}");
}

#[test]
fn a_place_that_is_not_there_is_told_with_the_way_out() {
    let folder = folder();
    insta::assert_snapshot!(folder.bourn(&["tap", "a.yaml", "by_siz"]).refused(2), @"error: a.yaml: there is no source, stage or sink `by_siz` (did you mean `by_size`?)");
    insta::assert_snapshot!(folder.bourn(&["tap", "a.yaml", "by_size.huge"]).refused(2), @"error: a.yaml: there is no port `huge` of `by_size` (there are big)");
    insta::assert_snapshot!(folder.bourn(&["tap", "a.yaml", "big.x"]).refused(2), @"error: a.yaml: a sink such as `big` has no port `x`");
    for place in ["by_size", "big"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(folder.bourn(&["tap", "a.yaml", place, "--filter", "m > 1"]).refused(2), @"error: --filter: unknown column `m` (there is: n)");
        }
    }
}
