//! Runs that give up their id to a later one.

use bourn_engine::Result;
use rusqlite::{Connection, params};

use crate::Sqlite;
use crate::fault::{Fault, Faults as _};
use crate::job::run_number;
use crate::read::Run;

impl Sqlite {
    /// Calls a run that has ended `ID~1`, or the next number that is free, so that another one may have its id. Its records, and what its
    /// requests can be told by, stay what they are. Returns what it is called now.
    ///
    /// # Errors
    /// When it has not ended, is one of many of a job, or the journal can't be written.
    pub fn replace(&self, run: &Run) -> Result<String> {
        let new = format!("{}~{}", run.id, self.generations(&run.id)? + 1);
        let (run, name) = (run.clone(), new.clone());
        self.0.writer.write_now(move |c, _| {
            let range = params![run_number(run.job, 0)?, run_number(run.job + 1, 0)?];
            let all = "SELECT count(*) FROM runs WHERE run >= ?1 AND run < ?2";
            if c.query_row(all, range, |row| row.get::<_, u64>(0)).told("read")? > 1 {
                let why = format!("run `{}` is one of many of job {}, whose inputs give it its id", run.id, run.job);
                return Err(Fault::Refused(why));
            }
            let update = "UPDATE runs SET id = ?2 WHERE run = ?1 AND ended IS NOT NULL";
            if c.execute(update, params![run.number, name]).told("write")? == 0 {
                return Err(Fault::Refused("the run has not ended".into()));
            }
            let key = "UPDATE jobs SET run_key = coalesce(run_key, ?2) WHERE job = ?1";
            c.execute(key, params![run.job, run.id]).told("write")?;
            let forks = "UPDATE runs SET forked_from = ?2 WHERE forked_from = ?1";
            c.execute(forks, params![run.id, name]).told("write").map(drop)
        })?;
        Ok(new)
    }

    /// What the idempotency keys of a new run of this id begin with: none if that is the id, since no run of it was replaced.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn key_of(&self, id: &str) -> Result<Option<String>> {
        let before = self.generations(id)?;
        Ok((before > 0).then(|| format!("{id}~{}", before + 1)))
    }

    /// How many runs of this id were replaced.
    fn generations(&self, id: &str) -> Result<u64> {
        self.read(|c| generations(c, id))
    }
}

fn generations(c: &Connection, id: &str) -> Result<u64, Fault> {
    // Behind `~` comes a digit, and behind the digits the colon.
    let query = "SELECT id FROM runs WHERE id >= ?1 || '~0' AND id < ?1 || '~:'";
    let mut statement = c.prepare(query).told("read")?;
    let names = statement.query_map([id], |row| row.get::<_, String>(0)).told("read")?;
    let names = names.collect::<rusqlite::Result<Vec<_>>>().told("read")?;
    let number = |name: &String| name.strip_prefix(id)?.strip_prefix('~')?.parse().ok();
    Ok(names.iter().filter_map(number).max().unwrap_or(0))
}
