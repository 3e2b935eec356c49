//! How many runs there are and how they stand, seen as the journal is told of them, or by their documents.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::journal::{Earlier, Ends, RunState};

/// The runs of a job, counted.
pub struct Counts {
    env: Env,
    runs: Mutex<Runs>,
}

/// How the runs of a job stand.
#[derive(Default)]
pub struct Runs {
    /// Those that are under way here: their ids, and since when.
    running: HashMap<u64, (String, Duration)>,
    /// Those that wait or are paused.
    at_rest: HashMap<u64, RunState>,
    /// Those that have begun here; none where no journal is told of it.
    pub started: Option<u64>,
    /// Those that have ended here, by how.
    pub completed: u64,
    /// As `completed`.
    pub failed: u64,
    /// As `completed`.
    pub canceled: u64,
}

impl Counts {
    /// None yet.
    pub fn new(env: Env) -> Self {
        Self { env, runs: Mutex::default() }
    }

    /// The runs as they stand.
    pub fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs begin, or come again: what was known of each.
    pub fn begun(&self, begun: Vec<(u64, String)>, known: &[Option<Earlier>]) {
        let (mut runs, now) = (self.runs(), self.env.monotonic());
        for ((number, id), earlier) in begun.into_iter().zip(known) {
            if earlier.as_ref().is_some_and(|earlier| earlier.state.has_ended()) {
                continue;
            }
            if runs.at_rest.remove(&number).is_none() {
                *runs.started.get_or_insert(0) += 1;
            }
            runs.running.insert(number, (id, now));
        }
    }

    /// Runs have ended, or are at rest.
    pub fn ended(&self, ends: &Ends) {
        let mut runs = self.runs();
        for (number, state) in ends.numbers.iter().zip(&ends.states) {
            // One that had ended in an earlier process is told again.
            if runs.running.remove(number).is_none() {
                continue;
            }
            if state.has_ended() {
                runs.count(*state);
            } else {
                runs.at_rest.insert(*number, *state);
            }
        }
    }

    /// A run that no journal is told of has a document.
    pub fn document(&self, state: RunState) {
        self.runs().count(state);
    }
}

impl Runs {
    fn count(&mut self, state: RunState) {
        match state {
            RunState::Completed => self.completed += 1,
            RunState::Failed | RunState::TimedOut => self.failed += 1,
            RunState::Canceled => self.canceled += 1,
            RunState::Running | RunState::Waiting | RunState::Paused => {}
        }
    }

    /// The id of one that is under way.
    pub fn id(&self, number: u64) -> Option<&str> {
        self.running.get(&number).map(|(id, _)| id.as_str())
    }

    /// How many are under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many are at rest so.
    pub fn at_rest(&self, state: RunState) -> usize {
        self.at_rest.values().filter(|at_rest| **at_rest == state).count()
    }

    /// The one that is under way for the longest time, and since when.
    pub fn longest(&self) -> Option<&(String, Duration)> {
        self.running.values().min_by_key(|(_, since)| *since)
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::api::Usage;
    use bourn_engine::journal::History;
    use bourn_engine::testing::simulation::Simulation;

    use super::*;

    #[test]
    fn runs_are_counted_once_however_often_they_come_back() {
        let counts = Counts::new(Simulation::new(1).env());
        let earlier = |state| {
            let (id, history, spent) = (String::new(), History::default(), Usage::default());
            Some(Earlier { id, state, history, since: None, spent, deadline: None })
        };
        let begin = |number, earlier| counts.begun(vec![(number, number.to_string())], &[earlier]);
        let end = |number, state| counts.ended(&Ends { numbers: vec![number], states: vec![state] });
        let stand = || {
            let runs = counts.runs();
            let at_rest = [RunState::Waiting, RunState::Paused].map(|state| runs.at_rest(state));
            (runs.started.unwrap_or(0), runs.running(), at_rest, [runs.completed, runs.failed, runs.canceled])
        };
        begin(1, None);
        begin(2, earlier(RunState::Running));
        begin(3, earlier(RunState::Failed));
        end(3, RunState::Failed);
        assert_eq!(stand(), (2, 2, [0, 0], [0, 0, 0]));
        end(1, RunState::Waiting);
        end(2, RunState::Paused);
        assert_eq!(stand(), (2, 0, [1, 1], [0, 0, 0]));
        begin(1, earlier(RunState::Waiting));
        assert_eq!(counts.runs().longest().map(|(id, _)| id.clone()).as_deref(), Some("1"));
        begin(2, earlier(RunState::Paused));
        end(1, RunState::Completed);
        end(2, RunState::Canceled);
        assert_eq!(stand(), (2, 0, [0, 0], [1, 0, 1]));
    }
}
