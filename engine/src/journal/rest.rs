//! Runs at rest: they wait for a time or for somebody, and hold nothing of their process but their number. Here is told which of them
//! is to come back, and which of those under way is to be passed once more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use super::RunState;
use super::under_way::{UnderWay, Whose};
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
    /// Whether runs may be passed several times at once: they have branches, and something in them may wait.
    overlap: bool,
    /// Whether no run comes back any more, and none is passed once more: nobody asks which.
    is_over: bool,
    /// Runs under way that wait somewhere, or that may be passed several times at once.
    under_way: HashMap<u64, UnderWay>,
    /// Runs at rest: how they stand, and when they are due.
    resting: HashMap<u64, (RunState, i64)>,
    /// How many of them are paused.
    paused: u64,
    /// Those among them and those under way that are due at a time, the next one first.
    due: BTreeSet<(i64, u64)>,
    /// Runs that somebody has told something while they were under way.
    told: HashSet<u64>,
    /// Runs that are to come back, or to be passed once more.
    ready: BTreeSet<u64>,
    /// Runs that have come back and are under way, with how they stood.
    back: HashMap<u64, RunState>,
}

/// A run that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Back {
    pub run: u64,
    /// 0 for one that was at rest; of one under way the number of the passage that begins.
    pub passage: u64,
}

/// That somebody asks which runs come back.
pub(crate) struct Asking(Option<Rest>);

