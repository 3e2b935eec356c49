//! Lines of CSV to lists of fields, and back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use csv_core::{ReadRecordResult, ReaderBuilder};
use datafusion_common::{Result as DfResult, exec_err};

use super::{Function, Kind, at, texts};

pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "csv_parse",
        usage: "csv_parse(line)` or `csv_parse(line, ';')",
        count: (1, 2),
        takes: &[Kind::Text],
        returns: || DataType::new_list(DataType::Utf8, true),
        run: parse,
    },
    Function {
        name: "csv_format",
        usage: "csv_format(list)` or `csv_format(list, ';')",
        count: (1, 2),
        takes: &[Kind::Texts, Kind::Text],
        returns: || DataType::Utf8,
        run: format,
    },
];

/// The one character between fields, in each row.
fn delimiter(given: Option<&str>) -> DfResult<u8> {
    match given.unwrap_or(",").as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => exec_err!("a delimiter is one ASCII character and no quote or line break"),
    }
}

fn parse(arguments: &[ArrayRef]) -> DfResult<ArrayRef> {
    let lines = texts(&arguments[0])?;
    let delimiters = arguments.get(1).map(texts).transpose()?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    let (mut fields, mut ends) = (Vec::new(), Vec::new());
    for row in 0..lines.len() {
        let Some(line) = at(&lines, row) else {
            lists.append(false);
            continue;
        };
        let by = delimiter(delimiters.as_ref().and_then(|d| at(d, row)))?;
        let mut reader = ReaderBuilder::new().delimiter(by).build();
        // A field is never longer than the line, and there is at most one more than there are delimiters.
        fields.resize(line.len().max(1), 0);
        ends.resize(line.bytes().filter(|b| *b == by).count() + 2, 0);
        let (result, read, filled, mut count) = reader.read_record(line.as_bytes(), &mut fields, &mut ends);
        let mut rest = &line.as_bytes()[read..];
        if result == ReadRecordResult::InputEmpty {
            // The end of the input ends the record.
            let (_, _, _, more) = reader.read_record(&[], &mut fields[filled..], &mut ends[count..]);
            count += more;
            rest = &[];
        }
        if rest.iter().any(|b| !matches!(b, b'\r' | b'\n')) {
            return exec_err!("a line break outside of quotes: this is more than one line of CSV");
        }
        let mut from = 0;
        for end in &ends[..count] {
            // Delimiters and quotes are ASCII, so that fields of a text are text.
            lists.values().append_value(String::from_utf8_lossy(&fields[from..*end]));
            from = *end;
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn format(arguments: &[ArrayRef]) -> DfResult<ArrayRef> {
    let lists = arguments[0].as_list::<i32>();
    let delimiters = arguments.get(1).map(texts).transpose()?;
    let mut lines = StringBuilder::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            lines.append_null();
            continue;
        }
        let by = char::from(delimiter(delimiters.as_ref().and_then(|d| at(d, row)))?);
        let fields = texts(&lists.value(row))?;
        let alone = fields.len() == 1;
        let line: Vec<_> = fields.iter().map(|f| quoted(f.unwrap_or_default(), by, alone)).collect();
        lines.append_value(line.join(by.encode_utf8(&mut [0; 4])));
    }
    Ok(Arc::new(lines.finish()))
}

/// As RFC 4180 has it. A line of one empty field would be no line at all, so that is quoted.
fn quoted(field: &str, by: char, alone: bool) -> String {
    if field.contains([by, '"', '\r', '\n']) || alone && field.is_empty() {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
