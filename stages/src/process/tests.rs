//! Tests of `process`, with real programs.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Call, CallContext};
use bourn_engine::env::Env;
use bourn_engine::error::Retry;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::rows_of;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::{Error, Kind, rows};
use serde_json::json;

use super::*;

fn process(config: Value) -> Process {
    serde_json::from_value(config).unwrap()
}

/// What a program gives for the row `{"word": "hello", "n": 7}`, in the real world.
fn run(config: Value) -> Result<Value, Error> {
    run_alive(config).map(|(value, _)| value)
}

/// The same, and whether it gave a sign of life.
fn run_alive(config: Value) -> Result<(Value, bool), Error> {
    let rows: RecordBatch = rows![{"word": "hello", "n": 7, "none": null}];
    let env = Env::system();
    let inputs = vec![rows.schema()];
    let build = BuildContext::of(env.clone(), "p", inputs);
    let config = process(config);
    config.schema(&build.inputs).map_err(|p| Error::validation(p.0[0].message.clone()))?;
    let Operator::Call(call, _) = config.build(&build)? else { panic!("a call") };
    let context = CallContext {
        idempotency_key: Arc::from("k"),
        deadline: env.monotonic() + Duration::from_mins(1),
        ..CallContext::of(env.clone(), "p")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = runtime.block_on(call.call(rows, &context))?;
    Ok((rows_of(&reply.rows).remove(0)["result"].take(), context.bill.total().alive.is_some()))
}

#[test]
fn what_a_program_writes_is_a_sign_of_life() {
    assert_eq!(run_alive(sh("echo out")).unwrap(), (json!("out"), true));
    assert_eq!(run_alive(sh("echo err >&2")).unwrap(), (json!(""), true));
    assert_eq!(run_alive(sh("exit 0")).unwrap(), (json!(""), false));
    assert_eq!(process(sh("exit 0")).silent(), None);
    assert!(process(json!({"command": ["cat"], "mode": "stream"})).silent().is_some());
}

fn sh(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

#[test]
fn it_keeps_the_promises_of_a_call() {
    let simulation = Simulation::new(1).program("echo", |program| {
        let output = format!("{}\n", program.argv[1..].join(" ")).into_bytes();
        let finished = bourn_engine::env::Finished { status: Some(0), signal: None, output, errors: Vec::new() };
        (Duration::from_millis(5), Ok(finished))
    });
    let config = process(json!({"command": ["echo", "${id}"], "limits": {"rows": 2}}));
    let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}];
    simulation.run(conformance::call(config, rows).passing("id").check(&simulation.env())).done();
}

#[test]
fn what_a_program_writes_is_the_answer() {
    assert_eq!(run(json!({"command": ["printf", "%s-%s\n", "${word}", "${n}"]})).unwrap(), "hello-7");
    let config = json!({"command": ["cat"], "input": {"n": "${n}", "w": "${word}!"}, "parse": "json"});
    assert_eq!(run(config).unwrap(), json!({"n": 7, "w": "hello!"}));
    let config = json!({"command": ["sh", "-c", "echo $GREETING"], "env": {"GREETING": "${word} you"}});
    assert_eq!(run(config).unwrap(), "hello you");
}

#[test]
fn a_program_sees_the_variables_of_the_engine_unless_they_are_kept_from_it() {
    let seen = |clear: bool| {
        let config = json!({"command": ["/usr/bin/env"], "env": {"WORD": "${word}"}, "clear_env": clear});
        run(config).unwrap().as_str().unwrap().lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(seen(true), ["WORD=hello"]);
    assert!(seen(false).iter().any(|line| line.starts_with("PATH=")));
}

#[test]
fn a_value_is_one_argument_whatever_it_says() {
    let config = json!({"command": ["printf", "[%s]", "${word}; rm -rf $HOME `x` \"$(y)\" *"]});
    assert_eq!(run(config).unwrap(), "[hello; rm -rf $HOME `x` \"$(y)\" *]");
}

#[test]
fn a_null_is_no_argument() {
    let told = run(json!({"command": ["echo", "${none}"]})).unwrap_err();
    assert_eq!(told.message(), "`${none}` is null, which is no argument and no variable");
    assert!(run(json!({"command": ["env"], "env": {"A": "x${none}"}})).is_err());
}

#[test]
fn a_status_that_is_not_0_is_an_error_with_the_last_line_of_the_reason() {
    let e = run(sh("echo out; echo first >&2; echo 'no such thing' >&2; echo >&2; exit 3")).unwrap_err();
    assert_eq!((e.kind(), e.retry()), (Kind::Validation, Retry::Never));
    assert_eq!(e.message(), "`sh` ended with status 3: no such thing");
    assert_eq!(run(sh("exit 1")).unwrap_err().message(), "`sh` ended with status 1");
}

#[test]
fn a_child_that_dies_is_an_error_that_names_the_signal() {
    let e = run(sh("kill -9 $$")).unwrap_err();
    assert_eq!((e.message(), e.retry()), ("`sh` was ended by signal 9 (SIGKILL)", Retry::Soon));
    assert_eq!(e.class(), "lost_worker");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let e = run(json!({"command": ["bourn-no-such-program"]})).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.message().starts_with("starting `bourn-no-such-program`: "), "{e}");
}

#[test]
fn a_program_that_writes_too_much_is_ended() {
    let mut config = sh("yes");
    config["output_max"] = json!("64KiB");
    let e = run(config).unwrap_err();
    assert_eq!(
        (e.kind(), e.message()),
        (Kind::Budget, "the program wrote more than 65536 bytes, its `output_max`, and was ended")
    );
}

#[test]
fn output_that_is_not_what_was_declared_is_refused() {
    let mut config = sh("echo '{\"a\": '");
    config["parse"] = json!("json");
    assert!(run(config).unwrap_err().message().starts_with("`sh` wrote no JSON document: EOF"));
    let e = run(sh("printf '\\377'")).unwrap_err();
    assert_eq!(
        (e.kind(), e.message()),
        (Kind::Validation, "`sh` wrote no UTF-8: invalid utf-8 sequence of 1 bytes from index 0")
    );
}

#[test]
fn problems_stand_at_their_place() {
    let schema = [rows![{"word": "x"}].schema()];
    let config = process(json!({"command": ["echo", "${wrd}"], "input": {"a": "${"}, "env": {"A=B": "x"}}));
    let problems = config.schema(&schema).unwrap_err().0;
    let paths: Vec<_> = problems.iter().map(|p| p.path.clone()).collect();
    assert_eq!(paths, [vec!["command".into(), 1.into()], vec!["env".into()], vec!["input".into(), "a".into()]]);
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `word`?"));
    assert_eq!(process(json!({"command": []})).schema(&schema).unwrap_err().0[0].message, "there is no program to run");
}
