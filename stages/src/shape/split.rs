//! `split`: cuts large batches into small ones.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::data::records::{bytes_needed, compact};
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cuts batches into smaller ones: `split: { rows: 100 }` lets none of more than a hundred rows through.
///
/// What comes after it (a sink that sends a request for each batch) gets no larger ones. `bytes: 64KiB` bounds what the
/// rows need in memory as well; a single row that needs more passes alone. No row waits: small batches stay as small as
/// they are, and `batch` is the stage that joins them.
///
/// To cut the text of a column into rows, make a list of it first: `map: { keep: "*", words: "string_to_array(line, ' ')" }`,
/// then `flatten: { list: words }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The most rows of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows: Option<usize>,
    /// The most bytes of a batch of several rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
}

impl StageConfig for Split {
    const NAME: &'static str = "split";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        if self.rows.is_none() && self.bytes.is_none() {
            let problem = Problem::new("this says neither how many rows nor how many bytes a batch may have");
            return Err(problem.help("write `rows: 100` or `bytes: 64KiB`").into());
        }
        let mut problems = Vec::new();
        if self.rows == Some(0) {
            problems.push(Problem::new("a batch has at least one row").under("rows"));
        }
        if self.bytes == Some(Size(0)) {
            problems.push(Problem::new("a batch has at least one byte").under("bytes"));
        }
        Problems::check(problems)?;
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _context: &BuildContext) -> Result<Operator> {
        let bytes = self.bytes.map_or(usize::MAX, |b| usize::try_from(b.0).unwrap_or(usize::MAX));
        Ok(Operator::stage(Cut { rows: self.rows.unwrap_or(usize::MAX), bytes }))
    }
}

struct Cut {
    rows: usize,
    bytes: usize,
}

impl Stage for Cut {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut from = 0;
        while from < rows.num_rows() {
            let taken = self.rows.min(rows.num_rows() - from);
            self.halve(rows.slice(from, taken), out)?;
            from += taken;
        }
        Ok(Progress::Done)
    }
}

impl Cut {
    /// Sends the rows on in parts that are small enough, and cuts no more than it must.
    fn halve(&self, rows: RecordBatch, out: &mut Output) -> Result<()> {
        if rows.num_rows() <= 1 || self.fits(&rows)? {
            out.emit(rows);
            return Ok(());
        }
        let half = rows.num_rows() / 2;
        self.halve(rows.slice(0, half), out)?;
        self.halve(rows.slice(half, rows.num_rows() - half), out)
    }

    fn fits(&self, rows: &RecordBatch) -> Result<bool> {
        // A slice of lists counts the elements of its neighbours too; a copy does not.
        Ok(self.bytes == usize::MAX || bytes_needed(rows) <= self.bytes || bytes_needed(&compact(rows)?) <= self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::told;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::{Harness, batch, rows_of};
    use serde_json::{Value, json};

    fn split(config: Value) -> Split {
        serde_json::from_value(config).unwrap()
    }

    fn numbers(count: usize) -> RecordBatch {
        batch(&(0..count).map(|n| json!({"n": n, "text": "x".repeat(n)})).collect::<Vec<_>>())
    }

    fn sizes(config: Value, rows: &RecordBatch) -> Vec<usize> {
        let mut stage = Harness::new(&split(config), &[rows.schema()]).unwrap();
        stage.process(rows).unwrap();
        assert_eq!(stage.said.rows(0), rows_of(rows));
        stage.said.ports[0].iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(split(json!({"rows": 3, "bytes": 100})), numbers(20)).check();
    }

    #[test]
    fn no_batch_has_more_rows_and_small_ones_stay_as_they_are() {
        assert_eq!(sizes(json!({"rows": 4}), &numbers(10)), [4, 4, 2]);
        assert_eq!(sizes(json!({"rows": 4}), &numbers(3)), [3]);
    }

    #[test]
    fn no_batch_of_several_rows_needs_more_bytes() {
        let rows = numbers(64);
        let mut stage = Harness::new(&split(json!({"bytes": "200B"})), &[rows.schema()]).unwrap();
        stage.process(&rows).unwrap();
        let small = |b: &RecordBatch| b.num_rows() == 1 || bytes_needed(b) <= 200;
        assert!(stage.said.ports[0].iter().all(small));
        assert!(stage.said.ports[0].len() < 64, "{}", stage.said.ports[0].len());
        assert_eq!(sizes(json!({"bytes": 10}), &rows![{"t": "longer than ten bytes"}]), [1]);
        assert_eq!(sizes(json!({"bytes": "1MiB"}), &rows), [64]);
        let lists = batch(&(0..64).map(|n| json!({"l": [n, n, n, n]})).collect::<Vec<_>>());
        assert_eq!(sizes(json!({"bytes": "1KiB"}), &lists), [16; 4]);
    }

    #[test]
    fn what_cuts_nothing_is_refused() {
        let said = |config| told(split(config).schema(&[numbers(1).schema()]));
        assert_eq!(
            said(json!({})),
            [
                " | this says neither how many rows nor how many bytes a batch may have | write `rows: 100` or `bytes: 64KiB`"
            ]
        );
        assert_eq!(
            said(json!({"rows": 0, "bytes": 0})),
            ["rows | a batch has at least one row | ", "bytes | a batch has at least one byte | "]
        );
    }
}
