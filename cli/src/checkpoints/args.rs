//! What `bourn checkpoints` takes.

use clap::{Args as Group, Subcommand, ValueHint};

/// What can be done with the checkpoints of a job.
#[derive(Debug, Subcommand)]
pub enum Checkpoints {
    /// List them, the newest last.
    List {
        #[command(flatten)]
        job: JobOf,
    },
    /// Show what one keeps: positions of sources, state of stages, receipts of sinks.
    Show {
        #[command(flatten)]
        job: JobOf,
        /// Its number; the newest if it is not said.
        id: Option<u64>,
    },
    /// Read them to the last byte and compare their checksums.
    Verify {
        #[command(flatten)]
        job: JobOf,
        /// The number of one; all of them if it is not said.
        id: Option<u64>,
    },
    /// Delete some, or all: the job begins anew when none is left.
    Delete {
        #[command(flatten)]
        job: JobOf,
        /// Their numbers.
        #[arg(required_unless_present = "all")]
        ids: Vec<u64>,
        /// All of them, and what is staged for files that never will be whole.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

/// Whose checkpoints.
#[derive(Debug, Group)]
pub struct JobOf {
    /// The spec of the job, or the folder of its checkpoints.
    #[arg(value_name = "SPEC|FOLDER", value_hint = ValueHint::AnyPath)]
    pub job: String,
}
