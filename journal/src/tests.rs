//! Tests of the journal: what one process has kept, another one finds.
#![expect(clippy::disallowed_methods, reason = "the tests damage files from outside")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::StringArray;
use bourn_engine::env::Env;
use bourn_engine::journal::{Ask, Ends, Entries, History, Journal as _, Rest, RunState, Started, Steps, Wait, Waiting};
use bourn_engine::time::Timestamp;
use bourn_engine::{Kind, Result};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::job::came_before;
use crate::{Begin, Filter, Fork, Job, Other, Sqlite};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("deep/journal.db")
}

fn open(folder: &TempDir) -> Sqlite {
    Sqlite::open(path(folder), &Env::system()).unwrap()
}

fn begin(source: Option<&str>) -> Begin {
    Begin {
        run_key: None,
        workflow: "w".into(),
        file: "w.yaml".into(),
        included: std::collections::BTreeMap::new(),
        text: "steps: []".into(),
        source: source.map(str::to_owned),
        mock: false,
        fresh: false,
        r#type: "chain".into(),
        labels: BTreeMap::new(),
    }
}

fn started(numbers: std::ops::Range<u64>) -> Started {
    Started {
        deadlines: Vec::new(),
        at: Timestamp(0),
        returned: Vec::new(),
        ids: numbers.clone().map(|n| Some(format!("r{n}"))).collect(),
        inputs: numbers.clone().map(|n| (n != 3).then(|| n.to_string())).collect(),
        numbers: numbers.collect(),
        wait: Wait::Durable,
    }
}

fn ended(step: &str, numbers: &[u64], record: &str) -> Entries {
    let records = numbers.iter().map(|_| Some(record)).collect::<StringArray>();
    Entries {
        steps: vec![Steps { step: step.into(), numbers: numbers.to_vec(), names: None, records }],
        ..Entries::default()
    }
}

fn end(numbers: &[u64], state: RunState) -> Entries {
    Entries { ends: Ends { numbers: numbers.to_vec(), states: vec![state; numbers.len()] }, ..Entries::default() }
}

fn start(job: &Job, numbers: std::ops::Range<u64>) -> Result<Vec<Option<History>>> {
    let known = block_on(job.start(started(numbers)))?;
    Ok(known.into_iter().map(|earlier| Some(earlier?.history)).collect())
}

fn append(job: &Job, entries: Entries) {
    block_on(job.append(entries, Wait::Durable)).unwrap();
}

fn records(history: Option<&History>) -> Vec<(String, String)> {
    let all = history.map(|h| &h.0).into_iter().flatten();
    all.map(|(step, record)| (step.clone(), record.get().to_owned())).collect()
}

const DONE: &str = "{\"status\":\"COMPLETED\",\"results\":1}";
const FAILED: &str = "{\"status\":\"FAILED\"}";

#[test]
fn a_job_that_was_cut_off_is_gone_on_with_and_knows_its_runs() {
    let folder = TempDir::new().unwrap();
    {
        let begun = open(&folder).begin(&begin(Some("in"))).unwrap();
        assert_eq!((begun.job.number(), begun.resumed), (1, None));
        assert!(start(&begun.job, 0..5).unwrap().iter().all(Option::is_none));
        append(&begun.job, ended("a", &[1, 2], DONE));
        append(&begun.job, ended("b", &[2], FAILED));
        append(&begun.job, end(&[2], RunState::Failed));
    }
    let journal = open(&folder);
    let begun = journal.begin(&begin(Some("in"))).unwrap();
    assert_eq!((begun.job.number(), begun.resumed), (1, Some((1, 4))));
    // In whatever groups they come, and with new ones among them.
    let known = start(&begun.job, 1..7).unwrap();
    assert_eq!(known.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, true, false, false]);
    assert_eq!(records(known[0].as_ref()), [("a".to_owned(), DONE.to_owned())]);
    assert_eq!(records(known[1].as_ref()), [("a".to_owned(), DONE.to_owned()), ("b".to_owned(), FAILED.to_owned())]);
    // One end of a run is the last one.
    append(&begun.job, end(&[2, 5], RunState::Completed));
    assert_eq!(journal.run("r2").unwrap().status, RunState::Failed);
    assert_eq!(journal.run("r5").unwrap().status, RunState::Completed);
    begun.job.end().unwrap();
    drop(begun);
    let anew = journal.begin(&begin(Some("in"))).unwrap();
    assert_eq!((anew.job.number(), anew.resumed), (2, None));
}

