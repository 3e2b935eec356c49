//! Tests of the file above.

use super::rest::Take;
use super::save::CHANGES;
use super::*;
use crate::state::visitor::{Chunk, Frozen};
use crate::testing::simulation::Simulation;
use crate::testing::simulation::files::Fault;
use arrow::array::{Int64Array, StringArray};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

mod room;

fn numbers(keys: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(keys.to_vec()))]
}

fn table() -> Table<i64> {
    Table::new([DataType::Int64]).unwrap()
}

fn count(table: &mut Table<i64>, keys: &[i64]) {
    for (slot, _) in table.slots(&numbers(keys)).unwrap() {
        *table.get_mut(slot) += 1;
    }
}

/// A table that holds so many bytes in memory.
fn within(memory: usize, simulation: &Simulation) -> Table<i64> {
    let mut table = table();
    // Each has names of its own.
    let number = simulation.env().random();
    let (env, folder, name) = (simulation.env(), "state".into(), format!("t{number}"));
    table.confine(&Room { memory, env, folder, name, file: 4_000 });
    table
}

fn restore(table: &mut Table<i64>, saved: Vec<RecordBatch>, owned: &Owned) {
    table.restore(&mut saved.into_iter().map(Ok), owned).unwrap();
}

fn restored(saved: Vec<RecordBatch>) -> Table<i64> {
    let mut other = table();
    restore(&mut other, saved, &Owned::ALL);
    other
}

/// The values of the keys below `below`.
fn content(table: &Table<i64>, below: i64) -> BTreeMap<i64, i64> {
    let keys: Vec<i64> = (0..below).collect();
    let values = table.find(&numbers(&keys)).unwrap();
    keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect()
}

/// What a keeper has of a table.
#[derive(Default)]
struct Kept(BTreeMap<u64, Vec<RecordBatch>>);

impl Kept {
    /// Takes a snapshot; returns all there is now and how many rows were new.
    fn take(&mut self, snapshot: Snapshot) -> (Vec<RecordBatch>, usize) {
        let (before, mut new) = (std::mem::take(&mut self.0), 0);
        for chunk in snapshot.0 {
            match chunk {
                Chunk::Unchanged(number) => drop(self.0.insert(number, before[&number].clone())),
                Chunk::Changed(number, frozen) => {
                    let rows = frozen.batches().unwrap();
                    new += rows.iter().map(RecordBatch::num_rows).sum::<usize>();
                    assert!(self.0.insert(number, rows).is_none(), "a number is given twice");
                }
            }
        }
        (self.0.values().flatten().cloned().collect(), new)
    }
}

#[test]
fn keys_of_several_columns_have_a_value_each_and_null_is_a_key() {
    let mut table = Table::<i64>::new([DataType::Utf8, DataType::Int64]).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), None]));
    let slots = table.slots(&[texts, Arc::new(Int64Array::from(vec![1, 1, 1, 1]))]).unwrap();
    assert_eq!(slots.iter().map(|(_, new)| *new).collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!((slots[0].0, slots[1].0, table.len()), (slots[2].0, slots[3].0, 2));
    *table.get_mut(slots[1].0) = 7;
    assert!(!table.is_empty());
    assert_eq!((table.get(slots[0].0), table.get(slots[3].0)), (&0, &7));
    assert!(table.slots(&numbers(&[1])).is_err());
    assert!(Table::<i64>::new([]).is_err());
}

#[test]
fn a_snapshot_stays_as_it_was_and_the_next_one_has_what_changed() {
    let mut table = table();
    count(&mut table, &(0..10_000).collect::<Vec<_>>());
    let before = table.snapshot(false).unwrap();
    count(&mut table, &[9_999]);
    let changed = table.snapshot(false).unwrap();
    assert!(matches!(changed.0[..], [Chunk::Unchanged(0), Chunk::Changed(1, _)]), "{changed:?}");
    let mut kept = Kept::default();
    assert_eq!(content(&restored(kept.take(before).0), 10_000)[&9_999], 1);
    let (all, new) = kept.take(changed);
    assert_eq!((new, content(&restored(all), 10_000)), (1, content(&table, 10_000)));
    assert!(matches!(table.snapshot(false).unwrap().0[..], [Chunk::Unchanged(0), Chunk::Unchanged(1)]));
}

#[test]
fn a_table_is_saved_as_a_whole_when_its_changes_are_more_than_its_keys() {
    let mut table = table();
    for (keys, chunks) in [(0..10_000, 1), (0..5_000, 2), (5_000..10_000, 3), (7..8, 1)] {
        count(&mut table, &keys.collect::<Vec<_>>());
        let snapshot = table.snapshot(false).unwrap();
        assert_eq!(snapshot.0.len(), chunks);
        assert!(matches!(snapshot.0.last(), Some(Chunk::Changed(..))));
    }
}

