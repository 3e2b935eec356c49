//! When to kill next: drawn from a seed, so that every point has its turn.

use std::collections::BTreeMap;
use std::time::Duration;

use bourn_engine::env::points;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::child::Kill;

/// How often a point is to be killed at, if there are kills enough.
const TIMES: u64 = 3;

/// Draws kills and lanes.
pub struct Draw {
    random: StdRng,
    /// How many kills are wanted in all.
    kills: u64,
    /// The points that there are, in the order in which they are told.
    points: &'static [&'static str],
    /// The points that a process has come to, and how often the busiest did.
    met: BTreeMap<&'static str, u64>,
    /// How often it was killed at each.
    killed: BTreeMap<&'static str, u64>,
}

impl Draw {
    /// The draws of this seed, for so many kills at times and at these points.
    pub fn new(seed: u64, kills: u64, points: &'static [&'static str]) -> Self {
        Self { kills, points, random: StdRng::seed_from_u64(seed), met: BTreeMap::new(), killed: BTreeMap::new() }
    }

    /// Takes note of the points that a process has come to.
    pub fn met(&mut self, told: &[String]) {
        for point in self.points.iter().copied() {
            let count = told.iter().filter(|t| *t == point).count() as u64;
            if count > 0 {
                let most = self.met.entry(point).or_default();
                *most = count.max(*most);
            }
        }
    }

    /// Takes note of a kill.
    pub fn killed(&mut self, kill: &Kill) {
        if let Kill::At(point, _) = kill {
            *self.killed.entry(point).or_default() += 1;
        }
    }

    /// How often it was killed at each point that it has come to.
    pub fn by_point(&self) -> Vec<(&'static str, u64)> {
        self.points.iter().filter(|p| self.met.contains_key(**p)).map(|p| (*p, self.count(p))).collect()
    }

    fn count(&self, point: &str) -> u64 {
        self.killed.get(point).copied().unwrap_or_default()
    }

    /// The next kill of a job that takes so long when nobody disturbs it. `left`: how many are wanted still. `resumes`:
    /// whether it goes on from a checkpoint, so that it comes to the points of recovery.
    pub fn next(&mut self, calm: Duration, left: u64, resumes: bool) -> Kill {
        let may = |p: &&'static str| resumes || !points::OF_RECOVERY.contains(p);
        let open: Vec<_> = self.met.keys().copied().filter(may).collect();
        let lack = |p: &str| TIMES.saturating_sub(self.count(p));
        let lacks: u64 = self.met.keys().map(|p| lack(p)).sum();
        // Before a process recovers, another was killed, and one that was killed elsewhere has nothing to commit again.
        let detours: u64 = self.met.keys().filter(|p| points::OF_RECOVERY.contains(p)).map(|p| 2 * lack(p)).sum();
        // When there are enough for all of them, none goes short.
        let is_due = left <= lacks + detours && self.kills >= TIMES * self.met.len() as u64;
        let lacking: Vec<_> = open.iter().copied().filter(|p| points::OF_RECOVERY.contains(p) && lack(p) > 0).collect();
        // Who recovers does not come so far again soon.
        let open = if lacking.is_empty() { open } else { lacking };
        if !open.is_empty() && (is_due || self.random.random_bool(0.5)) {
            // Those that had their turn least often come first.
            let least = open.iter().map(|p| self.count(p)).min().unwrap_or_default();
            let open: Vec<_> = open.into_iter().filter(|p| self.count(p) == least).collect();
            let point = open[self.random.random_range(0..open.len())];
            let most = self.met.get(point).copied().unwrap_or(1);
            // A process that goes on from further ahead comes to it less often; one that never gets there costs a run.
            let most = if self.random.random_bool(0.75) { most.div_ceil(4) } else { most };
            return Kill::At(point, self.random.random_range(1..=most));
        }
        // A part of them while it begins or recovers.
        let within = if self.random.random_bool(0.25) { calm / 8 } else { calm };
        let most = u64::try_from(within.as_micros()).unwrap_or(u64::MAX).max(1);
        Kill::After(Duration::from_micros(self.random.random_range(0..most)))
    }

    /// Other lanes for a restart, in a third of the cases: one number for each of the stages that have so many now.
    pub fn lanes(&mut self, now: &[usize]) -> Option<Vec<usize>> {
        if now.is_empty() || !self.random.random_bool(1.0 / 3.0) {
            return None;
        }
        // One of the two other numbers from 1 to 3, or any of them where it has more.
        let mut other = |n: &usize| (*n + self.random.random_range(0..2)) % 3 + 1;
        Some(now.iter().map(&mut other).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(points: &[&str]) -> Vec<String> {
        points.iter().map(|p| (*p).to_owned()).collect()
    }

    #[test]
    fn every_point_that_was_met_has_its_turn_three_times() {
        let mut draw = Draw::new(1, 20, &points::ALL);
        draw.met(&told(&["prepare", "commit", "recover"]));
        for left in (1..=20).rev() {
            let kill = draw.next(Duration::from_secs(1), left, true);
            draw.killed(&kill);
        }
        assert!(draw.by_point().iter().all(|(_, count)| *count >= 3), "{:?}", draw.by_point());
        assert_eq!(draw.by_point().len(), 3);
    }

    #[test]
    fn a_job_that_begins_anew_is_not_expected_to_recover() {
        let mut draw = Draw::new(1, 20, &points::ALL);
        draw.met(&told(&["recover", "recovered"]));
        for _ in 0..50 {
            assert!(matches!(draw.next(Duration::from_secs(1), 20, false), Kill::After(_)));
        }
    }

    #[test]
    fn other_lanes_are_others_and_come_in_a_third_of_the_cases() {
        let mut draw = Draw::new(1, 20, &points::ALL);
        let drawn: Vec<_> = (0..300).filter_map(|_| draw.lanes(&[1, 2, 3])).collect();
        assert!(drawn.iter().flat_map(|l| l.iter().zip([1, 2, 3])).all(|(new, old)| *new != old && *new <= 3));
        assert!((70..130).contains(&drawn.len()), "{}", drawn.len());
        assert!(Draw::new(1, 20, &points::ALL).lanes(&[]).is_none());
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let draws = |seed| {
            let mut draw = Draw::new(seed, 100, &points::ALL);
            draw.met(&told(&["prepare", "prepare", "commit"]));
            (0..20).map(|n| draw.next(Duration::from_secs(1), 100 + n, true)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }
}
