//! `batch`: cuts rows into batches of one size.

use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::data::records::{BYTES_MAX, ROWS_MAX, bytes_held, bytes_needed, compact};
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::Problems;
use bourn_engine::state::{Buffer, StateVisitor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Joins small batches into larger ones, and cuts larger ones: `batch: { rows: 1000, within: 500ms }`.
///
/// What comes after it (a call with `limits.rows`, a sink that pays for each write) gets batches of this many rows.
/// Rows wait for others no longer than `within`; without it, until there are enough or the input ends. A batch is sent
/// on early when it holds 4 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How many rows.
    #[schemars(range(min = 1, max = 8192))]
    pub rows: usize,
    /// The longest time that a row waits for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Interval>,
}

impl StageConfig for Batch {
    const NAME: &'static str = "batch";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn makes_batches(&self) -> bool {
        true
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Collect {
            schema: context.inputs[0].clone(),
            rows: self.rows.clamp(1, ROWS_MAX),
            within: self.within.map(|i| i.0),
            held: Buffer::default(),
            due: None,
        }))
    }
}

struct Collect {
    schema: SchemaRef,
    rows: usize,
    within: Option<Duration>,
    held: Buffer,
    /// When the rows that are held must leave. Not state: monotonic time means nothing after a restart, so restored rows
    /// have none, and get one at the first tick.
    due: Option<Duration>,
}

impl Collect {
    fn send(&mut self, rows: usize, out: &mut Output) -> Result<()> {
        let mut taken = self.held.take(rows);
        out.emit(if taken.len() == 1 { taken.swap_remove(0) } else { concat_batches(&self.schema, &taken)? });
        Ok(())
    }

    fn due_from(&self, now: Duration) -> Option<Duration> {
        self.within.filter(|_| self.held.rows() > 0).map(|within| now.saturating_add(within))
    }
}

impl Stage for Collect {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        // A few rows that pin the buffers of a large batch would be held for longer than that batch was.
        let pins = bytes_held(rows) / 2 > bytes_needed(rows);
        self.held.push(if pins { compact(rows)? } else { rows.clone() });
        let mut sent = false;
        while self.held.rows() >= self.rows {
            self.send(self.rows, out)?;
            sent = true;
        }
        if self.held.bytes() >= BYTES_MAX {
            self.send(self.rows, out)?;
            sent = true;
        }
        if sent || self.due.is_none() {
            self.due = self.due_from(out.now());
        }
        Ok(Progress::Done)
    }

    fn wake_at(&self) -> Option<Duration> {
        self.within.filter(|_| self.held.rows() > 0).map(|_| self.due.unwrap_or(Duration::ZERO))
    }

    fn tick(&mut self, out: &mut Output) -> Result<Progress> {
        match self.due {
            Some(due) if due <= out.now() => {
                self.due = None;
                self.finish(out)
            }
            Some(_) => Ok(Progress::Done),
            None => {
                self.due = self.due_from(out.now());
                Ok(Progress::Done)
            }
        }
    }

    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        if self.held.rows() > 0 {
            self.send(self.rows, out)?;
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("held", &mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::{Harness, batch};
    use serde_json::json;

    fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
        batch(&range.map(|n| json!({"n": n})).collect::<Vec<_>>())
    }

    fn stage(rows: usize, within: Option<u64>) -> Harness {
        let within = within.map(|ms| Interval(Duration::from_millis(ms)));
        Harness::new(&Batch { rows, within }, &[numbers(0..1).schema()]).unwrap()
    }

    fn sizes(stage: &Harness) -> Vec<usize> {
        stage.said.ports.iter().flatten().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(Batch { rows: 3, within: None }, numbers(0..20)).check();
        let within = Some(Interval(Duration::from_millis(10)));
        conformance::stage(Batch { rows: 4, within }, numbers(0..21)).check();
    }

    #[test]
    fn rows_leave_in_batches_of_the_size_asked_for_and_the_rest_at_the_end() {
        let mut stage = stage(4, None);
        for part in [0..3, 3..5, 5..15] {
            stage.process(&numbers(part)).unwrap();
        }
        assert_eq!(sizes(&stage), [4, 4, 4]);
        stage.finish().unwrap();
        assert_eq!((sizes(&stage), stage.said.rows(0).len()), (vec![4, 4, 4, 3], 15));
        assert_eq!(stage.said.rows(0)[14], json!({"n": 14}));
    }

    #[test]
    fn a_row_waits_no_longer_than_it_may() {
        let mut stage = stage(100, Some(500));
        stage.process(&numbers(0..2)).unwrap();
        stage.pass(Duration::from_millis(300)).unwrap();
        // The time runs from the first row that is held.
        stage.process(&numbers(2..3)).unwrap();
        stage.pass(Duration::from_millis(199)).unwrap();
        assert!(sizes(&stage).is_empty());
        stage.pass(Duration::from_millis(1)).unwrap();
        assert_eq!(sizes(&stage), [3]);
    }

    #[test]
    fn a_batch_that_is_large_in_bytes_leaves_early() {
        let wide = rows![{"text": "x".repeat(BYTES_MAX)}];
        let mut stage = Harness::new(&Batch { rows: 100, within: None }, &[wide.schema()]).unwrap();
        stage.process(&wide).unwrap();
        assert_eq!(sizes(&stage), [1]);
    }

    #[test]
    fn a_slice_does_not_pin_what_it_was_cut_from() {
        let large = numbers(0..8_000);
        let mut collect =
            Collect { schema: large.schema(), rows: 100, within: None, held: Buffer::default(), due: None };
        collect.process(&large.slice(5, 2), &mut Output::default()).unwrap();
        assert!(collect.held.bytes() < 1_024, "{}", collect.held.bytes());
    }
}
