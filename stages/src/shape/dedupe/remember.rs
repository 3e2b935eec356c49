//! Drops rows whose key has been here, as far back as it remembers.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{Output, Progress, Stage};
use bourn_engine::state::{Slot, StateVisitor, Table};

/// Remembers keys in the order in which they came.
pub struct Remember {
    columns: Vec<usize>,
    within: Option<Duration>,
    keys: usize,
    /// By key: when it came, in microseconds of the time of day, and its place in the order of all keys.
    seen: Table<(i64, i64)>,
    /// The same in that order. Not state: it is made of the table when it is wanted.
    order: VecDeque<Slot>,
    /// The place of the next key.
    next: i64,
}

impl Remember {
    /// Nothing is remembered yet.
    ///
    /// # Errors
    /// When the columns can't be keys.
    pub fn new(schema: &SchemaRef, columns: &[usize], within: Option<Duration>, keys: Option<usize>) -> Result<Self> {
        let seen = Table::new(columns.iter().map(|at| schema.field(*at).data_type().clone()))?;
        let (columns, order, keys) = (columns.to_vec(), VecDeque::new(), keys.unwrap_or(usize::MAX));
        Ok(Self { columns, within, keys, seen, order, next: 0 })
    }

    /// After a restore the order is found again.
    fn ordered(&mut self) {
        if self.order.len() == self.seen.len() {
            return;
        }
        let mut slots: Vec<Slot> = self.seen.iter().collect();
        slots.sort_unstable_by_key(|slot| *self.seen.get(*slot));
        self.next = slots.iter().map(|slot| self.seen.get(*slot).1 + 1).max().unwrap_or(0);
        self.order = slots.into();
    }

    fn forget_oldest(&mut self) {
        if let Some(slot) = self.order.pop_front() {
            self.seen.remove(slot);
        }
    }

    /// Forgets the keys that came too long ago.
    fn forget_old(&mut self, now: i64) {
        let Some(within) = self.within else { return };
        let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
        while let Some(oldest) = self.order.front()
            && self.seen.get(*oldest).0.saturating_add(within) <= now
        {
            self.forget_oldest();
        }
    }
}

impl Stage for Remember {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.ordered();
        let now = out.wall().0;
        self.forget_old(now);
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| rows.column(*at).clone()).collect();
        let slots = self.seen.slots(&columns)?;
        let mut kept = Vec::with_capacity(slots.len());
        for (slot, new) in slots {
            if new {
                *self.seen.get_mut(slot) = (now, self.next);
                self.next += 1;
                self.order.push_back(slot);
            }
            kept.push(new);
        }
        while self.order.len() > self.keys {
            self.forget_oldest();
        }
        super::super::sample::emit(rows, &kept.into(), out)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("seen", &mut self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dedupe;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn dedupe(config: Value) -> Dedupe {
        serde_json::from_value(config).unwrap()
    }

    fn stage(config: Value) -> Harness {
        Harness::new(&dedupe(config), &[rows![{"id": 1}].schema()]).unwrap()
    }

    fn passed(stage: &Harness) -> Vec<i64> {
        stage.said.rows(0).iter().map(|r| r["id"].as_i64().unwrap()).collect()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        let rows = rows![{"id": 1}, {"id": 2}, {"id": 1}, {"id": null}, {"id": null}, {"id": 3}];
        conformance::stage(dedupe(json!({"by": ["id"], "within": "1h"})), rows.clone()).check();
        conformance::stage(dedupe(json!({"keys": 1000})), rows).check();
    }

    #[test]
    fn a_key_is_remembered_for_its_time_and_over_a_restart() {
        let config = json!({"by": ["id"], "within": "10s"});
        let mut before = stage(config.clone());
        before.process(&rows![{"id": 1}, {"id": 2}, {"id": 1}]).unwrap();
        before.pass(Duration::from_secs(6)).unwrap();
        before.process(&rows![{"id": 3}, {"id": 1}]).unwrap();
        assert_eq!(passed(&before), [1, 2, 3]);
        let mut after = stage(config);
        after.restore(before.snapshot().unwrap()).unwrap();
        after.pass(Duration::from_secs(9)).unwrap();
        after.process(&rows![{"id": 2}, {"id": 3}]).unwrap();
        after.pass(Duration::from_secs(2)).unwrap();
        after.process(&rows![{"id": 2}, {"id": 3}, {"id": 4}]).unwrap();
        assert_eq!(passed(&after), [2, 4]);
    }

    #[test]
    fn the_oldest_key_goes_when_there_are_too_many() {
        let mut stage = stage(json!({"by": ["id"], "keys": 2}));
        for id in [1, 2, 1, 3, 2, 1] {
            stage.process(&rows![{"id": id}]).unwrap();
        }
        assert_eq!(passed(&stage), [1, 2, 3, 1]);
        assert_eq!(stage.said.filtered, 2);
    }
}
