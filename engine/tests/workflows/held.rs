//! What runs hold is given back, however they end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::env::Env;
use bourn_engine::journal::{Ask, Journal as _, Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::json;

use crate::kinds::{SEEN, lines_of, run_beside};

/// Requests that fail, hang, are tried again, wait their turn, or are dropped; lists, rounds, branches, a wait that leaves
/// the process, and something at the end.
const SPEC: &str = "
rate_limits: { slow: 200/s }
steps:
  - { id: ask, command: say, args: asked, with: { after: '${input.after}', fail: '${input.fail}', limits: { rate: slow } }, timeout: 1s, retry: { max_attempts: 3, initial_interval: 50ms } }
  - { id: side, letters: { of: '${input.side}' }, default: 0 }
  - { id: each, command: say, args: '${item}', for_each: { in: '${input.list}', max_concurrency: 3, tolerated_failure_percentage: 50 }, with: { fail: '${item}' }, retry: { max_attempts: 2 } }
  - { id: again, command: say, args: '${ask.results}', repeat: { until: '${.input.after > 900}', max_iterations: 2 }, compensate: { command: say, args: undone } }
  - { id: last, command: say, args: 'l ${each.results}', needs: [again, side] }
  - { id: later, hold: { seconds: 90 }, needs: ask }
finally:
  - { id: end, command: say, args: over }
";

/// `BOURN_RUNS=10000` for more.
#[test]
fn nothing_is_held_when_all_runs_have_ended_however_they_did() {
    let runs: u64 = Env::system().variable("BOURN_RUNS").and_then(|runs| runs.parse().ok()).unwrap_or(200);
    let pick = |n: u64, of: &[&str]| of[(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % of.len()].to_owned();
    let line = |n: u64| {
        let fail = pick(n, &["", "", "", "permanent", "transient", "twice"]);
        let list = [pick(n + 1, &["a", "permanent", "twice"]), pick(n + 2, &["b", "transient"]), "c".to_owned()];
        let after = pick(n + 3, &["1", "10", "300", "1500"]);
        json!({ "after": after, "fail": fail, "side": pick(n + 4, &["", "abc"]), "list": list }).to_string()
    };
    let lines: Vec<String> = (0..runs).map(line).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let journal = Memory::default();
    let (kept, asked) = (Arc::new(journal.clone()), journal.asked());
    let all = Runs::of("lines", BoxConnector::new(lines_of(&lines))).with_journal(kept, 1).staying(true);
    let worked = run_beside(SPEC, all, 7, |env| async move {
        for n in 0..runs {
            env.sleep(Duration::from_millis(3)).await;
            match n % 5 {
                0 => asked.tell(n, Ask::Cancel),
                1 => asked.tell(n, Ask::Pause),
                2 => asked.tell(n - 1, Ask::Resume),
                _ => {}
            }
        }
    });
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for document in &worked.documents {
        *states.entry(document["status"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(["COMPLETED", "FAILED", "CANCELED"].iter().all(|state| states.contains_key(*state)), "{states:?}");
    assert!(worked.documents.len() as u64 >= runs);
    assert!(journal.runs().values().all(|run| run.state != RunState::Running));
    assert_eq!((worked.held, SEEN.with(|seen| seen.now.load(SeqCst))), (0, 0));
    assert!((0..runs).all(|run| journal.asked().in_flight(run).is_empty()));
    assert!(journal.asked().rest().is_idle(), "{:?}", journal.asked().rest());
}
