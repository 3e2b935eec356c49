//! What bounds the time of a step: an attempt, its silence, the wait for its turn, and all attempts together.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory};
use bourn_engine::spec::load;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::Runs;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, registry, run, work};

fn spec(say: &str, timeout: &str, more: &str) -> String {
    format!("steps: [ {{ id: ask, say: {{ text: hi, {say} }}, timeout: {timeout}, {more} }} ]")
}

/// How it ended, why, and when, in seconds.
fn told(worked: &Worked, row: usize) -> (Value, String, f64) {
    let detail = worked.of(row, "/error_analysis/detail");
    let status = worked.of(row, "/execution_metrics/steps/ask/status");
    (status, detail.as_str().unwrap_or_default().to_owned(), worked.took.as_secs_f64())
}

fn calls(work: impl FnOnce() -> Worked) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let worked = work();
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

#[test]
fn who_gives_signs_of_life_may_take_its_time_and_who_is_silent_is_given_up() {
    let retry = "retry: { max_attempts: 2, initial_interval: 1s, jitter: false }";
    let lively = work(&spec("after: '60000', alive: 9000", "{ heartbeat: 10s }", retry), &["{}"], 1);
    assert_eq!(told(&lively, 0), (json!("COMPLETED"), String::new(), 60.0));
    let silent = work(&spec("after: '60000', alive: 11000", "{ heartbeat: 10s }", retry), &["{}"], 1);
    let message = "after 2 attempts: no sign of life within 10s (`heartbeat`)".to_owned();
    assert_eq!(told(&silent, 0), (json!("TIMED_OUT"), message, 21.0));
    assert_eq!(silent.of(0, "/error_analysis/class"), "timeout");
}

#[test]
fn an_attempt_has_its_time_whether_it_is_said_alone_or_by_its_name() {
    for timeout in ["2", "2s", "{ start_to_close: 2s }", "{ start_to_close: 2s, schedule_to_close: 1h }"] {
        let late = work(&spec("after: '5000'", timeout, "retry: { max_attempts: 1 }"), &["{}"], 1);
        let message = "no answer within 2s (`start_to_close`)".to_owned();
        assert_eq!(told(&late, 0), (json!("TIMED_OUT"), message, 2.0), "{timeout}");
    }
}

#[test]
fn who_waits_too_long_for_its_turn_is_not_asked_any_more() {
    let of = |limit: &str| {
        let spec = spec("after: '10000'", &format!("{{ schedule_to_start: {limit} }}"), "retry: { max_attempts: 3 }");
        format!("optimization: {{ max_concurrency: 1 }}\n{spec}")
    };
    let (late, asked) = calls(|| work(&of("5s"), &["{}", "{}"], 1));
    assert_eq!(told(&late, 0), (json!("COMPLETED"), String::new(), 10.0));
    assert_eq!(told(&late, 1), (json!("TIMED_OUT"), "not begun within 5s (`schedule_to_start`)".into(), 10.0));
    assert_eq!(asked, 1);
    let (in_time, asked) = calls(|| work(&of("15s"), &["{}", "{}"], 1));
    assert_eq!((told(&in_time, 1), asked), ((json!("COMPLETED"), String::new(), 20.0), 2));
    // Also where a rate keeps it from being asked, and the wait for what it needs does not count.
    let rate = "
steps:
  - { id: before, say: { text: a, after: '20000' } }
  - { id: ask, say: { text: b, limits: { rate: 1/20s } }, depends_on: before, timeout: { schedule_to_start: 5s } }
";
    let (limited, asked) = calls(|| work(rate, &["{}", "{}"], 1));
    let statuses = [told(&limited, 0).0, told(&limited, 1).0];
    assert_eq!((statuses, asked), ([json!("COMPLETED"), json!("TIMED_OUT")], 3));
    assert_eq!(limited.took.as_secs(), 25);
}

