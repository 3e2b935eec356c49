//! What a piece of state may hold in memory, and where the rest goes.

use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::error::Result;

/// What a piece of state may hold in memory, and where the rest goes: into files that end with it. They are no checkpoint, and
/// whoever begins after a crash removes what is left of them.
#[derive(Clone, Debug)]
pub struct Room {
    /// Bytes in memory.
    pub memory: usize,
    /// The world that has the files.
    pub env: Env,
    /// Their folder.
    pub folder: PathBuf,
    /// What their names begin with: no other piece of state may have the same.
    pub name: String,
    /// Bytes of a file: what is not needed any more goes when none of a file is.
    pub file: u64,
}

impl Room {
    /// Removes what a run that was cut off has left in a folder. Called by whoever has the lock of the job.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clear(env: &Env, folder: &Path) -> Result<()> {
        let pattern = format!("{}/*.{}", glob::Pattern::escape(&folder.to_string_lossy()), Self::ENDING);
        env.glob(&pattern)?.iter().try_for_each(|path| env.files().remove(path))
    }

    /// Bytes of a file, unless something else is said.
    pub const FILE: u64 = 128 << 20;
    /// The ending of all files.
    pub const ENDING: &'static str = "state";
}
