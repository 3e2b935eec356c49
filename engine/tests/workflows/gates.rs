//! Quality gates: what results must pass before they count, and what is asked about them once.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Memory, RunState};
use bourn_engine::spec::load;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Recorded, Runs};
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, registry, run, work};

/// A step with these gates, and one behind it.
fn spec(step: &str, gates: &str) -> String {
    format!(
        "steps:\n  - {{ id: draft, {step}, quality_gates: [ {gates} ] }}\n\
         \x20 - {{ id: after, say: {{ text: 'after ${{draft.results}}' }} }}\noutput_format: map\n"
    )
}

fn status(worked: &Worked, step: &str) -> Value {
    worked.of(0, &format!("/execution_metrics/steps/{step}/status"))
}

fn said(worked: &Worked) -> Value {
    worked.of(0, "/execution_metrics/steps/draft/quality_gates")
}

fn calls() -> usize {
    SEEN.with(|seen| seen.calls.load(SeqCst))
}

#[test]
fn a_gate_that_is_not_passed_fails_the_step_and_a_warning_lets_it_go_on_degraded() {
    for (gate, reason) in [
        ("schema: { maxLength: 2 }", "\"good\" is longer than 2 characters"),
        ("condition: '${ length > 4 }'", "its condition is false"),
        ("score: '${ length }', at_least: 5", "its score is 4, and at least 5 is asked for"),
        (
            "say: { text: '0.5 of ${draft.results}' }, score: '${ .[:3] }', at_least: 0.8",
            "its score is 0.5, and at least 0.8 is asked for",
        ),
        ("say: { text: x, fail: permanent }, retry: { max_attempts: 1 }", "no such luck"),
    ] {
        let blocked = work(&spec("say: { text: good }", &format!("{{ name: g, {gate} }}")), &["{}"], 1);
        assert_eq!([status(&blocked, "draft"), status(&blocked, "after")], ["FAILED", "SKIPPED"], "{gate}");
        let analysis = blocked.of(0, "/error_analysis");
        assert_eq!(analysis["detail"], format!("quality gate `g`: {reason}"));
        let class = if reason == "no such luck" { "permanent" } else { "validation" };
        assert_eq!((&analysis["class"], &analysis["instance"]), (&json!(class), &json!("/steps/draft")));
        let warned = work(&spec("say: { text: good }", &format!("{{ name: g, {gate}, on_fail: warn }}")), &["{}"], 1);
        assert_eq!(warned.of(0, "/final_output"), json!({ "draft": "good", "after": "after good" }), "{gate}");
        assert_eq!((warned.of(0, "/status"), warned.of(0, "/degraded")), (json!("COMPLETED"), json!(["draft"])));
        let told = &said(&warned)[0];
        assert_eq!((&told["passed"], &told["on_fail"]), (&json!(false), &json!("warn")));
        assert_eq!(told["reason"], reason);
    }
}

#[test]
fn all_gates_are_asked_in_order_and_the_first_that_blocks_is_the_last() {
    let gates = "{ condition: '${ . == \"good\" }' }, { letters: { of: '${draft.results}' }, at_least: 4 }, \
                 { name: no, condition: '${ false }' }, { say: { text: never } }";
    let before = calls();
    let worked = work(&spec("say: { text: good }", gates), &["{}"], 1);
    assert_eq!(calls() - before, 1, "the step alone was asked");
    let expected = json!([
        { "name": "1", "passed": true, "on_fail": "block" },
        { "name": "2", "passed": true, "score": 4.0, "on_fail": "block" },
        { "name": "no", "passed": false, "reason": "its condition is false", "on_fail": "block" },
    ]);
    assert_eq!(said(&worked), expected);
    let usage = worked.of(0, "/execution_metrics/steps/draft/usage/input_tokens");
    assert_eq!(usage, 3);
    let asked = work(&spec("say: { text: good }", "{ say: { text: '1' }, at_least: 1 }"), &["{}"], 1);
    assert_eq!((asked.of(0, "/status"), said(&asked)[0]["passed"].clone()), (json!("COMPLETED"), json!(true)));
    assert_eq!(asked.of(0, "/execution_metrics/steps/draft/usage/input_tokens"), 6, "what the gate cost counts");
}