#[test]
fn what_is_begun_by_hand_or_anew_goes_on_with_nothing() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let number = |begin: &Begin| {
        let begun = journal.begin(begin).unwrap();
        assert_eq!(begun.resumed, None);
        (begun.job.number(), begun.other)
    };
    assert_eq!(number(&begin(None)), (1, None));
    assert_eq!(number(&begin(None)), (2, None));
    assert_eq!(number(&begin(Some("in"))), (3, None));
    // Another spec does not take over runs that were begun with this one, and says so.
    assert_eq!(number(&Begin { text: "steps: [x]".into(), ..begin(Some("in")) }), (4, Some(Other::Spec(3))));
    assert_eq!(number(&Begin { mock: true, ..begin(Some("in")) }), (5, None));
    assert_eq!(number(&Begin { text: "steps: [x]".into(), fresh: true, ..begin(Some("in")) }), (6, None));
}

#[test]
fn a_job_has_one_process() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder), open(&folder));
    let begun = one.begin(&begin(Some("in"))).unwrap();
    let error = other.begin(&begin(Some("in"))).err().unwrap();
    assert!(error.to_string().ends_with("another process runs job 1"), "{error}");
    start(&begun.job, 0..1).unwrap();
    assert!(!other.settle(&other.run("r0").unwrap(), RunState::Canceled).unwrap());
    drop(begun);
    assert!(other.settle(&other.run("r0").unwrap(), RunState::Canceled).unwrap());
    assert!(other.settle(&other.run("r0").unwrap(), RunState::Failed).unwrap());
    assert_eq!(other.run("r0").unwrap().status, RunState::Canceled);
    assert!(other.begin(&begin(Some("in"))).unwrap().resumed.is_some());
}

#[test]
fn what_is_asked_of_a_run_is_heard_by_whoever_runs_it_now_and_whoever_goes_on() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder), open(&folder));
    let begun = one.begin(&begin(Some("in"))).unwrap();
    start(&begun.job, 0..3).unwrap();
    let [first, second, third] = ["r0", "r1", "r2"].map(|id| other.run(id).unwrap());
    let heard = begun.job.asked();
    assert_eq!(heard.of(0), None);
    block_on(other.ask(&first, Ask::Cancel)).unwrap();
    // It is heard without being asked for.
    block_on(heard.canceled(0, "step"));
    block_on(other.ask(&second, Ask::Pause)).unwrap();
    block_on(other.ask(&third, Ask::Pause)).unwrap();
    block_on(other.ask(&third, Ask::Resume)).unwrap();
    append(&begun.job, end(&[0], RunState::Canceled));
    let late = block_on(other.ask(&first, Ask::Pause)).unwrap_err();
    assert!(late.to_string().ends_with("the run has ended"), "{late}");
    drop((begun, heard));
    let again = open(&folder).begin(&begin(Some("in"))).unwrap();
    let heard = again.job.asked();
    assert_eq!([0, 1, 2].map(|run| heard.of(run)), [Some(Ask::Cancel), Some(Ask::Pause), None]);
    drop(again);
    // Tried again, it is not what it was asked to be.
    other.reopen(&first, &[]).unwrap();
    assert_eq!(other.go_on(1).unwrap().asked().of(0), None);
    let kinds = |run| other.events(run).unwrap().into_iter().map(|e| e.kind).collect::<Vec<_>>();
    assert_eq!(
        (kinds(&first), kinds(&third)),
        (vec!["cancel".into(), "resume".into(), "retried".into()], vec!["pause".into(), "resume".into()])
    );
    assert!(other.history(&third).unwrap().0.is_empty());
    assert!(other.settle(&second, RunState::Paused).unwrap());
    assert_eq!(other.run("r1").unwrap().status, RunState::Paused);
    block_on(other.ask(&second, Ask::Resume)).unwrap();
    assert_eq!(other.run("r1").unwrap().status, RunState::Running);
}

