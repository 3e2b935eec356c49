//! What must hold of runs whenever their process is gone: what was told is kept, and what is kept is not done again.

use std::collections::{HashMap, HashSet};

use bourn_engine::journal::RunState;
use bourn_journal::Ended;

use super::scenario::{Asked, key_of, needs};

/// The most faults that are told in words.
const TOLD: usize = 20;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Checker {
    /// The steps that the journal had when the last process was gone, as `RUN/STEP`.
    steps: HashSet<String>,
    /// The runs that had ended then.
    runs: HashMap<String, RunState>,
    /// How often the service had been asked for these steps by then.
    asked: HashMap<String, u64>,
    /// Runs and steps that somebody was told of, and that are gone.
    pub lost: u64,
    /// Steps that have ended twice, or were asked for once more though they were in the journal.
    pub doubled: u64,
    /// The first of both in words.
    pub faults: Vec<String>,
}

/// What a process has left.
pub struct Left<'a> {
    /// What is in the journal.
    pub ended: &'a Ended,
    /// The runs whose documents it has printed, and how they stand by these.
    pub told: &'a [(String, RunState)],
    /// What the service was asked so far, if it is ours.
    pub asked: Option<&'a Asked>,
}

impl Checker {
    /// Begins with another job; what was found stays.
    pub fn begin_anew(&mut self) {
        (self.steps, self.runs, self.asked) = Default::default();
    }

    /// Steps that are in the journal.
    pub fn steps(&self) -> u64 {
        self.steps.len() as u64
    }

    fn lost(&mut self, what: impl FnOnce() -> String) {
        self.lost += 1;
        self.tell(what);
    }

    fn doubled(&mut self, what: impl FnOnce() -> String) {
        self.doubled += 1;
        self.tell(what);
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.faults.len() < TOLD {
            self.faults.push(what());
        }
    }

    /// Notes what is wrong with the whole.
    pub fn missing(&mut self, runs: u64, what: String) {
        self.lost += runs;
        self.tell(|| what);
    }

    /// Compares what a process has left with what was there before it began.
    pub fn look(&mut self, left: &Left<'_>) {
        let mut steps = HashSet::with_capacity(left.ended.steps.len());
        for (run, step) in &left.ended.steps {
            if !steps.insert(format!("{run}/{step}")) {
                self.doubled(|| format!("{run}/{step} ended twice"));
            }
        }
        let runs: HashMap<String, RunState> =
            left.ended.runs.iter().filter(|(_, state)| state.has_ended()).cloned().collect();
        let (before, ended) = (std::mem::take(&mut self.steps), std::mem::take(&mut self.runs));
        for step in before.iter().filter(|step| !steps.contains(*step)) {
            self.lost(|| format!("{step} was in the journal, and is gone"));
        }
        for (run, state) in ended.iter().filter(|(run, state)| runs.get(*run) != Some(state)) {
            self.lost(|| format!("run {run} was {} in the journal, and is not any more", state.name()));
        }
        for (run, state) in left.told.iter().filter(|(_, state)| state.has_ended()) {
            if runs.get(run) != Some(state) {
                self.lost(|| format!("run {run} was told to be {}, and the journal does not say so", state.name()));
            }
        }
        if let Some(asked) = left.asked {
            self.effects(asked, &steps);
        }
        (self.steps, self.runs) = (steps, runs);
    }