#[test]
fn what_is_tried_in_its_place_is_judged_too_and_a_default_is_not() {
    let gate = "{ condition: '${ length > 4 }' }";
    let step = |last: &str| format!("say: {{ text: good }}, fallback: [ {{ say: {{ text: {last} }} }} ]");
    let better = work(&spec(&step("better"), gate), &["{}"], 1);
    assert_eq!(better.of(0, "/final_output/draft"), "better");
    assert_eq!(
        (better.of(0, "/execution_metrics/steps/draft/fallback"), said(&better)[0]["passed"].clone()),
        (json!(1), json!(true))
    );
    let no_better = work(&spec(&step("bad"), gate), &["{}"], 1);
    assert_eq!(status(&no_better, "draft"), "FAILED");
    let given = work(&spec(&format!("{}, default: none", step("bad")), gate), &["{}"], 1);
    assert_eq!(given.of(0, "/final_output"), json!({ "draft": "none", "after": "after none" }));
    assert_eq!(given.of(0, "/degraded"), json!(["draft"]));
}

#[test]
fn each_element_is_judged_by_itself_and_an_empty_list_has_none() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${input}', tolerated_failure_percentage: 50 }
    say: { text: '${item}' }
    quality_gates: [ { say: { text: '${each.results}' }, at_least: 2, retry: { max_attempts: 1 } } ]
";
    let worked = work(spec, &["[1, 2]", "[]"], 1);
    assert_eq!((worked.of(0, "/status"), worked.of(0, "/final_output")), (json!("COMPLETED"), json!([null, "2"])));
    assert_eq!((worked.of(1, "/status"), worked.of(1, "/final_output")), (json!("COMPLETED"), json!([])));
}

/// Takes from the journal what came behind a crash.
fn forget(journal: &Memory, steps: &[&str]) {
    let mut runs = journal.runs();
    let run = runs.get_mut(&0).unwrap();
    run.history.0.retain(|step, _| !steps.contains(&step.as_str()));
    run.state = RunState::Running;
}

#[test]
fn who_was_asked_by_a_gate_is_not_asked_again() {
    let gates = "{ name: first, say: { text: '1' }, at_least: 1 }, { name: second, say: { text: '0' }, at_least: 1, on_fail: warn }";
    let (spec, journal) = (spec("say: { text: good }", gates), Memory::default());
    let go = || {
        let before = calls();
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"])));
        let worked = run(&spec, runs.with_journal(Arc::new(journal.clone()), 1), 1);
        (worked, calls() - before)
    };
    let (whole, asked) = go();
    assert_eq!((whole.of(0, "/status"), asked), (json!("COMPLETED"), 4));
    // A crash behind the second gate, behind the first, behind the step.
    for (forgotten, asked) in [
        (vec!["after", "draft"], 1),
        (vec!["after", "draft", "draft#gate2"], 2),
        (vec!["after", "draft", "draft#gate2", "draft#gate1"], 3),
    ] {
        forget(&journal, &forgotten);
        let (gone_on, again) = go();
        assert_eq!(again, asked, "{forgotten:?}");
        assert_eq!((said(&gone_on), gone_on.of(0, "/degraded")), (said(&whole), json!(["draft"])));
        assert_eq!(gone_on.of(0, "/final_output"), whole.of(0, "/final_output"));
    }
    // Nor when the run is decided again.
    let history = journal.runs()[&0].history.clone();
    let recorded = Recorded::of(history);
    let before = calls();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).replaying(recorded.clone());
    let replayed = run(&spec, runs, 1);
    assert_eq!((calls() - before, recorded.missing().len()), (0, 0));
    assert_eq!((said(&replayed), replayed.of(0, "/final_output")), (said(&whole), whole.of(0, "/final_output")));
}

