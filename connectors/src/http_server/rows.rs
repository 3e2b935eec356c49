//! What a body holds: rows, or the lines at fault.

use std::sync::Arc;

use arrow::array::StringBuilder;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::Rejected;
use bourn_engine::data::records::ROWS_MAX;
use hyper::StatusCode;
use serde_json::json;

use super::answer::Refusal;
use super::{BadRows, Format};
use crate::codec::json::document;
use crate::codec::json::{Columns, Decoder};
use crate::codec::lines::{not_utf8, split};

/// The most faults that an answer names.
const SHOWN: usize = 20;

/// What came of a body.
#[derive(Debug, Default)]
pub struct Rows {
    /// Batches of at most 8,192 rows.
    pub batches: Vec<RecordBatch>,
    /// Rows that can't be read.
    pub rejected: Vec<Rejected>,
}

impl Rows {
    /// How many, the bad ones included.
    pub fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum::<usize>() + self.rejected.len()
    }
}

/// How bodies are read.
pub struct Reading {
    pub format: Format,
    pub bad_rows: BadRows,
    pub columns: Columns,
}

impl Reading {
    /// The rows of a body.
    ///
    /// # Errors
    /// 400 with the lines and the reasons when it is none, or has bad rows and is to be refused for them.
    pub fn rows(&self, body: Vec<u8>) -> Result<Rows, Refusal> {
        let bad = |e: bourn_engine::Error| Refusal::new(StatusCode::BAD_REQUEST, e.message().to_owned());
        let text = if self.format == Format::Json { document::rows(body).map_err(bad)? } else { body };
        let (rows, faults) = if self.format == Format::Json { self.json(&text) } else { self.plain(&text) }
            .map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.message().to_owned()))?;
        if faults.is_empty() || self.bad_rows == BadRows::Reject {
            return Ok(rows);
        }
        let shown: Vec<_> =
            faults.iter().take(SHOWN).map(|(line, why)| json!({ "line": line, "error": why })).collect();
        let why = format!("{} of {} rows can't be read, and none was taken", faults.len(), rows.count());
        Err(Refusal { status: StatusCode::BAD_REQUEST, said: json!({ "error": why, "lines": shown }) })
    }

    fn json(&self, text: &[u8]) -> Result<(Rows, Vec<(u64, String)>)> {
        let mut decoder = Decoder::new(self.columns.clone())?;
        let (mut rows, mut faults) = (Rows::default(), Vec::new());
        let (mut at, mut line) = (0, 0);
        while at < text.len() {
            let part = &text[at..];
            let found = decoder.decode(part)?;
            for fault in found.faults {
                let number = line + fault.line + 1;
                faults.push((number, fault.error.to_string()));
                let shown = String::from_utf8_lossy(&part[fault.range]);
                rows.rejected.push(Rejected::text(shown, fault.error.at_input(format!("a request, line {number}"))));
            }
            if found.batch.num_rows() > 0 {
                rows.batches.push(found.batch);
            }
            at += found.bytes;
            line += found.lines;
        }
        Ok((rows, faults))
    }

    fn plain(&self, text: &[u8]) -> Result<(Rows, Vec<(u64, String)>)> {
        let (mut rows, mut faults) = (Rows::default(), Vec::new());
        let mut texts = StringBuilder::new();
        let mut close = |texts: &mut StringBuilder| -> Result<()> {
            let column = Arc::new(texts.finish());
            rows.batches.push(RecordBatch::try_new(self.columns.schema().clone(), vec![column])?);
            Ok(())
        };
        let mut rejected = Vec::new();
        for (number, range) in (1..).zip(split(text)) {
            let line = &text[range];
            match std::str::from_utf8(line) {
                Ok(line) => texts.append_value(line),
                Err(e) => {
                    let error = not_utf8(line, e);
                    faults.push((number, error.to_string()));
                    let error = error.at_input(format!("a request, line {number}"));
                    rejected.push(Rejected::text(String::from_utf8_lossy(line), error));
                }
            }
            if arrow::array::ArrayBuilder::len(&texts) == ROWS_MAX {
                close(&mut texts)?;
            }
        }
        if arrow::array::ArrayBuilder::len(&texts) > 0 {
            close(&mut texts)?;
        }
        rows.rejected = rejected;
        Ok((rows, faults))
    }
}