#[test]
fn a_wait_that_begins_behind_its_signal_is_told_so() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let job = journal.begin(&begin(None)).unwrap().job;
    start(&job, 0..3).unwrap();
    journal.signal(&journal.run("r1").unwrap(), "go", &serde_json::json!(1), None).unwrap();
    let wait = |number, data: &str| Waiting { number, step: "held".into(), data: data.into() };
    let go = r#"{"due":null,"since":1,"signal":"go"}"#;
    let timed = r#"{"due":5,"since":1}"#;
    let told = |waits: &[Waiting]| {
        let rest = Rest::default();
        came_before(&journal.reader().unwrap(), (1, &rest), waits).unwrap();
        format!("{rest:?}")
    };
    let nothing = told(&[]);
    assert_eq!(told(&[wait(0, go), wait(1, timed), wait(1, &go.replace("go", "stop"))]), nothing);
    let one = told(&[wait(0, go), wait(1, go)]);
    assert!(one.contains("told: {1}"), "{one}");
}

#[test]
fn what_was_moved_together_is_found_and_what_is_gone_is_told_of() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = |at: &TempDir| Some(at.path().join("in.jsonl").display().to_string());
    let begin = |at: &TempDir| Begin { source: source(at), ..begin(None) };
    std::fs::write(folder.path().join("in.jsonl"), "").unwrap();
    drop(open(&folder).begin(&begin(&folder)).unwrap());
    // Of inputs that are still there another job is another one.
    assert_eq!(open(&folder).begin(&begin(&other)).unwrap().other, None);
    std::fs::rename(folder.path().join("deep"), other.path().join("deep")).unwrap();
    let moved = open(&other).begin(&begin(&other)).unwrap();
    assert_eq!((moved.job.number(), moved.resumed), (2, Some((0, 0))));
    drop(moved);
    // The journal alone was moved: its inputs are where they were.
    let stayed = open(&other).begin(&begin(&folder)).unwrap();
    assert_eq!((stayed.job.number(), stayed.resumed), (1, Some((0, 0))));
    drop(stayed);
    std::fs::remove_file(folder.path().join("in.jsonl")).unwrap();
    let third = Begin { source: Some("/nowhere.jsonl".into()), ..begin(&folder) };
    // The newest one is told.
    assert_eq!(open(&other).begin(&third).unwrap().other, Some(Other::Inputs(2, source(&other).unwrap())));
}

#[test]
fn inputs_that_have_changed_are_refused() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let begun = journal.begin(&begin(Some("in"))).unwrap();
    start(&begun.job, 0..3).unwrap();
    drop(begun);
    let job = journal.begin(&begin(Some("in"))).unwrap().job;
    let other = Started { inputs: StringArray::from(vec!["0", "7", "2"]), ..started(0..3) };
    let error = block_on(job.start(other)).unwrap_err();
    assert_eq!(error.kind(), Kind::Validation);
    assert!(error.to_string().contains("input 2 is not what it was when job 1 began: `--fresh`"), "{error}");
}

#[test]
fn an_id_is_taken_once_and_another_order_of_the_same_commit_is_kept() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let one = journal.begin(&begin(None)).unwrap().job;
    start(&one, 0..2).unwrap();
    let two = journal.begin(&begin(None)).unwrap().job;
    let (twice, fresh) = block_on(futures::future::join(
        two.start(started(1..2)),
        two.start(Started { ids: StringArray::from(vec!["new"]), ..started(7..8) }),
    ));
    assert!(twice.unwrap_err().to_string().contains("there is a run `r1` already"));
    fresh.unwrap();
    assert_eq!(journal.run("new").unwrap().job, 2);
}

