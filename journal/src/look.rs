//! What a run holds right now: asked by whoever looks at it, told by the process that runs it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bourn_engine::Result;
use bourn_engine::journal::Asked;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};

use crate::fault::{Fault, Faults as _};
use crate::job::{place_of, run_number};
use crate::read::Run;
use crate::{Job, Sqlite};

/// How often it is looked whether it has been told.
const LOOK: Duration = Duration::from_millis(50);

/// What the process of a job says of all of its runs together.
type Says = Arc<dyn Fn() -> Map<String, Value> + Send + Sync>;

/// Answers those that look.
#[derive(Clone, Default)]
pub(crate) struct Teller(Arc<Mutex<Option<Says>>>);

impl Teller {
    /// Answers all that have asked of the runs of this job.
    pub(crate) fn answer(&self, c: &Connection, journal: &Sqlite, job: u64, asked: &Asked) -> Result<(), Fault> {
        let query = "SELECT look, run FROM looks WHERE run >= ?1 AND run < ?2 AND seen IS NULL";
        let mut query = c.prepare_cached(query).told("read")?;
        let of_job = params![run_number(job, 0)?, run_number(job + 1, 0)?];
        let open = query.query_map(of_job, |row| Ok((row.get(0)?, row.get(1)?))).told("read")?;
        let open = open.collect::<rusqlite::Result<Vec<(i64, i64)>>>().told("read")?;
        if open.is_empty() {
            return Ok(());
        }
        let says = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let common = says.map(|says| says()).unwrap_or_default();
        for (look, run) in open {
            let mut seen = common.clone();
            seen.insert("allocated_tools".into(), asked.in_flight(place_of(run)).into());
            let seen = Value::Object(seen).to_string();
            let tell = move |c: &Connection, _: &mut crate::writer::Clock| {
                let update = "UPDATE looks SET seen = ?2 WHERE look = ?1";
                c.execute(update, params![look, seen]).told("write").map(drop)
            };
            // Who cannot be told now asks again.
            let _told = journal.0.writer.write_now(tell);
        }
        Ok(())
    }
}

impl Job {
    /// What the process says of its runs, to those that look: from now on.
    pub fn says(&self, says: impl Fn() -> Map<String, Value> + Send + Sync + 'static) {
        *self.listener.teller.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(says));
    }
}

impl Sqlite {
    /// What a run holds right now, as the process that runs it says within this time; none when nobody does.
    ///
    /// # Errors
    /// When the journal can't be read or written.
    pub async fn look(&self, run: &Run, patience: Duration) -> Result<Option<Value>> {
        let (number, env) = (run.number, self.0.env.clone());
        let mark = i64::try_from(env.random() >> 1).unwrap_or(i64::MAX);
        let ask = move |c: &Connection, _: &mut crate::writer::Clock| {
            let insert = "INSERT INTO looks (look, run) VALUES (?1, ?2)";
            c.execute(insert, params![mark, number]).told("write").map(drop)
        };
        self.0.writer.write(ask).await?;
        let begin = env.monotonic();
        let seen = loop {
            env.sleep(LOOK).await;
            let query = "SELECT seen FROM looks WHERE look = ?1";
            let seen = self
                .read(|c| c.query_row(query, [mark], |row| row.get::<_, Option<String>>(0)).optional().told("read"))?;
            match seen.flatten() {
                Some(seen) => break Some(seen),
                None if env.monotonic().saturating_sub(begin) > patience => break None,
                None => {}
            }
        };
        let forget = move |c: &Connection, _: &mut crate::writer::Clock| {
            c.execute("DELETE FROM looks WHERE look = ?1", [mark]).told("write").map(drop)
        };
        self.0.writer.write(forget).await?;
        Ok(seen.map(|seen| serde_json::from_str(&seen)).transpose()?)
    }

    /// Bytes of what is known of a run, which its row carries through the steps: its input and its records.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn bytes_of(&self, run: &Run) -> Result<u64> {
        let query = "SELECT coalesce((SELECT length(CAST(input AS BLOB)) FROM runs WHERE run = ?1), 0) \
                     + coalesce((SELECT sum(length(CAST(data AS BLOB))) FROM events WHERE run = ?1), 0)";
        self.read(|c| c.query_row(query, [run.number], |row| row.get(0)).told("read"))
    }
}
