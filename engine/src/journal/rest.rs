//! Runs at rest: they wait for a time or for somebody, and hold nothing of their process but their number. Here is told which of them
//! is to come back.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use super::RunState;
use crate::env::Env;
use crate::time::Timestamp;

/// When a run is due that waits for somebody alone.
const NEVER: i64 = i64::MAX;

/// The runs of a job that are at rest. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Rest(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Who wants to know what comes back.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Counts what has changed.
    changes: u64,
    /// Runs that were read and have not ended.
    open: u64,
    /// When runs under way are due that will be at rest, in microseconds since 1970.
    waits: HashMap<u64, i64>,
    /// Runs at rest: how they stand, and when they are due.
    resting: HashMap<u64, (RunState, i64)>,
    /// How many of them are paused.
    paused: u64,
    /// Those among them that are due at a time, the next one first.
    due: BTreeSet<(i64, u64)>,
    /// Runs that somebody has told something while they were under way.
    told: HashSet<u64>,
    /// Runs that are to come back.
    ready: BTreeSet<u64>,
    /// Runs that have come back and are under way, with how they stood.
    back: HashMap<u64, RunState>,
}

/// How long a job looks for runs that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Always: there may be more inputs.
    Never,
    /// Until no run is under way: what comes later is for whoever goes on with those that wait.
    Resting,
    /// Until all runs have ended, or are paused.
    Ended,
}

impl Rest {
    /// A job begins, which reads all of its inputs: what an earlier one of the same process has left comes with them.
    pub(crate) fn begin(&self) {
        *self.state() = State::default();
    }

    /// So many runs were read.
    pub(crate) fn read(&self, runs: u64) {
        self.state().open += runs;
    }

