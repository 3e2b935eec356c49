//! What `bourn checkpoints` takes.

use clap::{Args as Group, Subcommand, ValueHint};

use crate::runs::args::Journal;

/// What can be done with the checkpoints of a job.
#[derive(Debug, Subcommand)]
pub enum Checkpoints {
    /// List them, the newest last. Of a run: the names of the places in it from which `bourn runs fork RUN --at NAME` begins another one.
    List {
        /// The spec of the job, the folder of its checkpoints, or the id of a run of a workflow.
        #[arg(value_name = "SPEC|FOLDER|RUN", value_hint = ValueHint::AnyPath)]
        job: String,
        #[command(flatten)]
        journal: Journal,
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
