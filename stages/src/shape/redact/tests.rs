//! Tests of `redact`.

use arrow::array::{Array, StringArray};
use bourn_engine::data::columns::{is_json, json_field};
use bourn_engine::rows;
use bourn_engine::testing::conformance;
use bourn_engine::testing::harness::Harness;
use serde_json::{Value, json};

use super::*;
use crate::column::told;

fn redact(config: Value) -> Redact {
    serde_json::from_value(config).unwrap()
}

fn redacted(config: Value, rows: &RecordBatch) -> Vec<Value> {
    let mut stage = Harness::new(&redact(config), &[rows.schema()]).unwrap();
    stage.process(rows).unwrap();
    stage.said.rows(0)
}

fn users() -> RecordBatch {
    rows![
        {"id": 1, "name": "ada", "card": "4111111111111234", "who": {"mail": "a@x", "n": 1}, "tags": ["a", null]},
        {"id": 2, "name": null, "card": "234", "who": null, "tags": null},
        {"id": 3, "name": "", "card": "12345", "who": {"mail": null, "n": 2}, "tags": []},
        {"id": 4, "name": "eve", "card": "über", "who": {"mail": "e@x", "n": 3}, "tags": ["a"]},
    ]
}

#[test]
fn it_keeps_the_promises_of_a_stage() {
    let config = json!({"mask": ["name"], "keep_last": {"card": 4}, "hash": ["who.mail", "tags"], "clear": ["id"]});
    conformance::stage(redact(config), users()).check();
    conformance::stage(redact(json!({"hash": ["name"], "algorithm": "blake3", "salt": "x"})), users()).check();
}

#[test]
fn masks_keep_the_end_where_they_may_and_nulls_stay() {
    let left = redacted(json!({"mask": ["name"], "keep_last": {"card": 4}}), &users());
    let names: Vec<_> = left.iter().map(|r| r["name"].clone()).collect();
    assert_eq!(names, [json!("***"), Value::Null, json!("***"), json!("***")]);
    let cards: Vec<_> = left.iter().map(|r| r["card"].clone()).collect();
    // A value that is no longer than what may stay is hidden as a whole.
    assert_eq!(cards, ["***1234", "***", "***2345", "***"]);
    assert_eq!(redacted(json!({"keep_last": {"card": 2}, "text": "…"}), &users())[3]["card"], "…er");
    assert_eq!(redacted(json!({"keep_last": {"card": 0}}), &users())[0]["card"], "***");
}

#[test]
fn hashes_are_those_that_others_compute() {
    let hash = |config| redacted(config, &rows![{"t": "what do ya want for nothing?"}])[0]["t"].clone();
    // RFC 4231, test case 2.
    let hmac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hash(json!({"hash": ["t"], "salt": "Jefe"})), hmac);
    // The test vectors of SHA-256 and BLAKE3.
    let of = |text, config| redacted(config, &rows![{"t": text}])[0]["t"].clone();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(of("abc", json!({"hash": ["t"]})), abc);
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(of("", json!({"hash": ["t"], "algorithm": "blake3"})), empty);
    let keyed = of("", json!({"hash": ["t"], "algorithm": "blake3", "salt": "s"}));
    assert_eq!(keyed, blake3::keyed_hash(blake3::hash(b"s").as_bytes(), b"").to_hex().as_str());
}

#[test]
fn members_of_structs_and_elements_of_lists_are_reached() {
    let left = redacted(json!({"mask": ["who.mail", "tags"], "clear": ["who.n"]}), &users());
    assert_eq!(left[0]["who"], json!({"mail": "***", "n": null}));
    assert_eq!((left[0]["tags"].clone(), left[1]["who"].clone()), (json!(["***", null]), Value::Null));
    let rows = rows![{"l": [{"s": "a", "k": 1}, {"s": "b", "k": 2}]}, {"l": null}];
    let left = redacted(json!({"mask": ["l.s"]}), &rows);
    assert_eq!(left, [json!({"l": [{"s": "***", "k": 1}, {"s": "***", "k": 2}]}), json!({"l": null})]);
}

#[test]
fn a_document_that_is_masked_is_none_any_more() {
    let schema = Arc::new(Schema::new(vec![json_field("doc").with_nullable(false)]));
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec!["{}"]))]).unwrap();
    let leaves = |config| redact(config).schema(std::slice::from_ref(&schema)).unwrap().field(0).clone();
    assert!(!is_json(&leaves(json!({"mask": ["doc"]}))));
    let cleared = leaves(json!({"clear": ["doc"]}));
    assert!(is_json(&cleared) && cleared.is_nullable());
    assert_eq!(redacted(json!({"clear": ["doc"]}), &rows), [json!({"doc": null})]);
}

#[test]
fn text_in_a_dictionary_stays_in_one() {
    let texts: arrow::array::DictionaryArray<arrow::datatypes::Int32Type> = ["a", "b", "a"].into_iter().collect();
    let column = Arc::new(texts) as arrow::array::ArrayRef;
    let rows = RecordBatch::try_from_iter([("d", column)]).unwrap();
    let mut stage = Harness::new(&redact(json!({"mask": ["d"]})), &[rows.schema()]).unwrap();
    stage.process(&rows).unwrap();
    let left = stage.said.ports[0][0].column(0);
    assert_eq!((left.data_type(), left.len()), (rows.column(0).data_type(), 3));
}

#[test]
fn a_salt_is_not_shown() {
    assert!(!format!("{:?}", redact(json!({"hash": ["t"], "salt": "tulip"}))).contains("tulip"));
}

#[test]
fn what_can_not_be_hidden_is_a_problem_with_its_place() {
    let said = |config| told(redact(config).schema(&[users().schema()]));
    assert_eq!(
        said(json!({"mask": ["nam", "id"], "hash": ["who", "who.mial", "name.x"], "keep_last": {"who.mail": 2}})),
        [
            "mask.0 | unknown column `nam` | did you mean `name`?",
            "mask.1 | only text can be hidden in this way, and `id` is bigint | `map: { cast: { id: text } }` before it makes text of it, or `clear` it",
            "hash.0 | only text can be hidden in this way, and `who` is struct<mail text, n bigint> | name its members, as in `who.mail`, or `clear` it",
            "hash.1 | there is no `mial` in `who` | did you mean `mail`?",
            "hash.2 | there is no `x` in `name`, which is text | ",
        ]
    );
    assert_eq!(
        said(json!({"mask": ["name"], "clear": ["name", "who"], "hash": ["who.mail"]})),
        ["clear.0 | `name` is redacted twice | ", "clear.1 | `who` is redacted twice | "]
    );
    assert_eq!(
        said(json!({})),
        [" | this hides nothing | name columns, as in `mask: [name]`, `keep_last: { card: 4 }`, `hash: [email]`"]
    );
    assert_eq!(
        said(json!({"mask": ["name"], "salt": "x"})),
        ["salt | a salt is for hashes, and no column is hashed | "]
    );
    assert_eq!(said(json!({"hash": ["name"], "salt": ""})), ["salt | the salt is empty | "]);
}
