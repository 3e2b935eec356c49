//! One line to one row, through arrow-json: what a line means, and why it is no row.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use arrow_json::ReaderBuilder;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::{Error, Result};
use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::decode::Columns;
use super::exact::{self, Change};
use crate::codec::lines::not_utf8;

/// How deep objects and lists may be nested. arrow-json and those behind it recurse, and the stack has an end.
pub const DEPTH_MAX: usize = 128;

type Members<'a> = IndexMap<String, &'a RawValue>;

/// The row of a line.
///
/// # Errors
/// Why it is none, with the field when one is at fault.
pub fn decode(columns: &Columns, line: &[u8]) -> Result<RecordBatch> {
    let text = std::str::from_utf8(line).map_err(|e| not_utf8(line, e))?;
    if is_too_deep(line) {
        return Err(Error::validation(format!("nested deeper than {DEPTH_MAX}")));
    }
    let rewritten = rewrite(columns, text)?;
    let read = read(columns, rewritten.as_bytes()).map_err(|e| explain(columns, text, e))?;
    if let Some(error) = distorted(columns, text) {
        return Err(error);
    }
    Ok(read)
}

/// Exactly one object, with nothing behind it.
fn read(columns: &Columns, line: &[u8]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(columns.schema().clone()).with_batch_size(1).build_decoder()?;
    let consumed = decoder.decode(line)?;
    if consumed < line.len() {
        return Err(more_than_one(consumed + 1));
    }
    let row = decoder.flush()?;
    row.ok_or_else(|| Error::engine("arrow-json made no row of a line that is not blank"))
}

fn more_than_one(column: usize) -> Error {
    Error::validation(format!("more than one value in the line, from column {column} on"))
}

/// Values of a column that takes several types, as text of their JSON.
fn rewrite<'a>(columns: &Columns, text: &'a str) -> Result<Cow<'a, str>> {
    if !columns.has_verbatim() {
        return Ok(text.into());
    }
    let members = members(text)?;
    let mut out = String::with_capacity(text.len() + 16);
    for (name, value) in &members {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(&serde_json::to_string(name)?);
        out.push(':');
        let value = value.get();
        let as_text =
            value != "null" && (columns.is_document(name) || (columns.is_mixed(name) && !value.starts_with('"')));
        out.push_str(&if as_text { Cow::from(serde_json::to_string(value)?) } else { value.into() });
    }
    out.push_str(if out.is_empty() { "{}" } else { "}" });
    Ok(out.into())
}

fn members(text: &str) -> Result<Members<'_>> {
    serde_json::from_str(text).map_err(|e| not_an_object(text, &e))
}

fn not_an_object(text: &str, error: &serde_json::Error) -> Error {
    let kind = match text.trim_start().bytes().next() {
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b't' | b'f' | b'n') if error.is_data() => "a literal",
        // serde_json counts lines too, and there is but one.
        _ => {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            if message == "trailing characters" {
                return more_than_one(error.column());
            }
            return Error::validation(format!("not JSON: {message} at column {}", error.column()));
        }
    };
    Error::validation(format!("a row is an object, and this is {kind}"))
}

/// Names the field at fault, where there is one.
fn explain(columns: &Columns, text: &str, error: Error) -> Error {
    let members = match members(text) {
        Ok(members) => members,
        Err(e) => return e,
    };
    for field in columns.schema().fields() {
        let Some(value) = members.get(field.name().as_str()).filter(|_| !columns.is_verbatim(field.name())) else {
            continue;
        };
        let one = Columns::new(Arc::new(Schema::new(vec![field.as_ref().clone()])), &[]);
        let line = format!("{{{}:{}}}", serde_json::Value::from(field.name().as_str()), value.get());
        if read(&one, line.as_bytes()).is_err() {
            return wrong_type(field.name(), field.data_type(), value.get());
        }
    }
    let message = error.message().trim_start_matches("Json error: ").to_owned();
    Error::validation(message)
}

/// That a value, shown as far as it is short, does not fit its column.
pub fn wrong_type(field: &str, data_type: &DataType, value: &str) -> Error {
    const SHOWN: usize = 60;
    let cut = value.char_indices().nth(SHOWN).map_or(value.len(), |(i, _)| i);
    let more = if cut < value.len() { "…" } else { "" };
    Error::validation(format!("`{}{more}` does not fit {}", &value[..cut], sql_name(data_type))).at_field(field)
}

/// The first field whose numbers would become others.
fn distorted(columns: &Columns, text: &str) -> Option<Error> {
    if !columns.has_numbers() {
        return None;
    }
    let members = members(text).ok()?;
    columns.schema().fields().iter().find_map(|f| {
        let value = members.get(f.name().as_str())?.get();
        Some(match exact::change(f.data_type(), value.as_bytes())? {
            Change::Number => wrong_type(f.name(), f.data_type(), value),
            Change::Moment => no_moment(f.name(), f.data_type(), value),
        })
    })
}