    /// So many that were read are none.
    pub(crate) fn over(&self, runs: u64) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(runs);
        self.changes(state);
    }

    /// A run under way waits: until this time, in microseconds since 1970, or for somebody. Of several times the first one counts.
    pub(crate) fn waits(&self, run: u64, due: Option<i64>) {
        let due = due.unwrap_or(NEVER);
        self.state().waits.entry(run).and_modify(|known| *known = due.min(*known)).or_insert(due);
    }

    /// Documents of runs have left, which say how each stands.
    pub(crate) fn left(&self, runs: impl IntoIterator<Item = (u64, RunState)>) {
        let mut all = self.state();
        for (run, state) in runs {
            let due = all.waits.remove(&run).unwrap_or(NEVER);
            let was_told = all.told.remove(&run);
            if state.has_ended() {
                all.open = all.open.saturating_sub(1);
                continue;
            }
            all.resting.insert(run, (state, due));
            all.paused += u64::from(state == RunState::Paused);
            if was_told {
                all.ready.insert(run);
            } else if due != NEVER {
                all.due.insert((due, run));
            }
        }
        self.changes(all);
    }

    /// Somebody tells a run something: one that is at rest comes back.
    pub fn wake(&self, run: u64) {
        let mut all = self.state();
        if let Some((_, due)) = all.resting.get(&run).copied() {
            all.due.remove(&(due, run));
            all.ready.insert(run);
        } else {
            all.told.insert(run);
        }
        self.changes(all);
    }

    /// Whether no run is on its way that waits, or has come back.
    pub fn is_idle(&self) -> bool {
        let all = self.state();
        all.waits.is_empty() && all.back.is_empty()
    }

    /// Whether a run is at rest.
    pub(crate) fn has(&self, run: u64) -> bool {
        self.state().resting.contains_key(&run)
    }

    /// Whether a run has come back.
    pub(crate) fn is_back(&self, run: u64) -> bool {
        self.state().back.contains_key(&run)
    }

    /// Whether any run has come back whose document has not left.
    pub(crate) fn are_back(&self) -> bool {
        !self.state().back.is_empty()
    }

    /// How a run stood that has come back and whose document leaves now; none of a run that comes to its end for the first time.
    pub(crate) fn came_back(&self, run: u64) -> Option<RunState> {
        self.state().back.remove(&run)
    }

    /// Runs that come back, at least one and at most so many. None when none comes back `until` then.
    pub(crate) async fn next(&self, env: &Env, most: usize, until: Until) -> Vec<u64> {
        loop {
            let (seen, wait) = {
                let mut all = self.state();
                let now = env.wall();
                while let Some((due, run)) = all.due.first().copied().filter(|(due, _)| *due <= now.0) {
                    all.due.remove(&(due, run));
                    all.ready.insert(run);
                }
                let back = all.take(most);
                let is_over = match until {
                    Until::Never => false,
                    Until::Resting => all.open <= all.resting.len() as u64,
                    Until::Ended => all.open <= all.paused,
                };
                if !back.is_empty() || is_over {
                    return back;
                }
                (all.changes, all.due.first().map(|(due, _)| Timestamp(*due).since(now)))
            };
            let timer = async {
                match wait {
                    Some(wait) => env.sleep(wait).await,
                    None => futures::future::pending().await,
                }
            };
            let mut timer = pin!(timer);
            poll_fn(|context| {
                // Whoever changes something behind this wakes, and what was changed before is seen.
                self.0.waker.register(context.waker());
                if self.state().changes == seen { timer.as_mut().poll(context) } else { Poll::Ready(()) }
            })
            .await;
        }
    }

    fn changes(&self, mut state: MutexGuard<'_, State>) {
        state.changes += 1;
        drop(state);
        self.0.waker.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, most: usize) -> Vec<u64> {
        let mut back = Vec::new();
        while back.len() < most
            && let Some(run) = self.ready.pop_first()
        {
            if let Some((state, due)) = self.resting.remove(&run) {
                self.paused -= u64::from(state == RunState::Paused);
                self.due.remove(&(due, run));
                self.back.insert(run, state);
                back.push(run);
            }
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use futures::future::join;

    use super::*;
    use crate::testing::simulation::Simulation;

    #[test]
    fn who_waits_for_none_that_rests_hears_what_was_told_before() {
        let (rest, env) = (Rest::default(), Simulation::new(1).env());
        let next = || rest.next(&env, 9, Until::Resting).now_or_never();
        rest.read(2);
        rest.waits(0, None);
        rest.waits(1, None);
        rest.left([(0, RunState::Waiting)]);
        assert_eq!(next(), None, "one is under way");
        rest.wake(1);
        rest.left([(1, RunState::Waiting)]);
        assert_eq!((next(), next()), (Some(vec![1]), None));
        rest.left([(1, RunState::Completed)]);
        assert_eq!(next(), Some(vec![]), "the other one waits");
    }

    #[test]
    fn a_run_comes_back_when_it_is_due_or_is_told_something() {
        let (rest, simulation) = (Rest::default(), Simulation::new(1));
        let env = simulation.env();
        let due = |seconds: u64| env.wall().0 + i64::try_from(seconds * 1_000_000).unwrap();
        rest.read(4);
        rest.waits(0, Some(due(90)));
        rest.waits(0, Some(due(60)));
        rest.waits(1, None);
        rest.wake(2);
        assert_eq!(rest.next(&env, 9, Until::Ended).now_or_never(), None);
        rest.left([(0, RunState::Waiting), (1, RunState::Waiting), (2, RunState::Paused), (3, RunState::Failed)]);
        let (told, clock) = (rest.clone(), env.clone());
        let back = simulation.run(async move {
            // It was told something while it was under way.
            let mut back = vec![told.next(&clock, 9, Until::Ended).await];
            back.push(told.next(&clock, 9, Until::Ended).await);
            let later = async {
                clock.sleep(Duration::from_secs(5)).await;
                told.wake(1);
            };
            back.push(join(told.next(&clock, 9, Until::Ended), later).await.0);
            assert_eq!((told.came_back(2), told.came_back(2)), (Some(RunState::Paused), None));
            told.left([(0, RunState::Completed), (1, RunState::Completed), (2, RunState::Canceled)]);
            back.push(told.next(&clock, 9, Until::Ended).await);
            back
        });
        assert_eq!(back.done(), [vec![2], vec![0], vec![1], vec![]]);
    }
}
