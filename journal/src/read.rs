//! What a journal can be asked.

use std::collections::BTreeMap;

use bourn_engine::Result;
use bourn_engine::journal::{History, RunState};
use bourn_engine::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::Sqlite;
use crate::fault::{Fault, Faults as _};

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The name of its workflow.
    pub workflow: String,
    /// How it stands.
    pub status: RunState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its input as JSON; none when that was no good.
    pub input: Option<String>,
    /// The run that it was made from.
    pub forked_from: Option<String>,
    /// Whether a mock model answered.
    pub mock: bool,
    /// Its job.
    pub job: u64,
    /// The number in the journal.
    #[serde(skip)]
    pub(crate) number: i64,
}

impl Run {
    /// Its place among the runs of its job, from 0.
    pub fn place(&self) -> u64 {
        u64::try_from(self.number).unwrap_or_default() & u64::from(u32::MAX)
    }
}

/// Which runs are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this workflow.
    pub workflow: Option<String>,
    /// That stand like this.
    pub status: Option<RunState>,
    /// So many, the newest.
    pub limit: usize,
}

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, and the place in the history.
    pub at: Timestamp,
    /// `step`, `wait`, `signal`, or `retried`.
    pub kind: String,
    /// The step, or the signal.
    pub step: Option<String>,
    /// Its record as JSON.
    pub data: Option<String>,
}

/// The spec that a job began with.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The texts of the files that it includes, by path.
    pub included: BTreeMap<String, String>,
    /// The hash of these.
    pub hash: String,
    /// Where the inputs of the job come from; empty for one that was given by hand.
    pub source: String,
    /// Whether a mock model answers.
    pub mock: bool,
}

const COLUMNS: &str = "SELECT run, id, workflow, status, runs.started, runs.ended, input, forked_from, mock, job \
                       FROM runs JOIN jobs ON job = run >> 32";

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let status: String = row.get(3)?;
    let unknown = || rusqlite::Error::InvalidColumnType(3, "status".into(), rusqlite::types::Type::Text);
    Ok(Run {
        number: row.get(0)?,
        id: row.get(1)?,
        workflow: row.get(2)?,
        status: RunState::of(&status).ok_or_else(unknown)?,
        started: Timestamp(row.get(4)?),
        ended: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        input: row.get(6)?,
        forked_from: row.get(7)?,
        mock: row.get(8)?,
        job: row.get(9)?,
    })
}

impl Sqlite {
    /// Runs, the newest first.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn runs(&self, filter: &Filter) -> Result<Vec<Run>> {
        self.read(|c| {
            let query = format!(
                "{COLUMNS} WHERE (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR status = ?2) ORDER BY run DESC LIMIT ?3"
            );
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let mut statement = c.prepare(&query).told("read")?;
            let wanted = params![filter.workflow, filter.status.map(RunState::name), limit];
            let rows = statement.query_map(wanted, run).told("read")?;
            rows.collect::<rusqlite::Result<_>>().told("read")
        })
    }

    /// The run of this very id, if there is one.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn find(&self, id: &str) -> Result<Option<Run>> {
        self.read(|c| c.query_row(&format!("{COLUMNS} WHERE id = ?1"), [id], run).optional().told("read"))
    }

    /// The run of this id, or the only one whose id begins so.
    ///
    /// # Errors
    /// When there is none or several, or the journal can't be read.
    pub fn run(&self, id: &str) -> Result<Run> {
        if let Some(run) = self.find(id)? {
            return Ok(run);
        }
        self.read(|c| {
            // Text between `id` and `id` with the last character of all behind it begins with `id`.
            let query = format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || char(1114111) LIMIT 2");
            let mut statement = c.prepare(&query).told("read")?;
            let rows = statement.query_map([id], run).told("read")?;
            let mut found = rows.collect::<rusqlite::Result<Vec<Run>>>().told("read")?;
            match (found.pop(), found.pop()) {
                (Some(run), None) => Ok(run),
                (Some(_), Some(_)) => Err(Fault::Refused(format!("the ids of several runs begin with `{id}`"))),
                _ => Err(Fault::Refused(format!("there is no run `{id}`; see `bourn runs list`"))),
            }
        })
    }

    /// What happened in a run, in order.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn events(&self, run: &Run) -> Result<Vec<Event>> {
        self.read(|c| {
            let query = "SELECT position, kind, step, data FROM events WHERE run = ?1 ORDER BY position";
            let mut statement = c.prepare(query).told("read")?;
            let event = |row: &Row<'_>| {
                Ok(Event { at: Timestamp(row.get(0)?), kind: row.get(1)?, step: row.get(2)?, data: row.get(3)? })
            };
            let rows = statement.query_map([run.number], event).told("read")?;
            rows.collect::<rusqlite::Result<_>>().told("read")
        })
    }

    /// What is known of it: the record of each step that has ended, waits and signals.
    ///
    /// # Errors
    /// When the journal can't be read or is damaged.
    pub fn history(&self, run: &Run) -> Result<History> {
        let mut history = History::default();
        for Event { kind, step, data, .. } in self.events(run)? {
            crate::job::add(&mut history, (kind, step, data)).map_err(|fault| fault.at(self.path()))?;
        }
        Ok(history)
    }

    /// The spec of a job.
    ///
    /// # Errors
    /// When there is no such job, or the journal can't be read.
    pub fn spec(&self, job: u64) -> Result<Spec> {
        self.read(|c| {
            let query =
                "SELECT file, text, hash, source, mock, included FROM jobs JOIN specs USING (spec) WHERE job = ?1";
            let spec = |row: &Row<'_>| {
                let included: String = row.get(5)?;
                Ok(Spec {
                    included: serde_json::from_str(&included).unwrap_or_default(),
                    file: row.get(0)?,
                    text: row.get(1)?,
                    hash: row.get(2)?,
                    source: row.get(3)?,
                    mock: row.get(4)?,
                })
            };
            let found = c.query_row(query, [job], spec).optional().told("read")?;
            found.ok_or_else(|| Fault::Refused(format!("there is no job {job}")))
        })
    }

    /// Reads every page and index.
    ///
    /// # Errors
    /// When something is damaged.
    pub fn check(&self) -> Result<()> {
        self.read(|c: &Connection| {
            let found: String = c.query_row("PRAGMA integrity_check", (), |row| row.get(0)).told("read")?;
            if found == "ok" { Ok(()) } else { Err(Fault::Damaged(found)) }
        })
    }
}
