//! What a table holds in memory, and how much it does at once.

use super::*;

/// How many parts have something on the disk.
fn on_disk(table: &Table<i64>) -> usize {
    table.parts.iter().filter(|part| part.cold.is_some()).count()
}

#[test]
fn little_too_much_goes_to_the_disk_two_parts_at_a_time_and_much_at_once() {
    let simulation = Simulation::new(1);
    let full = || {
        let mut table = within(usize::MAX, &simulation);
        table.part = 100;
        (0..200).for_each(|n| count(&mut table, &(n * 50..n * 50 + 50).collect::<Vec<_>>()));
        let held = table.bytes_held();
        (table, held)
    };
    let memory = |table: &mut Table<i64>, bytes| table.disk.as_mut().unwrap().room.memory = bytes;
    let (mut little, held) = full();
    assert!(little.parts.len() > 90 && on_disk(&little) == 0, "{} parts", little.parts.len());
    memory(&mut little, held);
    little.make_room().unwrap();
    assert_eq!(on_disk(&little), 0);
    memory(&mut little, held / 10 * 9);
    for more in [2, 4, 6] {
        little.make_room().unwrap();
        assert_eq!(on_disk(&little), more);
    }
    let (mut much, held) = full();
    memory(&mut much, held / 10 * 7);
    much.make_room().unwrap();
    assert!(much.bytes_held() <= held / 10 * 7 && on_disk(&much) > 20, "{} parts", on_disk(&much));
    // No more than is needed.
    assert!(much.bytes_held() > held / 10 * 6, "{} of {held} bytes", much.bytes_held());
}

#[test]
fn a_table_that_is_restored_keeps_to_its_room() {
    let simulation = Simulation::new(1);
    let (mut whole, mut small) = (table(), within(1_000, &simulation));
    count(&mut whole, &(0..500).collect::<Vec<_>>());
    let saved = whole.snapshot(true).unwrap().batches().collect::<Result<_>>().unwrap();
    restore(&mut small, saved, &Owned::ALL);
    count(&mut small, &[1]);
    assert_eq!((on_disk(&small), content(&small, 3)), (1, [(0, 1), (1, 2), (2, 1)].into()));
}

#[test]
fn few_of_the_full_parts_are_split_before_a_batch_unless_it_is_large_or_one_is_much_too_full() {
    assert_eq!([splits(100, [101, 150].into_iter(), 50), splits(100, [].into_iter(), 0)], [SPLITS; 2]);
    assert_eq!([splits(100, [101, 151].into_iter(), 50), splits(100, [101].into_iter(), 51)], [usize::MAX; 2]);
    // A part is full once, however many keys come on top.
    let mut table = table();
    table.part = 10;
    count(&mut table, &(0..10).collect::<Vec<_>>());
    assert!(table.full.is_empty());
    count(&mut table, &(10..40).collect::<Vec<_>>());
    assert_eq!(table.full, [0]);
}
