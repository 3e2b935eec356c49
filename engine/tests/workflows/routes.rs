//! A route chooses by what its ways have brought: what nothing is known of first, then the best, and now and then any.

use std::collections::BTreeMap;
use std::sync::Arc;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::Memory;
use bourn_engine::spec::load;
use bourn_engine::testing::replay::{Past, replay};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{Worked, lines_of, registry, run, work};

/// Runs come to the route one after the other. The dear way brings more.
fn spec(epsilon: f64, cheap: &str) -> String {
    format!(
        "
optimization: {{ max_concurrency: 1 }}
steps:
  - {{ id: first, say: {{ text: x, after: '10' }} }}
  - id: who
    needs: first
    route: {{ policy: epsilon_greedy, epsilon: {epsilon}, ways: [cheap, [dear, told]], reward: '${{.cheap.results // .dear.results | tonumber}}' }}
  - {{ id: cheap, {cheap}, retry: {{ max_attempts: 1 }} }}
  - {{ id: dear, say: {{ text: '5' }} }}
  - {{ id: told, say: {{ text: told }} }}
output_format: map
"
    )
}

const CHEAP: &str = "say: { text: '1' }";

fn chosen(worked: &Worked) -> Vec<Value> {
    (0..worked.documents.len()).map(|run| worked.of(run, "/decision_path/0/result")).collect()
}

fn counts(worked: &Worked) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for way in chosen(worked) {
        *counts.entry(way.to_string()).or_default() += 1;
    }
    counts
}

fn lines(n: usize) -> Vec<&'static str> {
    vec!["{}"; n]
}

#[test]
fn each_way_is_tried_and_then_the_one_that_brings_most() {
    let worked = work(&spec(0.0, CHEAP), &lines(20), 1);
    let mut expected = vec![json!(["dear", "told"]); 20];
    expected[0] = json!(["cheap"]);
    assert_eq!(chosen(&worked), expected);
    assert_eq!(worked.of(0, "/decision_path/0/kind"), "route");
    assert_eq!(worked.of(0, "/workflow_results"), json!({ "first": "x", "who": ["cheap"], "cheap": "1" }));
    assert_eq!(worked.of(1, "/branch_results/who/told"), json!({ "told": "told" }));
    let steps = |run, step: &str| worked.of(run, &format!("/execution_metrics/steps/{step}/status"));
    assert_eq!((steps(0, "dear"), steps(0, "who.reward")), (json!("SKIPPED"), json!("COMPLETED")));
}

#[test]
fn any_way_is_taken_as_often_as_it_is_told() {
    let worked = work(&spec(0.4, CHEAP), &lines(400), 7);
    let of = counts(&worked)["[\"cheap\"]"];
    // Half of what explores: 80 of 400, and never so far from it by chance.
    assert!((50..=110).contains(&of), "{of}");
    assert_eq!(counts(&work(&spec(0.0, CHEAP), &lines(400), 7))["[\"cheap\"]"], 1);
}

#[test]
fn a_way_that_fails_has_brought_nothing() {
    let worked = work(&spec(0.0, "say: { text: '9', fail: permanent }"), &lines(10), 1);
    assert_eq!(counts(&worked), BTreeMap::from([("[\"cheap\"]".into(), 1), ("[\"dear\",\"told\"]".into(), 9)]));
    assert_eq!(worked.of(0, "/status"), "FAILED");
    assert!((1..10).all(|run| worked.of(run, "/status") == "COMPLETED"));
}

#[test]
fn what_was_chosen_is_chosen_again_by_no_other_process_and_no_replay() {
    let (spec, journal) = (spec(0.0, CHEAP), Memory::default());
    let runs = || Runs::of("lines", BoxConnector::new(lines_of(&lines(3)))).with_journal(Arc::new(journal.clone()), 1);
    run(&spec, runs(), 1);
    let histories: Vec<Past> = journal
        .runs()
        .values()
        .map(|run| Past { id: run.id.clone(), input: run.input.clone(), history: run.history.clone() })
        .collect();
    // A new route knows of nothing, and would take the cheap way.
    for past in &histories {
        let loaded =
            load(&spec, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap_or_else(|p| panic!("{p:?}"));
        let verdict = replay(&loaded, &registry(), past, |record| record).unwrap();
        assert_eq!((verdict.difference, verdict.not_recorded), (None, Vec::new()), "{past:?}");
    }
    // A crash came before the ways were gone.
    for run in journal.runs().values_mut() {
        run.history.0.retain(|step, _| ["first", "who"].contains(&step.as_str()));
    }
    assert_eq!(chosen(&run(&spec, runs(), 1)), [json!(["cheap"]), json!(["dear", "told"]), json!(["dear", "told"])]);
}
