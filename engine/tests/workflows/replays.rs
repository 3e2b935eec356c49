//! A run that is decided again from its history takes the way that it took, asks nobody, and tells what a changed spec would do otherwise.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Ask, Journal as _, Memory};
use bourn_engine::spec::load;
use bourn_engine::testing::replay::{Past, replay};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Runs, Verdict};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kinds::{SEEN, lines_of, registry, run_beside};

/// Runs a workflow once for each line, asking something of the first one meanwhile.
fn runs(spec: &str, lines: &[&str], ask: Option<(u64, Ask)>, seed: u64) -> Vec<Past> {
    let journal = Memory::default();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(lines))).with_journal(Arc::new(journal.clone()), 1);
    let asked = journal.asked();
    run_beside(spec, runs.staying(spec.contains("every:")), seed, |env| async move {
        if let Some((millis, ask)) = ask {
            env.sleep(Duration::from_millis(millis)).await;
            asked.tell(0, ask);
        }
    });
    past(&journal)
}

/// What a journal has of runs.
pub fn past(journal: &Memory) -> Vec<Past> {
    let kept = journal.runs();
    kept.values()
        .map(|run| Past { id: run.id.clone(), input: run.input.clone(), history: run.history.clone() })
        .collect()
}

/// Decides it again, and sees that nobody was asked.
fn again(spec: &str, past: &Past) -> Verdict {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let loaded = load(spec, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap_or_else(|p| panic!("{p:?}"));
    let verdict = replay(&loaded, &registry(), past, |record| record).unwrap();
    assert_eq!(SEEN.with(|seen| seen.calls.load(SeqCst)), before, "a replay asks nobody");
    verdict
}

fn compared(past: &Past) -> usize {
    past.history.0.keys().filter(|name| !name.starts_with('@')).count()
}

#[track_caller]
pub fn same(spec: &str, past: &Past) -> Verdict {
    let verdict = again(spec, past);
    let nothing = (None, Vec::new(), Vec::new());
    let found = (verdict.difference.clone(), verdict.not_recorded.clone(), verdict.not_decided.clone());
    assert_eq!(found, nothing, "{spec}\n{past:#?}");
    verdict
}

#[track_caller]
fn differs(spec: &str, past: &Past) -> (String, Value, Value) {
    let verdict = again(spec, past);
    let found = verdict.difference.unwrap_or_else(|| panic!("the same: {spec}\n{past:#?}"));
    (found.step, found.recorded, found.replayed)
}

/// A step of every kind, each with what decides about it.
const ALL: &str = "
steps:
  - { id: ask, command: say, with: { text: 'about ${input.n}', after: '1500' } }
  - { id: size, set: { value: '${.ask.results | length}' } }
  - id: route
    switch:
      - { when: '${.input.n > 5}', then: high }
      - { then: [low, both] }
  - { id: high, command: say, args: 'high ${size.results}' }
  - { id: low, command: say, args: low }
  - { id: both, set: { value: '${low.results} too' } }
  - { id: maybe, if: '${.input.n % 2 == 0}', command: say, args: even }
  - { id: shaky, command: say, with: { text: x, fail: twice }, retry: { max_attempts: 3, jitter: false } }
  - id: second
    command: say
    with: { text: first, fail: permanent }
    retry: { max_attempts: 1 }
    fallback: [{ with: { text: second, fail: '${.input.fail}' } }, { letters: '${.input.word}' }]
  - { id: lost, command: say, with: { text: x, fail: permanent }, retry: { max_attempts: 1 }, default: { none: true } }
  - id: rounds
    repeat: { until: '${.rounds.rounds >= .input.n}', max_iterations: 4, every: 1h }
    command: say
    args: '${.rounds.results // \"\"}x'
  - id: counted
    repeat: { until: '${.counted.rounds >= 2}', max_iterations: 3 }
    letters: 'a${.counted.results // \"\"}'
  - id: each
    for_each: { in: '${input.list}', as: it, tolerated_failure_percentage: 50 }
    command: say
    with: { text: '${it} of ${size.results}', fail: '${(if .it == 2 then \"permanent\" else \"\" end)}' }
    retry: { max_attempts: 1 }
  - id: inner
    for_each: { in: '${input.list}', as: it }
    workflow:
      input: { of: '${it}' }
      spec:
        steps:
          - { id: one, command: say, args: 'one ${input.of}' }
          - { id: two, if: '${.input.of > 1}', set: { value: '${.one.results | ascii_upcase}' } }
        output_format: map
  - id: again
    repeat: { until: '${.again.rounds >= 2}', max_iterations: 3 }
    workflow: { input: { n: '${.again.results // 0}' }, spec: { steps: [{ id: in, set: { value: '${.input.n + 1}' } }, { id: out, command: say, args: '${in.results}' }, { id: end, set: { value: '${.out.results | tonumber}' } }] } }
  - { id: paid, command: say, args: paid, needs: both, compensate: { command: say, args: back } }
  - { id: end, needs: [each, inner, again, second], set: { value: '${.ask.started_at} ${.size.started_at} ${.shaky.attempts}' } }
finally:
  - { id: told, command: say, args: '${end.status}' }
output_format: map
";

const LINES: [&str; 4] = [
    r#"{"n": 2, "list": [1, 2, 3], "fail": "", "word": "x"}"#,
    r#"{"n": 7, "list": [], "fail": "permanent", "word": "xyz"}"#,
    r#"{"n": 5, "list": [2], "fail": "permanent", "word": ""}"#,
    "no JSON",
];

#[test]
fn every_kind_of_decision_comes_out_the_same_and_is_counted() {
    for durability in ["sync", "async", "exit"] {
        let spec = format!("{ALL}durability: {durability}\n");
        for past in runs(&spec, &LINES, None, 3) {
            let verdict = same(&spec, &past);
            assert_eq!(verdict.steps, compared(&past));
            assert!(verdict.decisions >= 6 || past.input.is_none(), "{verdict:?}");
        }
    }
}

#[test]
fn what_a_changed_spec_decides_otherwise_is_told_with_the_step() {
    let pasts = runs(ALL, &LINES, None, 3);
    let changes = [
        ("value: '${.ask.results | length}'", "value: '${(.ask.results | length) + 1}'", "size"),
        (".input.n > 5", ".input.n > 1", "route"),
        (".input.n % 2 == 0", ".input.n % 2 == 1", "maybe"),
        ("default: { none: true }", "default: none", "lost"),
        (
            "fallback: [{ with: { text: second, fail: '${.input.fail}' } }, { letters: '${.input.word}' }]",
            "default: 1",
            "second",
        ),
        (".rounds.rounds >= .input.n", ".rounds.rounds >= 9", "rounds"),
        (".rounds.rounds >= .input.n", ".rounds.rounds >= 1", "rounds"),
        (".counted.rounds >= 2", ".counted.rounds >= 3", "counted"),
        ("tolerated_failure_percentage: 50", "tolerated_failure_percentage: 0", "each"),
        ("for_each: { in: '${input.list}', as: it, tol", "for_each: { in: '${.input.list + [9]}', as: it, tol", "each"),
        ("for_each: { in: '${input.list}', as: it, tol", "for_each: { in: '${.input.list[1:]}', as: it, tol", "each"),
        (".input.of > 1", ".input.of > 2", "inner[1]/two"),
        ("ascii_upcase", "ascii_downcase", "inner[1]/two"),
        (".again.rounds >= 2", ".again.rounds >= 1", "again"),
    ];
    for (before, after, step) in changes {
        let other = ALL.replace(before, after);
        assert_ne!(other, ALL, "{before}");
        assert_eq!(differs(&other, &pasts[0]).0, step, "{before} -> {after}");
    }
    let gone = ALL.replace("  - { id: lost, command: say, with: { text: x, fail: permanent }, retry: { max_attempts: 1 }, default: { none: true } }\n", "");
    let told = ("lost".to_owned(), json!({ "reason": "the spec has no such step" }));
    let (step, _, replayed) = differs(&gone, &pasts[0]);
    assert_eq!((step, replayed), told);
    let (_, recorded, replayed) = differs(&ALL.replace(".input.n > 5", ".input.n > 1"), &pasts[0]);
    assert_eq!((&recorded["results"], &replayed["results"]), (&json!(["low", "both"]), &json!(["high"])));
}

#[test]
fn what_nothing_is_recorded_of_is_told_and_never_asked() {
    let spec = "
steps:
  - { id: a, command: say, args: a }
  - { id: b, set: { value: '${a.results}!' } }
  - { id: c, command: say, args: '${b.results}' }
output_format: map
";
    let mut past = runs(spec, &["{}"], None, 1).remove(0);
    let steps = same(spec, &past).steps;
    assert_eq!(steps, 3);
    // A step of a changed spec.
    let more = spec.replace("  - { id: c", "  - { id: new, command: say, args: new, needs: a }\n  - { id: c");
    let verdict = again(&more, &past);
    assert_eq!((verdict.steps, verdict.difference, verdict.not_recorded), (3, None, vec!["new".to_owned()]));
    // Before one that is recorded, which therefore can't be decided.
    let between = more.replace("args: '${b.results}'", "args: '${new.results}'");
    let verdict = again(&between, &past);
    assert_eq!((verdict.steps, verdict.difference), (2, None));
    assert_eq!((verdict.not_recorded, verdict.not_decided), (vec!["new".to_owned()], vec!["c".to_owned()]));
    // A record that is lost.
    past.history.0.remove("a");
    let verdict = again(spec, &past);
    assert_eq!((verdict.steps, verdict.difference, verdict.not_recorded), (0, None, vec!["a".to_owned()]));
    assert_eq!(verdict.not_decided, ["b", "c"]);
    // One of two that both failed: whether it was that which kept the third from beginning is not known.
    let failed = |id: &str| {
        format!(
            "  - {{ id: {id}, command: say, with: {{ text: x, fail: permanent }}, retry: {{ max_attempts: 1 }} }}\n"
        )
    };
    let both = format!(
        "steps:\n{}{}  - {{ id: c, set: {{ value: '${{a.results}}${{b.results}}' }} }}\n",
        failed("a"),
        failed("b")
    );
    let mut of_both = runs(&both, &["{}"], None, 1).remove(0);
    assert_eq!(same(&both, &of_both).steps, 3);
    of_both.history.0.remove("a");
    let verdict = again(&both, &of_both);
    assert_eq!(
        (verdict.difference, verdict.not_recorded, verdict.not_decided),
        (None, vec!["a".into()], vec!["c".into()])
    );
    // One that was skipped, and would be asked.
    let skips = spec.replace("id: c,", "id: c, if: false,").replace("if: false", "if: '${.input.go == true}'");
    let past = runs(&skips, &["{}"], None, 1).remove(0);
    let (step, recorded, replayed) = differs(spec, &past);
    assert_eq!((step.as_str(), &recorded["status"]), ("c", &json!("SKIPPED")));
    assert_eq!(replayed["reason"], "it would be asked, and no answer is recorded");
}

#[test]
fn runs_that_were_canceled_paused_forked_or_wait_are_decided_as_far_as_they_came() {
    let spec = "
steps:
  - { id: a, command: say, args: a, with: { after: '1000' }, compensate: { command: say, args: undone } }
  - { id: b, command: say, args: b, with: { after: '8000' }, needs: a, default: none }
  - { id: c, set: { value: '${b.status}' } }
  - { id: d, set: { value: 'of ${c.results}' } }
finally:
  - { id: last, set: { value: '${b.status} ${c.status}' } }
output_format: map
";
    for (ask, steps) in [(Ask::Cancel, 3), (Ask::Pause, 2)] {
        let past = runs(spec, &["{}"], Some((4_000, ask)), 1).remove(0);
        assert_eq!(again(spec, &past).difference, None, "{past:#?}");
        assert_eq!(again(spec, &past).steps, steps, "{ask:?} {past:#?}");
    }
    let fast = "
fail_fast: true
steps:
  - { id: bad, command: say, with: { text: x, fail: permanent, after: '1000' }, retry: { max_attempts: 1 } }
  - { id: slow, command: say, with: { text: x, after: '9000' } }
  - { id: quick, command: say, args: x }
  - { id: behind, set: { value: '${slow.results}' } }
";
    let past = runs(fast, &["{}"], None, 1).remove(0);
    assert_eq!((again(fast, &past).difference, again(fast, &past).steps), (None, 2));
    // What a fork has taken over, changed, is as it is.
    let mut past = runs(spec, &["{}"], None, 1).remove(0);
    let set = |past: &mut Past, name: &str, record: Value| {
        past.history.0.insert(name.to_owned(), RawValue::from_string(record.to_string()).unwrap());
    };
    set(&mut past, "c", json!({ "status": "REUSED", "results": "changed", "attempts": 1 }));
    set(&mut past, "d", json!({ "status": "COMPLETED", "results": "of changed", "attempts": 1 }));
    set(&mut past, "last", json!({ "status": "COMPLETED", "results": "COMPLETED REUSED", "attempts": 1 }));
    assert_eq!(again(spec, &past).difference, None);
    set(&mut past, "c", json!({ "status": "COMPLETED", "results": "changed", "attempts": 1 }));
    assert_eq!(differs(spec, &past).0, "c");
    let waits = "
steps:
  - { id: held, hold: { signal: go } }
  - { id: after, set: { value: '${held.results.word}' } }
";
    let mut past = runs(waits, &["{}"], None, 1).remove(0);
    assert_eq!(again(waits, &past), Verdict::default());
    set(&mut past, "@signal:go", json!({ "word": "yes" }));
    for (name, results) in [("held", json!({ "word": "yes" })), ("after", json!("yes"))] {
        set(&mut past, name, json!({ "status": "COMPLETED", "results": results, "attempts": 1 }));
    }
    assert_eq!(same(waits, &past).steps, 2);
    assert_eq!(differs(&waits.replace("signal: go", "signal: start"), &past).0, "held");
}

#[test]
fn what_another_failure_has_kept_from_its_fallback_is_not_decided_anew() {
    let spec = "
fail_fast: true
steps:
  - { id: a, command: say, with: { text: a, fail: permanent }, retry: { max_attempts: 1 }, fallback: [{ letters: abc }] }
  - { id: b, command: say, with: { text: b, fail: permanent }, retry: { max_attempts: 1 } }
";
    let mut cut_off = 0;
    for seed in 0..40 {
        let past = runs(spec, &["{}"], None, seed).remove(0);
        cut_off += usize::from(past.history.0["a"].get().starts_with("{\"status\":\"FAILED\""));
        assert_eq!(again(spec, &past).difference, None, "{past:#?}");
        // Without the record of the other one nobody knows what has kept it from that.
        let mut lacks = past.clone();
        lacks.history.0.remove("b");
        assert_eq!(again(spec, &lacks).difference, None, "{lacks:#?}");
    }
    assert!(cut_off > 0, "the fallback was there first each time");
    // A fallback that the spec has got since is one.
    let alone = "steps: [{ id: a, command: say, with: { text: a, fail: permanent }, retry: { max_attempts: 1 } }]";
    let past = runs(alone, &["{}"], None, 1).remove(0);
    assert_eq!(differs(&alone.replace(" } }]", " }, fallback: [{ letters: abc }] }]"), &past).0, "a");
}

/// What a step of a random spec is, by what it needs.
fn block(at: usize, kind: usize, needs: &[usize]) -> String {
    let seen: Vec<_> = needs.iter().map(|n| format!("(.s{n}.results | tojson)")).collect();
    let seen = if seen.is_empty() { "(.input.n | tojson)".to_owned() } else { seen.join(" + ") };
    let fail = format!("${{(if (({seen} | length) + .input.n) % 3 == 0 then \"permanent\" else \"\" end)}}");
    let ask = format!(
        "command: say, with: {{ text: 'a{at} ${{{seen} | length}}', fail: '{fail}' }}, retry: {{ max_attempts: 1 }}"
    );
    match kind {
        0 | 1 => ask,
        2 => format!("set: {{ value: '${{[{seen}, .input.n]}}' }}"),
        3 => format!("if: '${{(({seen} | length) + .input.n) % 2 == 0}}', {ask}"),
        4 => format!("{ask}, default: {{ none: {at} }}"),
        5 => format!("{ask}, fallback: [{{ letters: '${{{seen}}}' }}]"),
        6 => "for_each: { in: '${[range(.input.n)]}', as: it, tolerated_failure_percentage: 40 }, command: say, with: { text: '${.it}', fail: '${(if .it % 3 == 2 then \"permanent\" else \"\" end)}' }, retry: { max_attempts: 1 }".to_owned(),
        7 => format!(
            "repeat: {{ until: '${{.s{at}.rounds > .input.n}}', max_iterations: 3 }}, command: say, args: '${{.s{at}.rounds}} ${{{seen}}}'"
        ),
        8 => format!(
            "workflow: {{ input: {{ n: '${{.input.n}}', seen: '${{{seen}}}' }}, spec: {{ steps: [{{ id: in, command: say, args: '${{input.seen}}' }}, {{ id: out, if: '${{.input.n % 2 == 0}}', set: {{ value: '${{.in.results | length}}' }} }}] }} }}"
        ),
        9 => "for_each: { in: '${[range(.input.n * 6)]}', as: it }, command: say, with: { text: '${.it}', fail: '${(if .it % 3 < 2 then \"permanent\" else \"\" end)}' }, retry: { max_attempts: 1 }, default: none".to_owned(),
        _ => "for_each: { in: '${[range(.input.n)]}', as: it }, set: { value: '${.it + 1}' }".to_owned(),
    }
}

/// Steps with what each needs of those before it, and what it is.
fn steps() -> impl Strategy<Value = Vec<(Vec<bool>, usize)>> {
    let step = |n: usize| (prop::collection::vec(any::<bool>(), n), 0..11_usize);
    (1_usize..8).prop_flat_map(move |count| (0..count).map(step).collect::<Vec<_>>())
}

fn drawn(steps: &[(Vec<bool>, usize)], durability: usize, fail_fast: bool, timeout: u64) -> String {
    let durability = ["sync", "async", "exit"][durability];
    let timeout = if timeout > 20 { format!("timeout: {}ms\n", timeout - 20) } else { String::new() };
    let mut spec = format!("{timeout}durability: {durability}\nfail_fast: {fail_fast}\nsteps:\n");
    for (at, (needs, kind)) in steps.iter().enumerate() {
        let needs: Vec<usize> = needs.iter().enumerate().filter(|(_, needed)| **needed).map(|(n, _)| n).collect();
        writeln!(spec, "  - {{ id: s{at}, {} }}", block(at, *kind, &needs)).unwrap();
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// The proof that histories are enough: of random workflows, runs and schedules, however far they came.
    #[test]
    fn a_run_that_is_decided_again_takes_the_same_decisions(
        steps in steps(), durability in 0..3_usize, fail_fast: bool, seed in 0..1_000_u64, cut in any::<usize>(),
        when in 0..40_u64, timeout in 0..40_u64
    ) {
        let spec = drawn(&steps, durability, fail_fast, timeout);
        let ask = (when > 20).then(|| (when - 20, if when % 2 == 0 { Ask::Cancel } else { Ask::Pause }));
        for mut past in runs(&spec, &["{\"n\": 1}", "{\"n\": 2}", "{\"n\": 3}"], ask, seed) {
            let verdict = again(&spec, &past);
            prop_assert_eq!(&verdict.difference, &None, "{}\n{:#?}", spec, past);
            prop_assert!(verdict.not_decided.is_empty(), "{:?} {}\n{:#?}", verdict, spec, past);
            let given = past.history.0.values().filter(|r| r.get().starts_with("{\"status\":\"CANCELED\"")).count();
            prop_assert!(verdict.steps <= compared(&past) && verdict.steps + given * 20 >= compared(&past), "{:?}", verdict);
            // Something is lost: what is left is still decided as it was, and what is lost is told.
            let Some(lost) = past.history.0.keys().nth(cut % past.history.0.len().max(1)).cloned() else { continue };
            past.history.0.remove(&lost);
            let left = again(&spec, &past);
            prop_assert!(left.difference.is_none() || durability == 2 || lost.contains(['[', '#', '/']), "{}: {:?} {}\n{:#?}", lost, left, spec, past);
        }
    }
}
