//! Tests of `log`.

use std::io;
use std::sync::{Arc, Mutex};

use arrow::array::StringArray;
use arrow::datatypes::Schema;
use bourn_engine::data::columns::json_field;
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::Harness;
use serde_json::json;

use super::*;
use crate::column::told;

fn log(config: serde_json::Value) -> Log {
    serde_json::from_value(config).unwrap()
}

fn users() -> RecordBatch {
    rows![{"id": 1, "name": "a"}, {"id": 2, "name": "b\n\u{1b}[2J"}, {"id": 3, "name": null}, {"id": 4, "name": "d"}]
}

/// What was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that a stage writes while the log shows `filter`.
fn lines(config: serde_json::Value, filter: &str, batches: &[RecordBatch]) -> Vec<String> {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut stage = Harness::new(&log(config), &[batches[0].schema()]).unwrap();
        for batch in batches {
            stage.process(batch).unwrap();
        }
        assert_eq!(stage.said.ports[0], batches);
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn it_keeps_the_promises_of_a_stage() {
    conformance::stage(log(json!({"every": 3})), users()).check();
    conformance::stage(log(json!({"message": "${name}", "level": "error"})), users()).check();
}

#[test]
fn rows_are_written_as_json_and_pass() {
    assert_eq!(
        lines(json!({}), "bourn_log=info", &[users().slice(2, 2)]),
        [
            r#"INFO bourn_log: {"id":3,"name":null} stage="stage""#,
            r#"INFO bourn_log: {"id":4,"name":"d"} stage="stage""#
        ]
    );
}

#[test]
fn every_nth_row_is_written_across_batches() {
    let batches = [users(), users(), users()];
    let written = lines(json!({"every": 3, "message": "${id}", "level": "warn"}), "warn", &batches);
    let ids: Vec<_> = written.iter().filter_map(|l| l.split_whitespace().nth(2)).collect();
    assert_eq!(ids, ["1", "4", "3", "2"]);
}

#[test]
fn no_value_can_forge_a_line_or_flood_it() {
    let written = lines(json!({"message": "name is ${name}"}), "info", &[users().slice(1, 1)]);
    assert_eq!(written, [r#"INFO bourn_log: name is b\n\u{1b}[2J stage="stage""#]);
    let long = lines(json!({}), "info", &[rows![{"t": "x".repeat(1 << 20)}]]);
    assert!(long[0].contains("x…") && long[0].chars().count() < CHARACTERS_MAX + 100);
}

#[test]
fn a_level_that_nobody_reads_writes_nothing() {
    assert!(lines(json!({"level": "debug"}), "info", &[users()]).is_empty());
}

#[test]
fn a_place_without_a_value_is_said_and_fails_nothing() {
    let schema = Arc::new(Schema::new(vec![json_field("doc")]));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec!["{}"]))]).unwrap();
    let written = lines(json!({"message": "${doc.a}"}), "info", &[rows]);
    assert!(written[0].contains("`${doc.a}` has no value"), "{written:?}");
}

#[test]
fn what_can_not_be_written_is_a_problem_with_its_place() {
    let config = log(json!({"message": "${nam}", "every": 0}));
    assert_eq!(
        told(config.schema(&[users().schema()])),
        ["message | unknown name `nam` | did you mean `name`?", "every | every row is `every: 1`; 0 has no meaning | "]
    );
}
