//! The scanner against arrow-json: whatever a line is, both decoders must say the same of it.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::codec::json::{Columns, Decoder};
use crate::codec::types::Declared;

const SCHEMA: &str =
    r#"{"i":"bigint","j":"int","f":"double","b":"boolean","s":"text","t":"timestamp","u":"Timestamp(ms, \"UTC\")"}"#;

fn columns(schema: &str, mixed: &[&str]) -> Columns {
    let declared: Declared = serde_json::from_str(schema).unwrap();
    let mixed: Vec<_> = mixed.iter().map(|m| (*m).to_owned()).collect();
    Columns::new(declared.schema().unwrap(), &mixed)
}

/// What a decoder says: the rows, and the faults with their lines.
fn said(mut decoder: Decoder, text: &[u8]) -> (arrow::record_batch::RecordBatch, Vec<(u64, String)>) {
    let read = decoder.decode(text).unwrap();
    assert_eq!(read.bytes, text.len());
    let faults = read.faults.iter().map(|f| (f.line, f.error.to_string())).collect();
    (read.batch, faults)
}

/// What the scanner makes of the lines is what arrow-json makes of each, and of all at once.
fn compare(columns: &Columns, lines: &[Vec<u8>]) {
    let text = lines.join(&b'\n');
    let (ours, our_faults) = said(Decoder::new(columns.clone()).unwrap(), &text);
    let mut theirs = Vec::new();
    let mut their_faults = Vec::new();
    for (number, line) in (0..).zip(lines) {
        let (batch, faults) = said(Decoder::general(columns.clone()).unwrap(), line);
        theirs.push(batch);
        their_faults.extend(faults.into_iter().map(|(_, e)| (number, e)));
    }
    let theirs = arrow::compute::concat_batches(columns.schema(), &theirs).unwrap();
    assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
    assert_eq!(our_faults, their_faults);
    let (at_once, faults_at_once) = said(Decoder::general(columns.clone()).unwrap(), &text);
    assert_eq!((at_once, faults_at_once), (theirs, their_faults), "{}", String::from_utf8_lossy(&text));
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-1000_i32..1000).prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |f| f.is_finite())
            .prop_map(|f| serde_json::json!(f).to_string()),
        "-?[0-9]{1,25}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{0,4})?",
        "[-+.eE0-9]{1,6}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,20}".prop_map(|s| format!("\"{s}\"")),
        any::<String>().prop_map(|s| serde_json::to_string(&s.replace('\n', "")).unwrap()),
        "\"([a-zé]|\\\\[\"\\\\/bfnrtux]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00){0,6}\"",
    ]
}

fn moment() -> impl Strategy<Value = String> {
    prop_oneof![
        (
            "[0-9]{4}",
            0..14_u32,
            0..33_u32,
            0..25_u32,
            0..61_u32,
            0..62_u32,
            "(\\.[0-9]{0,11})?",
            "(Z|z|\\+00:00|-07:30)?",
            "[T t]"
        )
            .prop_map(|(y, mo, d, h, mi, s, f, z, t)| format!("\"{y}-{mo:02}-{d:02}{t}{h:02}:{mi:02}:{s:02}{f}{z}\"")),
        ("(19|20)[0-9]{2}", 1..13_u32, 1..32_u32, "(\\.[0-9]{1,9})?")
            .prop_map(|(y, m, d, f)| format!("\"{y}-{m:02}-{d:02}T23:59:59{f}Z\"")),
        "\"[0-9]{4}-[0-9]{2}-[0-9]{2}\"",
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![3 => number(), 3 => text(), 3 => moment(), 1 => "(true|false|null|nul|tru|NaN|-inf|Infinity)"]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|v| format!("[{}]", v.join(","))),
            vec(("[a-c]", inner), 0..3).prop_map(|v| format!(
                "{{{}}}",
                v.iter().map(|(k, v)| format!("\"{k}\" : {v}")).collect::<Vec<_>>().join(", ")
            )),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![12 => "[ijfbstumd]", 1 => "[xyz]{1,2}", 1 => Just("\\u0069".to_owned())]
}

/// A row whose values mostly fit their columns.
fn fitting() -> impl Strategy<Value = String> {
    let member = |key: &'static str, value: BoxedStrategy<String>| value.prop_map(move |v| format!("\"{key}\":{v}"));
    let null = || Just("null".to_owned());
    let members = (
        member("i", prop_oneof![any::<i64>().prop_map(|n| n.to_string()), null()].boxed()),
        member("j", any::<i32>().prop_map(|n| n.to_string()).boxed()),
        member("f", number().boxed()),
        member("b", prop_oneof![Just("true".to_owned()), Just("false".to_owned()), null()].boxed()),
        member("s", text().boxed()),
        member("t", moment().boxed()),
        member("x", value().boxed()),
    );
    (members, any::<proptest::sample::Index>(), 0..3_usize).prop_map(|((a, b, c, d, e, f, g), turn, drop)| {
        let mut all = vec![a, b, c, d, e, f, g];
        let turn = turn.index(all.len());
        all.rotate_left(turn);
        all.truncate(7 - drop);
        format!("{{{}}}", all.join(", "))
    })
}

