//! The encoder against arrow-json's: byte for byte the same, where the conventions do not say otherwise.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, NullArray,
    StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    UInt64Array,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use bourn_engine::data::columns::json_field;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::Encoder;

fn ours(batch: &RecordBatch) -> String {
    let mut out = Vec::new();
    Encoder::new(&batch.schema()).unwrap().encode(batch, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn theirs(batch: &RecordBatch) -> String {
    let mut out = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut out);
    writer.write(batch).unwrap();
    drop(writer);
    String::from_utf8(out).unwrap()
}

const ROWS: usize = 6;

fn moments() -> impl Strategy<Value = Vec<Option<i64>>> {
    let moment = prop_oneof![any::<i64>(), -100_000_000_000..100_000_000_000_i64, 0..2_000_000_000_000_000_i64];
    vec(of(moment), ROWS)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-zé ]{0,12}", 1 => any::<String>(), 1 => "[\u{0}-\u{7f}]{0,8}"]
}

fn columns() -> impl Strategy<Value = Vec<ArrayRef>> {
    let floats = vec(of(prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1e21)]), ROWS);
    let numbers = (vec(of(any::<i64>()), ROWS), vec(of(any::<i32>()), ROWS), vec(of(any::<u64>()), ROWS), floats);
    let texts = (vec(of(text()), ROWS), vec("[a-z]{0,9}", ROWS), vec(of(any::<bool>()), ROWS));
    (numbers, texts, moments(), moments()).prop_map(|((a, b, c, d), (e, f, g), m, n)| {
        let lists = e.iter().map(|t| t.as_ref().map(|t| vec![i32::try_from(t.len()).ok(), None]));
        let dictionary: DictionaryArray<Int32Type> = f.iter().map(String::as_str).collect();
        vec![
            Arc::new(Int64Array::from(a)) as ArrayRef,
            Arc::new(Int32Array::from(b)),
            Arc::new(UInt64Array::from(c)),
            Arc::new(Float64Array::from(d)),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            Arc::new(StringArray::from(e)),
            Arc::new(StringArray::from(f)),
            Arc::new(BooleanArray::from(g)),
            Arc::new(dictionary),
            Arc::new(NullArray::new(ROWS)),
            Arc::new(TimestampMicrosecondArray::from(m.clone())),
            Arc::new(TimestampMicrosecondArray::from(n.clone()).with_timezone("UTC")),
            Arc::new(TimestampMillisecondArray::from(n.clone())),
            Arc::new(TimestampNanosecondArray::from(m.clone()).with_timezone("+00:00")),
            Arc::new(TimestampSecondArray::from(n)),
            Arc::new(TimestampMicrosecondArray::from(m).with_timezone("+05:30")),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_is_written_as_arrow_json_writes_it(columns in columns(), begin in 0..ROWS) {
        let fields: Vec<_> =
            columns.iter().enumerate().map(|(i, c)| Field::new(format!("c\"{i}"), c.data_type().clone(), true)).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        prop_assert_eq!(ours(&batch), theirs(&batch));
        let slice = batch.slice(begin, ROWS - begin);
        prop_assert_eq!(ours(&slice), theirs(&slice));
    }
}

#[test]
fn a_document_is_itself_on_one_line() {
    let documents =
        StringArray::from(vec![Some("{\n  \"a\": [1.50, \"x \\\" y\"]\n}"), Some(" 1e3 "), Some("{broken\n"), None]);
    let schema = Arc::new(Schema::new(vec![json_field("d")]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(documents)]).unwrap();
    assert_eq!(
        ours(&batch),
        "{\"d\":{\"a\":[1.50,\"x \\\" y\"]}}\n{\"d\":1e3}\n{\"d\":\"{broken\\n\"}\n{\"d\":null}\n"
    );
}

#[test]
fn a_row_without_columns_is_an_empty_object() {
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(2));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(ours(&batch), "{}\n{}\n");
}
