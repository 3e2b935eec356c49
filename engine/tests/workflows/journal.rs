//! What the journal is told and asked: a step that is in it is not done again, and a run that goes on is the run that it was.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Journal, Memory, RunState};
use bourn_engine::spec::{Spec, load};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::Runs;
use bourn_engine::workflow::context::ExecutionContext;
use bourn_engine::workflow::result::Flags;
use bourn_engine::workflow::result::document_of;
use proptest::prelude::*;

use crate::kinds::{SEEN, Worked, lines_of, registry, run};

/// A diamond with a condition in one branch, and a step behind it.
const DIAMOND: &str = "
steps:
  - { id: a, command: say, args: 'a${input.n}' }
  - { id: b, command: say, args: 'b ${a.results}', if: '${input.wanted}' }
  - { id: c, command: say, with: { text: 'c ${a.results}', after: '${input.n}', fail: '${input.fail}' }, retry: { max_attempts: 2 } }
  - { id: d, command: say, args: 'd ${c.results}', needs: [b, c] }
  - { id: e, letters: '${c.results}' }
output_format: map
";

fn lines(count: usize) -> Vec<String> {
    let line = |n: usize| {
        let fail = if n.is_multiple_of(7) { "permanent" } else { "" };
        format!("{{\"n\": {n}, \"wanted\": {}, \"fail\": \"{fail}\"}}", !n.is_multiple_of(3))
    };
    (1..=count).map(line).collect()
}

fn work(durability: &str, lines: &[String], journal: &Memory, seed: u64) -> (Worked, usize) {
    let spec = format!("{DIAMOND}durability: {durability}\n");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&lines)));
    let worked = run(&spec, runs.with_journal(Arc::new(journal.clone()), 1), seed);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

#[test]
fn what_every_step_gave_is_in_the_journal_when_its_run_has_ended() {
    for durability in ["sync", "async", "exit"] {
        let journal = Memory::default();
        let (worked, _) = work(durability, &lines(20), &journal, 1);
        let kept = journal.runs();
        assert_eq!(kept.len(), 20, "{durability}");
        for (document, run) in worked.documents.iter().zip(kept.values()) {
            assert_eq!(document["run_id"], run.id);
            assert_eq!(document["status"], run.state.name());
            assert_eq!(run.history.0.len(), 5, "{durability}");
            // The document can be made of what is kept alone.
            let loaded = load(DIAMOND, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap();
            let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
            let again = document_of(chain, "work.yaml", (&run.id, run.state), &run.history, &Flags::default()).unwrap();
            assert_eq!(serde_json::to_value(again).unwrap(), *document);
        }
    }
}

#[test]
fn a_step_that_is_in_the_journal_is_not_done_again_and_the_rest_is() {
    let journal = Memory::default();
    let (calm, calls) = work("sync", &lines(30), &journal, 1);
    assert!(calls > 30 * 3);
    let (again, none) = work("sync", &lines(30), &journal, 2);
    assert_eq!(none, 0);
    assert_eq!(again.documents, calm.documents);
    // A crash has cut off what some runs did: of every third one all that came behind `a`, of every fifth one all.
    let mut lost = 0;
    for (number, run) in journal.runs().iter_mut() {
        if number % 5 == 0 {
            run.history = History::default();
            lost += 1;
        } else if number % 3 == 0 {
            run.history.0.retain(|step, _| step == "a");
            lost += 1;
        }
        run.state = RunState::Running;
    }
    let (gone_on, calls) = work("sync", &lines(30), &journal, 3);
    assert!(calls > 0 && calls <= lost * 5, "{calls} calls for {lost} runs");
    let results = |worked: &Worked| worked.documents.iter().map(|d| d["workflow_results"].clone()).collect::<Vec<_>>();
    assert_eq!(results(&gone_on), results(&calm));
    assert!(journal.runs().values().all(|run| run.state != RunState::Running));
}

#[test]
fn a_line_that_is_another_than_before_ends_the_job() {
    let journal = Memory::default();
    work("sync", &lines(3), &journal, 1);
    let changed = Started::of(&journal);
    let error = futures::executor::block_on(journal.start(changed)).unwrap_err();
    assert!(error.to_string().contains("is not what it was when it began"), "{error}");
}

/// The first run with another input.
struct Started;

impl Started {
    fn of(journal: &Memory) -> bourn_engine::journal::Started {
        let id = journal.runs()[&0].id.clone();
        bourn_engine::journal::Started {
            deadlines: Vec::new(),
            at: bourn_engine::time::Timestamp(0),
            ids: vec![Some(id)].into(),
            numbers: vec![0],
            inputs: vec![Some("{}".to_owned())].into(),
            returned: Vec::new(),
            wait: bourn_engine::journal::Wait::Durable,
        }
    }
}

/// Steps with what each needs of those before it.
fn steps() -> impl Strategy<Value = Vec<Vec<bool>>> {
    (1_usize..9).prop_flat_map(|count| (0..count).map(|n| prop::collection::vec(any::<bool>(), n)).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// At every event of a history the three lists have every step once, and what is active needs nothing that has not ended.
    #[test]
    fn completed_active_and_pending_steps_are_all_steps(needs in steps(), order in any::<usize>()) {
        let mut spec = String::from("steps:\n");
        for (step, needs) in needs.iter().enumerate() {
            let needs: Vec<_> = needs.iter().enumerate().filter(|(_, n)| **n).map(|(n, _)| format!("s{n}")).collect();
            writeln!(spec, "  - {{ id: s{step}, command: say, args: x, needs: [{}] }}", needs.join(", ")).unwrap();
        }
        let loaded = load(&spec, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap();
        let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
        let mut history = History::default();
        loop {
            let context = ExecutionContext::of(chain, RunState::Running, &history).unwrap();
            let lists = [&context.completed_steps, &context.active_steps, &context.pending_steps];
            let mut all: Vec<&String> = lists.into_iter().flatten().collect();
            all.sort();
            let mut wanted: Vec<&String> = chain.steps.iter().map(|s| &s.id).collect();
            wanted.sort();
            prop_assert_eq!(all, wanted);
            prop_assert_eq!(context.completed_steps.len(), history.0.len());
            for step in chain.steps.iter().filter(|s| context.active_steps.contains(&s.id)) {
                let ended = |need: &usize| context.completed_steps.contains(&chain.steps[*need].id);
                prop_assert!(step.needs.iter().all(ended));
            }
            let Some(next) = context.active_steps.get(order % context.active_steps.len().max(1)) else { break };
            let record = serde_json::value::RawValue::from_string("{\"status\":\"COMPLETED\",\"results\":1,\"attempts\":1}".into());
            history.0.insert(next.clone(), record.unwrap());
        }
        prop_assert_eq!(history.0.len(), chain.steps.len());
        let ended = ExecutionContext::of(chain, RunState::Canceled, &History::default()).unwrap();
        prop_assert_eq!((ended.active_steps.len(), ended.pending_steps.len()), (0, chain.steps.len()));
    }
}

#[test]
fn what_is_known_or_not_wanted_waits_for_no_rate() {
    let spec = "
steps:
  - { id: a, command: say, with: { text: x, limits: { rate: 1/s } }, if: '${.input.n <= 5}' }
";
    let lines = lines(50);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let journal = Memory::default();
    let pass = |seed| {
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&lines)));
        run(spec, runs.with_journal(Arc::new(journal.clone()), 1), seed)
    };
    let first = pass(1).took;
    assert!(first >= Duration::from_secs(4) && first < Duration::from_secs(6), "{first:?}");
    let again = pass(2).took;
    assert!(again < Duration::from_secs(1), "{again:?}");
}
