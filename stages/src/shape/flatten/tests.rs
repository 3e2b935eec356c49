//! Tests of `flatten`.

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use bourn_engine::data::columns::{is_json, json_field};
use bourn_engine::data::records::{BYTES_MAX, ROWS_MAX, bytes_needed};
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::{Harness, batch};
use serde_json::{Value, json};

use super::*;
use crate::column::told;

fn flatten(config: Value) -> Flatten {
    serde_json::from_value(config).unwrap()
}

fn flattened(config: Value, rows: &RecordBatch) -> Harness {
    let mut stage = Harness::new(&flatten(config), &[rows.schema()]).unwrap();
    stage.process(rows).unwrap();
    stage
}

/// The rows that leave, each as a text that shows the order of its columns.
fn texts(config: Value, rows: &RecordBatch) -> Vec<String> {
    flattened(config, rows).said.rows(0).iter().map(Value::to_string).collect()
}

fn orders() -> RecordBatch {
    rows![
        {"id": 1, "items": [{"sku": "a", "n": 2}, {"sku": "b", "n": 1}], "who": {"name": "x", "home": {"city": "r"}}},
        {"id": 2, "items": [], "who": null},
        {"id": 3, "items": null, "who": {"name": "y", "home": null}},
        {"id": 4, "items": [{"sku": "c", "n": null}], "who": {"name": null, "home": {"city": "s"}}},
    ]
}

fn documents(texts: &[Option<&str>]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![json_field("doc")]));
    RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(texts.to_vec()))]).unwrap()
}

#[test]
fn it_keeps_the_promises_of_a_stage() {
    conformance::stage(flatten(json!({"list": "items"})), orders()).check();
    let both = json!({"list": "items", "empty": "keep", "index": "n", "structs": "*", "separator": "."});
    conformance::stage(flatten(both), orders()).check();
    conformance::stage(flatten(json!({"structs": ["who"]})), orders()).check();
    let documents = documents(&[Some("[1, [2]]"), Some("{}"), None, Some("[]"), Some("x")]);
    conformance::stage(flatten(json!({"list": "doc"})), documents).check();
}

