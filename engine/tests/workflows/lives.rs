//! Random workflows over several inputs, some slow and some quick, whose process is killed at random moments: what the next one goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::env::Env;
use bourn_engine::journal::{History, Journal, Memory, RunState};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::Runs;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kinds::{SEEN, lines_of, run_in};

/// A step of a random workflow: which of those before it it needs, what it is, and a time in seconds.
type Drawn = (Vec<bool>, usize, u64);

/// When the first life of a job begins.
const BEGIN: Timestamp = Timestamp(1_700_000_000_000_000);

const RUNS: u64 = 4;

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let step = |n: usize| (prop::collection::vec(any::<bool>(), n), 0..10_usize, 2..1_000_u64);
    (1_usize..7).prop_flat_map(move |count| (0..count).map(step).collect::<Vec<_>>())
}

/// What it is in a spec. How slow a step is differs from run to run.
fn block(at: usize, kind: usize, time: u64) -> String {
    let say = |text: &str, millis: u64| {
        format!("command: say, with: {{ text: '{text}{at}', after: '${{.input.slow * {millis}}}' }}, timeout: 3h")
    };
    match kind {
        0 => say("a", time * 1_000),
        1 => say("b", 5),
        2 => format!("hold: {{ signal: s{at} }}"),
        3 => format!("hold: {{ seconds: {time} }}"),
        4 => format!(
            "for_each: {{ in: '${{[range(.input.slow + 1)]}}' }}, command: say, with: {{ text: 'c${{item}}', after: '${{.item * {time}000}}' }}, timeout: 3h"
        ),
        5 => format!(
            "workflow: {{ input: {{ slow: '${{input.slow}}' }}, spec: {{ steps: [{{ id: a, hold: {{ seconds: {time} }} }}, {{ id: b, {} }}, {{ id: c, needs: a, {} }}] }} }}",
            say("d", 50_000),
            say("e", 7)
        ),
        6 => format!("hold: {{ signal: s{at}, seconds: {time} }}, fallback: [{{ command: say, args: f }}]"),
        7 => format!("command: say, with: {{ text: g, fail: 'later:{time}' }}"),
        8 => format!(
            "repeat: {{ until: '${{.s{at}.rounds > .input.slow}}', max_iterations: 9, every: {}s }}, {}",
            time % 90,
            say("h", 60_000)
        ),
        _ => format!(
            "for_each: {{ in: '${{[range(3)]}}' }}, workflow: {{ input: {{ slow: '${{input.slow}}', n: '${{item}}' }}, spec: {{ steps: [{{ id: a, hold: {{ seconds: {time} }} }}, {{ id: b, needs: a, {} }}] }} }}",
            say("i", 20_000)
        ),
    }
}

/// What a process was told and did until it was killed.
struct Life {
    /// What the journal had then.
    left: Memory,
    /// What was asked, by its key.
    asked: Vec<(String, u32)>,
    /// The last document of each run.
    documents: BTreeMap<String, Value>,
}