#[test]
fn the_time_of_a_run_is_over_when_it_was_said_first_until_it_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let begun = journal.begin(&begin(None)).unwrap();
    let until = |job: &Job, deadline: i64| {
        let started = Started { deadlines: vec![Some(Timestamp(deadline)); 2], ..started(0..2) };
        let known = block_on(job.start(started)).unwrap();
        known.into_iter().map(|k| k.map(|k| (k.since.unwrap(), k.deadline))).collect::<Vec<_>>()
    };
    assert_eq!(until(&begun.job, 70), [None, None]);
    append(&begun.job, end(&[1], RunState::TimedOut));
    drop(begun);
    let job = journal.go_on(1).unwrap();
    let known = until(&job, 90);
    let run = journal.run("r1").unwrap();
    assert_eq!(known[1], Some((run.started, Some(Timestamp(70)))));
    assert_eq!((run.status, run.deadline), (RunState::TimedOut, Some(Timestamp(70))));
    drop(job);
    journal.reopen(&run, &[]).unwrap();
    let job = journal.go_on(1).unwrap();
    let again = until(&job, 90)[1].unwrap();
    assert!(again.0 > run.ended.unwrap() && again.1.is_none(), "{again:?}");
    assert_eq!(until(&job, 110)[1], Some((again.0, Some(Timestamp(90)))));
    let filter =
        Filter { query: Some("deadline < '1970-01-02' and run_id = 'r1'".into()), limit: 9, ..Filter::default() };
    assert_eq!(journal.runs(&filter).unwrap()[0].deadline, Some(Timestamp(90)));
    assert!(journal.health().unwrap().troubles.is_empty());
}

#[test]
fn a_run_tried_again_keeps_what_completed() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let begun = journal.begin(&begin(None)).unwrap();
    start(&begun.job, 0..1).unwrap();
    append(&begun.job, ended("a", &[0], DONE));
    append(&begun.job, ended("b", &[0], FAILED));
    append(&begun.job, end(&[0], RunState::Failed));
    drop(begun);
    let run = journal.run("r").unwrap();
    journal.reopen(&run, &[]).unwrap();
    assert!(journal.reopen(&run, &[]).unwrap_err().to_string().contains("has not ended"));
    assert_eq!(journal.run("r0").unwrap().status, RunState::Running);
    let job = journal.go_on(1).unwrap();
    assert_eq!(records(start(&job, 0..1).unwrap()[0].as_ref()), [("a".to_owned(), DONE.to_owned())]);
    assert_eq!(
        journal.events(&run).unwrap().iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(),
        ["step", "step", "retried"]
    );
}

#[test]
fn a_fork_takes_over_what_came_before_its_point_and_changes_nothing_of_the_first() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let begun = journal.begin(&begin(Some("in"))).unwrap();
    start(&begun.job, 0..3).unwrap();
    for step in ["a", "b", "c"] {
        append(&begun.job, ended(step, &[2], DONE));
    }
    append(&begun.job, end(&[2], RunState::Completed));
    let run = journal.run("r2").unwrap();
    let change = |taken: &mut [(String, serde_json::Value)]| {
        taken.iter_mut().filter(|(step, _)| step == "b").for_each(|(_, record)| record["results"] = 7.into());
        Ok(())
    };
    // What is refused begins nothing.
    let refuse = |_: &mut [(String, serde_json::Value)]| Err(bourn_engine::Error::validation("no"));
    let fork = |id, step| Fork { run: &run, step, id, begin: journal.begin_of(&run).unwrap() };
    assert!(journal.fork(fork("f", Some("b")), refuse).is_err());
    assert!(journal.run("f").is_err());
    let (forked, taken) = journal.fork(fork("f", Some("b")), change).unwrap();
    assert_eq!(taken, ["a", "b"]);
    assert_eq!((forked.forked_from.as_deref(), forked.job, forked.place()), (Some("r2"), 2, 0));
    let job = journal.go_on(2).unwrap();
    let known = block_on(job.start(Started {
        deadlines: Vec::new(),
        at: Timestamp(0),
        returned: Vec::new(),
        ids: StringArray::from(vec!["f"]),
        inputs: StringArray::from(vec!["2"]),
        numbers: vec![0],
        wait: Wait::Durable,
    }));
    let reused = |n: u32| format!("{{\"status\":\"REUSED\",\"results\":{n}}}");
    assert_eq!(
        records(known.unwrap()[0].as_ref().map(|earlier| &earlier.history)),
        [("a".to_owned(), reused(1)), ("b".to_owned(), reused(7))]
    );
    assert!(journal.fork(fork("g", Some("x")), change).unwrap_err().to_string().contains("step `x` has not ended"));
    assert_eq!(journal.history(&run).unwrap().0["b"].get(), DONE);
    let none = journal.fork(fork("h", None), change).unwrap();
    assert_eq!(none.1, Vec::<String>::new());
}

