//! Rejected rows as rows of the dead letters: the row as it entered, with stage, reason, time and position.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::api::Rejected;
use crate::api::output::RejectedRow;
use crate::data::columns;
use crate::data::json::row_text;
use crate::data::records::Origin;
use crate::data::secret::Secrets;
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;

/// Turns rejected rows into a batch of the schema [`columns::DEAD_LETTER`].
pub fn batch(
    stage: &str,
    rejected: &[Rejected],
    origin: Option<&Origin>,
    (now, secrets): (Timestamp, &Secrets),
) -> Result<RecordBatch> {
    let (mut reasons, mut kinds, mut positions, mut documents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for reject in rejected {
        let rows = match &reject.row {
            RejectedRow::Text(text) => vec![Value::String(text.clone()).to_string()],
            RejectedRow::Rows(rows) => (0..rows.num_rows()).map(|r| row_text(rows, r)).collect::<Result<_>>()?,
        };
        let place = reject.error.place();
        let reason = match &place.field {
            Some(field) => format!("field `{field}`: {}", reject.error.message()),
            None => reject.error.message().to_owned(),
        };
        for document in rows {
            reasons.push(secrets.conceal(&reason).into_owned());
            kinds.push(reject.error.class());
            // The line that the source named says more than the end of its chunk.
            positions.push(place.input.clone().or_else(|| origin.map(|o| o.position.to_string())));
            documents.push(secrets.conceal_in_data(&document).into_owned());
        }
    }
    let count = reasons.len();
    let split = origin.map(|o| o.split.name());
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![stage; count])),
        Arc::new(StringArray::from(reasons)),
        Arc::new(StringArray::from(kinds)),
        Arc::new(TimestampMicrosecondArray::from(vec![now.0; count]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![split; count])),
        Arc::new(StringArray::from(positions)),
        Arc::new(StringArray::from(documents)),
    ];
    Ok(RecordBatch::try_new(columns::DEAD_LETTER.clone(), arrays)?)
}

/// The error of rows that were read there, unless the error itself knows better, or is a fault of ours.
pub fn placed(error: Error, origin: Option<&Origin>) -> Error {
    match origin {
        Some(origin) if error.place().input.is_none() && error.kind() != Kind::Engine => {
            error.at_input(origin.to_string())
        }
        _ => error,
    }
}

/// The error of the first rejected row, with the row itself in the message.
pub fn first_error(rejected: Vec<Rejected>) -> Error {
    let Some(first) = rejected.into_iter().next() else { return Error::engine("nothing was rejected") };
    let shown = match &first.row {
        RejectedRow::Text(text) => Some(text.clone()),
        RejectedRow::Rows(rows) => crate::data::json::row_text(rows, 0).ok(),
    };
    match shown {
        Some(row) if first.error.place().input.is_none() => {
            let short = crate::data::secret::shortened(&row, 200);
            let message = format!("{} (in the row {short})", first.error.message());
            Error::new(first.error.kind(), message).with_place(first.error.place().clone())
        }
        _ => first.error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};

    #[test]
    fn an_error_of_rows_says_where_they_were_read() {
        use crate::data::position::{Position, Split};
        let origin =
            |position: Value| Origin { split: Split::new("a.jsonl"), position: Position::of(&position).unwrap() };
        let text = |origin: &Origin| placed(Error::validation("too small"), Some(origin)).to_string();
        assert_eq!(text(&origin(serde_json::json!({"offset": 90, "line": 7}))), "a.jsonl, line 7 or before: too small");
        assert_eq!(text(&origin(serde_json::json!([1]))), "a.jsonl: too small");
        let known = Error::validation("no JSON").at_input("a.jsonl:3");
        assert_eq!(placed(known, Some(&origin(Value::Null))).to_string(), "a.jsonl:3: no JSON");
    }

    #[test]
    fn a_dead_letter_holds_the_row_its_reason_and_its_place() {
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let rejected = [
            Rejected::rows(rows, Error::validation("too small").at_field("n")),
            Rejected::text("{oops", Error::validation("no JSON").at_input("a.jsonl:3")),
        ];
        let letters = batch("check", &rejected, None, (Timestamp(1), &Secrets::default())).unwrap();
        let text = |c: &str, r: usize| letters.column_by_name(c).unwrap().as_string::<i32>().value(r).to_owned();
        assert_eq!(letters.num_rows(), 3);
        assert_eq!((text("row", 1), text("reason", 1)), (r#"{"n":2}"#.into(), "field `n`: too small".into()));
        assert_eq!((text("row", 2), text("position", 2)), (r#""{oops""#.into(), "a.jsonl:3".into()));
    }
}