/// A process over what an earlier one has left, until `end` in seconds of all lives, or until all runs have ended. `begin` is when it begins.
fn live(spec: &str, journal: &Memory, sent: &[(u64, String)], (begin, end): (u64, u64), seed: u64) -> Life {
    let left = Memory::default();
    *left.runs() = journal.runs().clone();
    let (journal, cut) = (left, Memory::default());
    let kinds = SEEN.with(Arc::clone);
    kinds.keys.lock().unwrap().clear();
    let lines: Vec<String> = (0..RUNS).map(|n| format!("{{\"slow\": {n}}}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&lines)));
    let runs = runs.with_journal(Arc::new(journal.clone()), 1).staying(true);
    let asked = Arc::new(std::sync::Mutex::new(None));
    let (other, killed, were_asked) = (journal.clone(), cut.clone(), asked.clone());
    let signals = |env: Env| async move {
        let mut now = begin;
        let ask = sent.iter().filter(|(at, _)| *at >= begin).map(|(at, name)| (*at, Some(name)));
        let mut all: Vec<_> = ask.chain((end > begin).then_some((end, None))).collect();
        all.sort_by_key(|(at, _)| *at);
        for (at, name) in all {
            env.sleep(Duration::from_secs(at - now)).await;
            now = at;
            if let Some(name) = name {
                for run in 0..RUNS {
                    let data = RawValue::from_string("\"go\"".to_owned()).unwrap();
                    if let Some(run) = other.runs().get_mut(&run) {
                        run.history.0.insert(History::signal(name), data);
                    }
                    other.asked().rest().wake(run);
                }
            } else {
                *killed.runs() = other.runs().clone();
                *were_asked.lock().unwrap() = Some(kinds.keys.lock().unwrap().clone());
            }
        }
    };
    let micros = i64::try_from(begin * 1_000_000).unwrap();
    let simulation = Simulation::new(seed).begin(Timestamp(BEGIN.0 + micros)).time_max(Duration::from_hours(24 * 30));
    let worked = run_in(simulation, spec, runs, signals).unwrap();
    assert!(journal.asked().rest().is_idle());
    let keys = take(&mut *SEEN.with(Arc::clone).keys.lock().unwrap());
    let was_killed = asked.lock().unwrap().take();
    let left = if was_killed.is_some() { cut } else { journal };
    let documents = worked.documents.into_iter().map(|d| (d["run_id"].as_str().unwrap().to_owned(), d)).collect();
    Life { left, asked: was_killed.unwrap_or(keys), documents }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every run ends as in a life without a death, and nothing that the journal has is asked again.
    #[test]
    fn runs_of_a_process_that_was_killed_end_in_the_next_one_and_no_step_is_paid_for_twice(
        steps in drawn(), ends in prop::collection::vec(1..3_000_u64, 1..4), durability in 0..3_usize,
        at_once in 1..5_usize, seed in 0..1_000_u64
    ) {
        let mut spec = format!(
            "durability: {}\noptimization: {{ max_concurrency: {at_once} }}\noutput_format: map\nsteps:\n",
            ["sync", "async", "exit"][durability],
        );
        let mut sent: Vec<(u64, String)> = Vec::new();
        for (n, (needs, kind, time)) in steps.iter().enumerate() {
            let needs: Vec<String> = (0..n).filter(|m| needs[*m]).map(|m| format!("s{m}")).collect();
            writeln!(spec, "  - {{ id: s{n}, needs: [{}], {} }}", needs.join(", "), block(n, *kind, *time)).unwrap();
            sent.push((seed * 7 % 1_999 + (time * 3 + n as u64 * 11) % 3_000 + 1, format!("s{n}")));
        }
        sent.sort();
        // Whether the signal or the time comes first is another question after a death.
        let is_certain = |name: &str| {
            let step = name.trim_start_matches('s').split(['[', '/', '#']).next().and_then(|n| n.parse::<usize>().ok());
            step.is_some_and(|n| steps[n].1 != 6)
        };
        let calm = live(&spec, &Memory::default(), &sent, (0, 0), seed);
        prop_assert_eq!(calm.documents.len() as u64, RUNS);
        let (mut journal, mut begin, mut asked) = (Memory::default(), 0, BTreeSet::new());
        let ends: BTreeSet<u64> = ends.into_iter().collect();
        for end in ends.into_iter().chain([0]) {
            let before = journal.runs().clone();
            let life = live(&spec, &journal, &sent, (begin, end), seed + end);
            let once: BTreeSet<_> = life.asked.iter().collect();
            prop_assert_eq!(once.len(), life.asked.len(), "{} {:?}", spec, life.asked);
            for (key, attempt) in &life.asked {
                let (id, name) = key.split_once('/').unwrap();
                let kept = before.values().find(|run| run.id == id);
                let is_kept = kept.is_some_and(|kept| is_kept(&kept.history, name));
                prop_assert!(!is_kept, "{key} is asked again {end}: {spec} {:?}", kept.unwrap().history);
                if is_certain(name) { asked.insert((key.clone(), *attempt)); }
            }
            if end == 0 {
                prop_assert_eq!(told(&life, is_certain), told(&calm, is_certain), "{}", spec);
            }
            (journal, begin) = (life.left, end);
        }
        prop_assert!(journal.runs().values().all(|run| run.state == RunState::Completed), "{} {:?}", spec, journal);
        let expected = calm.asked.iter().filter(|(key, _)| is_certain(key.split_once('/').unwrap().1));
        prop_assert_eq!(asked, expected.cloned().collect(), "{}", spec);
    }
}

/// Whether the journal has what was asked so: the step itself, or what it is a part of.
fn is_kept(history: &History, name: &str) -> bool {
    let parts = name.match_indices(['[', '/', '#']).map(|(at, _)| &name[..at]);
    parts.chain([name]).any(|name| history.0.contains_key(name))
}

/// How each run ended, and what each of these steps gave.
fn told(life: &Life, is_certain: impl Fn(&str) -> bool) -> Vec<Value> {
    let one = |(id, document): (&String, &Value)| {
        let results = document["workflow_results"].as_object().unwrap().iter().filter(|(name, _)| is_certain(name));
        let results: Vec<_> = results.collect();
        json!([id, document["status"], results])
    };
    life.documents.iter().map(one).collect()
}
