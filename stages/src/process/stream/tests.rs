//! Tests of programs that stay: scripted ones in virtual time, and real ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bourn_engine::graph::OnError;
use bourn_engine::testing::conformance;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::testing::simulation::children::Act;
use bourn_engine::{Error, Kind, rows};
use serde_json::json;

use super::*;
use crate::process::Mode;

fn process(config: Value) -> Process {
    let mut process: Process = serde_json::from_value(config).unwrap();
    process.mode = Mode::Stream;
    process.limits.retry.jitter = false;
    process
}

/// A child that does `acts` at its start, and `each` for the n-th line that it reads, from 1.
fn child(
    simulation: Simulation,
    acts: &[Act],
    each: impl Fn(usize, &str) -> Vec<Act> + Send + Sync + 'static,
) -> (Simulation, Arc<AtomicUsize>) {
    let (starts, each, acts) = (Arc::new(AtomicUsize::new(0)), Arc::new(each), acts.to_vec());
    let count = starts.clone();
    let simulation = simulation.child("it", move |_| {
        count.fetch_add(1, Relaxed);
        let (each, mut lines) = (each.clone(), 0);
        let script = move |line: &str| {
            lines += 1;
            each(lines, line)
        };
        (acts.clone(), Box::new(script))
    });
    (simulation, starts)
}

fn say(line: &str) -> Act {
    Act::Say(format!("{line}\n"))
}

/// The answers to `count` rows `{"n": 1}` and so on, and how the job ended.
fn answers(simulation: &Simulation, config: Value, count: usize) -> (Result<(), Error>, Vec<Value>) {
    let rows = bourn_engine::testing::harness::batch(&(1..=count).map(|n| json!({"n": n})).collect::<Vec<_>>());
    let (ended, rows) = simulation.run(crate::testing::run(simulation.env(), process(config), rows)).done();
    assert_eq!(simulation.children(), 0, "a program has outlived its job");
    (ended, rows.into_iter().map(|mut row| row["result"].take()).collect())
}

/// What ended the job, and the words for it without the row that the engine adds.
fn told(ended: Result<(), Error>) -> (Error, String) {
    let e = ended.unwrap_err();
    let message = e.message().split(" (in the row").next().unwrap().to_owned();
    (e, message)
}

fn failure(simulation: &Simulation, config: Value, count: usize) -> (Error, String) {
    told(answers(simulation, config, count).0)
}

fn numbers(count: usize) -> Vec<Value> {
    (1..=count).map(|n| json!({"n": n})).collect()
}

#[test]
fn it_keeps_the_promises_of_a_call() {
    let (simulation, _) = child(Simulation::new(1), &[], |_, line| vec![say(line)]);
    let config = process(json!({"command": ["it"], "limits": {"rows": 2}}));
    let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}];
    simulation.run(conformance::call(config, rows).passing("id").check(&simulation.env())).done();
}

#[test]
fn rows_share_one_program_and_the_time_behind_other_rows_does_not_count() {
    let each = |_, line: &str| vec![Act::Wait(Duration::from_secs(1)), say(line)];
    let (simulation, starts) = child(Simulation::new(1), &[], each);
    let (ended, rows) = answers(&simulation, json!({"command": ["it"], "limits": {"timeout": "2s"}}), 30);
    ended.unwrap();
    assert_eq!((rows, starts.load(Relaxed), simulation.elapsed().as_secs()), (numbers(30), 1, 30));
}

#[test]
fn a_program_that_dies_is_started_again_and_no_row_is_lost() {
    for seed in 0..20 {
        let each = |n, line: &str| if n == 4 { vec![Act::End(7)] } else { vec![say(line)] };
        let (simulation, starts) = child(Simulation::new(seed), &[], each);
        let (ended, rows) = answers(&simulation, json!({"command": ["it"], "limits": {"in_flight": 3}}), 10);
        ended.unwrap();
        assert_eq!(rows, numbers(10));
        assert!(starts.load(Relaxed) > 2, "seed {seed}");
    }
}

#[test]
fn a_row_that_ends_every_program_is_refused_with_status_and_complaint() {
    let each = |_, line: &str| {
        let fatal = || vec![Act::Complain("Traceback\nboom\n".into()), Act::End(7)];
        if line.contains('3') { fatal() } else { vec![say(line)] }
    };
    let (simulation, starts) = child(Simulation::new(1), &[], each);
    let (_, message) = failure(&simulation, json!({"command": ["it"]}), 5);
    let told = "after 3 attempts: `it` ended with status 7 before it answered: Traceback / boom";
    assert_eq!((message.as_str(), starts.load(Relaxed)), (told, 3));
}

