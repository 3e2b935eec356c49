//! What is left of a budget: requests take out what they may cost, and settle what they did.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

use super::{Budget, OnExceeded, Usage};

/// What may be spent, and what is left of it: by all lanes of a stage, by all stages of a job, or by a run.
#[derive(Debug)]
pub struct Purse {
    budget: Budget,
    /// `the job`, `the run`, or the id of a stage.
    whose: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spent: Usage,
    /// What the requests under way may cost, and how many they are.
    reserved: Usage,
    under_way: usize,
    /// The first request that did not fit is the last one that was to be made.
    is_spent: bool,
    /// Who waits for what one under way leaves over; bounded by the requests in flight.
    waiting: Vec<oneshot::Sender<()>>,
    /// Who is to be told that there is nothing left; one for each lane, and those that have gone.
    listening: Vec<oneshot::Sender<()>>,
}

/// What a request may cost, taken out of the purse until it is settled.
pub(crate) struct Reserved<'a> {
    purse: &'a Purse,
    estimate: Usage,
}

impl Purse {
    /// One with so much in it, of which `spent` is gone.
    pub fn new(budget: Budget, whose: impl Into<String>) -> Self {
        Self { budget, whose: whose.into(), state: Mutex::default() }
    }

    /// What may be spent.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Counts what was spent before.
    pub fn spent(&self, usage: Usage) {
        self.state().spent += usage;
    }

    /// Whether the job is to fail, since there is nothing left.
    pub fn has_failed(&self) -> bool {
        self.budget.on_exceeded == OnExceeded::Fail && self.state().is_spent
    }

    /// Whether the job is to stop for now, since there is nothing left.
    pub fn is_pausing(&self) -> bool {
        self.budget.on_exceeded == OnExceeded::Pause && self.state().is_spent
    }

    /// Is over when the job is to stop for now.
    pub async fn paused(&self) {
        if self.budget.on_exceeded != OnExceeded::Pause {
            return std::future::pending().await;
        }
        let spent = {
            let mut state = self.state();
            if state.is_spent {
                return;
            }
            let (tell, spent) = oneshot::channel();
            state.listening.retain(|tell| !tell.is_canceled());
            state.listening.push(tell);
            spent
        };
        // The other end goes with the purse alone.
        let _spent = spent.await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is certain whether a request can be paid for; none when it can't. What is reserved and not spent comes back,
    /// so only a request that does not fit when nothing else is under way exceeds the budget: it is never exceeded by more
    /// than one estimate was wrong.
    pub(crate) async fn reserve(&self, estimate: Usage) -> Option<Reserved<'_>> {
        loop {
            let room = {
                let mut state = self.state();
                if state.is_spent {
                    return None;
                }
                let mut sum = state.spent;
                sum += state.reserved;
                sum += estimate;
                if self.holds(sum) {
                    state.reserved += estimate;
                    state.under_way += 1;
                    return Some(Reserved { purse: self, estimate });
                }
                if state.under_way == 0 {
                    state.is_spent = true;
                    for listening in state.listening.drain(..) {
                        let _gone = listening.send(());
                    }
                    return None;
                }
                let (tell, room) = oneshot::channel();
                state.waiting.push(tell);
                room
            };
            // One that is dropped was told by the end of another one.
            let _there_may_be = room.await;
        }
    }

    fn holds(&self, sum: Usage) -> bool {
        self.budget.tokens.is_none_or(|most| sum.input_tokens + sum.output_tokens <= most)
            && self.budget.usd.is_none_or(|most| sum.usd <= most * (1.0 + 1e-12))
    }
}

impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spent = self.state().spent;
        write!(f, "the budget of {} is spent: ", self.whose)?;
        if let Some(most) = self.budget.usd {
            write!(f, "{:.6} of {most} US dollars", spent.usd)?;
        }
        if let Some(most) = self.budget.tokens {
            let and = if self.budget.usd.is_some() { ", " } else { "" };
            write!(f, "{and}{} of {most} tokens", spent.input_tokens + spent.output_tokens)?;
        }
        f.write_str(", and the next request may need more than is left")
    }
}

