//! Key groups: the fixed number of parts that keys fall into, whatever the number of lanes.

use xxhash_rust::xxh3::xxh3_64;

/// Parts that keys fall into. State is tagged by part, and a lane owns a range of parts, so a job can be restored with
/// another number of lanes up to this one.
pub const KEY_GROUPS: u32 = 1_024;

/// The part that a key belongs to; `key` is the key columns' bytes in arrow's row format. The same key falls into the
/// same part in every run.
pub fn key_group(key: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below KEY_GROUPS")]
    let group = (xxh3_64(key) % u64::from(KEY_GROUPS)) as u32;
    // XXH3 is a published standard: a later version of the engine finds the same part.
    group
}

/// The lane of `lanes` that owns a part.
pub fn lane_of(group: u32, lanes: usize) -> usize {
    group as usize * lanes / KEY_GROUPS as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_spread_evenly_and_every_lane_owns_a_range() {
        let mut counts = vec![0usize; 7];
        for key in 0..70_000u32 {
            counts[lane_of(key_group(&key.to_be_bytes()), 7)] += 1;
        }
        assert!(counts.iter().all(|c| (8_000..12_000).contains(c)), "{counts:?}");
        assert_eq!((lane_of(0, 7), lane_of(KEY_GROUPS - 1, 7)), (0, 6));
        // In no other version may a key be in another group.
        assert_eq!([&b""[..], b"a", b"abc"].map(key_group), [194, 543, 336]);
    }
}