#[test]
fn runs_are_found_by_what_is_known_of_them() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let begun = journal.begin(&begin(None)).unwrap();
    start(&begun.job, 0..12).unwrap();
    append(&begun.job, end(&[4, 5], RunState::Failed));
    let list = |filter: Filter| journal.runs(&filter).unwrap().into_iter().map(|r| r.id).collect::<Vec<_>>();
    assert_eq!(list(Filter { limit: 2, ..Filter::default() }), ["r11", "r10"]);
    assert_eq!(list(Filter { status: Some(RunState::Failed), limit: 9, ..Filter::default() }), ["r5", "r4"]);
    assert_eq!(list(Filter { workflow: Some("x".into()), limit: 9, ..Filter::default() }), Vec::<String>::new());
    assert_eq!(journal.run("r4").unwrap().input.as_deref(), Some("4"));
    assert_eq!(journal.run("r3").unwrap().input, None);
    assert!(journal.run("r1").is_ok(), "a whole id is meant although another one begins so");
    assert!(journal.run("r").unwrap_err().to_string().contains("several runs begin with `r`"));
    assert!(journal.run("x").unwrap_err().to_string().contains("there is no run `x`"));
}

#[test]
fn runs_are_found_by_labels_and_by_a_condition_over_what_is_known_of_them() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let labels =
        |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned()), ("a.b".to_owned(), "1".to_owned())]);
    let one = journal.begin(&Begin { labels: labels("red"), ..begin(None) }).unwrap();
    start(&one.job, 0..3).unwrap();
    append(&one.job, end(&[1], RunState::Failed));
    let flow = Begin { labels: labels("blue"), r#type: "flow".into(), ..begin(Some("in")) };
    let two = journal.begin(&flow).unwrap();
    let ids = StringArray::from(vec!["x"]);
    block_on(two.job.start(Started { ids, ..started(5..6) })).unwrap();
    drop((one, two));
    let list = |filter: Filter| {
        let runs = journal.runs(&Filter { limit: 9, ..filter });
        runs.map(|runs| runs.into_iter().map(|r| r.id).collect::<Vec<_>>()).map_err(|e| e.to_string())
    };
    let asked = |query: &str| list(Filter { query: Some(query.into()), ..Filter::default() });
    let with =
        |team: &str| list(Filter { labels: BTreeMap::from([("team".into(), team.into())]), ..Filter::default() });
    assert_eq!(with("red").unwrap(), ["r2", "r1", "r0"]);
    assert_eq!((with("blue").unwrap(), with("none").unwrap()), (vec!["x".to_owned()], Vec::new()));
    assert_eq!(asked("workflow_type=\"chain\" and status=\"FAILED\"").unwrap(), ["r1"]);
    assert_eq!(asked("labels ->> 'team' = 'blue' or run_id = 'r0' -- a remark").unwrap(), ["x", "r0"]);
    assert_eq!(asked("labels ->> '$.\"a.b\"' = '1' and input ->> '$' = 2").unwrap(), ["r2"]);
    assert_eq!(asked("started_at > '2020-01-01' and started_at < '3000' and ended_at is not null").unwrap(), ["r1"]);
    assert_eq!(asked("duration_ms >= 0").unwrap(), ["r1"]);
    let unknown = asked("state = 'FAILED'").unwrap_err();
    assert!(
        unknown.contains("the query is no condition: no such column: state; it may name run_id, workflow,"),
        "{unknown}"
    );
    assert!(asked("status = ").unwrap_err().contains("syntax error"));
    // What looks can't change anything.
    assert!(asked("1); DELETE FROM runs; --").is_err());
    assert_eq!(asked("true").unwrap().len(), 4);
    // A job that goes on takes labels that are said anew, and keeps them otherwise.
    let again = |labels| drop(journal.begin(&Begin { labels, ..flow.clone() }).unwrap());
    again(BTreeMap::new());
    assert_eq!(journal.run("x").unwrap().labels, labels("blue"));
    again(labels("green"));
    assert_eq!((with("green").unwrap(), with("blue").unwrap()), (vec!["x".to_owned()], Vec::new()));
}

