//! The tables, and how a database of an earlier version becomes one of this.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::fault::{Fault, Faults as _};

/// What each version adds to the one before it. A version that was released never changes.
const VERSIONS: [&str; 11] = [
    "
CREATE TABLE specs (
    spec INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    file TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    workflow TEXT NOT NULL,
    spec INTEGER NOT NULL REFERENCES specs,
    source TEXT NOT NULL,
    mock INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER
);
CREATE INDEX jobs_by_key ON jobs (key);
-- The number of a run is its job's, times 2^32, and its place among the runs of that.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    input TEXT,
    started INTEGER NOT NULL,
    ended INTEGER,
    forked_from TEXT
);
-- The position of an event is also its time, in microseconds: no two events of a process have the same.
CREATE TABLE events (
    run INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    step TEXT,
    data TEXT,
    PRIMARY KEY (run, position)
) WITHOUT ROWID;
",
    "
-- Answers by the hash of all that they depend on, and what they cost when they were paid for.
CREATE TABLE answers (
    key BLOB NOT NULL PRIMARY KEY,
    answer BLOB NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    usd REAL NOT NULL,
    kept INTEGER NOT NULL
);
-- What the stages of jobs have spent since their job began anew.
CREATE TABLE spent (
    job TEXT NOT NULL,
    stage TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    usd REAL NOT NULL,
    PRIMARY KEY (job, stage)
) WITHOUT ROWID;
",
    "
-- What somebody has written on the runs of a job, as a JSON object of texts; how its spec was read; the process that runs it, or ran it last.
ALTER TABLE jobs ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE jobs ADD COLUMN type TEXT NOT NULL DEFAULT 'chain';
ALTER TABLE jobs ADD COLUMN process INTEGER;
",
    "
-- What somebody has asked of a run that had not ended: `cancel`, `pause` or `resume`. The last one holds.
CREATE TABLE asks (
    ask INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    what TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX asks_by_run ON asks (run);
",
    "
-- The texts of the files that a spec includes, by path, as a JSON object.
ALTER TABLE specs ADD COLUMN included TEXT NOT NULL DEFAULT '{}';
",
    "
-- What the idempotency keys of the one run of a job begin with, where that is not its id: because an earlier one of this id was replaced, or
-- because it was, and has another id since.
ALTER TABLE jobs ADD COLUMN run_key TEXT;
",
    "
-- Who sent a signal.
ALTER TABLE events ADD COLUMN who TEXT;
",
    "
-- Until when an answer holds, of the cache of steps; what stages of pipelines have paid for holds for good.
ALTER TABLE answers ADD COLUMN until INTEGER;
CREATE INDEX answers_by_end ON answers (until) WHERE until IS NOT NULL;
-- Who wants to see what a run holds, and what the process that runs it has said since.
CREATE TABLE looks (
    look INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seen TEXT
);
",
    "
-- When the time of a run is over; NULL while that is not bounded, or counts anew from when it goes on.
ALTER TABLE runs ADD COLUMN deadline INTEGER;
",
    "
-- The key of a job by where its inputs lie from the folder of this journal: the same when both are moved together.
ALTER TABLE jobs ADD COLUMN beside TEXT;
CREATE INDEX jobs_beside ON jobs (beside) WHERE beside IS NOT NULL;
",
    "
-- What the command line has said of the budget over the spec, as a JSON object: whoever goes on with the job keeps to it.
ALTER TABLE jobs ADD COLUMN budget TEXT NOT NULL DEFAULT '{}';
",
];

/// Pages of 4 KiB of the write-ahead log after which SQLite moves them into the database, so that the next ones are written over them: under
/// load as many as spare it to move a page again and again, ...
pub const LONG_LOG: i64 = 8_192;
/// ... and as many as it has by itself when each commit is waited for: one that makes the log longer takes twice as long.
pub const SHORT_LOG: i64 = 1_000;
/// KiB of pages that a connection keeps in memory at most: with the 2,000 that SQLite has by itself, what thousands of runs that are under way
/// write is read from the disk again for each commit, a tenth of all that a step costs.
const KEPT_KIB: i64 = 16_000;
/// How long a write waits for another process that writes, ...
pub const BUSY: Duration = Duration::from_secs(30);
/// ... and after how long that is told.
pub const SOON: Duration = Duration::from_secs(1);

