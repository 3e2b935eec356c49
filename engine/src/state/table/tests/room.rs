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
    count(&mut table, &(0..10).collect::<Vec<_>>());
    assert!(table.full.is_empty());
    count(&mut table, &(10..40).collect::<Vec<_>>());
    assert_eq!(table.full, [0]);
}

#[test]
fn a_part_that_is_much_too_full_is_split_until_none_is() {
    let mut table = table();
    table.part = 10;
    count(&mut table, &(0..500).collect::<Vec<_>>());
    while !table.full.is_empty() {
        table.prepare(0).unwrap();
        let taken = table.full.iter().map(|number| table.parts[*number as usize].taken()).collect::<Vec<_>>();
        assert!(taken.iter().all(|taken| *taken > 10), "{taken:?}");
    }
    assert!(table.parts.iter().all(|part| part.taken() <= 10) && table.parts.len() < 150, "{}", table.parts.len());
    assert_eq!(content(&table, 500).len(), 500);
}

/// Two keys whose hashes of 64 bits are the same, found by looking for some minutes.
const OF_ONE_HASH: [i64; 2] = [-3_035_569_925_511_644_181, -714_363_023_823_205_829];

#[test]
fn two_keys_of_one_hash_are_two_keys_wherever_they_are() {
    for [one, other] in [OF_ONE_HASH, [OF_ONE_HASH[1], OF_ONE_HASH[0]]] {
        let simulation = Simulation::new(1);
        let mut table = within(usize::MAX, &simulation);
        let both = |table: &Table<i64>| table.find(&numbers(&[one, other])).unwrap();
        count(&mut table, &[7, one, other]);
        count(&mut table, &[one]);
        assert_eq!(both(&table), [Some(2), Some(1)]);
        table.spill(0).unwrap();
        assert_eq!((both(&table), on_disk(&table)), (vec![Some(2), Some(1)], 1));
        // One of them in memory, the other on the disk.
        count(&mut table, &[other, 8]);
        assert_eq!(both(&table), [Some(2), Some(2)]);
        table.spill(0).unwrap();
        assert_eq!(both(&table), [Some(2), Some(2)]);
        let (slot, is_new) = table.slots(&numbers(&[one])).unwrap()[0];
        table.remove(slot);
        assert_eq!((both(&table), is_new), (vec![None, Some(2)], false));
        table.spill(0).unwrap();
        count(&mut table, &[other]);
        assert_eq!((both(&table), table.len()), (vec![None, Some(3)], 3));
        // New ones beside each other, and beside one that is there.
        count(&mut table, &[one]);
        table.spill(0).unwrap();
        count(&mut table, &[one, other]);
        table.spill(0).unwrap();
        assert_eq!((both(&table), table.len()), (vec![Some(2), Some(4)], 4));
        // Each stands there once.
        assert_eq!(table.parts[0].cold.as_ref().map(|run| run.count), Some(4));
    }
}

#[test]
fn a_full_part_on_the_disk_goes_there_with_what_has_come_before_it_is_two() {
    let simulation = Simulation::new(1);
    let mut table = within(usize::MAX, &simulation);
    table.part = 20;
    count(&mut table, &(0..20).collect::<Vec<_>>());
    table.spill(0).unwrap();
    count(&mut table, &(20..60).collect::<Vec<_>>());
    table.prepare(0).unwrap();
    assert_eq!((table.parts.len(), on_disk(&table), content(&table, 60).len()), (2, 2, 60));
}

