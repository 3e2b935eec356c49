//! A job belongs to one process: a locked file beside the journal, which the system frees when the process is gone.

use std::path::{Path, PathBuf};

use bourn_engine::Result;
use bourn_engine::env::Env;

/// Held for as long as the job is run.
pub struct Claim(#[expect(dead_code, reason = "it is held")] Box<dyn Send + Sync>);

impl Claim {
    /// Claims a job; none when another process has it.
    pub fn take(journal: &Path, job: u64, env: &Env) -> Result<Option<Self>> {
        let mut name = journal.as_os_str().to_owned();
        name.push(format!("-job{job}.lock"));
        Ok(env.files().lock(&PathBuf::from(name))?.map(Self))
    }
}
