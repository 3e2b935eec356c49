//! How long a checkpoint may take: when something is said of one that does not come together, and when the job ends for it.

use std::time::Duration;

use crate::api::checkpointing::Timeout;

/// How long one may take before something is said.
const PATIENCE: Duration = Duration::from_mins(1);

/// Watches the checkpoint under way.
pub struct Overdue {
    timeout: Option<Timeout>,
    began: Duration,
    /// How long it may go on without a word.
    patience: Duration,
    /// How often it has timed out.
    times: u32,
}

/// What is to be said of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It has taken long.
    Waits,
    /// It has taken longer than it may, for the n-th time.
    TimedOut(u32),
    /// That was once too often.
    TooOften(u32),
}

impl Overdue {
    /// Nothing is under way.
    pub fn new(timeout: Option<Timeout>) -> Self {
        Self { timeout, began: Duration::ZERO, patience: PATIENCE, times: 0 }
    }

    /// An epoch begins.
    pub fn begin(&mut self, now: Duration) {
        *self = Self { began: now, ..Self::new(self.timeout) };
    }

    /// When the epoch under way began.
    pub fn began(&self) -> Duration {
        self.began
    }

    /// When to look at it again.
    pub fn at(&self) -> Duration {
        let wait = match self.timeout {
            Some(timeout) => self.patience.min(timeout.after.saturating_mul(self.times + 1)),
            None => self.patience,
        };
        self.began + wait
    }

    /// What is to be said now of an epoch that is under way still. Each is said once, and that it waits again when it has waited
    /// twice as long.
    pub fn look(&mut self, now: Duration) -> Option<Late> {
        let waited = now.saturating_sub(self.began);
        let due = waited >= self.patience;
        if due {
            self.patience = waited * 2;
        }
        match self.timeout {
            Some(timeout) if waited >= timeout.after.saturating_mul(self.times + 1) => {
                self.times += 1;
                let is_over = self.times > timeout.tolerated;
                Some(if is_over { Late::TooOften(self.times) } else { Late::TimedOut(self.times) })
            }
            _ => due.then_some(Late::Waits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an epoch that begins at 100 s and never ends, with the seconds that it has taken by then.
    fn said(timeout: Option<(u64, u32)>) -> Vec<(u64, Late)> {
        let timeout = timeout.map(|(s, tolerated)| Timeout { after: Duration::from_secs(s), tolerated });
        let mut overdue = Overdue::new(timeout);
        overdue.begin(Duration::from_secs(100));
        let mut said = Vec::new();
        while said.len() < 4 && !matches!(said.last(), Some((_, Late::TooOften(_)))) {
            let now = overdue.at();
            assert_eq!(overdue.look(now.saturating_sub(Duration::from_millis(1))), None);
            let late = overdue.look(now).expect("it was due");
            assert_eq!(overdue.look(now), None);
            said.push((now.as_secs() - 100, late));
        }
        said
    }

    #[test]
    fn without_a_timeout_it_is_said_again_when_it_has_waited_twice_as_long() {
        assert_eq!(said(None), [60, 120, 240, 480].map(|s| (s, Late::Waits)));
    }

    #[test]
    fn each_time_that_it_takes_longer_than_it_may_counts_until_that_was_too_often() {
        assert_eq!(said(Some((20, 2))), [(20, Late::TimedOut(1)), (40, Late::TimedOut(2)), (60, Late::TooOften(3))]);
        assert_eq!(
            said(Some((90, 1))),
            [(60, Late::Waits), (90, Late::TimedOut(1)), (120, Late::Waits), (180, Late::TooOften(2))]
        );
        assert_eq!(said(Some((5, 0))), [(5, Late::TooOften(1))]);
    }

    #[test]
    fn another_epoch_begins_without_a_failure() {
        let second = Duration::from_secs(1);
        let mut overdue = Overdue::new(Some(Timeout { after: second * 20, tolerated: 1 }));
        overdue.begin(second);
        assert_eq!(overdue.look(second * 21), Some(Late::TimedOut(1)));
        overdue.begin(second * 30);
        assert_eq!((overdue.began(), overdue.at()), (second * 30, second * 50));
        assert_eq!((overdue.look(second * 49), overdue.look(second * 50)), (None, Some(Late::TimedOut(1))));
    }
}