fn any_row() -> impl Strategy<Value = String> {
    let members = vec((key(), value()), 0..8);
    (members, "( |\t|\r)?").prop_map(|(m, space)| {
        let members: Vec<_> = m.iter().map(|(k, v)| format!("\"{k}\"{space}:{space}{v}")).collect();
        format!("{space}{{{space}{}{space}}}{space}", members.join(","))
    })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (fitting(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(row, at, byte)| {
        let mut row = row.into_bytes();
        let at = at.index(row.len());
        row[at] = if byte == b'\n' { b' ' } else { byte };
        row
    });
    prop_oneof![
        4 => fitting().prop_map(String::into_bytes),
        3 => any_row().prop_map(String::into_bytes),
        3 => damaged,
        1 => "[{}\\[\\]:,\"ij0-9 \\\\]{1,12}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn every_line_means_what_arrow_json_says(lines in vec(line(), 1..12)) {
        compare(&columns(SCHEMA, &[]), &lines);
    }

    #[test]
    fn every_line_means_the_same_where_columns_keep_json(lines in vec(any_row().prop_map(String::into_bytes), 1..12)) {
        compare(&columns(r#"{"i":"bigint","m":"text","s":"text","d":"json"}"#, &["m"]), &lines);
    }
}

#[test]
fn every_day_of_the_calendar_is_the_day_of_arrow_json() {
    let years = [0, 1, 4, 1600, 1899, 1900, 1904, 1969, 1970, 1972, 1999, 2000, 2001, 2023, 2024, 2100, 9999];
    let days = years.iter().flat_map(|y| (0..14).flat_map(move |m| [0, 1, 28, 29, 30, 31, 32].map(|d| (y, m, d))));
    let lines: Vec<_> =
        days.map(|(y, m, d)| format!("{{\"t\":\"{y:04}-{m:02}-{d:02}T12:34:56.789Z\"}}").into_bytes()).collect();
    compare(&columns(SCHEMA, &[]), &lines);
}

#[test]
fn of_two_values_of_one_name_the_last_counts() {
    let lines = [r#"{"i":1,"i":2}"#, r#"{"i":1,"s":"x","i":null}"#, r#"{"s":"a","s":"b","s":"c"}"#, r#"{"i":3}"#];
    let lines: Vec<_> = lines.iter().map(|l| l.as_bytes().to_vec()).collect();
    compare(&columns(SCHEMA, &[]), &lines);
}

#[test]
fn the_numbers_at_both_ends_of_a_type_are_read_and_those_beyond_refused() {
    let ends = ["-9223372036854775808", "9223372036854775807", "-9223372036854775809", "9223372036854775808"];
    let lines: Vec<_> = ends.iter().map(|n| format!("{{\"i\":{n}}}").into_bytes()).collect();
    let (batch, faults) = said(Decoder::new(columns(SCHEMA, &[])).unwrap(), &lines.join(&b'\n'));
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[i64::MIN, i64::MAX]);
    assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    compare(&columns(SCHEMA, &[]), &lines);
}

fn unknown(schema: &str, text: &str) -> u64 {
    Decoder::new(columns(schema, &[])).unwrap().decode(text.as_bytes()).unwrap().unknown
}

#[test]
fn fields_without_a_column_are_counted() {
    assert_eq!(unknown(r#"{"i":"bigint"}"#, "{\"i\":1,\"x\":[{}],\"y\":2}\n{\"i\":1}\n{\"x\":\"\",\"i\":3}"), 3);
}

/// How many of the lines the scanner understands by itself.
fn understood(lines: &[&str]) -> usize {
    let mut scanner = super::Scanner::new(&columns(SCHEMA, &[])).unwrap();
    lines.iter().filter(|l| scanner.scan(l.as_bytes())).count()
}

#[test]
fn what_rows_mostly_look_like_is_understood_without_help() {
    let lines = [
        r#"{"i":1,"j":-2,"f":1.5e3,"b":true,"s":"x","t":"2015-07-15T00:00:00.123Z","u":"2015-07-15T00:00:00Z"}"#,
        r#"{ "s": "a\n\"\u00e9", "t": "2015-07-15 00:00:00", "i": null, "x": {"y": [1, {"z": "\\"}]} }"#,
        r#"{"x":1,"b":false,"i":0}"#,
        "{}",
    ];
    assert_eq!(understood(&lines), lines.len());
}

#[test]
fn a_batch_holds_no_more_than_it_needs() {
    let mut decoder = Decoder::new(columns(SCHEMA, &[])).unwrap();
    let big = "{\"i\":1,\"s\":\"some text of some length\"}\n".repeat(8_192);
    assert_eq!(decoder.decode(big.as_bytes()).unwrap().batch.num_rows(), 8_192);
    let small = decoder.decode(b"{\"i\":1,\"s\":\"x\"}").unwrap().batch;
    assert!(bourn_engine::data::records::bytes_held(&small) < 1_024);
}
