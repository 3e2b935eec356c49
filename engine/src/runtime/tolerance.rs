//! How many rows may fail before their job does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::data::units::Percentage;
use crate::error::Error;
use crate::metrics::JobStats;

/// A share is judged from so many rows on: the first one may be bad.
const ROWS_MIN: u64 = 1_000;

/// What a job tolerates.
pub struct Tolerance {
    /// The most that may fail.
    pub most: Percentage,
    /// What has.
    pub stats: Arc<JobStats>,
}

impl Tolerance {
    /// Whether more rows of this run have failed than may; `is_over`: no more are to come.
    pub fn exceeded(&self, is_over: bool) -> Option<Error> {
        let (read, failed) = (self.stats.rows_met(), self.stats.rows_rejected());
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = failed as f64 * 100.0 / read.max(1) as f64;
        if failed == 0 || share <= self.most.0 || (read < ROWS_MIN && !is_over) {
            return None;
        }
        let mut by_stage: BTreeMap<&str, u64> = BTreeMap::new();
        for entry in &self.stats.stages {
            *by_stage.entry(&entry.stage).or_default() += entry.stats.rows_rejected.load(Relaxed);
        }
        let worst = by_stage.iter().max_by_key(|(_, failed)| **failed).map_or("", |(stage, _)| stage);
        let most = self.most;
        // Enough digits that what is too much looks like it.
        let digits = if share < 1.0 { 4 } else { 1 };
        Some(Error::validation(format!(
            "{failed} of {read} rows have failed, most of them in `{worst}`: {} %, and `tolerated_failure_percentage` is {most}",
            format_args!("{share:.digits$}")
        )))
    }
}
