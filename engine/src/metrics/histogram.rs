//! A histogram of nanoseconds with four buckets an octave: 19 % wide at most, never growing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets: 256 ns to 137 s in quarters of octaves; what is outside falls into the first or last.
const BUCKETS: usize = 29 * 4;
const FIRST_OCTAVE: u32 = 8;

fn bucket(nanos: u64) -> usize {
    let octave = (nanos | 1).ilog2();
    if octave < FIRST_OCTAVE {
        return 0;
    }
    // The two bits behind the leading one choose the quarter.
    let quarter = (nanos >> (octave - 2)) & 3;
    (((octave - FIRST_OCTAVE) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    let (octave, quarter) = (bucket / 4, bucket % 4);
    f64::from(1u32 << FIRST_OCTAVE) * 2f64.powi(i32::try_from(octave).unwrap_or(0)) * (1.125 + quarter as f64 * 0.25)
}

/// Where an octave ends, in seconds.
fn octave_end(octave: usize) -> f64 {
    f64::from(1u32 << FIRST_OCTAVE) * 2f64.powi(i32::try_from(octave).unwrap_or(0) + 1) / 1e9
}

/// Counts shared between a task and its readers.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64; BUCKETS]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Notes one value.
    pub fn record(&self, nanos: u64) {
        self.counts[bucket(nanos)].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Relaxed)).sum()
    }

    /// The sum of the values, in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// The value below which the share `q` (0 to 1) of the values lies, in nanoseconds; none without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let rank = (q * total as f64).ceil().max(1.0);
        let mut seen = 0.0;
        counts.iter().enumerate().find_map(|(i, c)| {
            seen += *c as f64;
            (*c > 0 && seen >= rank).then(|| middle(i))
        })
    }

    /// For each power of two of nanoseconds from 512 on: the bound in seconds, and how many values lie below it; last for
    /// infinity, which is all of them. The bounds are always the same, so those of several histograms may be added.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut below = 0;
        let octaves = self.counts.chunks(4).enumerate().map(|(octave, counts)| {
            below += counts.iter().map(|c| c.load(Relaxed)).sum::<u64>();
            (octave_end(octave), below)
        });
        let mut all: Vec<(f64, u64)> = octaves.collect();
        // What is too large for any bucket is in the last one.
        if let Some(last) = all.last_mut() {
            last.0 = f64::INFINITY;
        }
        all
    }

    /// Every bucket that holds values: its middle in seconds, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.counts.iter().enumerate().map(|(i, c)| (middle(i) / 1e9, c.load(Relaxed))).filter(|(_, c)| *c > 0)
    }
}

/// The counts of one task between two looks.
#[derive(Debug)]
pub struct LocalHistogram {
    counts: Box<[u32; BUCKETS]>,
    /// The buckets in use, so that a flush does not visit all.
    used: (usize, usize),
    sum: u64,
}

impl Default for LocalHistogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), used: (BUCKETS, 0), sum: 0 }
    }
}

impl LocalHistogram {
    /// Notes one value.
    pub fn record(&mut self, nanos: u64) {
        self.record_times(nanos, 1);
    }

    /// Notes a value so many times.
    pub fn record_times(&mut self, nanos: u64, times: u32) {
        if times == 0 {
            return;
        }
        let bucket = bucket(nanos);
        self.counts[bucket] += times;
        self.sum += nanos * u64::from(times);
        self.used = (self.used.0.min(bucket), self.used.1.max(bucket + 1));
    }

    /// Adds the counts to the shared ones and starts anew.
    pub fn flush(&mut self, to: &Histogram) {
        for bucket in self.used.0..self.used.1 {
            let count = std::mem::take(&mut self.counts[bucket]);
            if count != 0 {
                to.counts[bucket].fetch_add(u64::from(count), Relaxed);
            }
        }
        self.used = (BUCKETS, 0);
        if self.sum != 0 {
            to.sum.fetch_add(std::mem::take(&mut self.sum), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let (shared, mut local) = (Histogram::default(), LocalHistogram::default());
        (1..=1_000u64).for_each(|i| local.record(i * 1_000));
        local.flush(&shared);
        for (q, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (0.001, 1_000.0)] {
            let got = shared.quantile(q).unwrap();
            assert!((got / exact - 1.0).abs() < 0.13, "{q}: {got}");
        }
        assert_eq!((shared.count(), shared.sum()), (1_000, 500_500_000));
        assert_eq!(shared.cumulative().last().unwrap().1, 1_000);
        assert!(Histogram::default().quantile(0.5).is_none());
    }

    #[test]
    fn every_value_lies_below_the_bound_of_its_bucket() {
        for nanos in [0, 1, 255, 256, 319, 320, 511, 512, 1_000_000, 137_000_000_000] {
            let h = Histogram::default();
            h.record(nanos);
            let (bound, _) = h.cumulative().into_iter().find(|(_, c)| *c == 1).unwrap();
            assert!(nanos as f64 / 1e9 <= bound, "{nanos} in {bound}");
        }
    }

    #[test]
    fn bounds_are_fixed_and_the_last_one_holds_all() {
        let (few, many) = (Histogram::default(), Histogram::default());
        for nanos in [1, 600, 5_000_000, u64::MAX >> 1] {
            many.record(nanos);
        }
        let bounds = |h: &Histogram| h.cumulative().into_iter().map(|(bound, _)| bound).collect::<Vec<_>>();
        assert_eq!(bounds(&few), bounds(&many));
        assert_eq!((bounds(&many)[0], bounds(&many)[28]), (512e-9, f64::INFINITY));
        let counts: Vec<_> = many.cumulative().into_iter().map(|(_, below)| below).collect();
        assert_eq!((counts[0], counts[1], counts[27], counts[28]), (1, 2, 3, 4));
    }
}
