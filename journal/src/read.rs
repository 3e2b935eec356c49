//! What a journal can be asked.

use std::collections::BTreeMap;

use bourn_engine::Result;
use bourn_engine::journal::{History, RunState};
use bourn_engine::time::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use crate::Sqlite;
use crate::fault::{Fault, Faults as _};
use crate::job::run_number;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The name of its workflow.
    pub workflow: String,
    /// How its spec is read: `chain`.
    pub workflow_type: String,
    /// How it stands.
    pub status: RunState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When its time is over; none where that is not bounded.
    pub deadline: Option<Timestamp>,
    /// Its input as JSON; none when that was no good.
    pub input: Option<String>,
    /// The run that it was made from.
    pub forked_from: Option<String>,
    /// Whether a mock model answered.
    pub mock: bool,
    /// Its job.
    pub job: u64,
    /// The process that runs its job, or ran it last.
    pub process: Option<u32>,
    /// What somebody has written on it.
    pub labels: BTreeMap<String, String>,
    /// What its idempotency keys begin with, where that is not its id.
    #[serde(skip)]
    pub key: Option<String>,
    /// The number in the journal.
    #[serde(skip)]
    pub(crate) number: i64,
}

impl Run {
    /// Its place among the runs of its job, from 0.
    pub fn place(&self) -> u64 {
        crate::job::place_of(self.number)
    }
}

/// Which runs are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this workflow.
    pub workflow: Option<String>,
    /// That stand like this.
    pub status: Option<RunState>,
    /// That have each of these labels.
    pub labels: BTreeMap<String, String>,
    /// For which this SQL condition over [`COLUMNS`] is true, in the words of SQLite.
    pub query: Option<String>,
    /// So many, the newest.
    pub limit: usize,
}

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, and the place in the history.
    pub at: Timestamp,
    /// `step`, `wait`, `backoff`, `signal`, `retried`, or what was asked: `cancel`, `pause`, `resume`.
    pub kind: String,
    /// The step, or the signal.
    pub step: Option<String>,
    /// Its record as JSON.
    pub data: Option<String>,
    /// Who sent it, of a signal.
    pub who: Option<String>,
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

/// What a query may name. Times are RFC 3339 in UTC, labels are read as `labels ->> 'team'`.
pub const COLUMNS: [&str; 13] = [
    "run_id",
    "workflow",
    "workflow_type",
    "status",
    "started_at",
    "ended_at",
    "duration_ms",
    "deadline",
    "labels",
    "input",
    "forked_from",
    "mock",
    "job",
];

/// All runs, with what a query may name first.
const RUNS: &str = "\
SELECT * FROM (
    SELECT id AS run_id, workflow, type AS workflow_type, status,
        strftime('%Y-%m-%dT%H:%M:%fZ', runs.started / 1e6, 'unixepoch') AS started_at,
        strftime('%Y-%m-%dT%H:%M:%fZ', runs.ended / 1e6, 'unixepoch') AS ended_at,
        (runs.ended - runs.started) / 1000 AS duration_ms,
        strftime('%Y-%m-%dT%H:%M:%fZ', runs.deadline / 1e6, 'unixepoch') AS deadline,
        labels, input, forked_from, mock, job, run, process, run_key, runs.started AS micros_started, runs.ended AS micros_ended,
        runs.deadline AS micros_deadline
    FROM runs JOIN jobs ON job = run >> 32
)";

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let status: String = row.get("status")?;
    let unknown = || rusqlite::Error::InvalidColumnType(3, "status".into(), rusqlite::types::Type::Text);
    let labels: String = row.get("labels")?;
    Ok(Run {
        number: row.get("run")?,
        id: row.get("run_id")?,
        workflow: row.get("workflow")?,
        workflow_type: row.get("workflow_type")?,
        status: RunState::of(&status).ok_or_else(unknown)?,
        started: Timestamp(row.get("micros_started")?),
        ended: row.get::<_, Option<i64>>("micros_ended")?.map(Timestamp),
        deadline: row.get::<_, Option<i64>>("micros_deadline")?.map(Timestamp),
        input: row.get("input")?,
        forked_from: row.get("forked_from")?,
        mock: row.get("mock")?,
        job: row.get("job")?,
        process: row.get("process")?,
        key: row.get("run_key")?,
        // Somebody may have changed them by hand.
        labels: serde_json::from_str(&labels).unwrap_or_default(),
    })
}