#[test]
fn what_waits_for_the_disk_together_is_one_commit() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let job = journal.begin(&begin(None)).unwrap().job;
    let before = journal.stats();
    // All of them are ordered before the first one is awaited.
    let orders: Vec<_> = (0..200).map(|n| job.start(started(n..n + 1))).collect();
    for known in block_on(futures::future::join_all(orders)) {
        assert!(known.unwrap()[0].is_none());
    }
    let after = journal.stats();
    assert_eq!(after.orders - before.orders, 200);
    assert!(after.commits - before.commits < 100, "{after:?}");
}

#[test]
fn what_nobody_waits_for_goes_to_the_disk_with_what_somebody_does_or_soon() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let job = journal.begin(&begin(None)).unwrap().job;
    let before = journal.stats().commits;
    let start = job.start(Started { wait: Wait::No, ..started(0..1) });
    let step = job.append(ended("a", &[0], DONE), Wait::Durable);
    block_on(async { start.await.and(step.await) }).unwrap();
    assert_eq!(journal.stats().commits - before, 1);
    // Nobody comes for this one.
    block_on(job.append(ended("b", &[0], DONE), Wait::No)).unwrap();
    while journal.stats().commits - before < 2 {
        std::thread::yield_now();
    }
    assert_eq!(open(&folder).history(&journal.run("r0").unwrap()).unwrap().0.len(), 2);
}

#[test]
fn what_nobody_waits_for_is_durable_before_what_comes_behind_it() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let job = journal.begin(&begin(None)).unwrap().job;
    block_on(job.start(Started { wait: Wait::No, ..started(0..1) })).unwrap();
    block_on(job.append(ended("a", &[0], DONE), Wait::No)).unwrap();
    append(&job, end(&[0], RunState::Completed));
    let other = open(&folder);
    assert_eq!(other.run("r0").unwrap().status, RunState::Completed);
    assert_eq!(other.history(&other.run("r0").unwrap()).unwrap().0.len(), 1);
    // Nobody waits for this one either, and it can't be written: all that comes behind it is told.
    block_on(job.start(Started { wait: Wait::No, ..started(0..1) })).unwrap();
    let told = block_on(job.append(ended("a", &[0], DONE), Wait::Durable)).unwrap_err();
    assert!(told.to_string().contains("there is a run `r0` already"), "{told}");
}

#[test]
fn a_journal_that_is_none_or_damaged_or_full_is_told_with_the_way_out() {
    let folder = TempDir::new().unwrap();
    let told = |path: PathBuf| Sqlite::open(path, &Env::system()).err().unwrap().to_string();
    std::fs::write(folder.path().join("text.db"), "this is no database, and long enough to be looked at".repeat(99))
        .unwrap();
    let none = told(folder.path().join("text.db"));
    assert!(none.contains("text.db: can't open it: file is not a database"), "{none}");
    assert!(none.ends_with("; move it away, or restore a copy"), "{none}");
    assert!(
        Sqlite::existing(folder.path().join("x.db"), &Env::system())
            .err()
            .unwrap()
            .to_string()
            .contains("no workflow has run here")
    );

    let journal = open(&folder);
    let job = journal.begin(&begin(None)).unwrap().job;
    for n in 0..300 {
        start(&job, n..n + 1).unwrap();
        append(&job, ended("a", &[n], DONE));
    }
    assert_eq!(journal.health().unwrap().troubles, []);
    drop((job, journal));
    let mut bytes = std::fs::read(path(&folder)).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    std::fs::write(path(&folder), bytes).unwrap();
    match open(&folder).health() {
        Ok(health) => {
            assert_eq!((health.troubles.len(), health.rows.len()), (1, 0));
            assert!(health.troubles[0].way.contains("`sqlite3 FILE .recover`"), "{health:?}");
        }
        Err(error) => assert!(error.to_string().contains("malformed"), "{error}"),
    }
}

