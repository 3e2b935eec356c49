//! Tests of `map`.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use bourn_engine::data::columns::{RUN_ID, is_json, json_field};
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::Harness;
use serde_json::{Value, json};

use super::*;

fn flights() -> RecordBatch {
    rows![{"origin": "JFK", "delay": 90, "n": "1"}, {"origin": "LAX", "delay": null, "n": "2"}]
}

fn map(config: Value) -> Map {
    serde_json::from_value(config).unwrap()
}

/// The first row that leaves, in the order of its columns.
fn first(config: Value) -> String {
    let mut stage = Harness::new(&map(config), &[flights().schema()]).unwrap();
    stage.process(&flights()).unwrap();
    assert_eq!(stage.said.count(0), 2);
    stage.said.rows(0)[0].to_string()
}

/// `path | message | help`, one for each problem.
fn problems(config: Value) -> Vec<String> {
    let show = |k: &Key| match k {
        Key::Name(name) => name.clone(),
        Key::Index(i) => i.to_string(),
    };
    let line = |p: &bourn_engine::diagnostic::Problem| {
        let path = p.path.iter().map(show).collect::<Vec<_>>().join(".");
        [path, p.message.clone(), p.help.clone().unwrap_or_default()].join(" | ")
    };
    map(config).schema(&[flights().schema()]).unwrap_err().0.iter().map(line).collect()
}

#[test]
fn it_keeps_the_promises_of_a_stage() {
    conformance::stage(map(json!({"hours": "delay / 60.0", "keep": ["origin"]})), flights()).check();
    let broken = rows![{"n": "1"}, {"n": "x"}, {"n": "3"}];
    conformance::stage(map(json!({"cast": {"n": "bigint"}})), broken.clone()).failing(broken).check();
}

#[test]
fn the_short_form_leaves_exactly_what_it_names_in_the_order_written() {
    assert_eq!(first(json!({"hours": "delay / 60.0", "from": "origin"})), r#"{"hours":1.5,"from":"JFK"}"#);
}

#[test]
fn kept_columns_stand_before_made_ones_and_give_way_to_those_of_their_name() {
    assert_eq!(
        first(json!({"late": "delay > 15", "origin": "lower(origin)", "keep": "*"})),
        r#"{"origin":"jfk","delay":90,"n":"1","late":true}"#
    );
    assert_eq!(first(json!({"keep": ["n", "origin"], "x": "1"})), r#"{"origin":"JFK","n":"1","x":1}"#);
}

#[test]
fn drop_rename_and_cast_keep_what_they_do_not_name() {
    assert_eq!(first(json!({"drop": ["n"]})), r#"{"origin":"JFK","delay":90}"#);
    assert_eq!(
        first(json!({"rename": {"origin": "airport"}, "cast": {"n": "bigint", "delay": "text"}, "m": "n || '!'"})),
        r#"{"airport":"JFK","delay":"90","n":1,"m":"1!"}"#
    );
    assert_eq!(first(json!({"keep": ["n"], "rename": {"delay": "d"}})), r#"{"d":90,"n":"1"}"#);
    // Two columns may swap their names.
    assert_eq!(first(json!({"rename": {"origin": "n", "n": "origin"}})), r#"{"n":"JFK","delay":90,"origin":"1"}"#);
}

#[test]
fn a_column_may_be_called_like_a_reserved_word() {
    assert_eq!(first(json!({"columns": {"keep": "delay", "drop": "1"}, "x": "2"})), r#"{"keep":90,"drop":1,"x":2}"#);
}

#[test]
fn a_bare_column_is_shared_and_keeps_its_metadata() {
    let schema = Arc::new(Schema::new(vec![json_field("doc"), Field::new("k", DataType::Utf8, true)]));
    let text = |t: &str| Arc::new(StringArray::from(vec![t])) as ArrayRef;
    let rows = RecordBatch::try_new(schema.clone(), vec![text("{}"), text("a")]).unwrap();
    let mut stage = Harness::new(&map(json!({"renamed": "doc", "keep": ["k"]})), &[schema]).unwrap();
    stage.process(&rows).unwrap();
    let out = &stage.said.ports[0][0];
    assert!(Arc::ptr_eq(out.column(0), rows.column(1)) && Arc::ptr_eq(out.column(1), rows.column(0)));
    assert!(is_json(out.schema().field(1)));
}

#[test]
fn what_the_engine_must_know_of_a_row_always_passes() {
    let rows = rows![{"a": 1, "_bourn_run_id": "r1"}];
    let mut stage = Harness::new(&map(json!({"b": "a"})), &[rows.schema()]).unwrap();
    stage.process(&rows).unwrap();
    assert_eq!(stage.said.rows(0), [json!({"_bourn_run_id": "r1", "b": 1})]);
    let schema = [rows.schema()];
    for config in [json!({"drop": [RUN_ID]}), json!({RUN_ID: "1"}), json!({"rename": {"a": RUN_ID}})] {
        let problem = map(config).schema(&schema).unwrap_err().0.remove(0);
        assert!(problem.message.contains("belongs to the engine"), "{problem:?}");
    }
}

#[test]
fn all_problems_are_told_at_once_each_with_its_place() {
    let config = json!({
        "keep": ["orign"], "drop": ["nope"], "rename": {"dely": "d", "origin": "n"}, "cast": {"delay": "bigit"},
        "columns": {"x": "delay +"}, "y": "origin + 1", "z": "1",
    });
    assert_eq!(
        problems(config),
        [
            "drop.0 | unknown column `nope` | ",
            "keep.0 | unknown column `orign` | did you mean `origin`?",
            "rename.dely | unknown column `dely` | did you mean `delay`?",
            "cast.delay | unsupported SQL type bigit | types are `bigint`, `double`, `boolean`, `text`, `date`, `timestamp`, `decimal(p, s)`, …",
            "columns.x | expected an expression, found the end | ",
            "y | cannot coerce arithmetic expression text + bigint to valid types | `origin` is text: `cast(origin as double)`, or a type in the `schema` of its source",
        ]
    );
    assert_eq!(
        problems(json!({"rename": {"origin": "n"}})),
        [" | two columns would be called `n` | `drop` the other one, or give `n` another name"]
    );
    assert_eq!(problems(json!({"columns": {"x": "1"}, "x": "2"})), ["x | the column `x` is made twice | "]);
    assert_eq!(
        problems(json!({})),
        [" | this leaves no columns | name columns, as in `map: { hours: delay / 60.0 }`, or `keep: \"*\"`"]
    );
    assert!(serde_json::from_value::<Map>(json!({"keep": "origin"})).is_err());
}

#[test]
fn a_row_that_can_not_be_cast_fails_the_batch_so_that_the_engine_finds_it() {
    let rows = rows![{"n": "1"}, {"n": "x"}];
    let mut stage = Harness::new(&map(json!({"cast": {"n": "bigint"}})), &[rows.schema()]).unwrap();
    let error = stage.process(&rows).unwrap_err();
    assert_eq!(error.message(), "`cast(\"n\" as bigint)`: cannot cast string 'x' to value of bigint type");
}