/// A query that SQLite can't read, or that names what there is not.
fn no_query(e: &rusqlite::Error) -> Fault {
    let why = match e {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    Fault::Refused(format!("the query is no condition: {why}; it may name {}", COLUMNS.join(", ")))
}

/// What is known of a run of which this happened, in order.
///
/// # Errors
/// When what happened makes no sense.
pub fn history_of(events: impl IntoIterator<Item = Event>) -> Result<History> {
    folded(events).map_err(|fault| bourn_engine::Error::validation(format!("the history: {fault}")))
}

fn folded(events: impl IntoIterator<Item = Event>) -> Result<History, Fault> {
    let mut history = History::default();
    for Event { kind, step, data, at, .. } in events {
        crate::job::add(&mut history, (kind, step, data), at.0)?;
    }
    Ok(history)
}

impl Sqlite {
    /// Runs, the newest first.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn runs(&self, filter: &Filter) -> Result<Vec<Run>> {
        self.read(|c| {
            // The lines keep a remark in the query from taking what stands behind it.
            let wanted = filter.query.as_deref().unwrap_or("true");
            let query = format!(
                "{RUNS} WHERE (?1 IS NULL OR workflow = ?1) AND (?2 IS NULL OR status = ?2) AND NOT EXISTS \
                 (SELECT 1 FROM json_each(?3) AS wanted WHERE labels ->> ('$.\"' || wanted.key || '\"') IS NOT wanted.value) \
                 AND (\n{wanted}\n) ORDER BY run DESC LIMIT ?4"
            );
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let labels = serde_json::to_string(&filter.labels).map_err(|e| Fault::Damaged(e.to_string()))?;
            let prepared = c.prepare(&query);
            let mut statement = if filter.query.is_some() {
                prepared.map_err(|e| no_query(&e))?
            } else {
                prepared.told("read")?
            };
            let given = params![filter.workflow, filter.status.map(RunState::name), labels, limit];
            let rows = statement.query_map(given, run).told("read")?;
            rows.collect::<rusqlite::Result<_>>().told("read")
        })
    }

    /// The run of this very id, if there is one.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn find(&self, id: &str) -> Result<Option<Run>> {
        self.read(|c| c.query_row(&format!("{RUNS} WHERE run_id = ?1"), [id], run).optional().told("read"))
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
            let query = format!("{RUNS} WHERE run_id >= ?1 AND run_id < ?1 || char(1114111) LIMIT 2");
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

    /// The runs of a job that wait and have got a signal, if only one that they do not wait for.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn signaled(&self, job: u64) -> Result<Vec<Run>> {
        self.read(|c| {
            let asked = "SELECT run FROM asks WHERE what = 'signal' AND run >= ?1 AND run < ?2";
            let query = format!("{RUNS} WHERE run IN ({asked}) AND status = 'WAITING'");
            let mut statement = c.prepare(&query).told("read")?;
            let range = params![run_number(job, 0)?, run_number(job + 1, 0)?];
            let rows = statement.query_map(range, run).told("read")?;
            rows.collect::<rusqlite::Result<_>>().told("read")
        })
    }

    /// What happened in a run, in order.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn events(&self, run: &Run) -> Result<Vec<Event>> {
        self.events_after(run, Timestamp(i64::MIN))
    }

    /// The same, later than this.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn events_after(&self, run: &Run, last: Timestamp) -> Result<Vec<Event>> {
        self.read(|c| {
            let query = "SELECT position, kind, step, data, who FROM events WHERE run = ?1 AND position > ?2 \
                         UNION ALL SELECT at, what, NULL, NULL, NULL FROM asks WHERE run = ?1 AND what <> 'signal' AND at > ?2 ORDER BY 1";
            let mut statement = c.prepare(query).told("read")?;
            let event = |row: &Row<'_>| {
                Ok(Event {
                    at: Timestamp(row.get(0)?),
                    kind: row.get(1)?,
                    step: row.get(2)?,
                    data: row.get(3)?,
                    who: row.get(4)?,
                })
            };
            let rows = statement.query_map([run.number, last.0], event).told("read")?;
            rows.collect::<rusqlite::Result<_>>().told("read")
        })
    }

    /// What is known of it: the record of each step that has ended, waits and signals.
    ///
    /// # Errors
    /// When the journal can't be read or is damaged.
    pub fn history(&self, run: &Run) -> Result<History> {
        folded(self.events(run)?).map_err(|fault| fault.at(self.path()))
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
}
