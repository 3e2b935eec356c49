//! A step that is done in rounds.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run, work};

const ROUNDS: &str = "
steps:
  - { id: a, command: say, args: 'a' }
  - id: draft
    needs: a
    repeat: { until: '${(.draft.results | length) >= .input.length}', max_iterations: 6, every: 10s }
    command: say
    with: { text: '${.draft.results // \"\"}x', fail: '${.input.fail // \"\"}' }
    retry: { max_attempts: 3, jitter: false }
  - { id: end, command: say, args: '${draft.results} in ${draft.rounds}' }
";

#[test]
fn a_step_is_done_until_its_place_is_true_and_sees_what_the_round_before_left() {
    for seed in 1..4 {
        let worked = work(ROUNDS, &[r#"{"length": 1}"#, r#"{"length": 4}"#, r#"{"length": 100}"#], seed);
        assert_eq!(worked.of(0, "/error_analysis"), Value::Null);
        let ends: Vec<_> = (0..3).map(|row| worked.of(row, "/workflow_results/end")).collect();
        // What is never good ends with the last round that is allowed.
        assert_eq!(ends, ["x in 1", "xxxx in 4", "xxxxxx in 6"]);
        assert_eq!(worked.of(1, "/execution_metrics/steps/draft/attempts"), 4);
        assert_eq!(worked.of(1, "/execution_metrics/steps/draft/usage/usd"), 2.0);
        assert!(worked.took >= Duration::from_secs(50) && worked.took < Duration::from_secs(55), "{:?}", worked.took);
    }
}

#[test]
fn each_round_is_tried_again_by_itself_and_a_round_that_fails_fails_the_step() {
    let worked = work(ROUNDS, &[r#"{"length": 3, "fail": "twice"}"#, r#"{"length": 3, "fail": "permanent"}"#], 1);
    assert_eq!(worked.of(0, "/workflow_results/end"), "xxx in 3");
    assert_eq!(worked.of(0, "/execution_metrics/steps/draft/attempts"), 9);
    assert_eq!(worked.of(1, "/error_analysis/instance"), "/steps/draft");
    // A place that is neither true nor false is no end.
    let told = work(&ROUNDS.replace(" >= .input.length", ""), &["{}"], 1);
    let detail = "field `repeat.until`: the condition is neither true nor false: 1";
    assert_eq!(told.of(0, "/error_analysis/detail"), detail);
}

#[test]
fn a_stage_that_asks_nobody_and_the_elements_of_a_list_have_rounds_too() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${input.list}' }
    repeat: { until: '${.each.rounds >= .item}', max_iterations: 9 }
    letters: '${.each.results // \"\"}${item}abc'
";
    let worked = work(spec, &[r#"{"list": [1, 3, 2]}"#], 1);
    assert_eq!(worked.of(0, "/workflow_results/each"), json!(["4", "5", "5"]));
}

fn journaled(journal: &Memory, seed: u64) -> (Worked, usize) {
    let lines = [r#"{"length": 5}"#, r#"{"length": 2}"#];
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&lines)));
    let worked = run(ROUNDS, runs.with_journal(Arc::new(journal.clone()), 1), seed);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

#[test]
fn a_round_that_is_in_the_journal_is_not_done_again() {
    let journal = Memory::default();
    let (calm, calls) = journaled(&journal, 1);
    assert_eq!(calls, 2 * 2 + 5 + 2);
    let kept: Vec<String> = journal.runs()[&0].history.0.keys().cloned().collect();
    let waits = |names: Vec<String>| names.into_iter().partition::<Vec<_>, _>(|name| name.starts_with('@'));
    let (waits, kept) = waits(kept);
    assert_eq!(waits, [2, 3, 4, 5].map(|round| format!("@backoff:draft#{round}")));
    assert_eq!(kept, ["a", "draft", "draft#1", "draft#2", "draft#3", "draft#4", "end"]);
    let without_end = |document: &Value| document["workflow_results"].clone();
    let (again, none) = journaled(&journal, 2);
    assert_eq!(
        (none, again.documents.iter().map(without_end).collect::<Vec<_>>()),
        (0, calm.documents.iter().map(without_end).collect())
    );
    // A crash came in the fourth round.
    for run in journal.runs().values_mut() {
        let History(steps) = &mut run.history;
        steps.retain(|step, _| ["a", "draft#1", "draft#2", "draft#3"].contains(&step.as_str()));
        run.state = RunState::Running;
    }
    let (gone_on, calls) = journaled(&journal, 3);
    assert_eq!(calls, (2 + 1) + (1 + 1));
    let results = |worked: &Worked| worked.documents.iter().map(without_end).collect::<Vec<_>>();
    assert_eq!(results(&gone_on), results(&calm));
    assert_eq!(gone_on.of(0, "/execution_metrics/steps/draft/attempts"), 5);
}