#[test]
fn changes_take_no_more_rows_than_the_whole_and_no_more_chunks_than_a_fixed_number() {
    let (mut table, mut kept, mut longest) = (table(), Kept::default(), 0);
    for n in 0..300 {
        count(&mut table, &(n * 40..n * 40 + 10_000).collect::<Vec<_>>());
        let (all, _) = kept.take(table.snapshot(false).unwrap());
        let rows: usize = all.iter().map(RecordBatch::num_rows).sum();
        assert!(rows <= 2 * table.len(), "{rows} rows of {} keys", table.len());
        longest = longest.max(all.len());
    }
    for _ in 0..300 {
        count(&mut table, &[1]);
        longest = longest.max(kept.take(table.snapshot(false).unwrap()).0.len());
    }
    assert!((CHANGES..CHANGES + 10).contains(&longest), "{longest} chunks");
}

#[test]
fn many_keys_are_spread_over_parts_whatever_their_order_and_a_snapshot_has_them_in_order_of_their_hash() {
    let mut table = table();
    let keys: Vec<i64> = (0..200_000).collect();
    keys.chunks(8_192).for_each(|keys| count(&mut table, keys));
    keys.chunks(30_000).for_each(|keys| count(&mut table, keys));
    assert!(table.parts.iter().all(|p| p.taken() < 2 * PART), "{:?}", table.parts.len());
    let other = restored(table.snapshot(true).unwrap().batches().collect::<Result<_>>().unwrap());
    assert_eq!((table.len(), other.len(), other.find(&numbers(&[7])).unwrap()), (200_000, 200_000, vec![Some(2)]));
}

#[test]
fn what_was_removed_takes_no_room() {
    let mut table = table();
    for n in 0..200 {
        count(&mut table, &(n * 1_000..n * 1_000 + 1_000).collect::<Vec<_>>());
        table.sweep(|_| false).unwrap();
        for _ in 0..table.parts.len() {
            table.sweep(|_| false).unwrap();
        }
        assert!(table.is_empty() && table.bytes_held() < 100_000, "{} bytes", table.bytes_held());
    }
}

#[test]
fn a_table_that_is_larger_than_memory_is_what_it_would_be_within_and_saves_its_changes() {
    let simulation = Simulation::new(1);
    let (mut small, mut whole, mut kept) = (within(200_000, &simulation), table(), Kept::default());
    for n in 0..40 {
        let keys: Vec<i64> = (0..2_500).map(|k| (k * 7_919 + n * 104_729) % 50_000).collect();
        count(&mut small, &keys);
        count(&mut whole, &keys);
        assert!(small.bytes_held() < 400_000, "{} bytes", small.bytes_held());
        if n > 25 {
            let (all, new) = kept.take(small.snapshot(false).unwrap());
            assert!(n == 26 || new <= 2_500 || new == small.len(), "{new} rows are saved anew");
            assert_eq!(content(&restored(all), 30_000), content(&whole, 30_000));
        }
    }
    assert_eq!((small.len(), content(&small, 30_000)), (whole.len(), content(&whole, 30_000)));
    small.sweep(|_| true).unwrap();
    let (mut low, mut sum) = (0, 0);
    small.each(|n| (low, sum) = (low + 1, sum + n)).unwrap();
    assert_eq!((low, sum), (whole.len(), 40 * 2_500));
    let bytes: usize = simulation.files().paths().iter().map(|p| simulation.files().get(p).unwrap().len()).sum();
    assert!(bytes < 6 * 16 * whole.len(), "{bytes} bytes of files");
}

