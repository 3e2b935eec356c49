//! Runs that are let go of, with all that happened in them.

use std::collections::BTreeMap;

use bourn_engine::Result;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::Sqlite;
use crate::claim::Claim;
use crate::fault::{Fault, Faults as _};
use crate::job::run_number;
use crate::read::Run;

/// Runs that are deleted in one commit, so that nobody else waits long to write.
const TOGETHER: usize = 1_000;

/// What was deleted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Deleted {
    /// How many runs.
    pub runs: usize,
    /// Those that were left, by why.
    pub left: BTreeMap<&'static str, usize>,
    /// Bytes of the file that are free for what is written later.
    pub free_bytes: u64,
}

impl Sqlite {
    /// Deletes runs that have ended; with `force` others too, unless a process runs their job. Those of a job that was cut off and reads its
    /// inputs again are left: it would begin them anew.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn delete(&self, runs: &[Run], force: bool) -> Result<Deleted> {
        let mut jobs: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        let mut deleted = Deleted::default();
        for run in runs {
            if run.status.has_ended() || force {
                jobs.entry(run.job).or_default().push(run.number);
            } else {
                *deleted.left.entry("has not ended").or_default() += 1;
            }
        }
        for (job, numbers) in jobs {
            let Some(_claim) = Claim::take(self.path(), job, &self.0.env)? else {
                *deleted.left.entry("is of a job that a process runs").or_default() += numbers.len();
                continue;
            };
            if !force && self.read(|c| reads_again(c, job))? {
                *deleted
                    .left
                    .entry("is of a job that was cut off, and would be begun anew when that goes on")
                    .or_default() += numbers.len();
                continue;
            }
            for some in numbers.chunks(TOGETHER) {
                let some = some.to_vec();
                self.0.writer.write_now(move |c, _| some.iter().try_for_each(|run| forget(c, *run)))?;
            }
            deleted.runs += numbers.len();
            self.0.writer.write_now(move |c, _| let_go(c, job))?;
        }
        deleted.free_bytes = self.read(|c| {
            let one = |query: &str| c.query_row(query, (), |row| row.get::<_, u64>(0)).told("read");
            Ok(one("PRAGMA freelist_count")? * one("PRAGMA page_size")?)
        })?;
        Ok(deleted)
    }
}

/// Whether a job is gone on with by its inputs.
fn reads_again(c: &Connection, job: u64) -> Result<bool, Fault> {
    let query = "SELECT ended IS NULL AND source <> '' FROM jobs WHERE job = ?1";
    Ok(c.query_row(query, [job], |row| row.get(0)).optional().told("read")?.unwrap_or(false))
}

fn forget(c: &Connection, run: i64) -> Result<(), Fault> {
    let tables =
        ["DELETE FROM events WHERE run = ?1", "DELETE FROM asks WHERE run = ?1", "DELETE FROM runs WHERE run = ?1"];
    for delete in tables {
        c.prepare_cached(delete).and_then(|mut statement| statement.execute([run])).told("write")?;
    }
    Ok(())
}

/// A job without runs goes, and a spec without jobs. The newest stays: the number of a job is never given twice, since the ids of its runs
/// are made of it.
fn let_go(c: &Connection, job: u64) -> Result<(), Fault> {
    let jobs = "DELETE FROM jobs WHERE job = ?1 AND job < (SELECT max(job) FROM jobs) \
                AND NOT EXISTS (SELECT 1 FROM runs WHERE run >= ?2 AND run < ?3)";
    c.execute(jobs, params![job, run_number(job, 0)?, run_number(job + 1, 0)?]).told("write")?;
    c.execute("DELETE FROM specs WHERE spec NOT IN (SELECT spec FROM jobs)", ()).told("write").map(drop)
}
