//! A journal in the process: for tests, for specs that are only planned, and to see what a store must do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::Array;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::value::RawValue;

use super::{Asked, Earlier, Entries, History, Journal, Returned, RunState, Spending, Started, Wait};
use crate::error::{Error, Result};
use crate::time::Timestamp;

/// Keeps everything for as long as it lives. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<u64, Kept>>>, Asked);

/// A run.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// Its input.
    pub input: Option<String>,
    /// How it stands.
    pub state: RunState,
    /// What its steps left.
    pub history: History,
    /// When it began.
    pub since: Timestamp,
    /// When its time is over.
    pub deadline: Option<Timestamp>,
}

impl Memory {
    /// The runs by their numbers.
    pub fn runs(&self) -> MutexGuard<'_, BTreeMap<u64, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, runs: &Started) -> Result<Vec<Option<Earlier>>> {
        let mut all = self.runs();
        let text = |array: &arrow::array::StringArray, i: usize| array.is_valid(i).then(|| array.value(i).to_owned());
        let mut known = Vec::new();
        for (i, number) in runs.numbers.iter().enumerate() {
            let (id, input) = (text(&runs.ids, i).unwrap_or_default(), text(&runs.inputs, i));
            let deadline = runs.deadlines.get(i).copied().flatten();
            let earlier = match all.get(number) {
                Some(kept) if kept.input != input => {
                    return Err(Error::validation(format!("run {number} is not what it was when it began")));
                }
                Some(kept) => {
                    let (state, history, deadline) = (kept.state, kept.history.clone(), kept.deadline);
                    let spent = Spending::of(&history)?.total();
                    let id = kept.id.clone();
                    Some(Earlier { id, state, history, since: Some(kept.since), spent, deadline })
                }
                None => None,
            };
            if earlier.is_none() {
                let (state, history) = (RunState::Running, History::default());
                all.insert(*number, Kept { id, input, state, history, since: runs.at, deadline });
            }
            known.push(earlier);
        }
        Ok(known)
    }

    fn add(&self, entries: &Entries) -> Result<()> {
        let mut all = self.runs();
        let unknown = |number: &u64| Error::engine(format!("run {number} has never begun"));
        for steps in &entries.steps {
            for (i, number) in steps.numbers.iter().enumerate() {
                let run = all.get_mut(number).ok_or_else(|| unknown(number))?;
                let record = RawValue::from_string(steps.records.value(i).to_owned())?;
                run.history.0.insert(steps.name(i).to_owned(), record);
            }
        }
        for wait in &entries.waits {
            let run = all.get_mut(&wait.number).ok_or_else(|| unknown(&wait.number))?;
            run.history.0.insert(History::wait(&wait.step), RawValue::from_string(wait.data.clone())?);
        }
        for backoff in &entries.backoffs {
            let run = all.get_mut(&backoff.number).ok_or_else(|| unknown(&backoff.number))?;
            run.history.0.insert(History::backoff(&backoff.step), RawValue::from_string(backoff.data.clone())?);
        }
        for (number, state) in entries.ends.numbers.iter().zip(&entries.ends.states) {
            all.get_mut(number).ok_or_else(|| unknown(number))?.state = *state;
        }
        Ok(())
    }
}

impl Journal for Memory {
    fn start(&self, runs: Started) -> BoxFuture<'static, Result<Vec<Option<Earlier>>>> {
        ready(self.take_in(&runs)).boxed()
    }

    fn append(&self, entries: Entries, _: Wait) -> BoxFuture<'static, Result<()>> {
        ready(self.add(&entries)).boxed()
    }

    fn returned(&self, runs: Vec<u64>) -> BoxFuture<'static, Result<Vec<Returned>>> {
        let all = self.runs();
        let one = |number: u64| {
            let kept = all.get(&number).filter(|kept| !kept.state.has_ended())?;
            Some(Returned { number, id: kept.id.clone(), input: kept.input.clone()? })
        };
        ready(Ok(runs.into_iter().filter_map(one).collect())).boxed()
    }

    fn asked(&self) -> Asked {
        self.1.clone()
    }
}
