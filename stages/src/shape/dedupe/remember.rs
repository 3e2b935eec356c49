//! Drops rows whose key has been here, as far back as it remembers.

use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{Output, Progress, Stage};
use bourn_engine::state::{StateVisitor, Table};

/// Remembers keys: each has a place in the order in which they came, and is forgotten by its place or its time. What is
/// forgotten stays in the table until it is swept.
pub struct Remember {
    columns: Vec<usize>,
    within: Option<Duration>,
    keys: i64,
    /// By key: when it came, in microseconds of the time of day, and its place in the order of all keys.
    seen: Table<(i64, i64)>,
    /// The place of the next key. Not state: it is found in the table when it is wanted.
    next: Option<i64>,
    /// After a change of lanes places have gaps: so many more of them are remembered, one less with each new key.
    gaps: i64,
    /// Keys that are to be looked at for each that was new, so that what is forgotten stays a fraction of the table.
    to_sweep: usize,
}

/// What is swept for each new key. A whole table is looked at while a quarter of it is new.
const SWEPT: usize = 4;

impl Remember {
    /// Nothing is remembered yet.
    ///
    /// # Errors
    /// When the columns can't be keys.
    pub fn new(schema: &SchemaRef, columns: &[usize], within: Option<Duration>, keys: Option<usize>) -> Result<Self> {
        let seen = Table::new(columns.iter().map(|at| schema.field(*at).data_type().clone()))?;
        let keys = keys.and_then(|keys| i64::try_from(keys).ok()).unwrap_or(i64::MAX);
        Ok(Self { columns: columns.to_vec(), within, keys, seen, next: None, gaps: 0, to_sweep: 0 })
    }

    /// The place of the next key: behind the last one that was restored.
    fn next(&mut self) -> Result<i64> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let mut places = Vec::with_capacity(self.seen.len());
        self.seen.each(|(_, place)| places.push(*place))?;
        let next = places.iter().max().map_or(0, |last| last + 1);
        // The oldest of the newest `keys`.
        let surplus = places.len().saturating_sub(usize::try_from(self.keys).unwrap_or(usize::MAX));
        if !places.is_empty() {
            let (_, oldest, _) = places.select_nth_unstable(surplus);
            self.gaps = (next.saturating_sub(self.keys) - *oldest).max(0);
        }
        Ok(next)
    }

    /// What has an earlier place is forgotten.
    fn oldest(&self, next: i64) -> i64 {
        next.saturating_sub(self.keys).saturating_sub(self.gaps)
    }

    /// Takes what is forgotten out of the table, a part at a time.
    fn sweep(&mut self, next: i64, since: i64) -> Result<()> {
        let oldest = self.oldest(next);
        while self.to_sweep > 0 && !self.seen.is_empty() {
            let looked = self.seen.sweep(|(time, place)| *time > since && *place >= oldest)?;
            self.to_sweep = self.to_sweep.saturating_sub(looked.max(1));
        }
        Ok(())
    }
}

impl Stage for Remember {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (now, mut next) = (out.wall().0, self.next()?);
        let within = self.within.map(|within| i64::try_from(within.as_micros()).unwrap_or(i64::MAX));
        // What came then or before is forgotten.
        let since = within.map_or(i64::MIN, |within| now.saturating_sub(within));
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| rows.column(*at).clone()).collect();
        let slots = self.seen.slots(&columns)?;
        let mut kept = Vec::with_capacity(slots.len());
        for (slot, is_first) in slots {
            let (time, place) = *self.seen.get(slot);
            let is_new = is_first || time <= since || place < self.oldest(next);
            if is_new {
                self.gaps = (self.gaps - 1).max(0);
                *self.seen.get_mut(slot) = (now, next);
                next += 1;
                self.to_sweep += SWEPT;
            }
            kept.push(is_new);
        }
        self.next = Some(next);
        self.sweep(next, since)?;
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