#[test]
fn each_element_is_a_row_and_the_other_columns_are_repeated() {
    let rows = rows![{"a": 1, "l": [7, 8], "z": "x"}, {"a": 2, "l": [], "z": "y"}, {"a": 3, "l": [null], "z": "w"}];
    let stage = flattened(json!({"list": "l"}), &rows);
    let left: Vec<_> = stage.said.rows(0).iter().map(Value::to_string).collect();
    assert_eq!(left, [r#"{"a":1,"l":7,"z":"x"}"#, r#"{"a":1,"l":8,"z":"x"}"#, r#"{"a":3,"l":null,"z":"w"}"#]);
    assert_eq!(stage.said.filtered, 1);
}

#[test]
fn a_row_without_elements_is_kept_where_that_is_asked_for() {
    let rows = rows![{"a": 1, "l": [7, 8]}, {"a": 2, "l": []}, {"a": 3, "l": null}];
    assert_eq!(
        texts(json!({"list": "l", "empty": "keep", "index": "i"}), &rows),
        [
            r#"{"a":1,"l":7,"i":1}"#,
            r#"{"a":1,"l":8,"i":2}"#,
            r#"{"a":2,"l":null,"i":null}"#,
            r#"{"a":3,"l":null,"i":null}"#
        ]
    );
}

#[test]
fn structs_become_columns_down_to_the_last_level() {
    let config = json!({"structs": "*"});
    let rows = rows![{"who": {"name": "x", "home": {"city": "r", "zip": 1}}, "n": 1}, {"who": null, "n": 2}];
    assert_eq!(
        texts(config, &rows),
        [
            r#"{"who_name":"x","who_home_city":"r","who_home_zip":1,"n":1}"#,
            r#"{"who_name":null,"who_home_city":null,"who_home_zip":null,"n":2}"#
        ]
    );
}

#[test]
fn a_list_of_structs_becomes_a_table() {
    assert_eq!(
        texts(json!({"list": "items", "structs": ["items"], "separator": "."}), &orders().project(&[0, 1]).unwrap()),
        [
            r#"{"id":1,"items.sku":"a","items.n":2}"#,
            r#"{"id":1,"items.sku":"b","items.n":1}"#,
            r#"{"id":4,"items.sku":"c","items.n":null}"#
        ]
    );
}

#[test]
fn a_slice_has_the_elements_of_its_own_rows() {
    let rows = orders().project(&[0, 1]).unwrap().slice(3, 1);
    let config = json!({"list": "items"});
    assert_eq!(texts(config, &rows), [r#"{"id":4,"items":{"sku":"c","n":null}}"#]);
}

#[test]
fn a_document_that_is_a_list_is_taken_apart_and_another_rejected_alone() {
    let rows = documents(&[Some(r#"[{"a": 1}, "x"]"#), Some("{}"), None, Some("null"), Some("[")]);
    let stage = flattened(json!({"list": "doc", "empty": "keep"}), &rows);
    let left = &stage.said.ports[0][0];
    assert!(is_json(left.schema().field(0)));
    let texts: Vec<_> = left.column(0).as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some(r#"{"a":1}"#), Some("\"x\""), None, None]);
    let reasons: Vec<_> = stage.said.rejected.iter().map(|r| r.error.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "field `doc`: the document is no list",
            "field `doc`: not a JSON document: EOF while parsing a list at line 1 column 1"
        ]
    );
}

#[test]
fn long_lists_leave_in_pieces() {
    let long: Vec<i64> = (0..20_000).collect();
    let rows = batch(&[json!({"a": 1, "l": [1]}), json!({"a": 2, "l": long}), json!({"a": 3, "l": [3]})]);
    let stage = flattened(json!({"list": "l", "index": "i"}), &rows);
    let sizes: Vec<_> = stage.said.ports[0].iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [ROWS_MAX, ROWS_MAX, 20_002 - 2 * ROWS_MAX]);
    let index = |n: usize| stage.said.ports[0][n].column(2).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!((index(0)[..3].to_vec(), index(1)[0], index(2).last()), (vec![1, 1, 2], 8_192, Some(&1)));
}

#[test]
fn a_wide_row_that_is_repeated_often_does_not_fill_the_memory() {
    let wide = "x".repeat(1 << 20);
    let rows = batch(&[json!({"text": wide, "l": vec![1; 100]}), json!({"text": "", "l": vec![2; 50]})]);
    let stage = flattened(json!({"list": "l"}), &rows);
    assert_eq!(stage.said.count(0), 150);
    let largest = stage.said.ports[0].iter().map(bytes_needed).max().unwrap();
    assert!(largest < BYTES_MAX + 2 * wide.len(), "{largest}");
}

#[test]
fn a_column_that_does_not_fit_is_a_problem_with_its_place() {
    let schema = [rows![{"id": 1, "l": [1], "a": {"b": 1}, "a_b": 1}].schema()];
    let said = |config: Value| told(flatten(config).schema(&schema));
    assert_eq!(
        said(json!({})),
        [" | this names neither a list nor structs | write `list: items` for rows, or `structs: \"*\"` for columns"]
    );
    assert_eq!(said(json!({"list": "i"})), ["list | unknown column `i` | did you mean `id`?"]);
    assert_eq!(said(json!({"list": "id"})), ["list | column `id` is no list | "]);
    assert_eq!(said(json!({"list": "l", "index": "id"})), ["index | there is a column `id` already | "]);
    assert_eq!(
        said(json!({"structs": ["l", "aa"]})),
        ["structs.0 | column `l` is no struct | ", "structs.1 | unknown column `aa` | did you mean `a`?"]
    );
    assert_eq!(
        said(json!({"structs": "*"})),
        [
            " | two columns would be called `a_b` | choose another `separator`, or `map: { rename: … }` one of them before"
        ]
    );
    assert_eq!(
        told(flatten(json!({"structs": ["doc"]})).schema(&[documents(&[]).schema()])),
        [
            "structs.0 | column `doc` is no struct | its members are not known yet: `map` takes them out with `json_get_text(doc, …)`"
        ]
    );
    assert_eq!(
        said(json!({"structs": "*", "index": "n"})),
        ["index | `index` is the place in a list, and there is no `list` | "]
    );
}

#[test]
fn every_kind_of_list_is_taken_apart() {
    use arrow::datatypes::Int64Type as I;
    let items = [Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), None])];
    let large = arrow::array::LargeListArray::from_iter_primitive::<I, _, _>(items.clone());
    let fixed = arrow::array::FixedSizeListArray::from_iter_primitive::<I, _, _>(items, 2);
    for column in [Arc::new(large) as ArrayRef, Arc::new(fixed)] {
        let rows = RecordBatch::try_from_iter([("l", column)]).unwrap();
        assert_eq!(texts(json!({"list": "l"}), &rows), [r#"{"l":1}"#, r#"{"l":2}"#, r#"{"l":3}"#, r#"{"l":null}"#]);
    }
    let mut map =
        arrow::array::MapBuilder::new(None, arrow::array::StringBuilder::new(), arrow::array::Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(5);
    map.append(true).unwrap();
    let rows = RecordBatch::try_from_iter([("m", Arc::new(map.finish()) as ArrayRef)]).unwrap();
    assert_eq!(texts(json!({"list": "m", "structs": "*"}), &rows), [r#"{"m_keys":"k","m_values":5}"#]);
}