/// That a number does not say what moment it is.
fn no_moment(field: &str, data_type: &DataType, value: &str) -> Error {
    let error = wrong_type(field, data_type, value);
    let way_out = "declare `bigint`, and let `to_timestamp_seconds` or `to_timestamp_millis` say what it counts";
    Error::validation(format!(
        "{}: a number has no unit; write `\"2025-12-24T18:30:00Z\"` (RFC 3339), or {way_out}",
        error.message()
    ))
    .at_field(field)
}

/// Whether brackets are nested deeper than [`DEPTH_MAX`].
pub fn is_too_deep(line: &[u8]) -> bool {
    if memchr::memchr2_iter(b'{', b'[', line).nth(DEPTH_MAX).is_none() {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::types::Declared;

    fn columns(text: &str) -> Columns {
        Columns::new(serde_json::from_str::<Declared>(text).unwrap().schema().unwrap(), &["m".to_owned()])
    }

    fn fault(line: &[u8]) -> String {
        let columns = columns(r#"{"id":"bigint","name":"text","t":"timestamp"}"#);
        decode(&columns, line).unwrap_err().to_string()
    }

    #[test]
    fn a_fault_says_what_and_where() {
        assert_eq!(fault(br#"{"id":1"#), "not JSON: EOF while parsing an object at column 7");
        assert_eq!(fault(b"[1]"), "a row is an object, and this is a list");
        assert_eq!(fault(br#"{"id":"x","name":"y"}"#), "field `id`: `\"x\"` does not fit bigint");
        assert_eq!(fault(br#"{"id":1,"name":{"a":1}}"#), "field `name`: `{\"a\":1}` does not fit text");
        assert_eq!(fault(br#"{"id":99999999999999999999}"#), "field `id`: `99999999999999999999` does not fit bigint");
        assert_eq!(fault(br#"{"id":1}{"id":2}"#), "more than one value in the line, from column 9 on");
        assert_eq!(fault(b"{\"name\":\"a\xFF\"}"), "not UTF-8: byte 0xff at column 11");
        let long = format!(r#"{{"id":"{}"}}"#, "é".repeat(200));
        assert!(fault(long.as_bytes()).len() < 200);
    }

    #[test]
    fn a_fraction_does_not_fit_an_integer_and_a_whole_number_does() {
        assert_eq!(fault(br#"{"id":1.5}"#), "field `id`: `1.5` does not fit bigint");
        assert!(decode(&columns(r#"{"id":"bigint"}"#), br#"{"id":1e3}"#).is_ok());
    }

    #[test]
    fn a_number_in_a_column_of_moments_is_told_with_what_to_write() {
        let said = "field `t`: `1766601000` does not fit timestamp: a number has no unit; write `\"2025-12-24T18:30:00Z\"` (RFC 3339), \
            or declare `bigint`, and let `to_timestamp_seconds` or `to_timestamp_millis` say what it counts";
        assert_eq!(fault(br#"{"t":1766601000}"#), said);
        assert!(decode(&columns(r#"{"t":"timestamp"}"#), br#"{"t":"2025-12-24T18:30:00Z"}"#).is_ok());
    }

    #[test]
    fn a_digit_that_a_decimal_has_no_place_for_is_not_cut_off() {
        let columns = columns(r#"{"d":"decimal(10,2)"}"#);
        for bad in ["12.999", "\"12.999\"", "1e-3"] {
            let error = decode(&columns, format!("{{\"d\":{bad}}}").as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("field `d`: `{bad}` does not fit decimal(10, 2)"));
        }
        assert!(decode(&columns, br#"{"d":12.990}"#).is_ok());
    }

    #[test]
    fn a_number_too_large_for_a_double_does_not_fit() {
        let columns = columns(r#"{"f":"double"}"#);
        let error = decode(&columns, br#"{"f":1e999}"#).unwrap_err();
        assert_eq!(error.to_string(), "field `f`: `1e999` does not fit double");
        assert!(decode(&columns, br#"{"f":1e308}"#).is_ok());
    }

    #[test]
    fn nesting_without_end_is_a_fault_and_no_overflow() {
        let bomb = format!("{{\"id\":{}", "[".repeat(5_000_000));
        assert_eq!(fault(bomb.as_bytes()), "nested deeper than 128");
        let text = format!("{{\"name\":\"{}\"}}", "[".repeat(500));
        assert!(decode(&columns(r#"{"name":"text"}"#), text.as_bytes()).is_ok());
    }

    #[test]
    fn a_column_of_several_types_keeps_their_json_as_text() {
        use arrow::array::AsArray;
        let columns = columns(r#"{"m":"text","d":"json"}"#);
        let value = |line: &str, column: usize| {
            let row = decode(&columns, line.as_bytes()).unwrap();
            let column = row.column(column).as_string::<i32>().clone();
            column.iter().next().flatten().map(str::to_owned)
        };
        assert_eq!(value(r#"{"m":"x"}"#, 0).as_deref(), Some("x"));
        assert_eq!(value(r#"{"m": [1, 2.50]}"#, 0).as_deref(), Some("[1, 2.50]"));
        assert_eq!(value(r#"{"d":"x"}"#, 1).as_deref(), Some("\"x\""));
        assert_eq!(value(r#"{"m":null}"#, 0), None);
    }
}