#[test]
fn a_sweep_takes_no_more_from_the_disk_than_a_part_has_room_for() {
    let simulation = Simulation::new(1);
    let mut table = within(usize::MAX, &simulation);
    table.part = 10;
    count(&mut table, &(0..15).collect::<Vec<_>>());
    table.spill(0).unwrap();
    // On the disk a part may have half as many keys again.
    assert_eq!(table.parts.len(), 1);
    count(&mut table, &(100..105).collect::<Vec<_>>());
    assert_eq!((table.parts.len(), table.len()), (1, 20));
    // Fifteen at a time: five in memory, and ten of those on the disk.
    assert_eq!((table.sweep(|_| true).unwrap(), table.parts[0].taken()), (20, 5));
    assert_eq!((table.sweep(|_| false).unwrap(), table.len(), table.parts[0].taken()), (20, 5, 0));
    assert_eq!((table.sweep(|_| false).unwrap(), table.len()), (5, 0));
    let mut table = within(usize::MAX, &simulation);
    table.part = 10;
    for keys in [0..10, 10..16] {
        count(&mut table, &keys.collect::<Vec<_>>());
        table.spill(0).unwrap();
    }
    assert_eq!((table.parts.len(), on_disk(&table)), (2, 2));
}

/// A table of several parts, all of them on the disk, and the keys of each.
fn spilled(simulation: &Simulation) -> (Table<i64>, Vec<Vec<i64>>) {
    let mut table = within(usize::MAX, simulation);
    table.part = 100;
    (0..8).for_each(|n| count(&mut table, &(n * 50..n * 50 + 50).collect::<Vec<_>>()));
    let slots = table.slots(&numbers(&(0..400).collect::<Vec<_>>())).unwrap();
    let mut keys = vec![Vec::new(); table.parts.len()];
    for (key, (slot, _)) in (0..).zip(slots) {
        keys[slot.part as usize].push(key);
    }
    (0..keys.len()).for_each(|number| table.spill(number).unwrap());
    assert!(keys.len() > 3 && keys.iter().all(|keys| keys.len() > 20), "{keys:?}");
    (table, keys)
}

#[test]
fn parts_with_few_keys_in_memory_stay_there() {
    let simulation = Simulation::new(1);
    let (mut table, keys) = spilled(&simulation);
    count(&mut table, &keys[0][..4]);
    keys[1..].iter().for_each(|keys| count(&mut table, &keys[..20]));
    table.disk.as_mut().unwrap().room.memory = 0;
    table.make_room().unwrap();
    let taken: Vec<usize> = table.parts.iter().map(Part::taken).collect();
    assert!(taken[0] == 4 && taken[1..].iter().all(|taken| *taken == 0), "{taken:?}");
}

#[test]
fn what_stands_in_an_old_file_is_written_anew_though_nothing_of_it_has_changed() {
    let simulation = Simulation::new(1);
    let (mut table, keys) = spilled(&simulation);
    for _ in 0..100 {
        keys[1..].iter().for_each(|keys| count(&mut table, keys));
        (1..keys.len()).for_each(|number| table.spill(number).unwrap());
    }
    let file = |table: &Table<i64>, number: usize| table.parts[number].cold.as_ref().unwrap().file();
    let (old, new) = (file(&table, 0), file(&table, keys.len() - 1));
    assert!(old == 1 && new > 20, "{old} and {new}");
    table.disk.as_mut().unwrap().room.memory = 0;
    table.make_room().unwrap();
    assert!(file(&table, 0) >= new && file(&table, keys.len() - 1) == new, "{} and {new}", file(&table, 0));
    assert_eq!(content(&table, 400).len(), 400);
}

#[test]
fn what_a_snapshot_still_has_goes_to_the_disk_only_when_much_too_much_is_held() {
    let simulation = Simulation::new(1);
    let mut table = within(usize::MAX, &simulation);
    (table.part, table.log.copied) = (100, 0);
    (0..8).for_each(|n| count(&mut table, &(n * 50..n * 50 + 50).collect::<Vec<_>>()));
    let _being_written = table.snapshot(true).unwrap();
    for (share, goes) in [(9, false), (5, true)] {
        table.disk.as_mut().unwrap().room.memory = table.bytes_held() / 10 * share;
        table.make_room().unwrap();
        assert_eq!(on_disk(&table) > 0, goes, "{share} tenths");
    }
    assert_eq!(content(&table, 400).len(), 400);
}