#[test]
fn what_the_tables_say_against_each_other_is_told_with_the_way_out() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let begun = journal.begin(&begin(Some("in"))).unwrap();
    start(&begun.job, 0..6).unwrap();
    append(&begun.job, ended("a", &[0, 1], DONE));
    append(&begun.job, end(&[0], RunState::Completed));
    let well = journal.health().unwrap();
    assert_eq!((well.troubles.as_slice(), well.cut_off.as_slice()), ([].as_slice(), [].as_slice()));
    assert_eq!(well.runs, BTreeMap::from([("RUNNING".to_owned(), 5), ("COMPLETED".to_owned(), 1)]));
    assert_eq!((well.rows["events"], well.rows["runs"], well.rows["jobs"]), (2, 6, 1));
    drop(begun);
    // Nobody runs it now.
    assert_eq!(journal.health().unwrap().cut_off, [1]);
    let db = Connection::open(path(&folder)).unwrap();
    let each = [
        (
            "UPDATE runs SET ended = NULL WHERE id = 'r0'",
            "runs that have ended and say otherwise, or the other way round",
            "r0",
        ),
        ("UPDATE runs SET status = 'MISLAID' WHERE id = 'r1'", "runs with a status that there is not", "r1"),
        (
            "UPDATE runs SET input = '{' WHERE id = 'r2'",
            "runs with an input, or something that happened, that is no JSON",
            "r2",
        ),
        ("UPDATE specs SET text = 'steps: [other]'", "specs that were changed in the journal", "w.yaml"),
        (
            "INSERT INTO events (run, position, kind, step, data) VALUES (77, 1, 'step', 'a', '{}')",
            "events of no run",
            "77",
        ),
        ("INSERT INTO runs (run, id, status, started) VALUES (9 << 32, 'x', 'RUNNING', 1)", "runs of no job", "x"),
        ("PRAGMA foreign_keys = off; DELETE FROM specs", "jobs of no spec", "1"),
    ];
    let told = || journal.health().unwrap().troubles;
    let mut before = Vec::new();
    for (change, what, example) in each {
        db.execute_batch(change).unwrap();
        let found = told();
        let new: Vec<_> = found.iter().filter(|trouble| !before.contains(*trouble)).collect();
        assert_eq!((new.len(), new[0].what.as_str(), new[0].example.as_deref()), (1, what, Some(example)));
        assert!(new[0].count == 1 && !new[0].way.is_empty());
        before = found;
    }
}

#[test]
fn a_full_disk_fails_the_order_and_loses_nothing_before_it() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let job = journal.begin(&begin(None)).unwrap().job;
    start(&job, 0..1).unwrap();
    let cap = |pages: i64| {
        let work = move |c: &Connection, _: &mut crate::writer::Clock| {
            let set = c.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |row| row.get::<_, i64>(0));
            set.map(drop).map_err(|e| crate::fault::Fault::Sqlite("cap", e))
        };
        journal.0.writer.write_now(work).unwrap();
    };
    cap(1);
    let wide = format!("{{\"status\":\"COMPLETED\",\"results\":\"{}\"}}", "x".repeat(1 << 20));
    let error = block_on(job.append(ended("a", &[0], &wide), Wait::Durable)).unwrap_err();
    assert_eq!(error.kind(), Kind::Budget);
    assert!(error.to_string().contains("make room and start again"), "{error}");
    cap(1_000_000);
    append(&job, ended("a", &[0], &wide));
    assert_eq!(journal.history(&journal.run("r0").unwrap()).unwrap().0.len(), 1);
}

#[test]
fn a_spec_is_what_its_hash_says_with_the_files_that_it_includes() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let included = BTreeMap::from([("other.yaml".to_owned(), "steps: []".to_owned())]);
    drop(journal.begin(&Begin { included, ..begin(None) }).unwrap());
    assert_eq!(journal.health().unwrap().troubles, []);
    let db = Connection::open(path(&folder)).unwrap();
    db.execute("UPDATE specs SET included = json_set(included, '$.\"other.yaml\"', 'steps: [x]')", ()).unwrap();
    let troubles = journal.health().unwrap().troubles;
    assert_eq!((troubles.len(), troubles[0].what.as_str()), (1, "specs that were changed in the journal"));
}
