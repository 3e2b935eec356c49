//! A workflow in the place of a step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory, RunState};
use bourn_engine::spec::{Request, load};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::Runs;
use serde_json::json;

use crate::kinds::{SEEN, Worked, lines_of, registry, run, work};

/// A list, of whose elements each goes through a workflow with a diamond, and in that one through another one.
const NESTED: &str = "
steps:
  - { id: list, set: { value: '${input.files}' } }
  - id: each
    for_each: { in: '${list.results}', as: file }
    workflow:
      input: { name: '${file.name}', fail: '${.file.fail // \"\"}' }
      spec:
        input: { schema: { type: object, required: [name], properties: { name: { minLength: 1 } } } }
        steps:
          - { id: a, command: say, args: 'a ${input.name}' }
          - { id: b, command: say, with: { text: 'b ${a.results}', after: '5', fail: '${input.fail}' }, retry: { max_attempts: 1 } }
          - id: c
            workflow:
              input: { of: '${a.results}' }
              spec:
                steps:
                  - { id: say, command: say, args: 'c ${input.of}' }
                  - { id: side, command: say, args: side }
                output_format: map
          - { id: d, command: say, args: '${b.results}, ${c.results.say}' }
  - { id: end, command: say, args: '${.each.results | join(\"; \")}' }
output_format: map
";

pub fn go(spec: &str, lines: &[&str], journal: &Memory, seed: u64) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(lines)));
    let worked = run(spec, runs.with_journal(Arc::new(journal.clone()), 1), seed);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

#[test]
fn each_element_goes_through_a_workflow_and_that_through_another_one() {
    for seed in 1..6 {
        let inputs = [
            r#"{"files": [{"name": "x"}, {"name": "y"}, {"name": "z"}]}"#,
            r#"{"files": []}"#,
            r#"{"files": [{"name": "p", "fail": "permanent"}, {"name": "q"}]}"#,
            r#"{"files": [{"name": ""}]}"#,
            r#"{"files": 7}"#,
        ];
        let worked = work(NESTED, &inputs, seed);
        assert_eq!(
            worked.of(0, "/workflow_results/each"),
            json!(["b a x, c a x", "b a y, c a y", "b a z, c a z"]),
            "{:#}",
            worked.documents[0]
        );
        assert_eq!(worked.of(0, "/workflow_results/end"), "b a x, c a x; b a y, c a y; b a z, c a z");
        // Each of five questions three times, and that at the end.
        assert_eq!(worked.of(0, "/execution_metrics/usage/usd"), 0.5 * 16.0);
        assert_eq!(worked.of(1, "/workflow_results"), json!({ "list": [], "each": [], "end": "" }));
        assert_eq!(worked.of(2, "/status"), "FAILED");
        let failure = worked.of(2, "/error_analysis");
        assert_eq!(failure["instance"], "/steps/each/items/0/steps/b");
        assert_eq!(failure["detail"], "1 of 2 items failed; item 0: step `b`: no such luck");
        assert_eq!(failure["class"], "permanent");
        assert_eq!(worked.of(2, "/execution_metrics/steps/end/reason"), "`each` failed");
        let wrong = "1 of 1 items failed; item 0: the input of the workflow does not fit: /name: \"\" is shorter than 1 character";
        assert_eq!(worked.of(3, "/error_analysis/detail"), wrong);
        assert_eq!(worked.of(3, "/error_analysis/instance"), "/steps/each/items/0");
        assert_eq!(worked.of(4, "/error_analysis/detail"), "there is no list to go through, but 7");
    }
}

