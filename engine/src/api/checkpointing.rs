//! Whether and where the progress of a job is made safe.

use std::path::PathBuf;

/// Whether the progress of a job is made safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// The folder below which each job has one of its own.
    pub path: PathBuf,
    /// How many complete checkpoints stay.
    pub keep: usize,
}

impl Checkpoints {
    /// Below this folder; the newest three stay.
    pub fn in_folder(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), keep: 3 }
    }
}