impl Reserved<'_> {
    /// Counts what it did cost.
    pub(crate) fn settle(self, used: Usage) {
        self.purse.state().spent += used;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.purse.state();
        state.under_way -= 1;
        let left = |all: u64, one: u64| all.saturating_sub(one);
        state.reserved = Usage {
            input_tokens: left(state.reserved.input_tokens, self.estimate.input_tokens),
            output_tokens: left(state.reserved.output_tokens, self.estimate.output_tokens),
            // Sums of fractions leave crumbs behind.
            usd: if state.under_way == 0 { 0.0 } else { state.reserved.usd - self.estimate.usd },
        };
        for waiting in state.waiting.drain(..) {
            let _gone = waiting.send(());
        }
    }
}

/// What each run of a job may spend, and what is left of it to those under way. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Purses {
    budget: Budget,
    /// By the numbers of the runs; bounded by how many are admitted at once.
    open: Arc<Mutex<HashMap<u64, Arc<Purse>>>>,
}

impl Purses {
    /// Those of runs that may spend so much each.
    pub fn new(budget: Budget) -> Self {
        Self { budget, open: Arc::default() }
    }

    /// What each run may spend.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// A run goes on that has spent so much before.
    pub fn begin(&self, run: u64, spent: Usage) {
        let purse = self.purse();
        purse.spent(spent);
        self.open().insert(run, Arc::new(purse));
    }

    /// That of a run.
    pub(crate) fn of(&self, run: u64) -> Arc<Purse> {
        self.open().entry(run).or_insert_with(|| Arc::new(self.purse())).clone()
    }

    /// A run has ended, or is at rest: what it has spent is in its records.
    pub fn end(&self, run: u64) {
        self.open().remove(&run);
    }

    fn purse(&self) -> Purse {
        Purse::new(self.budget, "the run")
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Purse>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn tokens(count: u64) -> Usage {
        Usage { input_tokens: count, ..Usage::default() }
    }

    #[test]
    fn what_may_cost_more_than_is_left_waits_for_those_under_way_and_then_exceeds() {
        let purse = Purse::new(Budget { tokens: Some(100), ..Budget::default() }, "the job");
        purse.spent(tokens(10));
        let first = purse.reserve(tokens(80)).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(purse.reserve(tokens(40)));
        assert!(second.as_mut().now_or_never().is_none());
        // It cost less than it might have.
        first.settle(tokens(20));
        let second = second.now_or_never().unwrap().unwrap();
        assert!(purse.reserve(tokens(40)).now_or_never().is_none());
        second.settle(tokens(40));
        assert!(purse.reserve(tokens(31)).now_or_never().unwrap().is_none() && purse.has_failed());
        // What would have fitted is not asked any more either: it is over.
        assert!(purse.reserve(tokens(1)).now_or_never().unwrap().is_none());
        assert_eq!(
            purse.to_string(),
            "the budget of the job is spent: 70 of 100 tokens, and the next request may need more than is left"
        );
    }

    #[test]
    fn one_that_is_given_up_leaves_what_it_had_reserved() {
        let purse = Purse::new(Budget { usd: Some(1.0), ..Budget::default() }, "`ask`");
        let dollar = Usage { usd: 0.7, ..Usage::default() };
        drop(purse.reserve(dollar).now_or_never().unwrap().unwrap());
        assert!(purse.reserve(dollar).now_or_never().unwrap().is_some());
    }

    #[test]
    fn each_run_has_a_purse_of_its_own_and_what_it_spent_before_is_gone() {
        let purses = Purses::new(Budget { tokens: Some(10), ..Budget::default() });
        purses.begin(1, tokens(8));
        assert!(purses.of(1).reserve(tokens(5)).now_or_never().unwrap().is_none());
        let (here, same) = (purses.of(2), purses.clone().of(2));
        let reserved = here.reserve(tokens(6)).now_or_never().unwrap().unwrap();
        assert!(same.reserve(tokens(5)).now_or_never().is_none());
        drop(reserved);
        purses.end(1);
        purses.end(2);
        assert!(purses.open().is_empty());
    }
}
