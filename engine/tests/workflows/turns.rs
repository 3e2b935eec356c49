//! How many elements of a list are in their workflow at once.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::journal::{Memory, RunState};
use serde_json::json;

use crate::kinds::SEEN;
use crate::within::go;

/// A list whose workflow says two things one after the other, 10 ms each, of seven elements.
const BOUNDED: &str = "
steps:
  - id: each
    for_each: { in: '${[range(7)]}', max_concurrency: 2, tolerated_failure_percentage: 100 }
    workflow:
      spec:
        steps:
          - { id: makes, command: say, with: { text: '${input}', after: '10' } }
          - { id: takes, command: say, with: { text: 'took ${makes.results}', after: '10', fail: '${. | if .input == 3 then \"permanent\" else \"\" end}' } }
";

#[test]
fn so_many_elements_as_the_list_says_are_in_their_workflow_at_once() {
    for seed in 1..6 {
        let journal = Memory::default();
        SEEN.with(|seen| seen.most.store(0, SeqCst));
        let (worked, calls) = go(BOUNDED, &["1", "2"], &journal, seed);
        assert_eq!((worked.of(1, "/workflow_results/each/6"), calls), (json!("took 6"), 28));
        assert_eq!(worked.of(0, "/workflow_results/each/3"), serde_json::Value::Null);
        assert_eq!(SEEN.with(|seen| seen.most.load(SeqCst)), 2);
        assert!(worked.took >= Duration::from_millis(7 * 20), "{:?}", worked.took);
        // What was cut off goes on with as many.
        for run in journal.runs().values_mut() {
            run.history.0.retain(|step, _| step.starts_with("each[1]") || step == "each[2]/makes");
            run.state = RunState::Running;
        }
        let (again, calls) = go(BOUNDED, &["1", "2"], &journal, seed);
        assert_eq!((again.of(0, "/workflow_results/each/6"), calls), (json!("took 6"), 22));
    }
}

#[test]
fn elements_that_wait_let_others_in() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${[range(5)]}', max_concurrency: 1 }
    workflow: { spec: { steps: [ { id: held, hold: { signal: go } }, { id: b, set: '${.held.results}', needs: held } ] } }
";
    let journal = Memory::default();
    let (worked, _) = go(spec, &["1"], &journal, 1);
    assert_eq!(worked.of(0, "/status"), "WAITING");
    let waits = journal.runs()[&0].history.0.keys().filter(|name| name.starts_with("@wait:each[")).count();
    assert_eq!(waits, 5);
}
