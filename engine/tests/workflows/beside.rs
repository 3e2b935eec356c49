//! What a run waits for comes while other steps of it are in flight: it goes on there at once.

use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::env::Env;
use bourn_engine::journal::{Ask, History, Journal, Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::value::RawValue;

use crate::kinds::{Worked, lines_of, run_beside};
use crate::replays::{past, same};
use crate::returns::stay;

/// When a step began and ended in the last document, in seconds since the run began.
pub fn times(worked: &Worked, step: &str) -> (u64, u64) {
    let last = worked.documents.len() - 1;
    let at = |path: String| {
        let text = worked
            .of(last, &path)
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {:#}", worked.documents[last]))
            .to_owned();
        chrono::DateTime::parse_from_rfc3339(&text).unwrap()
    };
    let begun = at(format!("/execution_metrics/steps/{step}/started_at"));
    let since = begun - at("/execution_metrics/started_at".into());
    let since = u64::try_from(since.num_seconds()).unwrap();
    (since, since + worked.of(last, &format!("/execution_metrics/steps/{step}/duration_ms")).as_u64().unwrap() / 1_000)
}

/// Sends a signal to the first run.
fn signal(journal: &Memory, name: &str) {
    let data = RawValue::from_string("\"go\"".to_owned()).unwrap();
    journal.runs().get_mut(&0).unwrap().history.0.insert(History::signal(name), data);
    journal.asked().rest().wake(0);
}

/// Signals that come at these times, in seconds.
pub async fn signals(journal: Memory, env: Env, all: &[(u64, &str)]) {
    let mut now = 0;
    for (at, name) in all {
        env.sleep(Duration::from_secs(at - now)).await;
        now = *at;
        signal(&journal, name);
    }
}

#[test]
fn a_signal_and_the_end_of_a_time_are_heard_beside_a_step_of_an_hour() {
    for durability in ["sync", "async", "exit"] {
        let spec = format!(
            "durability: {durability}\nsteps:\n  - {{ id: long, command: say, with: {{ text: long, after: '3600000' }}, timeout: 3h }}\n\
             \x20 - {{ id: ok, hold: {{ signal: go }} }}\n  - {{ id: after, command: say, needs: ok, args: '${{ok.results}}' }}\n\
             \x20 - {{ id: late, hold: {{ signal: never, seconds: 300 }}, fallback: [{{ command: say, args: default }}] }}\n\
             \x20 - {{ id: behind, command: say, needs: late, args: '${{late.results}}' }}\n\
             \x20 - {{ id: timed, hold: {{ seconds: 600 }} }}\n  - {{ id: all, command: say, needs: [after, behind, timed], args: all }}\n"
        );
        let journal = Memory::default();
        let (worked, calls) = stay(&spec, &["{}"], &journal, |env| signals(journal.clone(), env, &[(100, "go")]));
        let told: Vec<_> = worked.documents.iter().map(|document| document["status"].clone()).collect();
        assert_eq!(told, ["COMPLETED"], "{durability}");
        let of = |step| times(&worked, step);
        assert_eq!((of("ok"), of("after").0), ((0, 100), 100), "{durability}");
        assert_eq!((of("late").1, of("behind").0), (300, 300), "{durability}");
        assert_eq!((of("timed"), of("all").0, of("long")), ((0, 600), 600, (0, 3_600)), "{durability}");
        assert_eq!((calls, worked.of(0, "/workflow_results/after").as_str()), (5, Some("go")), "{durability}");
        assert_eq!(journal.runs()[&0].state, RunState::Completed);
        assert!(journal.asked().rest().is_idle());
    }
}

#[test]
fn a_job_that_does_not_stay_goes_on_for_as_long_as_anything_is_under_way() {
    let spec = "steps:\n  - { id: long, command: say, with: { text: a, after: '3600000' }, timeout: 3h }\n  - { id: timed, hold: { seconds: 300 } }\n\
                \x20 - { id: after, command: say, needs: timed, args: b }\n  - { id: rests, hold: { seconds: 9000 }, needs: after }\n";
    let journal = Memory::default();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}", "{}"]))).with_journal(Arc::new(journal.clone()), 1);
    let worked = run_beside(spec, runs, 1, |_| std::future::ready(()));
    let told: Vec<_> = worked.documents.iter().map(|document| document["status"].clone()).collect();
    assert_eq!((told, worked.took.as_secs()), (vec!["WAITING".into(), "WAITING".into()], 3_600));
    assert_eq!((times(&worked, "after").0, times(&worked, "long").1), (300, 3_600));
    assert!(journal.asked().rest().is_idle());
}

#[test]
fn what_needs_a_step_in_flight_and_one_that_waited_begins_when_both_have_ended() {
    let spec = "steps:\n  - { id: longest, command: say, with: { text: a, after: '7200000' }, timeout: 3h }\n\
                \x20 - { id: long, command: say, with: { text: b, after: '1800000' }, timeout: 3h }\n  - { id: ok, hold: { signal: go } }\n\
                \x20 - { id: both, command: say, needs: [long, ok], args: '${long.results}${ok.results}' }\n\
                \x20 - { id: again, hold: { signal: more }, needs: both }\n  - { id: last, command: say, needs: again, args: end }\n";
    let journal = Memory::default();
    let (worked, calls) =
        stay(spec, &["{}"], &journal, |env| signals(journal.clone(), env, &[(100, "go"), (3_000, "more")]));
    let of = |step| times(&worked, step);
    assert_eq!((of("both").0, of("again"), of("last").0), (1_800, (1_800, 3_000), 3_000));
    assert_eq!((worked.documents.len(), worked.of(0, "/workflow_results/both").as_str(), calls), (1, Some("bgo"), 4));
}

#[test]
fn elements_and_steps_of_workflows_within_go_on_beside_others() {
    let spec = "steps:\n  - id: each\n    for_each: { in: '${[0, 1, 2]}', max_concurrency: 3 }\n    workflow:\n      spec:\n        steps:\n\
                \x20         - { id: say, command: say, with: { text: '${input}', after: \"${(if .input == 0 then 3600000 else 0 end)}\" }, timeout: 3h }\n\
                \x20         - { id: ok, hold: { signal: go }, needs: say }\n\
                \x20         - { id: after, command: say, needs: ok, args: '${say.results}${ok.results}' }\n\
                \x20 - { id: end, command: say, needs: each, args: end }\n";
    let journal = Memory::default();
    let kept = journal.clone();
    let beside = |env: Env| async move {
        signals(journal.clone(), env.clone(), &[(100, "go")]).await;
        env.sleep(Duration::from_secs(200)).await;
        let done = |name: &str| journal.runs()[&0].history.0.contains_key(name);
        assert!(done("each[1]/after") && done("each[2]/after") && !done("each[0]/after"));
        env.sleep(Duration::from_secs(3_500)).await;
        // The signal was for those that waited when it came, and for the first that waits later.
        signal(&journal, "go");
    };
    let (worked, calls) = stay(spec, &["{}"], &kept, beside);
    let last = worked.documents.last().unwrap();
    assert_eq!((last["status"].as_str(), calls), (Some("COMPLETED"), 7), "{last:#}");
}

#[test]
fn a_workflow_and_a_list_behind_a_wait_begin_beside_a_long_step() {
    let spec = "steps:\n  - { id: long, command: say, with: { text: a, after: '3600000' }, timeout: 3h }\n  - { id: ok, hold: { signal: go } }\n\
                \x20 - id: in\n    needs: ok\n    workflow: { input: { n: 1 }, spec: { steps: [{ id: one, command: say, args: '${input.n}' }, { id: two, hold: { seconds: 100 }, needs: one }, { id: three, needs: two, command: say, args: b }] } }\n\
                \x20 - { id: each, needs: ok, for_each: { in: '${[1, 2]}' }, command: say, args: '${item}', with: { after: '50000' } }\n\
                \x20 - { id: end, command: say, needs: [in, each], args: end, fallback: [{ args: never }] }\n";
    let journal = Memory::default();
    let (worked, calls) = stay(spec, &["{}"], &journal, |env| signals(journal.clone(), env, &[(100, "go")]));
    let of = |step| times(&worked, step);
    assert_eq!((of("in"), of("each"), of("end").0), ((100, 200), (100, 150), 200), "{:#}", worked.documents[0]);
    assert_eq!((worked.documents.len(), calls), (1, 6));
}

#[test]
fn a_gate_and_a_long_backoff_beside_a_long_step_are_asked_once() {
    let spec = "steps:\n  - { id: long, command: say, with: { text: a, after: '3600000' }, timeout: 3h }\n  - { id: ok, hold: { signal: go } }\n\
                \x20 - id: judged\n    command: say\n    args: b\n    quality_gates:\n      - { name: slow, command: say, with: { text: '{\"pass\": true}', after: '200000' } }\n\
                \x20 - { id: later, command: say, with: { text: c, fail: 'later:500' } }\n\
                \x20 - { id: after, command: say, needs: later, args: d }\n";
    let journal = Memory::default();
    let (worked, calls) = stay(spec, &["{}"], &journal, |env| signals(journal.clone(), env, &[(100, "go")]));
    assert_eq!(
        worked.of(worked.documents.len() - 1, "/status").as_str(),
        Some("COMPLETED"),
        "{:#}",
        worked.documents[0]
    );
    let of = |step| times(&worked, step);
    // The gate's time is in that of its step; the retry comes when it is due.
    assert_eq!((of("judged").1, of("after").0, of("long").1), (200, 500, 3_600));
    assert_eq!(calls, 6);
}

#[test]
fn a_run_that_is_passed_several_times_at_once_ends_or_pauses_as_any_other() {
    let spec = "steps:\n  - { id: long, command: say, with: { text: a, after: '3600000' }, timeout: 3h }\n  - { id: ok, hold: { signal: go } }\n\
                \x20 - { id: after, command: say, needs: ok, with: { text: b, after: '1000000' }, timeout: 3h }\n\
                finally:\n  - { id: tidy, command: say, args: tidy }\n";
    let journal = Memory::default();
    let other = journal.clone();
    let canceled = |env: Env| async move {
        signals(other.clone(), env.clone(), &[(100, "go")]).await;
        env.sleep(Duration::from_secs(100)).await;
        other.asked().tell(0, Ask::Cancel);
    };
    let (worked, calls) = stay(spec, &["{}"], &journal, canceled);
    let told: Vec<_> = worked.documents.iter().map(|document| document["status"].clone()).collect();
    assert_eq!((told, calls), (vec!["CANCELED".into()], 3), "{:#}", worked.documents[0]);
    assert!(worked.took < Duration::from_secs(210), "{:?}", worked.took);
    let journal = Memory::default();
    let other = journal.clone();
    let paused = |env: Env| async move {
        env.sleep(Duration::from_secs(50)).await;
        other.asked().tell(0, Ask::Pause);
        env.sleep(Duration::from_secs(50)).await;
        signal(&other, "go");
        env.sleep(Duration::from_secs(100)).await;
        other.asked().tell(0, Ask::Resume);
    };
    let (worked, calls) = stay(spec, &["{}"], &journal, paused);
    assert_eq!((worked.of(0, "/status").as_str(), worked.documents.len(), calls), (Some("COMPLETED"), 1, 3));
    assert_eq!((times(&worked, "after").0, worked.took.as_secs()), (200, 3_600));
}

#[test]
fn what_completed_beside_a_workflow_that_is_canceled_is_undone_and_the_workflow_cleans_up() {
    let spec = "steps:\n  - { id: first, command: say, with: { text: a, after: '20000' } }\n  - { id: ok, hold: { signal: g1 } }\n\
                \x20 - id: in\n    needs: [first, ok]\n    workflow:\n      spec:\n        steps:\n\
                \x20         - { id: a, command: say, with: { text: a, after: '70000' }, compensate: { command: say, args: never } }\n\
                \x20         - { id: w, hold: { signal: g2 } }\n          - { id: b, needs: w, command: say, args: b, compensate: { command: say, args: undo } }\n\
                \x20         - { id: c, needs: [a, b], command: say, args: c }\n        finally: [{ id: tidy, command: say, args: tidy }]\n\
                \x20 - { id: paid, command: say, with: { text: p, after: '5000' }, repeat: { until: '${.paid.rounds >= 3}', max_iterations: 3, every: 10s }, compensate: { command: say, args: back } }\n\
                \x20 - { id: last, needs: [in, paid], command: say, args: e }\n\
                finally: [{ id: end, command: say, args: end }]\n";
    let journal = Memory::default();
    let other = journal.clone();
    let (worked, calls) = stay(spec, &["{}"], &journal, |env| async move {
        signals(other.clone(), env.clone(), &[(7, "g2"), (13, "g1")]).await;
        env.sleep(Duration::from_secs(67)).await;
        other.asked().tell(0, Ask::Cancel);
    });
    let past = past(&journal).remove(0);
    let of = |step: &str| {
        let record: serde_json::Value = serde_json::from_str(past.history.0[step].get()).unwrap();
        record["status"].as_str().unwrap().to_owned()
    };
    let told =
        ["paid", "paid.compensate", "in", "in/a", "in/a.compensate", "in/b.compensate", "in/tidy", "last", "end"]
            .map(of);
    let ends = [
        "COMPLETED",
        "COMPLETED",
        "CANCELED",
        "CANCELED",
        "SKIPPED",
        "COMPLETED",
        "COMPLETED",
        "CANCELED",
        "COMPLETED",
    ];
    assert_eq!((told, calls), (ends.map(str::to_owned), 10), "{:#}", worked.documents[0]);
    same(spec, &past);
}

#[test]
fn a_run_at_rest_whose_document_waits_for_its_turn_comes_back_all_the_same() {
    let spec = "steps:\n  - { id: first, hold: { signal: begin } }\n\
                \x20 - { id: slow, needs: first, command: say, with: { text: a, after: '${input.d}' }, timeout: 3h }\n\
                \x20 - { id: ok, hold: { signal: go } }\n  - { id: after, needs: ok, command: say, args: b }\n";
    let (journal, lines) = (Memory::default(), [r#"{"d": 3600000}"#, r#"{"d": 0}"#, r#"{"d": 0}"#]);
    let lines_of = || Runs::of("lines", BoxConnector::new(lines_of(&lines)));
    let begun = run_beside(spec, lines_of().with_journal(Arc::new(journal.clone()), 1), 1, |_| std::future::ready(()));
    assert_eq!(begun.documents.len(), 3);
    let put = |run: u64, name: &str| {
        let data = RawValue::from_string("1".to_owned()).unwrap();
        journal.runs().get_mut(&run).unwrap().history.0.insert(History::signal(name), data);
        journal.asked().rest().wake(run);
    };
    // The first one goes on in another process, and the others are at rest there behind it.
    put(0, "begin");
    let (worked, calls) = stay(spec, &lines, &journal, |env| async move {
        for (run, name) in [(1, "go"), (2, "begin"), (1, "begin"), (2, "go"), (0, "go")] {
            env.sleep(Duration::from_secs(100)).await;
            put(run, name);
        }
    });
    let told: Vec<_> = worked.documents.iter().map(|document| document["status"].clone()).collect();
    assert_eq!((told, calls, worked.took.as_secs()), (vec!["COMPLETED".into(); 3], 6, 3_600));
    let at = |run: u64, step: &str| {
        let record: serde_json::Value = serde_json::from_str(journal.runs()[&run].history.0[step].get()).unwrap();
        record["started_at"].as_str().unwrap()[14..19].to_owned()
    };
    assert_eq!(
        [at(1, "after"), at(2, "slow"), at(1, "slow"), at(2, "after"), at(0, "after")],
        ["01:40", "03:20", "05:00", "06:40", "08:20"]
    );
}

#[test]
fn what_stands_at_the_end_sees_how_each_step_has_ended_whichever_passage_did_it() {
    for durability in ["sync", "async", "exit"] {
        let spec = format!(
            "durability: {durability}\nfail_fast: true\nsteps:\n  - {{ id: ok, hold: {{ signal: go }} }}\n\
             \x20 - {{ id: n, workflow: {{ spec: {{ steps: [{{ id: x, command: say, with: {{ text: x, after: '60000', fail: permanent }} }}] }} }} }}\n\
             \x20 - {{ id: a, command: say, with: {{ text: a, after: '30000' }}, compensate: {{ command: say, args: back }} }}\n\
             \x20 - {{ id: each, for_each: {{ in: [1, 2] }}, command: say, with: {{ text: e, after: '900000' }}, timeout: 3h }}\n\
             finally:\n  - {{ id: end, command: say, args: '${{n.status}} ${{a.status}} ${{each.status}}' }}\n"
        );
        let journal = Memory::default();
        let (worked, calls) = stay(&spec, &["{}"], &journal, |env| signals(journal.clone(), env, &[(10, "go")]));
        let past = past(&journal).remove(0);
        let end: serde_json::Value = serde_json::from_str(past.history.0["end"].get()).unwrap();
        assert_eq!((&end["results"], calls), (&"FAILED COMPLETED CANCELED".into(), 6), "{durability}");
        assert_eq!(worked.of(0, "/status"), "FAILED");
        same(&spec, &past);
    }
}

#[test]
fn runs_hear_of_signals_however_many_wait_for_their_turn_at_a_slow_step() {
    let spec = "optimization: { max_concurrency: 2 }\nsteps:\n  - { id: slow, command: say, with: { text: a, after: '600000' }, timeout: 3h }\n\
                \x20 - { id: ok, hold: { signal: go } }\n  - { id: after, needs: ok, command: say, args: b }\n\
                \x20 - { id: both, needs: [after], hold: { signal: more } }\n  - { id: end, needs: both, command: say, args: c }\n";
    let lines: Vec<&str> = vec!["{}"; 100];
    let journal = Memory::default();
    let other = journal.clone();
    let (worked, calls) = stay(spec, &lines, &journal, |env| async move {
        for name in ["go", "more"] {
            env.sleep(Duration::from_secs(100)).await;
            for run in 0..100 {
                let data = RawValue::from_string("1".to_owned()).unwrap();
                other.runs().get_mut(&run).unwrap().history.0.insert(History::signal(name), data);
                other.asked().rest().wake(run);
            }
        }
    });
    assert_eq!((worked.took.as_secs(), calls), (30_000, 300));
    let begun = |journal: &Memory, step: &str| -> Vec<String> {
        let of = |history: &History| {
            let record: serde_json::Value = serde_json::from_str(history.0[step].get()).unwrap();
            record["started_at"].as_str().unwrap()[11..19].to_owned()
        };
        journal.runs().values().map(|run| of(&run.history)).collect()
    };
    assert!(begun(&journal, "after").iter().all(|at| at == "00:01:40"), "{:?}", begun(&journal, "after"));
    assert!(begun(&journal, "end").iter().all(|at| at == "00:03:20"), "{:?}", begun(&journal, "end"));
}

#[test]
fn what_waits_is_not_begun_again_by_a_passage_that_does_not_know_of_it() {
    // Each signal is another passage, whose elements wait for their turn.
    let holds: Vec<String> = (0..12).map(|n| format!("  - {{ id: h{n}, hold: {{ signal: s{n} }} }}\n")).collect();
    let holds = holds.concat();
    let spec = format!(
        "steps:\n{holds}  - id: each\n    for_each: {{ in: [0, 1, 2, 3, 4], max_concurrency: 1 }}\n    workflow:\n      spec:\n        steps:\n\
         \x20         - {{ id: a, command: say, with: {{ text: a, after: '2000', fail: 'later:70' }} }}\n\
         \x20         - {{ id: w, needs: a, hold: {{ signal: never, seconds: 100 }}, default: 1 }}\n\
         \x20         - {{ id: b, needs: w, command: say, args: b }}\n"
    );
    let journal = Memory::default();
    let sent: Vec<(u64, String)> = (0..12).map(|n| (1 + n, format!("s{n}"))).collect();
    let sent: Vec<(u64, &str)> = sent.iter().map(|(at, name)| (*at, name.as_str())).collect();
    let (worked, calls) = stay(&spec, &["{}"], &journal, |env| signals(journal.clone(), env, &sent));
    assert_eq!(worked.documents.last().unwrap()["status"], "COMPLETED");
    assert_eq!(calls, 15, "each is tried twice, and then said");
    for n in 0..5 {
        let wait = &journal.runs()[&0].history.0[&History::wait(&format!("each[{n}]/w"))];
        let wait: serde_json::Value = serde_json::from_str(wait.get()).unwrap();
        let took = wait["due"].as_i64().unwrap() - wait["since"].as_i64().unwrap();
        assert_eq!(took, 100_000_000);
    }
}
