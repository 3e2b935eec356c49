//! Tests of the functions that DataFusion does not have, through the expressions in which they stand.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;

use crate::Expression;

/// The value of an expression in each row of a text column `t`; `-` stands for null.
fn values(sql: &str, rows: &[Option<&str>]) -> Vec<String> {
    let rows = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(rows.to_vec())) as ArrayRef)]).unwrap();
    let values = Expression::compile(sql, &rows.schema()).unwrap_or_else(|p| panic!("{sql}: {p:?}"));
    let values = values.evaluate(&rows).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let shown = |n| if values.is_null(n) { "-".into() } else { array_value_to_string(&values, n).unwrap() };
    (0..values.len()).map(shown).collect()
}

fn value(sql: &str, text: &str) -> String {
    values(sql, &[Some(text)]).remove(0)
}

/// What is said of a row that can't be worked.
fn fault(sql: &str, text: &str) -> String {
    let rows = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(vec![text])) as ArrayRef)]).unwrap();
    let expression = Expression::compile(sql, &rows.schema()).unwrap_or_else(|p| panic!("{sql}: {p:?}"));
    expression.evaluate(&rows).unwrap_err().message().to_owned()
}

#[test]
fn members_of_a_document_are_found_by_their_path() {
    let doc = r#"{"a": {"b": [1, "x", {"c": null}]}, "n": 7, "f": 1.5, "yes": true, "s": "7"}"#;
    for (sql, found) in [
        ("json_get(t, 'a', 'b', 2)", r#"{"c":null}"#),
        ("json_get(t, 'a', 'b', 1)", "\"x\""),
        ("json_get_text(t, 'a', 'b', 1)", "x"),
        ("json_get_text(t, 'a', 'b')", r#"[1,"x",{"c":null}]"#),
        ("json_get_text(t, 'a', 'b', 2, 'c')", "-"),
        ("json_get_text(t, 'nope', 'b')", "-"),
        ("json_get_text(t, 'a', 'b', -1)", "-"),
        ("json_get_int(t, 'n') + 1", "8"),
        ("json_get_int(t, 's')", "-"),
        ("json_get_int(t, 'f')", "-"),
        ("json_get_float(t, 'f') + json_get_float(t, 'n')", "8.5"),
        ("json_get_bool(t, 'yes') and json_get_bool(t, 'n') is null", "true"),
        ("json_length(t)", "5"),
        ("json_length(t, 'a', 'b')", "3"),
        ("json_length(t, 'n')", "-"),
        ("json_get_text(t, 's')::bigint", "7"),
    ] {
        assert_eq!(value(sql, doc), found, "{sql}");
    }
    assert_eq!(values("json_get_int(t)", &[Some("1"), None, Some("null")]), ["1", "-", "-"]);
    assert_eq!(values("json_valid(t)", &[Some("[]"), Some("[,]"), None]), ["true", "false", "-"]);
    let said = fault("json_get(t, 'a')", "{");
    assert!(said.contains("not a JSON document: EOF while parsing"), "{said}");
}

#[test]
fn any_value_becomes_a_document() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\n\"b\""), None]));
    let object = StructArray::from(vec![
        (Arc::new(Field::new("l", list.data_type().clone(), true)), Arc::new(list) as ArrayRef),
        (Arc::new(Field::new("t", DataType::Utf8, true)), texts),
    ]);
    let rows = RecordBatch::try_from_iter([("o", Arc::new(object) as ArrayRef)]).unwrap();
    let expression = Expression::compile("to_json(o)", &rows.schema()).unwrap();
    let values = expression.evaluate(&rows).unwrap();
    let documents: Vec<_> = values.as_string::<i32>().iter().collect();
    assert_eq!(documents, [Some(r#"{"l":[1,null],"t":"a\n\"b\""}"#), Some(r#"{"l":null,"t":null}"#)]);
    assert_eq!(values_of_text("to_json(o.t)", &rows), [Some("\"a\\n\\\"b\\\"\"".to_owned()), None]);
}

fn values_of_text(sql: &str, rows: &RecordBatch) -> Vec<Option<String>> {
    let values = Expression::compile(sql, &rows.schema()).unwrap().evaluate(rows).unwrap();
    values.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
}

#[test]
fn a_url_is_taken_apart() {
    let url = "https://ann@example.com/a/b%20c?q=x+y&n=%C3%BC#top";
    for (part, found) in [
        ("'host'", "example.com"),
        ("'PROTOCOL'", "https"),
        ("'port'", "443"),
        ("'path'", "/a/b%20c"),
        ("'query'", "q=x+y&n=%C3%BC"),
        ("'query', 'q'", "x y"),
        ("'query', 'n'", "ü"),
        ("'query', 'z'", "-"),
        ("'ref'", "top"),
        ("'user'", "ann"),
        ("'authority'", "ann@example.com"),
        ("'file'", "/a/b%20c?q=x+y&n=%C3%BC"),
    ] {
        assert_eq!(value(&format!("parse_url(t, {part})"), url), found, "{part}");
    }
    assert_eq!(value("url_encode(t)", "a b/ü~"), "a%20b%2F%C3%BC~");
    assert_eq!(value("url_decode(t)", "a%20b%2F%C3%BC+"), "a b/ü+");
    assert_eq!(values("parse_url(t, 'host')", &[None]), ["-"]);
    assert!(fault("parse_url(t, 'host')", "x y").contains("`x y` is no URL: relative URL without a base"));
    assert!(fault("parse_url(t, 'hots')", url).contains("a URL has no part `hots`"));
    assert!(fault("url_decode(t)", "%FF").contains("what is decoded is no text"));
}

#[test]
fn a_line_of_csv_is_a_list_and_back() {
    for (line, list) in [
        ("a,b,,\"c \"\"d\"\", e\"", r#"[a, b, , c "d", e]"#),
        ("a", "[a]"),
        ("a,", "[a, ]"),
        ("ü,\"x\ny\"\r\n", "[ü, x\ny]"),
        ("", "[]"),
    ] {
        assert_eq!(value("csv_parse(t)", line), list, "{line}");
    }
    assert_eq!(value("csv_parse(t, ';')[2]", "a;b;c"), "b");
    assert_eq!(value("csv_format(csv_parse(t, ';'))", "a;b,c;\"d\"\"\""), "a,\"b,c\",\"d\"\"\"");
    assert_eq!(value("csv_format([t, null, 'x'], ';')", "a;b"), "\"a;b\";;x");
    assert_eq!(value("csv_format([t])", ""), "\"\"");
    assert_eq!(values("csv_parse(t)", &[None]), ["-"]);
    assert!(fault("csv_parse(t)", "a\nb").contains("more than one line of CSV"));
    assert!(fault("csv_parse(t, 'ab')", "a").contains("a delimiter is one ASCII character"));
}

#[test]
fn what_is_packed_is_unpacked_up_to_a_bound() {
    assert_eq!(value("cast(gunzip(gzip(t)) as text)", "ünpacked"), "ünpacked");
    let base64 = "H4sIAAAAAAAAA0vOLChJTQEAMZ3jEwcAAAA=";
    assert!(fault("gunzip(decode(t, 'base64'))", &base64[..20]).contains("not packed with gzip"));
    assert!(fault("gunzip(t)", "a text that was never packed").contains("not packed with gzip: invalid gzip header"));
    let packed = super::gzip::pack(b"abc").unwrap();
    assert_eq!(super::gzip::unpack(&packed, 3).unwrap(), b"abc");
    let said = super::gzip::unpack(&packed, 2).unwrap_err().to_string();
    assert!(said.contains("the values of a batch unpack to more than 64 MiB"), "{said}");
}

#[test]
fn a_wrong_argument_is_a_problem_that_says_how_the_function_is_written() {
    let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    for (sql, said) in [
        ("json_get(n, 'a')", "`json_get` is written `json_get(document, 'member', 0, …)`"),
        ("json_get('{}', 1.5)", "`json_get` is written `json_get(document, 'member', 0, …)`"),
        ("parse_url('x')", "`parse_url` is written `parse_url(url, 'host')` or `parse_url(url, 'query', 'name')`"),
        ("gunzip(n)", "`gunzip` is written `gunzip(bytes)`"),
        ("csv_format('a')", "`csv_format` is written `csv_format(list)` or `csv_format(list, ';')`"),
    ] {
        assert_eq!(Expression::compile(sql, &rows.schema()).unwrap_err().message, said, "{sql}");
    }
}

#[test]
fn every_function_of_the_page_gives_the_value_that_it_shows() {
    let page = include_str!("../../../docs/functions.md");
    let rows = page.lines().filter_map(|line| {
        let (expression, value) = line.strip_suffix("` |")?.split_once("` | `")?;
        // Within a table, a bar is written with a backslash.
        Some((expression.split_once('`')?.1.replace("\\|", "|"), value))
    });
    let mut count = 0;
    for (expression, shown) in rows {
        assert_eq!(value(&expression, ""), shown, "{expression}");
        count += 1;
    }
    let lines = page.lines().filter(|l| l.contains(" | `")).count();
    assert!(count == lines && count > 30, "{count} of {lines}");
}

#[test]
fn every_function_of_our_own_stands_on_the_page() {
    let page = include_str!("../../../docs/functions.md");
    for function in super::all() {
        assert!(page.contains(&format!("{}(", function.name())), "{}", function.name());
    }
}
