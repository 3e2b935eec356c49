//! Random workflows that wait, are signaled and are ended: whatever is under way beside whatever.

use std::fmt::Write as _;
use std::time::Duration;

use bourn_engine::journal::{Ask, History, Journal, Memory};
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::beside::{signals, times};
use crate::replays::{past, same};
use crate::returns::stay;

/// A step of a random workflow: which of those before it it needs, what it is, and a time in seconds.
type Drawn = (Vec<bool>, usize, u64);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let step = |n: usize| (prop::collection::vec(any::<bool>(), n), 0..8_usize, 2..2_000_u64);
    (1_usize..8).prop_flat_map(move |count| (0..count).map(step).collect::<Vec<_>>())
}

/// What it is in a spec, and when it ends that begins at a time and whose signal comes at another one.
fn block(at: usize, (kind, time): (usize, u64), begin: u64, signal: u64) -> (String, u64) {
    let say = |text: &str, after: u64| {
        format!("command: say, with: {{ text: '{text}', after: '{}' }}, timeout: 3h", after * 1_000)
    };
    match kind {
        0 | 1 => (say("a", time), begin + time),
        2 => (format!("hold: {{ signal: s{at} }}"), begin.max(signal)),
        3 => (format!("hold: {{ seconds: {time} }}"), begin + time),
        4 => (
            format!(
                "for_each: {{ in: '${{[{}, {}]}}' }}, command: say, with: {{ text: b, after: '${{item}}' }}, timeout: 3h",
                time * 1_000,
                time * 500
            ),
            begin + time,
        ),
        5 => (
            format!(
                "workflow: {{ spec: {{ steps: [{{ id: a, hold: {{ seconds: {time} }} }}, {{ id: b, {} }}, {{ id: c, needs: a, {} }}] }} }}",
                say("c", 500),
                say("d", 1)
            ),
            begin + (time + 1).max(500),
        ),
        6 => (
            format!("hold: {{ signal: s{at}, seconds: {time} }}, fallback: [{{ command: say, args: e }}]"),
            begin.max(signal).min(begin + time),
        ),
        _ => (format!("command: say, with: {{ text: f, fail: 'later:{time}' }}"), begin + time),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever waits beside whatever takes its time: each step begins at the moment at which what it needs has ended, and nothing is asked twice.
    #[test]
    fn every_step_begins_when_what_it_needs_has_ended(steps in drawn(), durability in 0..3_usize, seed in 0..1_000_u64) {
        let mut ends: Vec<u64> = Vec::new();
        let (mut expected, mut asked) = (Vec::new(), 0);
        let mut spec = format!("durability: {}\nsteps:\n", ["sync", "async", "exit"][durability]);
        let mut sent: Vec<(u64, String)> = Vec::new();
        for (at, (needs, kind, time)) in steps.iter().enumerate() {
            // With `exit` a step that is tried again is none that waits.
            let kind = if durability == 2 && *kind == 7 { &3 } else { kind };
            let needs: Vec<usize> = (0..at).filter(|n| needs[*n]).collect();
            let begin = needs.iter().map(|n| ends[*n]).max().unwrap_or(0);
            let signal = seed * 7 % 1_999 + (time * 3 + at as u64 * 11) % 3_000 + 1;
            let (block, end) = block(at, (*kind, *time), begin, signal);
            let needs: Vec<String> = needs.iter().map(|n| format!("s{n}")).collect();
            writeln!(spec, "  - {{ id: s{at}, needs: [{}], {block} }}", needs.join(", ")).unwrap();
            asked += match kind {
                0 | 1 => 1,
                4 | 5 | 7 => 2,
                6 => usize::from(begin.max(signal) > begin + time),
                _ => 0,
            };
            sent.push((signal, format!("s{at}")));
            expected.push((begin, end));
            ends.push(end);
        }
        sent.sort();
        let journal = Memory::default();
        let sent: Vec<(u64, &str)> = sent.iter().map(|(at, name)| (*at, name.as_str())).collect();
        let (worked, calls) = stay(&spec, &["{}"], &journal, |env| signals(journal.clone(), env, &sent));
        let told: Vec<(u64, u64)> = (0..steps.len()).map(|at| times(&worked, &format!("s{at}"))).collect();
        prop_assert_eq!((told, calls), (expected, asked), "{} {:?}", spec, sent);
        prop_assert!(journal.asked().rest().is_idle());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// However it ends, and whatever waits for its turn: what completed is undone once, nothing is asked twice, and a replay decides the same.
    #[test]
    fn what_was_done_is_undone_once_when_a_run_is_ended(
        steps in drawn(), at in 1..4_000_u64, how in 0..4_usize, durability in 0..3_usize, seed in 0..1_000_u64, at_once in 1..4_usize
    ) {
        let mut spec = format!(
            "durability: {}\nfail_fast: {}\noptimization: {{ max_concurrency: {at_once} }}\nsteps:\n",
            ["sync", "async", "exit"][durability],
            how == 1
        );
        let mut sent: Vec<(u64, String)> = Vec::new();
        for (n, (needs, kind, time)) in steps.iter().enumerate() {
            let needs: Vec<String> = (0..n).filter(|m| needs[*m]).map(|m| format!("s{m}")).collect();
            let (block, _) = block(n, (*kind, *time), 0, 0);
            let undo = if [0, 1, 5, 7].contains(kind) { format!(", compensate: {{ command: say, args: undo{n} }}") } else { String::new() };
            writeln!(spec, "  - {{ id: s{n}, needs: [{}], {block}{undo} }}", needs.join(", ")).unwrap();
            sent.push((seed * 7 % 1_999 + (time * 3 + n as u64 * 11) % 3_000 + 1, format!("s{n}")));
        }
        writeln!(spec, "  - {{ id: rounds, repeat: {{ until: '${{.rounds.rounds >= 3}}', max_iterations: 3, every: {}s }}, command: say, with: {{ text: r, after: '40000' }}, compensate: {{ command: say, args: back }} }}", 5 + seed % 200).unwrap();
        if how > 0 {
            // It fails by itself.
            writeln!(spec, "  - {{ id: fails, command: say, with: {{ text: x, after: '{}', fail: permanent }}, timeout: 3h }}", at * 1_000).unwrap();
        }
        spec += "finally:\n  - { id: tidy, command: say, args: tidy }\n";
        sent.sort();
        let journal = Memory::default();
        let (other, sent) = (journal.clone(), sent);
        let (worked, _) = stay(&spec, &["{}", "{}", "{}"], &journal, |env| async move {
            let mut now = 0;
            let asks = sent.iter().map(|(when, name)| (*when, Some(name.as_str()))).chain((how == 0).then_some((at, None)));
            let mut asks: Vec<_> = asks.collect();
            asks.sort_by_key(|(when, _)| *when);
            for (when, name) in asks {
                env.sleep(Duration::from_secs(when - now)).await;
                now = when;
                for run in 0..3 {
                    match name {
                        Some(name) => {
                            let data = RawValue::from_string("\"go\"".to_owned()).unwrap();
                            other.runs().get_mut(&run).unwrap().history.0.insert(History::signal(name), data);
                            other.asked().rest().wake(run);
                        }
                        None => other.asked().tell(run, Ask::Cancel),
                    }
                }
            }
        });
        prop_assert!(journal.asked().rest().is_idle());
        for past in past(&journal) {
            let of = |step: &str| {
                let record = past.history.0.get(step)?;
                let record: serde_json::Value = serde_json::from_str(record.get()).unwrap();
                record["status"].as_str().map(str::to_owned)
            };
            let has_ended = worked.documents.iter().rev().find(|d| d["run_id"] == past.id.as_str());
            let status = has_ended.and_then(|document| document["status"].as_str()).unwrap_or_default().to_owned();
            for step in past.history.0.keys().filter(|step| step.ends_with(".compensate")) {
                let done = of(step.trim_end_matches(".compensate"));
                let expected = match (done.as_deref(), status.as_str()) {
                    (Some("COMPLETED"), "CANCELED" | "FAILED") => "COMPLETED",
                    _ => "SKIPPED",
                };
                prop_assert_eq!(of(step), Some(expected.to_owned()), "{} of {} run: {} {:?}", step, status, spec, past.history);
            }
            same(&spec, &past);
        }
    }
}