#[test]
fn what_its_steps_gave_is_kept_by_place_and_not_done_again() {
    let inputs = [r#"{"files": [{"name": "x"}, {"name": "y"}]}"#, r#"{"files": [{"name": "z"}]}"#];
    for durability in ["sync", "async"] {
        let spec = format!("{NESTED}durability: {durability}\n");
        let journal = Memory::default();
        let (calm, calls) = go(&spec, &inputs, &journal, 1);
        assert_eq!(calls, 5 * 3 + 2);
        let names: BTreeSet<String> = journal.runs()[&1].history.0.keys().cloned().collect();
        let wanted = [
            "each",
            "each[0]",
            "each[0]/a",
            "each[0]/b",
            "each[0]/c",
            "each[0]/c/say",
            "each[0]/c/side",
            "each[0]/d",
            "end",
            "list",
        ];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
        // Cut off anywhere, it goes on with what is missing.
        for seed in 2..12 {
            let mut lost = 0;
            for (number, run) in journal.runs().iter_mut() {
                let all: Vec<String> = run.history.0.keys().cloned().collect();
                for (at, name) in all.iter().enumerate() {
                    // What is known of a step within was known before what is made of it.
                    let is_lost = (at as u64 * 7 + seed + number).is_multiple_of(3);
                    let outer: Vec<&String> =
                        all.iter().filter(|other| name.starts_with(&format!("{other}/"))).collect();
                    if is_lost {
                        run.history.0.remove(name);
                        for other in outer {
                            run.history.0.remove(other);
                        }
                        run.history.0.retain(|step, _| !["each", "end"].contains(&step.as_str()));
                    }
                }
                let asked = ["/a", "/b", "/d", "/say", "/side"];
                lost += all
                    .iter()
                    .filter(|n| asked.iter().any(|a| n.ends_with(a)) && !run.history.0.contains_key(*n))
                    .count();
                // Done is what is known of the whole, too.
                run.state = RunState::Running;
            }
            let (again, calls) = go(&spec, &inputs, &journal, seed);
            let results =
                |worked: &Worked| worked.documents.iter().map(|d| d["workflow_results"].clone()).collect::<Vec<_>>();
            assert_eq!(results(&again), results(&calm));
            assert!(calls <= lost + 2, "{calls} calls where {lost} and two ends were lost");
        }
    }
}

#[test]
fn a_workflow_is_done_in_rounds() {
    let spec = "
steps:
  - id: write
    repeat: { until: '${.write.results.length > 3}', max_iterations: 5 }
    workflow:
      input: { text: '${.write.results.text // \"\"}', most: '${input.most}', fail: '${.input.fail // \"\"}' }
      spec:
        steps:
          - { id: more, command: say, with: { text: '${input.text}x', fail: '${.input | if (.text | length) == .most then .fail else \"\" end}' }, retry: { max_attempts: 1 } }
          - { id: whole, set: { value: { text: '${more.results}', length: '${.more.results | length}' } } }
  - { id: end, command: say, args: '${write.results.text} after ${write.rounds}' }
";
    let inputs = [r#"{"most": 9}"#, r#"{"most": 2, "fail": "permanent"}"#];
    let journal = Memory::default();
    let (worked, calls) = go(spec, &inputs, &journal, 1);
    assert_eq!(worked.of(0, "/final_output"), "xxxx after 4", "{:#}", worked.documents[0]);
    assert_eq!(worked.of(0, "/execution_metrics/steps/write/attempts"), 4 * 2);
    assert_eq!(worked.of(1, "/status"), "FAILED");
    assert_eq!(worked.of(1, "/error_analysis/detail"), "step `more`: no such luck");
    assert_eq!(calls, 4 + 1 + 3);
    let names: Vec<String> = journal.runs()[&0].history.0.keys().filter(|n| n.contains('/')).cloned().collect();
    assert_eq!(names.len(), 8, "{names:?}");
    assert_eq!((names[0].as_str(), names[7].as_str()), ("write#1/more", "write#4/whole"));
    // The last round was cut off: the others are not done again.
    journal.runs().get_mut(&0).unwrap().history.0.retain(|n, _| n.contains('/') && !n.starts_with("write#4"));
    let (again, calls) = go(spec, &inputs[..1], &journal, 2);
    assert_eq!((again.of(0, "/final_output"), calls), (json!("xxxx after 4"), 2));
    // All is known, so nothing is done.
    let (_, none) = go(spec, &inputs[..1], &journal, 3);
    assert_eq!(none, 0);
}

#[test]
fn it_is_skipped_given_up_or_replaced_as_any_step() {
    let spec = "
steps:
  - { id: first, command: say, args: '1' }
  - id: maybe
    if: '${input.wanted}'
    workflow: { input: { fail: '${input.fail}' }, spec: { steps: [ { id: in, command: say, with: { text: in, fail: '${input.fail}' }, retry: { max_attempts: 1 } } ] } }
    needs: first
    fallback:
      - workflow: { spec: { steps: [ { id: other, command: say, with: { text: other, fail: '${.input.second // \"\"}' }, retry: { max_attempts: 1 } } ] } }
    default: nothing
    compensate: { workflow: { input: '${maybe.results}', spec: { steps: [ { id: undo, command: say, args: 'undo ${input}' } ] } } }
  - { id: end, command: say, with: { text: 'end ${maybe.results}', fail: '${input.end}' }, retry: { max_attempts: 1 } }
output_format: map
";
    let inputs = [
        r#"{"wanted": true, "fail": "", "end": ""}"#,
        r#"{"wanted": false, "fail": "", "end": ""}"#,
        r#"{"wanted": true, "fail": "permanent", "end": ""}"#,
        r#"{"wanted": true, "fail": "permanent", "second": "permanent", "end": ""}"#,
        r#"{"wanted": true, "fail": "", "end": "permanent"}"#,
    ];
    for seed in 1..4 {
        let worked = work(spec, &inputs, seed);
        let of = |row, step: &str, what: &str| worked.of(row, &format!("/execution_metrics/steps/{step}/{what}"));
        assert_eq!(worked.of(0, "/workflow_results/end"), "end in");
        assert_eq!(of(1, "maybe", "reason"), "its condition is false");
        assert_eq!(of(1, "maybe", "attempts"), 0);
        assert_eq!((worked.of(2, "/workflow_results/end"), of(2, "maybe", "fallback")), (json!("end other"), json!(1)));
        assert_eq!(
            (worked.of(3, "/workflow_results/end"), worked.of(3, "/degraded")),
            (json!("end nothing"), json!(["maybe"]))
        );
        assert_eq!(worked.of(4, "/compensated"), json!(["maybe"]));
        assert_eq!(of(4, "maybe.compensate", "status"), "COMPLETED");
        assert_eq!(of(0, "maybe.compensate", "status"), "SKIPPED");
    }
}

#[test]
fn a_wait_within_lets_the_run_wait() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${input.list}' }
    workflow:
      spec:
        steps:
          - { id: before, command: say, args: 'b ${input}' }
          - { id: held, hold: { signal: go }, needs: before, if: '${.input > 1}' }
          - { id: after, command: say, args: '${.before.results} ${.held.results // \"\"}', needs: before }
  - { id: end, command: say, args: '${each.results}' }
";
    let journal = Memory::default();
    let (worked, calls) = go(spec, &[r#"{"list": [1, 2]}"#], &journal, 1);
    assert_eq!((worked.of(0, "/status"), calls), (json!("WAITING"), 2), "{:#}", worked.documents[0]);
    assert_eq!(worked.of(0, "/execution_metrics/steps/each/status"), "WAITING");
    assert_eq!(worked.of(0, "/execution_metrics/steps/end/status"), "PENDING");
    let known = |name: &str| journal.runs()[&0].history.0.contains_key(name);
    assert!(known(&History::wait("each[1]/held")) && known("each[0]") && !known("each[1]") && !known("each"));
    let data = serde_json::value::RawValue::from_string("\"went\"".into()).unwrap();
    journal.runs().get_mut(&0).unwrap().history.0.insert(History::signal("go"), data);
    let (worked, calls) = go(spec, &[r#"{"list": [1, 2]}"#], &journal, 2);
    assert_eq!((worked.of(0, "/status"), calls), (json!("COMPLETED"), 2), "{:#}", worked.documents[0]);
    assert_eq!(worked.of(0, "/workflow_results/each"), json!(["b 1", "b 2 went"]));
}

#[test]
fn the_results_of_steps_that_nobody_needs_are_kept_before_the_run_ends() {
    // Of two last steps one takes an hour, and the process dies meanwhile.
    let spec = "
steps:
  - { id: quick, command: say, args: q }
  - { id: slow, command: say, with: { text: s, after: '3600000' }, timeout: 2h }
";
    let journal = Memory::default();
    let simulation = Simulation::new(1);
    let loaded = load(spec, "work.yaml", &registry(), &simulation.env()).unwrap();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).with_journal(Arc::new(journal.clone()), 1);
    let mut graph = bourn_engine::workflow::compile(&loaded, &runs);
    graph.sink("shelf", crate::kinds::Shelf::default());
    let env = simulation.env();
    let engine = bourn_engine::Engine::new(registry()).with_env(env.clone());
    simulation
        .run(async move {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            env.sleep(Duration::from_mins(1)).await;
            drop(job);
        })
        .done();
    let names: Vec<String> = journal.runs()[&0].history.0.keys().cloned().collect();
    assert_eq!(names, ["quick"]);
}

#[test]
fn elements_stream_from_one_step_to_the_next_before_the_list_is_done() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${[range(5)]}' }
    workflow:
      spec:
        optimization: { max_concurrency: 1 }
        steps:
          - { id: makes, command: say, with: { text: '${input}', after: '10' } }
          - { id: takes, command: say, with: { text: 'took ${makes.results}', after: '30' } }
";
    let journal = Memory::default();
    let (worked, calls) = go(spec, &["1"], &journal, 1);
    assert_eq!((worked.of(0, "/final_output/4"), calls), (json!("took 4"), 10));
    let history = journal.runs()[&0].history.clone();
    let record = |step: &str| serde_json::from_str::<serde_json::Value>(history.0[step].get()).unwrap();
    let began = |step: &str| record(step)["started_at"].as_str().unwrap().to_owned();
    // One after the other, they would take 5 * (10 + 30) ms; the slower of the two steps is what it takes.
    assert!(began("each[0]/takes") < began("each[2]/makes"), "{history:?}");
    assert!(worked.took < Duration::from_millis(5 * 40), "{:?}", worked.took);
}

#[test]
fn a_workflow_stands_in_a_file_of_its_own() {
    let inner = "steps:\n  - { id: say, command: say, args: 'inner ${input.n}' }\n";
    let broken = "steps:\n  - { id: say, comand: say }\n";
    let itself = "steps:\n  - { id: again, workflow: itself.yaml }\n";
    let included = [("specs/inner.yaml", inner), ("specs/broken.yaml", broken), ("specs/itself.yaml", itself)];
    let included = included.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let request = Request { included, ..Request::default() };
    let env = Simulation::new(1).env();
    let load = |text: &str| request.load(text, "specs/outer.yaml", &registry(), &env);
    let outer = "steps:\n  - { id: a, workflow: { spec: inner.yaml, input: { n: 1 } } }\n  - { id: b, workflow: inner.yaml, needs: a }\n";
    let loaded = load(outer).unwrap();
    assert_eq!(loaded.choice.reason, "the spec has `steps` and a step `workflow`");
    assert_eq!(loaded.included.keys().collect::<Vec<_>>(), ["specs/inner.yaml"]);
    let told = |text: &str| {
        let told = load(text).err().unwrap();
        told.iter().map(|d| format!("{}: {}", d.source.name(), d.message)).collect::<Vec<_>>()
    };
    assert_eq!(
        told("steps: [ { id: a, workflow: broken.yaml } ]"),
        ["specs/broken.yaml: this step has no `command`", "specs/broken.yaml: unknown key `comand`",]
    );
    assert_eq!(
        told("steps: [ { id: a, workflow: itself.yaml } ]"),
        [
            "specs/itself.yaml: this spec contains itself: `specs/outer.yaml` -> `specs/itself.yaml` -> `specs/itself.yaml`",
        ]
    );
    assert_eq!(told("steps: [ { id: a, workflow: gone.yaml } ]"), ["specs/outer.yaml: specs/gone.yaml: no such file"]);
    assert_eq!(
        told(
            "steps: [ { id: a, workflow: { spec: { steps: [ { id: b, say: '${outer}' } ] }, inputs: 1 }, timeout: { heartbeat: 5s } } ]"
        ),
        [
            "specs/outer.yaml: there is no step `outer`",
            "specs/outer.yaml: unknown key `inputs`",
            "specs/outer.yaml: a workflow has one `timeout`: how long all of it may take",
        ]
    );
    assert_eq!(
        told("steps: [ { id: a, workflow: { spec: { steps: [ { id: b, say: x } ], durability: exit } } } ]"),
        ["specs/outer.yaml: `durability` is said for the whole spec",]
    );
}

#[test]
fn of_a_long_list_what_was_not_done_is_done_and_nothing_else() {
    let spec = "
steps:
  - { id: each, for_each: { in: '${[range(1000)]}' }, workflow: { spec: { steps: [ { id: said, command: say, args: '${input}' } ] } } }
  - { id: end, command: say, args: '${.each.results | length}' }
";
    let journal = Memory::default();
    let (calm, calls) = go(spec, &["1"], &journal, 1);
    assert_eq!((calm.of(0, "/final_output"), calls), (json!("1000"), 1_001));
    journal
        .runs()
        .get_mut(&0)
        .unwrap()
        .history
        .0
        .retain(|name, _| name != "each" && name != "end" && !name.contains("77"));
    let (again, calls) = go(spec, &["1"], &journal, 2);
    assert_eq!(again.of(0, "/final_output"), "1000");
    assert_eq!(calls, (0..1_000).filter(|n: &i32| n.to_string().contains("77")).count() + 1);
}
