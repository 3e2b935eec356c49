//! When the clock is read: a stage that is through at once would spend a third of its time on it.

use std::time::Duration;

/// Which batches are timed. To read the clock takes a third of what a batch of one row costs, so of batches that are through
/// every stage at once some are timed for all; the numbers keep it from falling in step with what comes.
#[derive(Debug, Default)]
pub struct Timing {
    /// Whether the batch at work is timed, and was quick so far.
    on: bool,
    quick: bool,
    /// How many batches more are not.
    spared: u32,
    turn: usize,
}

impl Timing {
    const QUICK: Duration = Duration::from_micros(1);
    const SPARED: [u32; 4] = [13, 7, 17, 11];

    /// A batch comes.
    pub fn begin(&mut self) {
        if self.on && self.quick {
            self.turn = (self.turn + 1) % Self::SPARED.len();
            self.spared = Self::SPARED[self.turn];
        }
        self.on = self.spared == 0;
        self.quick = true;
        self.spared = self.spared.saturating_sub(1);
    }

    /// Whether the batch at work is timed.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// How long a stage took for it.
    pub fn took(&mut self, time: Duration) {
        self.quick &= time < Self::QUICK;
    }

    /// A stage is called without a batch: that is timed, and says nothing of batches.
    pub fn wake(&mut self) {
        (self.on, self.quick) = (true, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many batches are timed, if each takes so long.
    fn timed(batches: usize, takes: Duration) -> usize {
        let mut timing = Timing::default();
        (0..batches)
            .filter(|_| {
                timing.begin();
                timing.took(takes);
                timing.is_on()
            })
            .count()
    }

    #[test]
    fn of_quick_batches_some_are_timed_and_of_others_each() {
        assert_eq!(timed(1_000, Duration::from_micros(5)), 1_000);
        assert_eq!(timed(1_000, Duration::from_nanos(80)), 78);
        assert_eq!(timed(1, Duration::ZERO), 1);
    }
}
