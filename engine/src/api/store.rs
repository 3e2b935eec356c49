//! Where checkpoints are kept: names with contents, each there as a whole or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Problems;
use crate::env::Env;
use crate::error::Result;

/// The checkpoints of one job. Calls block for as long as the disk or the network takes, so the engine makes them on threads
/// that may.
pub trait Store: Send + Sync + 'static {
    /// Puts a content under a name, in place of one that is there. It is durable when this returns, and never there in part.
    ///
    /// # Errors
    /// What the disk or network says; the content may be there nevertheless.
    fn put(&self, name: &str, content: &[u8]) -> Result<()>;

    /// The same for what completes a checkpoint. When this returns, whoever has the lock is the one who called it: a job that
    /// has lost its lock without noticing completes nothing.
    ///
    /// # Errors
    /// What the disk or network says, and that the lock is lost.
    fn complete(&self, name: &str, content: &[u8]) -> Result<()> {
        self.put(name, content)
    }

    /// The content of a name.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) when there is none.
    fn get(&self, name: &str) -> Result<Vec<u8>>;

    /// All names, sorted.
    ///
    /// # Errors
    /// What the disk or network says.
    fn names(&self) -> Result<Vec<String>>;

    /// Removes a name; one that is not there is none the worse.
    ///
    /// # Errors
    /// What the disk or network says.
    fn remove(&self, name: &str) -> Result<()>;

    /// Removes what a put that was cut off has left. Called by whoever has the lock.
    ///
    /// # Errors
    /// What the disk or network says.
    fn tidy(&self) -> Result<()> {
        Ok(())
    }

    /// Keeps other jobs out; none when another job is in. May wait until it is clear that a job that was in is no more.
    ///
    /// # Errors
    /// What the disk or network says.
    fn lock(&self) -> Result<Option<Box<dyn Lock>>>;

    /// What messages call it.
    fn place(&self) -> String;
}

/// What keeps other jobs out of a store.
pub trait Lock: Send + Sync {
    /// Lets others in. May block. Dropped without it, a lock keeps them out until the store notices that nobody has it.
    fn release(self: Box<Self>);
}

/// A kind of store that is no folder: a bucket, say. What a spec says of it, below its job.
pub trait StoreConfig: fmt::Debug + Send + Sync + 'static {
    /// Where the store of a job is, as it may be shown to anybody. `job` is a name in plain signs; none is the place itself.
    fn place(&self, job: Option<&str>) -> String;

    /// Checks what is said; asks nobody.
    ///
    /// # Errors
    /// What is at fault, below `path`, `options` or `lease`.
    fn check(&self, env: &Env) -> Result<(), Problems>;

    /// The store of a job; nobody is asked yet.
    ///
    /// # Errors
    /// When what is said is at fault, or the thread is no place from which the store can be reached.
    fn open(&self, job: Option<&str>, env: &Env) -> Result<Arc<dyn Store>>;
}

/// What is said of a store that is no folder.
#[derive(Clone, Default)]
pub struct StoreAt {
    /// Where it is.
    pub url: String,
    /// How to reach it. Values may be secrets.
    pub options: BTreeMap<String, String>,
    /// For how long a job that is cut off keeps others out.
    pub lease: Option<Duration>,
}

/// Reads what is said of a store.
pub type ReadStore = fn(StoreAt) -> Arc<dyn StoreConfig>;

/// The name of a job, in signs that every store takes.
pub fn plain(job: &str) -> String {
    job.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