    /// Compares what the service was asked with what the journal has, and had.
    fn effects(&mut self, asked: &Asked, steps: &HashSet<String>) {
        for (key, count) in &asked.counts {
            let Some((run, step)) = key.split_once('/') else { continue };
            // It started because it was told that these had ended.
            for need in needs(step).into_iter().map(|need| format!("{run}/{need}")) {
                if !steps.contains(&need) {
                    self.lost(|| format!("{key} was asked for, and {need}, which it needs, is not in the journal"));
                }
            }
            let then = self.asked.get(key).copied().unwrap_or_default();
            if then > 0 && *count > then {
                self.doubled(|| format!("{key} was in the journal, and was asked for again"));
            }
        }
        let paid = steps.iter().filter_map(|step| {
            let (run, name) = step.split_once('/')?;
            let key = format!("{run}/{}", key_of(name));
            let count = *asked.counts.get(&key)?;
            Some((key, count))
        });
        self.asked = paid.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "r";

    /// What is in the journal, what was told, and what was asked when a process is gone.
    type Process = (Ended, Vec<(String, RunState)>, Asked);

    fn ended(steps: &[&str], state: RunState) -> Ended {
        let steps = steps.iter().map(|step| (RUN.to_owned(), (*step).to_owned())).collect();
        Ended { steps, runs: vec![(RUN.to_owned(), state)], are_over: false }
    }

    fn asked(counts: &[(&str, u64)]) -> Asked {
        let counts = counts.iter().map(|(step, count)| (format!("{RUN}/{step}"), *count)).collect();
        Asked { counts, refused: 0 }
    }

    /// What is found when these are left one after the other.
    fn found(left: &[Process]) -> (u64, u64, Vec<String>) {
        let mut checker = Checker::default();
        for (ended, told, asked) in left {
            checker.look(&Left { ended, told, asked: Some(asked) });
        }
        (checker.lost, checker.doubled, checker.faults)
    }

    #[test]
    fn what_goes_on_as_it_should_is_no_fault() {
        let first = (ended(&["first", "left"], RunState::Running), Vec::new(), asked(&[("left", 1), ("right", 2)]));
        let all = ended(&["first", "left", "right", "last", "rounds#1", "rounds"], RunState::Completed);
        // What was under way when the process was killed is asked for again, and counts as no fault.
        let then = asked(&[("left", 1), ("right", 3), ("last", 1), ("rounds#1", 1), ("rounds#2", 1)]);
        let told = vec![(RUN.to_owned(), RunState::Completed)];
        assert_eq!(found(&[first, (all, told, then)]), (0, 0, Vec::new()));
    }

    #[test]
    fn what_is_gone_and_what_was_told_and_never_kept_is_lost() {
        let first = (ended(&["first", "left"], RunState::Completed), Vec::new(), asked(&[]));
        let second = (ended(&["first"], RunState::Running), Vec::new(), asked(&[]));
        let (lost, doubled, faults) = found(&[first, second]);
        assert_eq!((lost, doubled), (2, 0));
        assert_eq!(faults[0], "r/left was in the journal, and is gone");
        assert_eq!(faults[1], "run r was COMPLETED in the journal, and is not any more");
        let told = vec![(RUN.to_owned(), RunState::Completed)];
        let (lost, _, faults) = found(&[(ended(&["first"], RunState::Running), told, asked(&[]))]);
        assert_eq!((lost, faults[0].as_str()), (1, "run r was told to be COMPLETED, and the journal does not say so"));
    }

    #[test]
    fn a_step_that_started_before_what_it_needs_was_kept_shows_that_this_is_lost() {
        let (lost, _, faults) =
            found(&[(ended(&["first", "left"], RunState::Running), Vec::new(), asked(&[("last", 1)]))]);
        assert_eq!(lost, 1);
        assert_eq!(faults[0], "r/last was asked for, and r/right, which it needs, is not in the journal");
    }

    #[test]
    fn a_step_that_ends_twice_or_is_asked_for_behind_its_end_is_doubled() {
        let (_, doubled, faults) = found(&[(ended(&["first", "first"], RunState::Running), Vec::new(), asked(&[]))]);
        assert_eq!((doubled, faults[0].as_str()), (1, "r/first ended twice"));
        let kept = ended(&["each[0]", "rounds#1", "rounds#2", "rounds"], RunState::Running);
        let first = (kept.clone(), Vec::new(), asked(&[("each[0]", 1), ("rounds#3", 2)]));
        let second = (kept, Vec::new(), asked(&[("each[0]", 2), ("rounds#3", 3)]));
        let (lost, doubled, faults) = found(&[first, second]);
        assert_eq!((lost, doubled, faults.len()), (0, 2, 2), "{faults:?}");
    }
}
