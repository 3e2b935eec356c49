//! Whether and where the progress of a job is made safe.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::store::{StoreConfig, plain};

/// Whether the progress of a job is made safe.
#[derive(Clone, Debug, Default)]
pub enum Checkpointing {
    /// No: after a crash it begins anew.
    #[default]
    Off,
    /// If it would hurt to begin anew: when an input without an end goes into a sink that can commit, or through a stage
    /// that keeps something by key.
    WhereNeeded(Checkpoints),
    /// Yes.
    On(Checkpoints),
}

/// Where and how the progress of a job is made safe.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// Where.
    pub at: Place,
    /// How many complete checkpoints stay.
    pub keep: usize,
    /// How long one may take; without it, as long as it takes.
    pub timeout: Option<Timeout>,
}

/// How long a checkpoint may take, from its barrier to the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// One that takes longer has failed, and as much longer again once more; it is waited for all the same.
    pub after: Duration,
    /// How often one may fail so. Beyond it the job ends, and the checkpoint is given up with it.
    pub tolerated: u32,
}

impl Timeout {
    /// How often one may fail if nobody says.
    pub const TOLERATED: u32 = 2;
}

/// Where checkpoints are kept.
#[derive(Clone, Debug)]
pub enum Place {
    /// The folder below which each job has one of its own.
    Folder(PathBuf),
    /// Another kind of store, below which each job has a place of its own.
    Store(Arc<dyn StoreConfig>),
}

/// The folder for checkpoints if nobody says another, and for what sinks stage while checkpoints are kept elsewhere.
pub const CHECKPOINTS: &str = ".bourn/checkpoints";

impl Checkpoints {
    /// Below this folder; the newest three stay.
    pub fn in_folder(path: impl Into<PathBuf>) -> Self {
        Self { at: Place::Folder(path.into()), keep: 3, timeout: None }
    }

    /// In this store; the newest three stay.
    pub fn in_store(store: impl StoreConfig) -> Self {
        Self { at: Place::Store(Arc::new(store)), keep: 3, timeout: None }
    }

    /// Where those of a job are, as it may be shown.
    pub fn place(&self, job: &str) -> String {
        match &self.at {
            Place::Folder(path) => path.join(plain(job)).display().to_string(),
            Place::Store(store) => store.place(Some(&plain(job))),
        }
    }

    /// The folder in which sinks of a job stage what waits for a commit. It is on this machine wherever checkpoints are kept.
    pub fn staged(&self, job: &str) -> PathBuf {
        self.beside(job).join("staged")
    }

    /// The folder for state of a job that memory can't hold. It is on this machine too.
    pub fn state(&self, job: &str) -> PathBuf {
        self.beside(job).join("state")
    }

    fn beside(&self, job: &str) -> PathBuf {
        let base = match &self.at {
            Place::Folder(path) => path.clone(),
            Place::Store(_) => CHECKPOINTS.into(),
        };
        base.join(plain(job))
    }
}