#[test]
fn whichever_call_of_the_disk_fails_the_table_says_so_or_is_right() {
    let run = |simulation: &Simulation| {
        let (mut table, mut rows) = (within(0, simulation), Vec::new());
        for n in 0..6 {
            let slots = table.slots(&numbers(&(n * 10..n * 10 + 40).collect::<Vec<_>>()))?;
            for (slot, _) in slots {
                *table.get_mut(slot) += 1;
            }
            if n % 2 == 1 {
                rows = table.snapshot(true)?.batches().collect::<Result<Vec<_>>>()?;
            }
        }
        Ok::<_, Error>(content(&restored(rows), 100))
    };
    let calm = Simulation::new(1);
    let expected = run(&calm).unwrap();
    let mut failed = 0;
    for call in 1..=calm.files().calls() {
        for fault in [Fault::Io, Fault::Full, Fault::Short] {
            let simulation = Simulation::new(1);
            simulation.files().fail(call, fault);
            match run(&simulation) {
                Ok(found) => assert_eq!(found, expected, "{call} {fault:?}"),
                Err(e) => {
                    failed += 1;
                    assert!(e.message().contains("state/t"), "{}", e.message());
                }
            }
        }
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn what_was_removed_before_a_snapshot_saw_it_is_not_saved_and_what_has_only_come_is() {
    let (mut table, mut kept) = (table(), Kept::default());
    count(&mut table, &(0..10_000).collect::<Vec<_>>());
    kept.take(table.snapshot(false).unwrap());
    count(&mut table, &[20_000]);
    let (slot, is_new) = table.slots(&numbers(&[20_000])).unwrap()[0];
    table.remove(slot);
    assert!(!is_new);
    assert!(matches!(table.snapshot(false).unwrap().0[..], [Chunk::Unchanged(0)]));
    table.slots(&numbers(&[20_001])).unwrap();
    let (all, new) = kept.take(table.snapshot(false).unwrap());
    assert_eq!((new, restored(all).find(&numbers(&[20_001])).unwrap()), (1, vec![Some(0)]));
}

#[test]
fn a_batch_may_have_so_many_keys_and_no_more() {
    let mut table = table();
    let keys: Vec<i64> = (0..).take(ROWS + 1).collect();
    assert!(table.slots(&numbers(&keys)).is_err());
    count(&mut table, &keys[1..]);
    assert_eq!((table.len(), table.rows_held()), (ROWS, 0));
}

#[test]
fn a_saved_table_of_other_columns_is_refused() {
    let mut table = Table::<(i64, i64)>::new([DataType::Int64]).unwrap();
    table.slots(&numbers(&[1])).unwrap();
    let frozen = || Frozen::in_batches(|each| rest::at_rest::<i64>(&[DataType::Int64], &[], Take::All, each));
    let saved = || frozen().batches().unwrap().remove(0);
    assert!(table.restore(&mut [Ok(saved())].into_iter(), &Owned::ALL).is_err());
    let mut texts = Table::<i64>::new([DataType::Utf8]).unwrap();
    assert!(texts.restore(&mut [Ok(saved())].into_iter(), &Owned::ALL).is_err());
}

#[derive(Clone, Debug)]
enum Act {
    Count(Vec<i64>),
    Remove(i64),
    Sweep,
    /// Takes a snapshot, and keeps it back while the table goes on or not.
    Save(bool),
    Restore(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => proptest::collection::vec(0i64..60, 0..40).prop_map(Act::Count),
        3 => (0i64..60).prop_map(Act::Remove),
        1 => Just(Act::Sweep),
        2 => any::<bool>().prop_map(Act::Save),
        1 => (1usize..5).prop_map(Act::Restore),
    ];
    proptest::collection::vec(act, 0..60)
}

proptest! {
    #[test]
    fn it_is_a_map_whatever_happens(
        acts in acts(), large in any::<bool>(), memory in 0usize..3, copied in prop_oneof![Just(0), Just(usize::MAX)],
        part in prop_oneof![Just(30), Just(300), Just(PART)],
    ) {
        // A large table is saved by its changes. Its many keys are out of the way of the others.
        // With nothing in memory all goes to the disk between two calls; with some, what was there first.
        let simulation = Simulation::new(1);
        // What is saved is copied, or becomes a layer.
        let empty = || {
            let mut empty = match memory {
                0 => table(),
                some => within((some - 1) * 40_000, &simulation),
            };
            (empty.log.copied, empty.part) = (copied, part);
            empty
        };
        let mut table = empty();
        if large {
            count(&mut table, &(1_000..10_000).collect::<Vec<_>>());
        }
        let mut map = BTreeMap::new();
        let (mut kept, mut held, mut saved) = (Kept::default(), Vec::new(), (Vec::new(), BTreeMap::new()));
        for act in acts {
            match act {
                Act::Count(keys) => {
                    count(&mut table, &keys);
                    for key in keys {
                        *map.entry(key).or_insert(0) += 1;
                    }
                }
                Act::Remove(key) => {
                    if map.remove(&key).is_some() {
                        let (slot, new) = table.slots(&numbers(&[key])).unwrap()[0];
                        prop_assert!(!new);
                        table.remove(slot);
                    }
                }
                Act::Sweep => {
                    // A part whose snapshot is still being written is left out, and one that is full has no room for what its keys
                    // on the disk are to become.
                    table.each(|_| {}).unwrap();
                    while !table.full.is_empty() {
                        table.prepare(0).unwrap();
                    }
                    let mut swept = 0;
                    while swept < table.parts.len() {
                        table.sweep(|value| *value < 3).unwrap();
                        swept += 1;
                    }
                    map.retain(|_, value| *value < 3);
                }
                Act::Save(hold) => {
                    let snapshot = table.snapshot(false).unwrap();
                    held.push((snapshot, map.clone()));
                    if !hold {
                        for (snapshot, map) in held.drain(..) {
                            saved = (kept.take(snapshot).0, map);
                        }
                    }
                }
                Act::Restore(lanes) => {
                    let (saved, before) = saved.clone();
                    let mut parts = BTreeMap::new();
                    for lane in 0..lanes {
                        let mut part = empty();
                        restore(&mut part, saved.clone(), &Owned { lane, lanes });
                        let found = content(&part, 60);
                        prop_assert!(large || found.len() == part.len());
                        parts.extend(found);
                    }
                    prop_assert_eq!(&parts, &before);
                    map = before;
                    held.clear();
                    restore(&mut table, saved, &Owned::ALL);
                }
            }
            prop_assert_eq!(content(&table, 60), map.clone());
            prop_assert!(large || table.len() == map.len());
        }
        drop((held, kept, table));
        prop_assert!(simulation.files().paths().is_empty());
    }
}
