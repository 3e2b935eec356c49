//! Random numbers that are the same on every machine and in every version: splitmix64.

/// The numbers that belong to one event of one seed. Events are independent of each other, so a stream can begin at any.
#[derive(Clone, Debug)]
pub struct Random(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// Those of event `event`.
    pub fn of(seed: u64, event: u64) -> Self {
        // The seed is mixed first: otherwise seed 1 would be seed 0, an event further on.
        let mut seeded = Self(seed);
        let mixed = seeded.bits();
        Self(mixed ^ event.wrapping_mul(GOLDEN).rotate_left(32))
    }

    /// 64 random bits (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end`, without `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The product's high half is in range, and its bias is below one in 2^32 for the small ranges here.
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Appends `length` lower-case letters.
    pub fn letters(&mut self, length: usize, out: &mut String) {
        let mut left = length;
        while left > 0 {
            let letters = self.bits().to_le_bytes().map(|b| b'a' + ((u16::from(b) * 26) >> 8) as u8);
            let count = left.min(letters.len());
            out.push_str(std::str::from_utf8(&letters[..count]).expect("letters are ASCII"));
            left -= count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_an_event_never_change() {
        let mut random = Random::of(1, 2);
        let mut text = String::new();
        random.letters(10, &mut text);
        assert_eq!((text.as_str(), random.below(1_000), random.bits()), ("npusvdscov", 120, 5_335_792_535_320_492_748));
    }

    #[test]
    fn ranges_are_filled_evenly() {
        let mut counts = [0_u32; 10];
        for event in 0..100_000 {
            let mut random = Random::of(7, event);
            counts[usize::try_from(random.below(10)).unwrap()] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert!(counts.iter().all(|c| (9_500..10_500).contains(c)), "{counts:?}");
    }
}
