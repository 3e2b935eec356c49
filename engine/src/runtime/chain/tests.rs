//! Tests of the file above.

use super::*;
use crate::testing::harness::batch;
use serde_json::json;

/// Hands on what came, and a part of its columns.
struct Both;
impl crate::api::Stage for Both {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        out.emit(rows.clone());
        out.emit(rows.project(&[0])?);
        Ok(Progress::Done)
    }
}

#[test]
fn bytes_are_those_of_what_left_whether_it_came_so_or_was_made() {
    let worker = Worker::Stage(BoxStage::new(Both));
    let slot = Slot::new("both".into(), worker, (OnError::Fail, Cardinality::Many), vec![0], Arc::default());
    let mut chain = Chain::new(vec![slot], Env::system());
    let rows = batch(&[json!({"n": 1, "text": "a text of some length"})]);
    let part = bytes_held(&rows.project(&[0]).unwrap()) as u64;
    let whole = bytes_held(&rows) as u64;
    chain.rows(0, rows);
    while chain.step().unwrap() {}
    assert_eq!((chain.slots[0].tally.bytes_in, chain.slots[0].tally.bytes_out), (whole, whole + part));
    assert_ne!(part, whole);
}
