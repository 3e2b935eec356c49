//! Whether a journal is whole: its pages, its tables, and what they say of each other.

use std::collections::BTreeMap;

use bourn_engine::Result;
use bourn_engine::journal::RunState;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::Sqlite;
use crate::claim::Claim;
use crate::fault::{Fault, Faults as _};

/// How many faults of the pages are told.
const FAULTS: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// The version of its tables.
    pub version: usize,
    /// Its size, without the write-ahead log.
    pub bytes: u64,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// Runs by how they stand.
    pub runs: BTreeMap<String, u64>,
    /// Jobs with runs that are under way and that no process has: they were cut off.
    pub cut_off: Vec<u64>,
    /// What is not as it should be; nothing, in a journal that is whole.
    pub troubles: Vec<Trouble>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What it is.
    pub what: String,
    /// How often it was found.
    pub count: u64,
    /// One of them.
    pub example: Option<String>,
    /// The way out.
    pub way: String,
}

/// Rows that must not be there: what is told of them, a query for their count and one of them, the way out.
const WRONG: [(&str, &str, &str); 6] = [
    (
        "runs of no job",
        "SELECT count(*), min(id) FROM runs LEFT JOIN jobs ON job = run >> 32 WHERE job IS NULL",
        "they can't be shown or gone on with: start them anew under other ids, or restore a copy",
    ),
    (
        "jobs of no spec",
        "SELECT count(*), min(job) FROM jobs LEFT JOIN specs USING (spec) WHERE specs.spec IS NULL",
        "their runs can be shown with `--history` and not be gone on with: start them anew, or restore a copy",
    ),
    (
        "events of no run",
        "SELECT count(*), min(run) FROM events LEFT JOIN runs USING (run) WHERE runs.run IS NULL",
        "nobody reads them: they do no harm",
    ),
    (
        "runs that have ended and say otherwise, or the other way round",
        "SELECT count(*), min(id) FROM runs WHERE (status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TIMED_OUT')) IS NOT (ended IS NOT NULL)",
        "compare with `bourn runs show RUN --history`; `bourn runs fork RUN` makes a new one of what it has",
    ),
    (
        "runs with a status that there is not",
        "SELECT count(*), min(id) FROM runs WHERE status NOT IN ('RUNNING', 'WAITING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELED', 'TIMED_OUT')",
        "they can't be shown: use the Bourn that wrote them, or restore a copy",
    ),
    (
        "runs with an input, or something that happened, that is no JSON",
        "SELECT count(*), min(id) FROM runs WHERE NOT json_valid(coalesce(input, 'null')) \
         OR run IN (SELECT run FROM events WHERE NOT json_valid(coalesce(data, 'null')))",
        "they can't be gone on with: start them anew under other ids, or restore a copy",
    ),
];

impl Sqlite {
    /// Reads every page, index and row.
    ///
    /// # Errors
    /// When so much is damaged that it can't be read at all.
    pub fn health(&self) -> Result<Health> {
        let mut health = self.read(|c| {
            let one = |query: &str| c.query_row(query, (), |row| row.get::<_, u64>(0)).told("read");
            let mut health = Health {
                version: usize::try_from(one("PRAGMA user_version")?).unwrap_or_default(),
                bytes: one("PRAGMA page_count")? * one("PRAGMA page_size")?,
                ..Health::default()
            };
            health.troubles.extend(pages(c)?);
            // In pages that are damaged any row may be wrong, so only they are told.
            if health.troubles.is_empty() {
                for table in ["specs", "jobs", "runs", "events", "asks", "answers", "spent"] {
                    health.rows.insert(table.to_owned(), one(&format!("SELECT count(*) FROM {table}"))?);
                }
                health.runs = by_status(c)?;
                for (what, query, way) in WRONG {
                    health.troubles.extend(wrong(c, what, query, way)?);
                }
                health.troubles.extend(specs(c)?);
                health.cut_off = under_way(c)?;
            }
            Ok(health)
        })?;
        let env = &self.0.env;
        let mut free = Vec::new();
        for job in std::mem::take(&mut health.cut_off) {
            if Claim::take(self.path(), job, env)?.is_some() {
                free.push(job);
            }
        }
        health.cut_off = free;
        Ok(health)
    }
}

/// What SQLite finds of pages and indexes.
fn pages(c: &Connection) -> Result<Option<Trouble>, Fault> {
    let mut query = c.prepare(&format!("PRAGMA integrity_check({FAULTS})")).told("read")?;
    let found = query.query_map((), |row| row.get::<_, String>(0)).told("read")?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>().told("read")?;
    let faults: Vec<String> = found.into_iter().filter(|line| line != "ok").collect();
    Ok((!faults.is_empty()).then(|| Trouble {
        what: "pages or indexes that are damaged".into(),
        count: faults.len() as u64,
        example: faults.into_iter().next(),
        way: "move the file away or restore a copy; `sqlite3 FILE .recover` writes out what can be read".into(),
    }))
}

fn wrong(c: &Connection, what: &str, query: &str, way: &str) -> Result<Option<Trouble>, Fault> {
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Integer(number) => Some(number.to_string()),
        rusqlite::types::Value::Text(text) => Some(text),
        _ => None,
    };
    let found = c.query_row(query, (), |row| Ok((row.get::<_, u64>(0)?, text(row.get(1)?)))).optional().told("read")?;
    let found = found.filter(|(count, _)| *count > 0);
    Ok(found.map(|(count, example)| Trouble { what: what.into(), count, example, way: way.into() }))
}

/// Specs that are not what their hash says.
fn specs(c: &Connection) -> Result<Option<Trouble>, Fault> {
    let mut query = c.prepare("SELECT hash, file, text, included FROM specs").told("read")?;
    let mut rows = query.query(()).told("read")?;
    let (mut count, mut example) = (0, None);
    while let Some(row) = rows.next().told("read")? {
        let (hash, file, text): (String, String, String) =
            (row.get(0).told("read")?, row.get(1).told("read")?, row.get(2).told("read")?);
        let included: String = row.get(3).told("read")?;
        let is_same = |included| crate::job::hash(&text, &included) == hash;
        if !serde_json::from_str(&included).is_ok_and(is_same) {
            count += 1;
            example.get_or_insert(file);
        }
    }
    let way = "what goes on with their runs would do something else: restore a copy, or start the runs anew".to_owned();
    Ok((count > 0).then(|| Trouble { what: "specs that were changed in the journal".into(), count, example, way }))
}

fn by_status(c: &Connection) -> Result<BTreeMap<String, u64>, Fault> {
    let mut query = c.prepare("SELECT status, count(*) FROM runs GROUP BY status").told("read")?;
    let rows = query.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).told("read")?;
    rows.collect::<rusqlite::Result<_>>().told("read")
}

/// Jobs that have not ended and have runs under way.
fn under_way(c: &Connection) -> Result<Vec<u64>, Fault> {
    let query = "SELECT DISTINCT job FROM runs JOIN jobs ON job = run >> 32 WHERE status = ?1 AND jobs.ended IS NULL ORDER BY job";
    let mut query = c.prepare(query).told("read")?;
    let rows = query.query_map([RunState::Running.name()], |row| row.get(0)).told("read")?;
    rows.collect::<rusqlite::Result<_>>().told("read")
}