#[test]
fn what_gates_said_is_taken_from_the_history_when_a_step_that_asks_nobody_is_decided_again() {
    for (gate, status) in
        [("at_least: 1", "COMPLETED"), ("at_least: 3", "FAILED"), ("at_least: 3, on_fail: warn", "COMPLETED")]
    {
        let spec = format!(
            "steps: [ {{ id: draft, set: {{ value: 2 }}, quality_gates: [ {{ say: {{ text: '${{draft.results}}' }}, {gate} }} ] }} ]"
        );
        let (journal, runs) = (Memory::default(), || Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))));
        let first = run(&spec, runs().with_journal(Arc::new(journal.clone()), 1), 1);
        assert_eq!(first.of(0, "/status"), status, "{gate}");
        let (before, history) = (calls(), journal.runs()[&0].history.clone());
        let again = run(&spec, runs().replaying(Recorded::of(history)), 1);
        assert_eq!((calls() - before, again.of(0, "/status")), (0, json!(status)));
        assert_eq!((said(&again), again.of(0, "/error_analysis")), (said(&first), first.of(0, "/error_analysis")));
    }
}

#[test]
fn a_step_that_is_done_anew_is_judged_anew() {
    let journal = Memory::default();
    let spec = spec("say: { text: good }", "{ say: { text: '0' }, at_least: 1 }");
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"])));
    run(&spec, runs.with_journal(Arc::new(journal.clone()), 1), 1);
    let mut history = journal.runs()[&0].history.clone();
    assert!(history.0.contains_key("draft#gate0"));
    history.0.remove("draft");
    history.forget_open();
    assert!(history.0.keys().all(|name| !name.contains("#gate")), "{history:?}");
}

#[test]
fn what_a_run_gives_is_judged_as_a_whole() {
    let of = |gates: &str| {
        let spec = format!(
            "steps:\n  - {{ id: a, set: {{ value: 2 }} }}\n  - {{ id: b-c, say: {{ text: two }} }}\n\
             \x20 - {{ id: not, set: {{ value: 1 }}, if: '${{ .a.results > 5 }}' }}\n\
             output_format: map\noutput: {{ as: {{ n: '${{ .a }}', all: '${{ keys }}' }} }}\nquality_gates: [ {gates} ]\n"
        );
        work(&spec, &["{}"], 1)
    };
    let good = of(
        "{ condition: '${ .n == 2 and (.all | length) == 2 }' }, { say: { text: '${quality_gates.results.n}' }, at_least: 2 }",
    );
    assert_eq!(good.of(0, "/status"), "COMPLETED", "{:?}", good.documents);
    assert_eq!(good.of(0, "/final_output"), json!({ "n": 2, "all": ["a", "b-c"] }));
    assert_eq!(good.of(0, "/workflow_results"), json!({ "a": 2, "b-c": "two" }));
    let bad = of("{ name: enough, score: '${ .n }', at_least: 3 }");
    assert_eq!((bad.of(0, "/status"), bad.of(0, "/final_output")), (json!("FAILED"), Value::Null));
    assert_eq!(
        bad.of(0, "/error_analysis/detail"),
        "quality gate `enough`: its score is 2, and at least 3 is asked for"
    );
    let warned = of("{ score: '${ .n }', at_least: 3, on_fail: warn }");
    assert_eq!((warned.of(0, "/status"), warned.of(0, "/degraded")), (json!("COMPLETED"), json!(["quality_gates"])));
    // A run that has failed gives nothing to judge.
    let failed =
        "steps: [ { id: a, say: { text: x, fail: permanent } } ]\nquality_gates: [ { condition: '${ false }' } ]";
    let failed = work(failed, &["{}"], 1);
    assert_eq!(
        (failed.of(0, "/error_analysis/instance"), status(&failed, "quality_gates")),
        (json!("/steps/a"), json!("SKIPPED"))
    );
}

#[test]
fn a_gate_that_can_judge_nothing_is_a_problem() {
    let told = |gate: &str| {
        let env = Simulation::new(1).env();
        let text = spec("say: { text: good }", &format!("{{ {gate} }}"));
        let problems = load(&text, "work.yaml", &registry(), &env).err().expect(gate);
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(told("name: empty"), "this gate judges nothing");
    assert_eq!(told("score: '${ .a }'"), "this gate judges nothing; a score alone passes always");
    assert_eq!(told("condition: 'length > 2'"), "this is one place, and nothing around it");
    assert_eq!(told("hold: { seconds: 1 }"), "`hold` can't be asked by a gate");
    assert!(told("conditon: '${ true }'").contains("conditon"), "{}", told("conditon: '${ true }'"));
    assert_eq!(told("say: { text: '${other.results}' }"), "there is no step `other`");
}
