//! Messages that are JSON: one row, an array of rows, or a row a line.

use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::Rejected;

use super::document;
use super::{Columns, Decoder};

/// The rows of messages, in batches of at most 8,192; what is no row is rejected alone, with the place of its message.
///
/// # Errors
/// Never for what the messages hold.
pub fn rows(
    columns: &Columns,
    messages: impl IntoIterator<Item = (Vec<u8>, String)>,
) -> Result<(Vec<RecordBatch>, Vec<Rejected>)> {
    let (mut text, mut rejected) = (Vec::new(), Vec::new());
    // Behind which line of the text which message has ended.
    let mut ends: Vec<(u64, String)> = Vec::new();
    let mut lines = 0;
    for (message, place) in messages {
        match document::rows(message.clone()) {
            Ok(rows) => {
                let start = text.len();
                text.extend_from_slice(&rows);
                if text.last().is_some_and(|byte| *byte != b'\n') {
                    text.push(b'\n');
                }
                lines += memchr::memchr_iter(b'\n', &text[start..]).count() as u64;
                ends.push((lines, place));
            }
            Err(error) => {
                rejected.push(Rejected::text(String::from_utf8_lossy(&message), error.at_input(place)));
            }
        }
    }
    let mut decoder = Decoder::new(columns.clone())?;
    let (mut batches, mut at, mut line) = (Vec::new(), 0, 0);
    while at < text.len() {
        let part = &text[at..];
        let found = decoder.decode(part)?;
        for fault in found.faults {
            let message = ends.partition_point(|(end, _)| *end <= line + fault.line);
            let place = ends.get(message).map(|(_, place)| place.clone()).unwrap_or_default();
            rejected.push(Rejected::text(String::from_utf8_lossy(&part[fault.range]), fault.error.at_input(place)));
        }
        if found.batch.num_rows() > 0 {
            batches.push(found.batch);
        }
        at += found.bytes;
        line += found.lines;
    }
    Ok((batches, rejected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::types::Declared;
    use crate::testing::rows_of;
    use serde_json::json;

    #[test]
    fn each_message_has_its_rows_and_what_is_none_is_told_with_its_message() {
        let schema = Declared(vec![("a".into(), "bigint".into())]).schema().unwrap();
        let texts =
            ["{\n\"a\":1}", "[{\"a\":2},{\"a\":\"x\"},{\"a\":3}]", "hello", "{\"a\":4}\n{\"a\":5}", "", "\u{fffd}"];
        let messages = texts.iter().enumerate().map(|(n, text)| (text.as_bytes().to_vec(), format!("message {n}")));
        let (batches, rejected) = rows(&Columns::new(schema, &[]), messages).unwrap();
        let found: Vec<_> = batches.iter().flat_map(rows_of).map(|row| row["a"].clone()).collect();
        assert_eq!(found, [json!(1), json!(2), json!(3), json!(4), json!(5)]);
        let told: Vec<_> = rejected.iter().map(|r| r.error.to_string()).collect();
        assert!(told[0].starts_with("message 2: no JSON document"), "{told:?}");
        assert!(told[1].starts_with("message 5: no JSON document"), "{told:?}");
        assert_eq!(told[2], "message 1, field `a`: `\"x\"` does not fit bigint");
    }
}
