//! Answers that were paid for, kept by what was asked.
//!
//! A stage says `journal: true`, a store says where answers are (`bourn-journal` in SQLite, [`Memory`] in the process), and a call
//! asks here before it asks outside. What is not there is an answer that nobody has paid for.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::call::Usage;
use crate::error::Result;

/// The hash of all that an answer depends on: who is asked, how, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of these parts (BLAKE3); where one ends and the next begins counts.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of_bytes(parts.into_iter().map(str::as_bytes))
    }

    /// The same of bytes.
    pub fn of_bytes<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(*hash.finalize().as_bytes())
    }
}

/// An answer, in the form of the call that has kept it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its bytes.
    pub answer: Vec<u8>,
    /// What it cost when it was paid for.
    pub usage: Usage,
}

/// Where the answers of a stage are kept, and what it has spent.
pub trait Memo: Send + Sync + fmt::Debug + 'static {
    /// What is kept under each of these keys.
    fn find(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Kept>>>>;
    /// Keeps answers and counts what they cost; returns when both are durable.
    fn keep(&self, answers: Vec<(Key, Kept)>) -> BoxFuture<'_, Result<()>>;
    /// Counts what was paid for no answer.
    fn lost(&self, usage: Usage) -> BoxFuture<'_, Result<()>>;
    /// What the stage has spent since its job began anew, in all processes together.
    fn spent(&self) -> BoxFuture<'_, Result<Usage>>;
    /// The job begins anew: nothing is spent yet. Answers stay.
    fn settle(&self) -> BoxFuture<'_, Result<()>>;
}

/// Opens places where answers are kept.
pub trait Memos: Send + Sync + fmt::Debug + 'static {
    /// Opens the one that a stage names, for this stage of this job. It may wait for a disk.
    ///
    /// # Errors
    /// When it can't be opened.
    fn open(&self, at: &Keeping, account: Account) -> Result<Arc<dyn Memo>>;
}

/// Where a stage keeps answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In the journal that the engine was given.
    Shared,
    /// In this file.
    At(PathBuf),
}

/// Who spends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The name of the job.
    pub job: String,
    /// The id of the stage.
    pub stage: String,
}

/// Answers in the process, for as long as it lives: for tests, and to see what a store must do. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<Key, Kept>,
    spent: HashMap<Account, Usage>,
}

#[derive(Debug)]
struct Opened {
    memory: Memory,
    account: Account,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memos for Memory {
    fn open(&self, _: &Keeping, account: Account) -> Result<Arc<dyn Memo>> {
        Ok(Arc::new(Opened { memory: self.clone(), account }))
    }
}

impl Memo for Opened {
    fn find(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Kept>>>> {
        let inner = self.memory.inner();
        ready(Ok(keys.iter().map(|key| inner.answers.get(key).cloned()).collect())).boxed()
    }

    fn keep(&self, answers: Vec<(Key, Kept)>) -> BoxFuture<'_, Result<()>> {
        let mut inner = self.memory.inner();
        for (key, kept) in answers {
            *inner.spent.entry(self.account.clone()).or_default() += kept.usage;
            inner.answers.insert(key, kept);
        }
        ready(Ok(())).boxed()
    }

    fn lost(&self, usage: Usage) -> BoxFuture<'_, Result<()>> {
        *self.memory.inner().spent.entry(self.account.clone()).or_default() += usage;
        ready(Ok(())).boxed()
    }

    fn spent(&self) -> BoxFuture<'_, Result<Usage>> {
        ready(Ok(self.memory.inner().spent.get(&self.account).copied().unwrap_or_default())).boxed()
    }

    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        self.memory.inner().spent.remove(&self.account);
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_part_of_a_key_ends_counts() {
        assert_eq!(Key::of(["a", "bc"]), Key::of(["a", "bc"]));
        assert_ne!(Key::of(["a", "bc"]), Key::of(["ab", "c"]));
        assert_ne!(Key::of(["a", ""]), Key::of(["a"]));
    }
}
