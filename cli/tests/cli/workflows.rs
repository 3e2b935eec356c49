//! Workflows: once for one input, and for many.

use serde_json::{Value, json};

use crate::support::Folder;

const CHAIN: &str = include_str!("../../../examples/chain.json");

const GREET: &str = "\
name: greet
input: { schema: { type: object, required: [who] } }
steps:
  - id: card
    command: set
    args: { text: \"hello ${input.who}\" }
  - id: copy
    command: set
    args: \"${card.results.text}\"
";

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_chain_of_the_seed_runs_as_it_is() {
    let folder = Folder::with(&[("chain.json", CHAIN)]);
    let document = document(&folder.bourn(&["run", "chain.json", "--mock", "-o", "json"]).quietly());
    assert_eq!(document["schema"], "bourn.result/v1");
    assert_eq!(document["status"], "COMPLETED");
    let results = document["workflow_results"].as_object().unwrap();
    assert!(results.keys().eq(["analyze_codebase", "fix_issues", "validate_fixes"]), "{results:?}");
    let found = results["analyze_codebase"].as_str().unwrap();
    assert!(results["fix_issues"].as_str().unwrap().ends_with(&format!("fix security issues: {found}")));
    for part in ["workflow_results", "execution_metrics", "state_artifacts", "performance_report"] {
        assert!(!document[part].is_null(), "{part}");
    }
}

#[test]
fn the_chain_of_the_seed_is_valid_and_can_be_planned_without_a_model() {
    let folder = Folder::with(&[("chain.json", CHAIN)]);
    insta::assert_snapshot!(folder.bourn(&["validate", "chain.json"]).quietly(), @"
    chain.json: valid (chain: the spec says `type: chain`)
      note: chain.json:15:9 that `fix_issues` needs `analyze_codebase` need not be said: a place in it reads `analyze_codebase` already
    ");
    let plan = document(&folder.bourn(&["plan", "chain.json", "-o", "json"]).quietly());
    assert_eq!((&plan["mode"], &plan["mode_reason"]), (&"chain".into(), &"the spec says `type: chain`".into()));
    let rule = &plan["mode_rule"];
    assert_eq!(rule["complexity"], plan["complexity"]["total"]);
    assert_eq!(rule["parallel"], plan["parallel_opportunities"]);
    let thresholds = serde_json::json!({ "flow_complexity": 5.0, "swarm_complexity": 8.0, "swarm_parallel": 0.6 });
    assert_eq!(rule["thresholds"], thresholds);
}

#[test]
fn a_plan_says_why_each_step_comes_after_which_and_what_could_run_side_by_side() {
    let spec = "\
name: diamond
steps:
  - { id: a, set: 1 }
  - { id: b, set: '${a.results}', needs: a }
  - { id: c, set: '${a.results}' }
  - { id: d, set: 4, needs: [b, c] }
";
    let folder = Folder::with(&[("a.yaml", spec)]);
    let graph = document(&folder.bourn(&["plan", "a.yaml", "--graph", "json"]).quietly());
    let whys: Vec<_> = graph["edges"].as_array().unwrap().iter().map(|edge| edge["why"].as_str().unwrap()).collect();
    assert_eq!(whys, ["explicit", "ref", "ref", "explicit", "explicit"]);
    let plan = document(&folder.bourn(&["plan", "a.yaml", "-o", "json"]).quietly());
    assert_eq!(plan["dependencies"], graph);
    assert_eq!(plan["notes"][0]["message"], "that `b` needs `a` need not be said: a place in it reads `a` already");
    let text = folder.bourn(&["plan", "a.yaml"]).quietly();
    assert!(text.contains("  clusters: {a}, {b, c}, {d}\n") && text.contains("note: a.yaml:4:"), "{text}");
    let told = folder.bourn(&["validate", "a.yaml"]).quietly();
    assert!(told.contains("  note: a.yaml:4:"), "{told}");
}

#[test]
fn programs_that_write_the_same_never_overlap_and_the_plan_says_why() {
    // A folder can be made once: a program that finds it there has met another one.
    let program = "command: [sh, -c, 'mkdir busy && sleep 0.2 && rmdir busy'] }, retry: { max_attempts: 1 }";
    let steps = ["a", "b", "c"].map(|id| format!("  - {{ id: {id}, process: {{ {program}, writes: out/* }}\n"));
    let spec = format!("steps:\n{}", steps.concat());
    let free = spec.replace(", writes: out/*", "");
    let folder = Folder::with(&[("a.yaml", &spec), ("free.yaml", &free)]);
    folder.bourn(&["run", "a.yaml", "--input", "{}"]).quietly();
    let plan = folder.bourn(&["plan", "a.yaml"]).quietly();
    assert!(plan.contains("  `b` after `a`: both write `out/*`\n  `c` after `a`: both write `out/*`\n"), "{plan}");
    let met = folder.bourn(&["run", "free.yaml", "--input", "{}"]);
    assert_eq!(met.code, Some(1), "without a word they overlap: {}", met.out);
}

#[test]
fn branches_that_write_one_member_need_a_word_on_what_becomes_of_it() {
    let spec = "\
steps:
  - { id: a, set: { value: { total: 2, names: [x], by: a } } }
  - { id: b, set: { value: { total: 3, names: [y], by: b } } }
  - { id: way, switch: [ { when: '${input.third}', then: c }, { then: d } ] }
  - { id: c, set: { value: { total: 100 } } }
  - { id: d, set: { value: {} } }
  - { id: all, merge: { of: ['${a.results}', '${b.results}', '${.c.results}', '${.d.results}'], keys: { total: sum, names: append } } }
";
    let whole = spec.replace("names: append }", "names: append, by: first }");
    let folder = Folder::with(&[("a.yaml", spec), ("whole.yaml", &whole)]);
    let run = |spec: &str, input: &str| document(&folder.bourn(&["run", spec, "--input", input, "-o", "json"]).out);
    let conflict = run("a.yaml", r#"{"third": false}"#);
    assert_eq!(conflict["error_analysis"]["class"], "validation");
    let told = "`by` is \"a\" and \"b\": say what becomes of it under `keys`, or of all that differ under `conflicts`";
    assert_eq!(conflict["error_analysis"]["detail"], told);
    let merged = run("whole.yaml", r#"{"third": true}"#);
    assert_eq!(merged["final_output"], json!({ "total": 105, "names": ["x", "y"], "by": "a" }));
    let skipped = run("whole.yaml", r#"{"third": false}"#);
    assert_eq!(skipped["final_output"], json!({ "total": 5, "names": ["x", "y"], "by": "a" }), "{skipped:#}");
}

#[test]
fn the_commits_of_the_journal_are_counted() {
    let folder = Folder::with(&[("a.yaml", GREET), ("in.jsonl", "{\"who\": \"a\"}\n{\"who\": \"b\"}\n")]);
    let ran = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl", "--stats", "-o", "json"]);
    let line = ran.err.lines().find(|line| line.starts_with("{\"journal\"")).unwrap_or_else(|| panic!("{}", ran.err));
    let journal = &document(line)["journal"];
    let count = |of: &str| journal[of].as_u64().unwrap();
    assert!(count("commits") > 1 && count("commits") <= count("writes"), "{line}");
    let text = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl", "--stats", "--fresh"]).err;
    assert!(text.contains("journal: ") && text.contains(" commits, each with an fsync, of "), "{text}");
}

#[test]
fn without_a_model_the_way_out_is_told() {
    let folder = Folder::with(&[("chain.json", CHAIN)]);
    let told = folder.bourn(&["run", "chain.json"]).refused(2);
    assert!(told.contains("chain.json:4:5 ") && told.contains("--mock"), "{told}");
}

#[test]
fn a_run_is_shown_as_a_table_with_its_output() {
    let folder = Folder::with(&[("a.yaml", GREET)]);
    let out = folder.bourn(&["run", "a.yaml", "--input", r#"{"who":"you"}"#]).quietly();
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("greet ") && lines[0].contains(": COMPLETED in "), "{out}");
    let steps: Vec<Vec<_>> = lines[3..5].iter().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((steps[0][0], steps[0][1], steps[1][0], steps[1][3]), ("card", "COMPLETED", "copy", "1"));
    assert_eq!(lines.last(), Some(&"hello you"));
}

#[test]
fn an_input_may_be_a_file() {
    let folder = Folder::with(&[("a.yaml", GREET), ("in.json", "{\n  \"who\": \"me\"\n}")]);
    let run = document(&folder.bourn(&["run", "a.yaml", "--input", "@in.json", "-o", "json"]).quietly());
    assert_eq!(run["final_output"], "hello me");
}

#[test]
fn an_input_that_is_no_json_or_does_not_fit_is_invalid() {
    let folder = Folder::with(&[("a.yaml", GREET)]);
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml", "--input", "who"]).refused(2), @"error: --input: not JSON: expected value at line 1 column 1; a file is `--input @FILE`");
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml", "--input", "@none.json"]).refused(2), @"error: none.json: No such file or directory (os error 2)");
    insta::assert_snapshot!(folder.bourn(&["run", "a.yaml", "--input", "{}"]).refused(2), @r#"error: the input does not fit: "who" is a required property"#);
}

#[test]
fn many_inputs_give_a_document_each_in_their_order() {
    let inputs = (0..500).map(|n| format!("{{\"who\":{n}}}")).collect::<Vec<_>>().join("\n");
    let folder = Folder::with(&[("a.yaml", GREET), ("in.jsonl", &inputs)]);
    let out = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl"]).quietly();
    let outputs: Vec<_> = out.lines().map(|line| document(line)["final_output"].as_str().unwrap().to_owned()).collect();
    assert!(outputs.iter().cloned().eq((0..500).map(|n| format!("hello {n}"))), "{outputs:?}");
}

#[test]
fn a_run_among_many_gives_what_a_run_alone_gives() {
    let folder = Folder::with(&[("chain.json", CHAIN)]);
    let many = folder.fed(&["run", "chain.json", "--mock", "--inputs", "-"], "{}\n{\"a\":1}\n\n[2]\n").quietly();
    let many: Vec<_> = many.lines().map(document).collect();
    assert_eq!(many.len(), 3);
    for (run, input) in many.iter().zip(["{}", "{\"a\":1}", "[2]"]) {
        let alone = document(&folder.bourn(&["run", "chain.json", "--mock", "-o", "json", "--input", input]).quietly());
        assert_eq!(run["workflow_results"], alone["workflow_results"]);
        assert_eq!(run["final_output"], alone["final_output"]);
    }
}

#[test]
fn a_line_read_again_is_the_same_run() {
    let folder = Folder::with(&[("a.yaml", GREET), ("in.jsonl", "{\"who\":1}\n{\"who\":1}\n")]);
    let ids = || {
        let out = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl"]).quietly();
        out.lines().map(|line| document(line)["run_id"].clone()).collect::<Vec<_>>()
    };
    // The job has ended, so the next one is another: its lines are runs of their own.
    let (first, second) = (ids(), ids());
    assert!(first[0] != first[1] && first.iter().all(|id| !second.contains(id)));
    std::fs::write(folder.path("a.yaml"), format!("{GREET}\noptimization: {{ state_persistence: false }}\n")).unwrap();
    assert_eq!(ids(), ids());
}

#[test]
fn a_broken_line_is_a_failed_run_and_no_other_is_lost() {
    let folder = Folder::with(&[("a.yaml", GREET)]);
    std::fs::write(folder.path("in.jsonl"), b"{\"who\":1}\n{broken\n\"\xff\"\n{}\n{\"who\":2}").unwrap();
    let ended = folder.bourn(&["run", "a.yaml", "--inputs", "in.jsonl"]);
    assert_eq!(ended.code, Some(1));
    let states: Vec<_> = ended.out.lines().map(|line| document(line)["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["COMPLETED", "FAILED", "FAILED", "FAILED", "COMPLETED"]);
    assert!(ended.err.starts_with("error: 3 of 5 runs failed\n"), "{}", ended.err);
    let ids: Vec<_> = ended.out.lines().map(|line| document(line)["run_id"].as_str().unwrap().to_owned()).collect();
    assert!(ids[1..4].iter().all(|id| ended.err.contains(id)) && !ended.err.contains(&ids[0]), "{}", ended.err);
    assert!(ended.err.contains("in.jsonl:2: "), "{}", ended.err);
}

#[test]
fn commands_can_be_routed_otherwise() {
    let spec = "steps: [ { id: say, command: /greet, args: \"hello ${input.who}\" } ]\n";
    let folder = Folder::with(&[("a.yaml", spec), ("routes.yaml", "/greet: { kind: set, args: value }\n")]);
    assert_eq!(folder.bourn(&["run", "a.yaml"]).code, Some(2));
    let args = ["run", "a.yaml", "--routing", "routes.yaml", "--input", "{\"who\":\"all\"}", "-o", "json"];
    assert_eq!(document(&folder.bourn(&args).quietly())["final_output"], "hello all");
    let bad = Folder::with(&[("a.yaml", spec), ("routes.yaml", "/greet: { kin: set }\n")]);
    let told = bad.bourn(&["run", "a.yaml", "--routing", "routes.yaml"]).refused(2);
    assert!(told.starts_with("routes.yaml:1:"), "{told}");
}
