//! Tests of the file above.

use super::*;
use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn numbers(keys: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(keys.to_vec()))]
}

fn count(table: &mut Table<i64>, keys: &[i64]) {
    for (slot, _) in table.slots(&numbers(keys)).unwrap() {
        *table.get_mut(slot) += 1;
    }
}

fn content(table: &Table<i64>) -> BTreeMap<i64, i64> {
    let slots: Vec<Slot> = table.iter().collect();
    let keys = table.keys(&slots).unwrap();
    let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
    keys.into_iter().zip(slots.iter().map(|s| *table.get(*s))).collect()
}

#[test]
fn keys_of_several_columns_have_a_value_each_and_null_is_a_key() {
    let mut table = Table::<i64>::new([DataType::Utf8, DataType::Int64]).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), None]));
    let slots = table.slots(&[texts, Arc::new(Int64Array::from(vec![1, 1, 1, 1]))]).unwrap();
    assert_eq!(slots.iter().map(|(_, new)| *new).collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!((slots[0].0, slots[1].0, table.len()), (slots[2].0, slots[3].0, 2));
    assert!(table.slots(&numbers(&[1])).is_err());
    assert!(Table::<i64>::new([]).is_err());
}

#[test]
fn a_snapshot_stays_as_it_was_and_the_next_one_has_what_changed() {
    let mut table = Table::<i64>::new([DataType::Int64]).unwrap();
    count(&mut table, &(0..10_000).collect::<Vec<_>>());
    let before = table.snapshot(false).unwrap();
    count(&mut table, &[9_999]);
    let changed = table.snapshot(false).unwrap();
    assert!(matches!(changed.0[..], [Chunk::Unchanged, Chunk::Unchanged, Chunk::Changed(_)]), "{changed:?}");
    let mut other = Table::<i64>::new([DataType::Int64]).unwrap();
    other.restore(before.batches().unwrap(), &Owned::ALL).unwrap();
    assert_eq!((other.len(), content(&other)[&9_999], content(&table)[&9_999]), (10_000, 1, 2));
}

#[test]
fn a_saved_table_of_other_columns_is_refused() {
    let mut table = Table::<(i64, i64)>::new([DataType::Int64]).unwrap();
    table.slots(&numbers(&[1])).unwrap();
    let saved =
        || Snapshot::of([at_rest::<i64>(&[DataType::Int64], &Keys::default(), &[]).unwrap()]).batches().unwrap();
    assert!(table.restore(saved(), &Owned::ALL).is_err());
    let mut texts = Table::<i64>::new([DataType::Utf8]).unwrap();
    assert!(texts.restore(saved(), &Owned::ALL).is_err());
}

#[derive(Clone, Debug)]
enum Act {
    Count(Vec<i64>),
    Remove(i64),
    Restore(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => proptest::collection::vec(0i64..60, 0..40).prop_map(Act::Count),
        3 => (0i64..60).prop_map(Act::Remove),
        1 => (1usize..5).prop_map(Act::Restore),
    ];
    proptest::collection::vec(act, 0..60)
}

proptest! {
    #[test]
    fn it_is_a_map_whatever_happens(acts in acts()) {
        let mut table = Table::<i64>::new([DataType::Int64]).unwrap();
        let mut map = BTreeMap::new();
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
                Act::Restore(lanes) => {
                    let saved = table.snapshot(true).unwrap().batches().unwrap();
                    let mut parts = BTreeMap::new();
                    for lane in 0..lanes {
                        let mut part = Table::<i64>::new([DataType::Int64]).unwrap();
                        part.restore(saved.clone(), &Owned { lane, lanes }).unwrap();
                        let found = content(&part);
                        prop_assert_eq!(found.len(), part.len());
                        parts.extend(found);
                    }
                    prop_assert_eq!(&parts, &map);
                    table.restore(saved, &Owned::ALL).unwrap();
                }
            }
            prop_assert_eq!(content(&table), map.clone());
        }
    }
}
