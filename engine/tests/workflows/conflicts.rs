//! Steps of a run that touch the same outside do not overlap, in the order of the spec; all others are done side by side.

use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::Memory;
use bourn_engine::spec::{Spec, load};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Runs, dependencies};
use serde_json::{Value, json};

use crate::kinds::{SEEN, lines_of, registry, run, work};

/// The most calls at once in one run.
fn most(spec: &str) -> usize {
    SEEN.with(|seen| seen.most.store(0, SeqCst));
    let worked = work(spec, &["{}"], 1);
    assert_eq!(worked.of(0, "/status"), "COMPLETED");
    SEEN.with(|seen| seen.most.load(SeqCst))
}

/// What is held back, and what is wrong.
fn told(spec: &str) -> Vec<String> {
    match load(spec, "work.yaml", &registry(), &Simulation::new(1).env()) {
        Ok(loaded) => {
            let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
            chain.held_back()
        }
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn steps(a: &str, b: &str) -> String {
    format!(
        "steps:
  - {{ id: a, command: say, args: x, with: {{ after: '10' }}, {a} }}
  - {{ id: b, command: say, args: y, with: {{ after: '10' }}, {b} }}
"
    )
}

#[test]
fn steps_that_touch_the_same_never_overlap_and_the_plan_says_why() {
    for (a, b, why) in [
        ("writes: out/*", "writes: [x, ./out/*]", "`b` after `a`: both write `out/*`"),
        ("writes: out/a.txt", "writes: out/**", "`b` after `a`: `out/a.txt` and `out/**` are written"),
        ("reads: out/*", "writes: out/b", "`b` after `a`: one writes `out/b`, and the other reads `out/*`"),
        ("locks: [x, db]", "locks: db", "`b` after `a`: both lock `db`"),
    ] {
        assert_eq!((told(&steps(a, b)), most(&steps(a, b))), (vec![why.to_owned()], 1));
    }
    for (a, b) in [
        ("writes: out/a", "writes: out/b"),
        ("reads: x", "reads: x"),
        ("locks: a", "locks: b"),
        ("locks: a", "stateless: true"),
    ] {
        assert_eq!((told(&steps(a, b)), most(&steps(a, b))), (vec![], 2));
    }
}

#[test]
fn steps_that_say_nothing_overlap_unless_the_spec_does_not_assume_that_they_may() {
    let careful = |a, b| steps(a, b) + "optimization: { assume_stateless: false }\n";
    assert_eq!(most(&steps("timeout: 1m", "timeout: 1m")), 2);
    assert_eq!(most(&careful("timeout: 1m", "timeout: 1m")), 1);
    assert_eq!(most(&careful("stateless: true", "timeout: 1m")), 2);
    assert_eq!(most(&careful("writes: x", "timeout: 1m")), 1);
    assert_eq!(most(&careful("writes: x", "stateless: true")), 2);
}

#[test]
fn the_order_is_that_of_the_spec_where_there_is_none_and_never_goes_round() {
    let spec = "
steps:
  - { id: a, command: say, args: '${c.results}', locks: l }
  - { id: b, command: say, args: x, locks: l }
  - { id: c, command: say, args: x, locks: l }
  - { id: d, command: say, args: x, needs: b, locks: l }
";
    let loaded = load(spec, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap();
    let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
    let edges = dependencies(chain).edges;
    let edges: Vec<_> = edges.iter().map(|e| format!("{} -> {} {:?}", e.from, e.to, e.why)).collect();
    assert_eq!(edges, ["c -> a Ref", "a -> b Conflict", "b -> d Explicit"]);
    assert_eq!(most(spec), 1);
}

#[test]
fn a_step_that_is_only_held_back_starts_however_the_other_one_ended() {
    let failed = steps("locks: l, fail: permanent", "locks: l")
        .replace("after: '10' }, locks: l, fail: permanent", "fail: permanent }, locks: l, retry: { max_attempts: 1 }");
    let worked = work(&failed, &["{}"], 1);
    assert_eq!(worked.of(0, "/execution_metrics/steps/a/status"), "FAILED");
    assert_eq!(worked.of(0, "/partial_results"), json!({ "b": "y" }));
    assert_eq!(worked.of(0, "/error_analysis/affected_steps"), json!([]));
    let skipped = work(&steps("locks: l, if: '${.input.x == 1}'", "locks: l"), &["{}"], 1);
    assert_eq!(skipped.of(0, "/workflow_results"), json!({ "b": "y" }));
}

#[test]
fn a_step_that_is_held_back_behind_one_that_waits_is_pending() {
    let spec = "
steps:
  - { id: a, command: hold, with: { signal: go }, locks: l }
  - { id: b, command: say, args: y, locks: l }
";
    let runs =
        Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).with_journal(std::sync::Arc::new(Memory::default()), 1);
    let worked = run(spec, runs, 1);
    let status = |id: &str| worked.of(0, &format!("/execution_metrics/steps/{id}/status"));
    assert_eq!((status("a"), status("b")), (Value::from("WAITING"), Value::from("PENDING")));
}

#[test]
fn elements_that_change_the_same_are_done_one_after_the_other_or_refused() {
    let each = |more: &str| format!("steps:\n  - {{ id: a, say: {{ text: x, after: '10' }}, locks: l, {more} }}\n");
    let one =
        each("for_each: { in: '${.[\"input\"] | [1, 2, 3]}' }").replace("${.[\"input\"] | [1, 2, 3]}", "${input.list}");
    SEEN.with(|seen| seen.most.store(0, SeqCst));
    let worked = work(&one, &[r#"{"list": [1, 2, 3]}"#], 1);
    assert_eq!(worked.of(0, "/workflow_results/a"), json!(["x", "x", "x"]));
    assert_eq!(SEEN.with(|seen| seen.most.load(SeqCst)), 1);
    assert_eq!(told(&one), ["the elements of `a` one after the other: they lock `l`"]);
    let many = told(&each("for_each: { in: '${input.list}', max_concurrency: 2 }"));
    assert!(many[0].contains("each element would lock `l`"), "{many:?}");
    let fallback = told(&each("for_each: { in: '${input.list}' }, fallback: [{ command: say, args: y }]"));
    assert!(fallback[0].contains("may overlap with a fallback"), "{fallback:?}");
}

#[test]
fn what_a_workflow_within_touches_its_step_touches() {
    let spec = "
steps:
  - { id: a, workflow: { spec: { steps: [{ id: i, say: { text: x, after: '10' }, writes: out/i }] } } }
  - { id: b, command: say, args: y, with: { after: '10' }, writes: out/* }
";
    assert_eq!(told(spec), ["`b` after `a`: `out/i` and `out/*` are written"]);
    assert_eq!(most(spec), 1);
}

#[test]
fn what_can_not_be_known_before_a_run_is_refused() {
    let problems = told(&steps("writes: ['out/${input.x}', '[ab]', '']", "locks: l, stateless: true"));
    insta::assert_snapshot!(problems.join("\n"), @"
    work.yaml:2:69 `writes` is known before any run, and has no `${…}` (write `*` for what differs)
    work.yaml:2:87 a path has no more than `*`, `?` and `**` (name several paths in a list)
    work.yaml:2:95 this is empty
    work.yaml:3:67 a step with `locks` is not `stateless` (take one of them away)
    ");
}