#[test]
fn all_attempts_together_have_their_time() {
    let limit = "{ schedule_to_close: 12s }";
    let (often, asked) = calls(|| work(&spec("fail: 'always:5'", limit, "retry: { max_attempts: 10 }"), &["{}"], 1));
    let message = "the next attempt would come too late (`schedule_to_close`); the last one: busy".to_owned();
    assert_eq!((told(&often, 0), asked), ((json!("TIMED_OUT"), message, 10.0), 3));
    let once = work(&spec("after: '60000'", limit, "retry: { max_attempts: 10 }"), &["{}"], 1);
    let message = "no answer within 12s, all attempts together (`schedule_to_close`)".to_owned();
    assert_eq!(told(&once, 0), (json!("TIMED_OUT"), message, 12.0));
    // A fallback has a time of its own, from when the step was given up.
    let more = "retry: { max_attempts: 10 }, fallback: [ { say: { text: other, after: '10000' } } ]";
    let other = work(&spec("after: '60000'", limit, more), &["{}"], 1);
    assert_eq!(told(&other, 0), (json!("COMPLETED"), String::new(), 22.0));
}

#[test]
fn what_an_earlier_process_has_tried_counts() {
    let spec = spec("fail: 'later:7200'", "{ schedule_to_close: 3h }", "retry: { max_attempts: 2 }");
    let journal = Memory::default();
    let go_on = || {
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"])));
        calls(|| run(&spec, runs.with_journal(Arc::new(journal.clone()), 1), 1))
    };
    let change = |key: &str, of: &str, by: Duration| {
        let mut runs = journal.runs();
        let history = &mut runs.get_mut(&0).unwrap().history.0;
        let name = History::backoff("ask");
        let mut attempts: Value = serde_json::from_str(history[&name].get()).unwrap();
        let by = i64::try_from(by.as_micros()).unwrap();
        attempts[key] = (attempts[of].as_i64().unwrap() - by).into();
        history.insert(name, RawValue::from_string(attempts.to_string()).unwrap());
    };
    let (first, asked) = go_on();
    assert_eq!((told(&first, 0).0, asked), (json!("BACKING_OFF"), 1));
    change("due", "scheduled", Duration::ZERO);
    change("scheduled", "scheduled", Duration::from_hours(3));
    let (late, asked) = go_on();
    let message = "no answer within 10800s, all attempts together (`schedule_to_close`)";
    assert_eq!((told(&late, 0).0, told(&late, 0).1, asked), (json!("TIMED_OUT"), message.into(), 0));
}

#[test]
fn a_limit_that_can_never_count_is_a_problem() {
    let told = |step: &str| {
        let text = format!("steps: [ {{ id: ask, {step} }} ]");
        let env = Simulation::new(1).env();
        let problems = load(&text, "work.yaml", &registry(), &env).err().expect(step);
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        told("say: { text: hi }, timeout: { heartbeat: 5s }"),
        ["`say` has no `heartbeat`: it says all at once"]
    );
    assert_eq!(
        told("letters: { of: hi }, timeout: { heartbeat: 5s }"),
        ["`letters` has no `heartbeat`: it says nothing until it has answered"]
    );
    assert_eq!(
        told("say: { text: hi, alive: 1 }, timeout: { heartbeat: 5s, start_to_close: 4s }"),
        ["`heartbeat` is longer than `start_to_close`, so it never counts"]
    );
    let unknown = told("say: { text: hi }, timeout: { start_to_end: 5s }");
    assert!(unknown[0].contains("start_to_end"), "{unknown:?}");
    // What holds for all steps is for those that give signs.
    let both = "
defaults: { timeout: { heartbeat: 5s } }
steps:
  - { id: ask, say: { text: hi, after: '60000' } }
  - { id: lively, say: { text: hi, after: '60000', alive: 6000 }, retry: { max_attempts: 1 } }
";
    let worked = work(both, &["{}"], 1);
    let status = |step: &str| worked.of(0, &format!("/execution_metrics/steps/{step}/status"));
    assert_eq!([status("ask"), status("lively")], [json!("COMPLETED"), json!("TIMED_OUT")]);
}