impl Asking {
    /// He has been told, and will ask again.
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(rest) = &self.0 {
            rest.state().is_over = true;
        }
    }
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
    /// Whether its runs may be passed several times at once is for it to say.
    pub(crate) fn begin(&self, overlap: bool) {
        *self.state() = State { overlap, ..State::default() };
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

    /// A run under way waits: until this time, in microseconds since 1970, or for somebody.
    pub(crate) fn waits(&self, run: u64, due: Option<i64>) {
        let mut all = self.state();
        let under_way = all.under_way.entry(run).or_default();
        under_way.waits = true;
        under_way.due.extend(due.filter(|due| !under_way.due.contains(due)));
        if !all.overlap || !all.under_way.get(&run).is_some_and(UnderWay::can_be_passed) {
            return;
        }
        if let Some(due) = due {
            all.due.insert((due, run));
        }
        if all.told.remove(&run) {
            all.ready.insert(run);
        }
        self.changes(all);
    }

    /// A run is at rest in which there is nothing to do, until one of these times: its document is on its way, and it is passed by nobody.
    pub(crate) fn rests(&self, run: u64, due: Vec<i64>) {
        let mut all = self.state();
        let under_way = all.under_way.entry(run).or_default();
        under_way.rest();
        under_way.due.extend(due);
    }

    /// Whether a passage that comes to a step of a run is to begin it. Otherwise another one has, and this one hears of its end.
    pub(crate) fn begin_step(&self, (run, passage): (u64, u64), step: &str) -> bool {
        let mut all = self.state();
        match all.under_way.entry(run).or_default().begin(step, passage) {
            Whose::Own => true,
            Whose::Other => false,
            Whose::Ended => {
                self.again(all, run);
                false
            }
        }
    }

    /// Whether a signal that came before any wait for it began is for this one.
    pub(crate) fn takes(&self, run: u64, (signal, at): (&str, i64), step: &str) -> bool {
        self.state().under_way.entry(run).or_default().takes(signal, at, step)
    }

    /// Whether any part of a step of a run has begun in this process.
    pub(crate) fn has_begun_below(&self, run: u64, step: &str) -> bool {
        self.state().under_way.get(&run).is_some_and(|run| run.has_begun_below(step))
    }

    /// A passage leaves a step as it stands: it is not to be begun yet, or it waits, of which only later passages know if `is_new`.
    pub(crate) fn let_go(&self, (run, passage): (u64, u64), step: &str, is_new: bool) {
        let mut all = self.state();
        if all.under_way.get_mut(&run).is_some_and(|under_way| under_way.let_go(step, passage, is_new)) {
            self.again(all, run);
        }
    }

    /// Whether the record of a step is for this passage to keep.
    pub(crate) fn keep(&self, (run, passage): (u64, u64), step: &str) -> bool {
        self.state().under_way.entry(run).or_default().keep(step, passage)
    }

    /// The records of these steps are kept.
    pub(crate) fn kept<'a>(&self, steps: impl IntoIterator<Item = (u64, &'a str)>) {
        for (run, step) in steps {
            let mut all = self.state();
            if all.under_way.get_mut(&run).is_some_and(|under_way| under_way.kept(step)) {
                self.again(all, run);
            }
        }
    }

    /// Whether a passage that has come to the end leaves a document, which tells its run as it stands.
    pub(crate) fn leave(&self, run: u64) -> bool {
        let mut all = self.state();
        let is_over = all.is_over;
        all.under_way.get_mut(&run).is_none_or(|run| run.leave(is_over))
    }

    /// Whether a run was to be passed once more when that was over: it leaves no document.
    pub(crate) fn is_cut_off(&self, run: u64) -> bool {
        self.state().under_way.get(&run).is_some_and(UnderWay::is_cut_off)
    }

    /// Somebody is about to ask which runs come back; when what is returned is dropped, nobody does any more, unless it is told
    /// [otherwise](Asking::answered).
    pub(crate) fn ask(&self) -> Asking {
        self.state().is_over = false;
        Asking(Some(self.clone()))
    }

    /// A passage has come to the end whose document is none, and all that it did is kept.
    pub(crate) fn gone(&self, run: u64) {
        let mut all = self.state();
        if all.under_way.get_mut(&run).is_some_and(UnderWay::gone) {
            // The passage that sees all tells anew what waits.
            all.forget_due(run);
            self.again(all, run);
        }
    }

    /// A run that was to be passed once more is none of this job any more.
    pub(crate) fn lost(&self, run: u64) {
        let mut all = self.state();
        if all.under_way.get_mut(&run).is_some_and(UnderWay::gone) {
            all.forget_due(run);
            all.under_way.remove(&run);
            all.back.remove(&run);
            all.open = all.open.saturating_sub(1);
        }
        self.changes(all);
    }

    /// A run under way is passed once more.
    fn again(&self, mut all: MutexGuard<'_, State>, run: u64) {
        all.ready.insert(run);
        self.changes(all);
    }

    /// Documents of runs have come to their end, which say how each stands: nothing of these runs is under way any more.
    pub(crate) fn stand(&self, runs: impl IntoIterator<Item = (u64, RunState)>) {
        let mut all = self.state();
        for (run, state) in runs {
            let due = all.forget_due(run).unwrap_or(NEVER);
            all.under_way.remove(&run);
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

    /// Somebody tells a run something: one that is at rest comes back, and one that waits beside steps in flight is passed once more.
    pub fn wake(&self, run: u64) {
        let mut all = self.state();
        if let Some((_, due)) = all.resting.get(&run).copied() {
            all.due.remove(&(due, run));
            all.ready.insert(run);
        } else if all.overlap && all.under_way.get(&run).is_some_and(|run| run.waits && run.can_be_passed()) {
            all.ready.insert(run);
        } else {
            all.told.insert(run);
        }
        self.changes(all);
    }

    /// Whether no run is on its way that waits, or has come back.
    pub fn is_idle(&self) -> bool {
        let all = self.state();
        all.under_way.is_empty() && all.back.is_empty()
    }

    /// Whether a run is at rest.
    pub(crate) fn has(&self, run: u64) -> bool {
        self.state().resting.contains_key(&run)
    }

    /// Those of these runs that have come back, or are passed once more: the journal knows them.
    pub(crate) fn back(&self, runs: &[u64]) -> Vec<u64> {
        let all = self.state();
        if all.back.is_empty() && all.under_way.is_empty() {
            return Vec::new();
        }
        let is_passed_again = |run: &u64| all.under_way.get(run).is_some_and(UnderWay::is_passed_again);
        runs.iter().filter(|run| all.back.contains_key(*run) || is_passed_again(run)).copied().collect()
    }

    /// Whether any run has come back whose document has not left.
    pub(crate) fn are_back(&self) -> bool {
        !self.state().back.is_empty()
    }

    /// How a run stood that has come back and whose document leaves now; none of a run that comes to its end for the first time.
    pub(crate) fn came_back(&self, run: u64) -> Option<RunState> {
        self.state().back.remove(&run)
    }

    /// Runs that come back or are passed once more, at least one and at most so many. None when none comes back `until` then.
    pub(crate) async fn next(&self, env: &Env, most: usize, until: Until) -> Vec<Back> {
        loop {
            let (seen, wait) = {
                let mut all = self.state();
                let now = env.wall();
                while let Some((due, run)) = all.due.first().copied().filter(|(due, _)| *due <= now.0) {
                    all.due.remove(&(due, run));
                    if let Some(under_way) = all.under_way.get_mut(&run) {
                        under_way.due.retain(|other| *other != due);
                    }
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
    fn take(&mut self, most: usize) -> Vec<Back> {
        let mut back = Vec::new();
        while back.len() < most
            && let Some(run) = self.ready.pop_first()
        {
            if let Some((state, due)) = self.resting.remove(&run) {
                self.paused -= u64::from(state == RunState::Paused);
                self.due.remove(&(due, run));
                self.back.insert(run, state);
                back.push(Back { run, passage: 0 });
                continue;
            }
            match self.under_way.get_mut(&run) {
                Some(under_way) if under_way.can_be_passed() => {
                    back.push(Back { run, passage: under_way.pass() });
                }
                // It comes back as soon as its document has left.
                Some(_) => drop(self.told.insert(run)),
                None => {}
            }
        }
        back
    }

    /// No time of a run under way counts any more. When the next one was.
    fn forget_due(&mut self, run: u64) -> Option<i64> {
        let due = std::mem::take(&mut self.under_way.get_mut(&run)?.due);
        for due in &due {
            self.due.remove(&(*due, run));
        }
        due.into_iter().min()
    }
}

#[cfg(test)]
mod tests;