#[test]
fn a_row_that_ends_every_program_takes_no_other_with_it() {
    for seed in 0..20 {
        // It ends late enough for other rows to be with it.
        let fatal = || vec![Act::Wait(Duration::from_secs(1)), Act::End(7)];
        let each = move |_, line: &str| if line.contains('3') { fatal() } else { vec![say(line)] };
        let (simulation, starts) = child(Simulation::new(seed), &[], each);
        let config = process(json!({"command": ["it"], "limits": {"in_flight": 4}}));
        let rows = rows![{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, {"n": 5}, {"n": 6}];
        let run = crate::testing::run_with(OnError::Drop, simulation.env(), config, rows);
        let (ended, rows) = simulation.run(run).done();
        ended.unwrap();
        // A second attempt has a program to itself, or the row at fault would end those of its neighbours too.
        let found: Vec<_> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
        assert_eq!((found, starts.load(Relaxed) > 2), (vec![1, 2, 4, 5, 6], true), "seed {seed}");
    }
}

#[test]
fn a_row_without_an_answer_is_given_up_after_its_time() {
    let each = |_, line: &str| if line.contains('2') { vec![] } else { vec![say(line)] };
    let (simulation, starts) = child(Simulation::new(1), &[], each);
    let limits = json!({"timeout": "5s", "in_flight": 1, "retry": {"max_attempts": 2, "initial_interval": "1s"}});
    let (e, message) = failure(&simulation, json!({"command": ["it"], "limits": limits}), 3);
    let told = "after 2 attempts: `it` gave no answer within 5s and was ended";
    assert_eq!((e.kind(), message.as_str(), starts.load(Relaxed)), (Kind::Timeout, told, 2));
    assert_eq!(simulation.elapsed().as_secs(), 11);
}

#[test]
fn a_start_may_take_longer_than_a_row() {
    let slow = [Act::Wait(Duration::from_mins(1))];
    let limits = json!({"timeout": "5s", "retry": {"max_attempts": 1}});
    let (simulation, _) = child(Simulation::new(1), &slow, |_, line| vec![say(line)]);
    let (e, _) = failure(&simulation, json!({"command": ["it"], "limits": limits}), 2);
    assert_eq!(e.kind(), Kind::Timeout);
    let (simulation, starts) = child(Simulation::new(1), &slow, |_, line| vec![say(line)]);
    let (ended, rows) = answers(&simulation, json!({"command": ["it"], "limits": limits, "start_timeout": "2m"}), 2);
    ended.unwrap();
    assert_eq!((rows, starts.load(Relaxed)), (numbers(2), 1));
}

#[test]
fn a_line_that_is_no_json_is_refused_and_ends_the_program() {
    let (simulation, _) = child(Simulation::new(1), &[say("ready")], |_, line| vec![say(line)]);
    let (e, message) = failure(&simulation, json!({"command": ["it"]}), 3);
    assert!(message.starts_with("`it` wrote no JSON document: "), "{e}");
    assert_eq!(e.kind(), Kind::Validation);
}

#[test]
fn more_lines_than_rows_are_never_taken_for_answers() {
    let (simulation, _) = child(Simulation::new(1), &[], |_, line| vec![say(line), say(line)]);
    let (e, message) = failure(&simulation, json!({"command": ["it"], "limits": {"in_flight": 1}}), 3);
    assert!(message.starts_with("`it` wrote more lines than it was sent rows"), "{e}");
}

#[test]
fn a_line_that_is_too_long_ends_the_program() {
    let (simulation, _) = child(Simulation::new(1), &[], |_, _| vec![Act::Say("x".repeat(200))]);
    let (e, message) = failure(&simulation, json!({"command": ["it"], "output_max": 100}), 1);
    assert_eq!((e.kind(), message.as_str()), (Kind::Budget, "`it` wrote a line of more than 100 bytes and was ended"));
}

#[test]
fn a_program_that_closes_its_output_is_ended_and_told() {
    let (simulation, _) = child(Simulation::new(1), &[], |_, _| vec![Act::Close]);
    let (e, message) = failure(&simulation, json!({"command": ["it"], "limits": {"retry": {"max_attempts": 1}}}), 1);
    assert_eq!((e.kind(), message.as_str()), (Kind::Other, "`it` closed its output and was ended before it answered"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let (e, message) = failure(&Simulation::new(1), json!({"command": ["it"]}), 2);
    assert_eq!((e.kind(), message.as_str()), (Kind::NotFound, "starting `it`: no such program"));
}

#[test]
fn what_is_filled_for_each_row_can_not_start_a_program() {
    let schema = [rows![{"word": "x"}].schema()];
    let config = process(json!({"command": ["it", "${word}"], "env": {"A": "${word}", "B": "$${x}"}}));
    let problems = bourn_engine::api::StageConfig::schema(&config, &schema).unwrap_err().0;
    let told: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(told, ["`${word}` has no row here: the program is started once for all"; 2]);
    let mut config = process(json!({"command": ["it"], "start_timeout": "1s"}));
    config.mode = Mode::PerRow;
    let problems = bourn_engine::api::StageConfig::schema(&config, &schema).unwrap_err().0;
    assert_eq!(problems[0].message, "`start_timeout` is for `mode: stream`");
}

/// The answers of a real program.
fn real(config: Value, count: usize) -> (Result<(), Error>, Vec<Value>) {
    let rows = bourn_engine::testing::harness::batch(&(1..=count).map(|n| json!({"n": n})).collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let env = bourn_engine::env::Env::system();
    let (ended, rows) = runtime.block_on(crate::testing::run(env, process(config), rows));
    (ended, rows.into_iter().map(|mut row| row["result"].take()).collect())
}

fn sh(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

#[test]
fn a_real_program_answers_every_row_in_order() {
    let (ended, rows) = real(json!({"command": ["cat"], "limits": {"rows": 7}}), 5_000);
    ended.unwrap();
    assert_eq!(rows, numbers(5_000));
    let config = json!({"command": ["cat"], "input": "<${n}>", "parse": "text"});
    assert_eq!(real(config, 2).1, ["<1>", "<2>"]);
}

#[test]
fn a_text_of_two_lines_is_refused_before_it_is_sent() {
    let (e, message) = told(real(json!({"command": ["cat"], "input": "${n}\n", "parse": "text"}), 1).0);
    assert!(message.starts_with("the input of this row has a line break"), "{e}");
}

#[test]
fn a_real_program_that_dies_at_its_third_row_loses_none() {
    let script = "for i in 1 2; do read -r line && echo \"$line\"; done; read -r line; echo enough >&2; exit 3";
    let mut config = sh(script);
    config["limits"] = json!({"in_flight": 4, "retry": {"max_attempts": 9, "initial_interval": "1ms"}});
    let (ended, rows) = real(config, 9);
    ended.unwrap();
    assert_eq!(rows, numbers(9));
}

#[test]
fn complaints_without_end_block_no_answer() {
    let (ended, rows) = real(sh("yes 'a complaint' >&2 & cat"), 500);
    ended.unwrap();
    assert_eq!(rows, numbers(500));
}

#[test]
fn a_program_that_writes_without_end_is_ended() {
    let mut config = sh("exec yes");
    config["parse"] = json!("text");
    let (e, message) = told(real(config, 1).0);
    assert!(message.starts_with("`sh` wrote more lines than it was sent rows"), "{e}");
    let mut config = sh("head -c 3000000 /dev/zero; cat");
    config["output_max"] = json!("64KiB");
    let (e, message) = told(real(config, 1).0);
    assert_eq!(
        (e.kind(), message.as_str()),
        (Kind::Budget, "`sh` wrote a line of more than 65536 bytes and was ended")
    );
}

#[test]
fn a_row_larger_than_the_pipes_does_not_block() {
    let text = "x".repeat(3 << 20);
    let (ended, rows) = real(json!({"command": ["cat"], "input": {"n": "${n}", "text": text}}), 3);
    ended.unwrap();
    assert!(rows.iter().all(|row| row["text"].as_str().is_some_and(|t| t.len() == 3 << 20)));
}

#[test]
fn what_a_program_has_started_ends_with_the_job() {
    let (ended, rows) = real(sh("sleep 1000 & while read -r line; do echo $!; done"), 1);
    ended.unwrap();
    let stat = format!("/proc/{}/stat", rows[0]);
    let files = bourn_engine::env::Env::system();
    // It may be dead and not yet buried.
    let is_gone = || {
        let mut bytes = [0; 64];
        let read = files.files().open(stat.as_ref()).and_then(|f| Ok(f.read_at(0, &mut bytes)?));
        read.is_err() || bytes.split(|b| *b == b')').nth(1).is_some_and(|rest| rest.starts_with(b" Z"))
    };
    let until = files.monotonic() + Duration::from_secs(20);
    while !is_gone() {
        assert!(files.monotonic() < until, "process {} goes on", rows[0]);
        std::thread::yield_now();
    }
}