/// Settles a connection, and brings the tables to this version.
pub fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    connection.busy_timeout(SOON).told("open")?;
    match bring(connection) {
        Err(fault) if fault.is_busy() => {
            tell_of_waiting(path);
            connection.busy_timeout(BUSY.saturating_sub(SOON)).told("open")?;
            bring(connection)?;
        }
        brought => brought?,
    }
    connection.busy_timeout(BUSY).told("open")
}

/// Says why nothing happens.
pub fn tell_of_waiting(path: &Path) {
    let (path, longest) = (path.display(), BUSY.as_secs());
    tracing::warn!("the journal {path}: another process is writing to it; waiting for that, at most {longest} s");
}

fn bring(connection: &mut Connection) -> Result<(), Fault> {
    is_ours(connection)?;
    settle_log(connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).told("lock")?;
    let version: usize = transaction.query_row("PRAGMA user_version", (), |row| row.get(0)).told("read")?;
    if version > VERSIONS.len() {
        return Err(Fault::Version { found: version, known: VERSIONS.len() });
    }
    if version < VERSIONS.len() {
        for add in &VERSIONS[version..] {
            transaction.execute_batch(add).told("make the tables of")?;
        }
        transaction.pragma_update(None, "user_version", VERSIONS.len()).told("write")?;
    }
    transaction.commit().told("write")
}

/// Whether the tables are those of a journal, if there are any: nothing is written into a database of somebody else.
fn is_ours(connection: &Connection) -> Result<(), Fault> {
    let query = "SELECT count(*), count(*) FILTER (WHERE name IN ('jobs', 'runs', 'events')) FROM sqlite_master";
    let (all, ours): (i64, i64) = connection.query_row(query, (), |row| Ok((row.get(0)?, row.get(1)?))).told("open")?;
    if all > 0 && ours < 3 { Err(Fault::Foreign) } else { Ok(()) }
}

/// What holds for every connection: readers never wait for the writer, and a commit is on the disk.
pub fn settle(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(BUSY).told("open")?;
    settle_log(connection)
}

fn settle_log(connection: &Connection) -> Result<(), Fault> {
    let mode = with_log(connection).told("open")?;
    if mode != "wal" {
        return Err(Fault::NoLog(mode));
    }
    connection.pragma_update(None, "synchronous", "FULL").told("open")?;
    connection.pragma_update(None, "wal_autocheckpoint", LONG_LOG).told("open")?;
    connection.pragma_update(None, "cache_size", -KEPT_KIB).told("open")?;
    connection.pragma_update(None, "foreign_keys", true).told("open")
}

/// How often it is tried to give a database its log that others open at the same time.
const TRIES: usize = 100;

/// The mode of its journal, which is to be a log that is written ahead.
fn with_log(connection: &Connection) -> rusqlite::Result<String> {
    let mut tries = 0;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0)) {
            // Whoever does the same at this moment is not waited for by this: so it is by that.
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) && tries < TRIES => {
                tries += 1;
                connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
            }
            mode => return mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_the_first_version_becomes_one_of_this_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("journal.db")).unwrap();
        connection.execute_batch(VERSIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let job =
            "INSERT INTO specs VALUES (1, 'h', 'f', 't'); INSERT INTO jobs VALUES (1, 'k', 'w', 1, '', 0, 7, NULL)";
        connection.execute_batch(job).unwrap();
        prepare(&mut connection, Path::new("journal.db")).unwrap();
        let found = connection.query_row("SELECT workflow, labels, type FROM jobs", (), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        });
        assert_eq!(found.unwrap(), ("w".into(), "{}".into(), "chain".into()));
        let version: usize = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
        assert_eq!(version, VERSIONS.len());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test looks at the file from outside")]
    fn a_database_of_somebody_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("places.db");
        let mut connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE places (url TEXT); PRAGMA user_version = 3").unwrap();
        let before = std::fs::read(&path).unwrap();
        let fault = prepare(&mut connection, &path).unwrap_err().to_string();
        assert_eq!(fault, "it is a database of another program: use another file");
        drop(connection);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_database_of_a_later_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut connection = Connection::open(&path).unwrap();
        prepare(&mut connection, Path::new("journal.db")).unwrap();
        prepare(&mut connection, Path::new("journal.db")).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let fault = prepare(&mut connection, Path::new("journal.db")).unwrap_err().to_string();
        assert_eq!(
            fault,
            "it has tables of version 99, and this Bourn knows 11: run a later Bourn, or use another file"
        );
    }
}
