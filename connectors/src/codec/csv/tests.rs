//! What CSV promises, and that arrow-csv reads the same where it reads at all.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use serde_json::json;

use super::infer::Inference;
use super::*;
use crate::codec::types::Declared;
use crate::testing::rows_of;

fn schema(columns: &str) -> SchemaRef {
    serde_json::from_str::<Declared>(columns).unwrap().schema().unwrap()
}

/// The rows and the faults of a text, with the number of the line before each fault.
fn read(dialect: &Dialect, schema: &SchemaRef, text: &[u8]) -> (RecordBatch, Vec<(u64, String)>) {
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let mut decoder = Decoder::new(Arc::new(dialect.clone()), schema.clone(), &names).unwrap();
    let (mut batches, mut faults, mut at, mut line) = (Vec::new(), Vec::new(), 0, 0);
    while at < text.len() {
        let part = decoder.decode(&text[at..], true).unwrap();
        faults.extend(part.faults.iter().map(|f| (line + f.line, f.error.to_string())));
        batches.push(part.batch);
        at += part.bytes;
        line += part.lines;
    }
    (arrow::compute::concat_batches(schema, &batches).unwrap(), faults)
}

fn types(text: &str) -> Vec<String> {
    let mut inference = Inference::new(Arc::new(Dialect::default()));
    inference.look(text.as_bytes(), true).unwrap();
    let (_, schema) = inference.finish();
    schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect()
}

