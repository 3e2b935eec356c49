//! Rows held back, in the order they came.

use std::collections::VecDeque;

use arrow::record_batch::RecordBatch;

use super::visitor::{Owned, Piece, Scope, Snapshot};
use crate::data::records::bytes_held;
use crate::error::Result;

/// Rows that a stage holds back, first in, first out.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    batches: VecDeque<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Buffer {
    /// Rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds rows at the end.
    pub fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes += bytes_held(&batch);
        self.batches.push_back(batch);
    }

    /// Takes up to `rows` rows from the front, as the batches they came in, the last one cut.
    pub fn take(&mut self, rows: usize) -> Vec<RecordBatch> {
        let mut taken = Vec::new();
        let mut left = rows;
        while left > 0
            && let Some(batch) = self.batches.pop_front()
        {
            self.rows -= batch.num_rows();
            self.bytes -= bytes_held(&batch);
            if batch.num_rows() > left {
                let rest = batch.slice(left, batch.num_rows() - left);
                self.rows += rest.num_rows();
                self.bytes += bytes_held(&rest);
                self.batches.push_front(rest);
                taken.push(batch.slice(0, left));
                left = 0;
            } else {
                left -= batch.num_rows();
                taken.push(batch);
            }
        }
        taken
    }
}

impl Piece for Buffer {
    fn snapshot(&mut self, _: bool) -> Result<Snapshot> {
        Ok(Snapshot::of(self.batches.iter().cloned()))
    }

    fn scope(&self) -> Scope {
        Scope::Rows
    }

    fn restore(&mut self, content: &mut dyn Iterator<Item = Result<RecordBatch>>, _: &Owned) -> Result<()> {
        *self = Self::default();
        for batch in content {
            self.push(batch?);
        }
        Ok(())
    }

    fn rows_held(&self) -> usize {
        self.rows
    }

    fn bytes_held(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)]).unwrap()
    }

    fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn rows_leave_in_the_order_they_came_and_a_snapshot_restores_them() {
        let mut buffer = Buffer::default();
        buffer.push(batch(0..3));
        buffer.push(batch(3..5));
        assert_eq!((buffer.rows(), buffer.bytes()), (5, 40));
        assert_eq!(numbers(&buffer.take(2)), [0, 1]);
        let mut other = Buffer::default();
        other.restore(&mut buffer.snapshot(true).unwrap().batches(), &Owned::ALL).unwrap();
        assert_eq!((other.rows(), numbers(&other.take(9))), (3, vec![2, 3, 4]));
        assert_eq!((other.rows(), other.bytes()), (0, 0));
        (0..4).for_each(|n| other.push(batch(n * 2..n * 2 + 2)));
        assert_eq!((numbers(&other.take(6)), other.rows(), numbers(&other.take(9))), ((0..6).collect(), 2, vec![6, 7]));
    }
}