#[test]
fn one_bad_row_costs_no_other_one() {
    let schema = schema(r#"{"n":"bigint","t":"text"}"#);
    let text =
        b"n,t\n1,a\n2\n3,c,d\n\n4,\"x\ny\"\nfive,e\n6,\"f\n7,\"g\"\n8,\"h\"i\n9,\xFF\n10,\"\"\n11,\n12,\"end\n13,m\n";
    let (batch, faults) = read(&Dialect::default(), &schema, text);
    let rows = [
        json!({"n": 1, "t": "a"}),
        json!({"n": 4, "t": "x\ny"}),
        json!({"n": 7, "t": "g"}),
        json!({"n": 10, "t": ""}),
        json!({"n": 11, "t": null}),
        json!({"n": 13, "t": "m"}),
    ];
    assert_eq!(rows_of(&batch), rows);
    let expected = [
        (2, "has 1 field, and the header has 2"),
        (3, "has 3 fields, and the header has 2"),
        (7, "field `n`: `five` does not fit bigint"),
        (8, "field `t`: text behind the closing quote"),
        (10, "field `t`: text behind the closing quote"),
        (11, "not UTF-8: byte 0xff at column 3"),
        (14, "field `t`: a quote without an end"),
    ];
    assert_eq!(faults, expected.map(|(line, fault)| (line, fault.to_owned())));
}

#[test]
fn columns_are_found_by_the_names_of_the_header() {
    let schema = schema(r#"{"b":"text","a":"bigint"}"#);
    let (batch, faults) = read(&Dialect::default(), &schema, b"\n a ,x,b\r\n1,?,one\r\n2,?,\"t\"\"wo\"");
    assert_eq!(rows_of(&batch), [json!({"b": "one", "a": 1}), json!({"b": "t\"wo", "a": 2})]);
    assert!(faults.is_empty(), "{faults:?}");
    let mut decoder = Decoder::new(Arc::default(), schema, &[]).unwrap();
    let error = decoder.decode(b"a,c\n", true).unwrap_err();
    assert_eq!(error.to_string(), "field `b`: has no column `b`; its columns are a, c");
}

#[test]
fn a_dialect_says_delimiter_quote_null_and_header() {
    let csv: Csv = serde_json::from_str(r#"{"header":false,"delimiter":";","quote":"'","nulls":["NA","-9"]}"#).unwrap();
    let dialect = csv.dialect(b',').unwrap();
    let schema = schema(r#"{"a":"bigint","b":"text"}"#);
    let (batch, faults) = read(&dialect, &schema, b"-9;NA\n 5 ;'NA'\n;\n1;'a;''b'\n");
    let rows = [
        json!({"a": null, "b": null}),
        json!({"a": 5, "b": "NA"}),
        json!({"a": null, "b": ""}),
        json!({"a": 1, "b": "a;'b"}),
    ];
    assert_eq!((rows_of(&batch).as_slice(), faults.len()), (rows.as_slice(), 0));
    let wrong = Csv { delimiter: Some("ab".into()), quote: Some("é".into()), ..Csv::default() };
    assert_eq!(wrong.dialect(b',').unwrap_err().0.len(), 2);
}

#[test]
fn a_value_that_its_column_can_not_hold_is_never_made_another_one() {
    let types =
        ["bigint", "int", "smallint", "float", "double", "boolean", "date", "timestamp", "decimal(4,2)", "json"];
    let bad = ["1.5", "2147483648", "-32769", "x", "1e999", "maybe", "2023-02-29", "2023-01-01T25:00:00", "123.4", "{"];
    let good =
        ["-1", "7", "7", "1.5", "1e308", "true", "2024-02-29", "2023-01-01 23:00:00", "12.34", "\"{\"\"a\"\":1}\""];
    // A decimal rounds nothing away.
    let (types, bad, good) = ([&types[..], &["decimal(4,2)"]], [&bad[..], &["1.234"]], [&good[..], &["1.230"]]);
    let (types, bad, good) = (types.concat(), bad.concat(), good.concat());
    for ((kind, bad), good) in types.iter().zip(bad).zip(good) {
        let schema = schema(&format!(r#"{{"a":"{kind}"}}"#));
        let (batch, faults) = read(&Dialect::default(), &schema, format!("a\n{bad}\n{good}\n\"\"\n").as_bytes());
        assert_eq!((batch.num_rows(), batch.column(0).null_count()), (2, 1), "{kind}");
        assert_eq!(faults.len(), 1, "{kind}");
        assert!(faults[0].1.starts_with(&format!("field `a`: `{bad}` does not fit ")), "{faults:?}");
    }
}

#[test]
fn types_are_inferred_so_that_no_value_is_changed() {
    let text = "i,f,b,d,m,z,code,phone,big,mixed,none\n\
        1,1.5,true,2024-01-01,2024-01-01 10:00:00,2024-01-01T10:00:00Z,007,+49,99999999999999999999,1,\n\
        -2,3,FALSE,2024-02-29,2024-01-01,2024-01-01T10:00:00.123456+02:00,8,5,1,x,\n";
    let expected = [
        "i: Int64",
        "f: Float64",
        "b: Boolean",
        "d: Date32",
        "m: Timestamp(µs)",
        "z: Timestamp(µs, \"UTC\")",
        "code: Utf8",
        "phone: Utf8",
        "big: Utf8",
        "mixed: Utf8",
        "none: Utf8",
    ];
    assert_eq!(types(text), expected);
    assert_eq!(types("a,,a\n1,2,3\n"), ["a: Int64", "column_2: Int64", "a_2: Int64"]);
}

#[test]
fn a_record_that_goes_on_behind_the_text_waits_for_more() {
    let mut decoder = Decoder::new(Arc::default(), schema(r#"{"a":"text"}"#), &[]).unwrap();
    let text = b"a\n\"x\n";
    let first = decoder.decode(text, false).unwrap();
    assert_eq!((first.bytes, first.lines), (2, 1));
    assert_eq!(decoder.decode(&text[2..], false).unwrap().bytes, 0);
    let whole = decoder.decode(b"\"x\ny\"\n", false).unwrap();
    assert_eq!((whole.bytes, whole.lines, whole.batch.num_rows()), (6, 2, 1));
}

/// A field as it may be written; spaces around a number are an error to arrow-csv.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "-?[0-9]{1,4}",
        2 => "[0-9]{1,3}\\.[0-9]{1,3}",
        4 => "([a-zé]([a-z é]{0,3}[a-z])?)?",
        2 => "\"(x([a-z, \n]|\"\"){0,4})?\"",
        1 => Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn arrow_csv_reads_the_same(
        rows in proptest::collection::vec((field(), field(), field()), 1..30), crlf: bool, types in 0_usize..3
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let text: Vec<_> = rows.iter().map(|(a, b, c)| format!("{a},{b},{c}{end}")).collect();
        let text = text.concat();
        let columns = [r#"{"a":"text","b":"text","c":"text"}"#, r#"{"a":"bigint","b":"text","c":"double"}"#,
            r#"{"a":"double","b":"bigint","c":"text"}"#][types];
        let schema = schema(columns);
        let dialect = Dialect { header: false, ..Dialect::default() };
        let (mine, faults) = read(&dialect, &schema, text.as_bytes());
        prop_assert_eq!(mine.num_rows() + faults.len(), rows.len());
        // The rows that fit, each for itself: arrow-csv gives up a batch for one row.
        let one = |(a, b, c): &(String, String, String)| {
            let text = format!("{a},{b},{c}\n");
            let reader = arrow_csv::ReaderBuilder::new(schema.clone()).build(Cursor::new(text)).unwrap();
            reader.collect::<Result<Vec<_>, _>>().ok()
        };
        let theirs: Vec<_> = rows.iter().filter_map(one).flatten().collect();
        let theirs = arrow::compute::concat_batches(&schema, &theirs).unwrap();
        // To arrow-csv an empty text in quotes is null too.
        let emptied = |batch: &RecordBatch| {
            let text = serde_json::to_string(&rows_of(batch)).unwrap();
            text.replace(":\"\"", ":null")
        };
        prop_assert_eq!(emptied(&mine), emptied(&theirs));
    }

    #[test]
    fn what_is_written_is_read_back(
        values in proptest::collection::vec(
            (any::<Option<i64>>(), any::<Option<f64>>(), any::<Option<String>>(), any::<Option<bool>>()), 1..20
        ),
        delimiter in proptest::sample::select(vec![b',', b'\t', b';']),
        null in proptest::sample::select(vec!["", "NA", "\\N"]),
        header: bool,
    ) {
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("i", Arc::new(values.iter().map(|v| v.0).collect::<Int64Array>()), true),
            ("f,", Arc::new(values.iter().map(|v| v.1).collect::<Float64Array>()), true),
            ("t\"", Arc::new(values.iter().map(|v| v.2.clone()).collect::<StringArray>()), true),
            ("b", Arc::new(values.iter().map(|v| v.3).collect::<BooleanArray>()), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let dialect = Dialect { header, delimiter, nulls: vec![null.to_owned()], ..Dialect::default() };
        let encoder = Encoder::new(dialect.clone(), &batch.schema()).unwrap();
        let mut text = Vec::new();
        encoder.header(&mut text);
        encoder.encode(&batch, &mut text).unwrap();
        let (read, faults) = read(&dialect, &batch.schema(), &text);
        prop_assert_eq!(faults, Vec::new());
        prop_assert_eq!(read, batch);
    }
}
