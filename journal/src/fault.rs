//! What can be wrong with a journal, told with the way out.

use std::fmt;
use std::path::Path;

use bourn_engine::{Error, Kind};
use rusqlite::ErrorCode;

/// A fault, before it is known of which file.
#[derive(Debug)]
pub enum Fault {
    /// What SQLite says while it was to do this.
    Sqlite(&'static str, rusqlite::Error),
    /// Its tables are of a later version.
    Version { found: usize, known: usize },
    /// Its tables are not those of a journal.
    Foreign,
    /// The file system has no shared memory, so there is no write-ahead log.
    NoLog(String),
    /// A row is not what it was written as.
    Damaged(String),
    /// What was asked for can't be done.
    Refused(String),
    /// There is a run of this id.
    Taken(String),
}

/// To say what was to be done.
pub trait Faults<T> {
    fn told(self, what: &'static str) -> Result<T, Fault>;
}

impl<T> Faults<T> for rusqlite::Result<T> {
    fn told(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|e| Fault::Sqlite(what, e))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found, known } => write!(
                f,
                "it has tables of version {found}, and this Bourn knows {known}: run a later Bourn, or use another file"
            ),
            Self::Foreign => f.write_str("it is a database of another program: use another file"),
            Self::NoLog(mode) => write!(
                f,
                "this file system can't keep a write-ahead log (SQLite offers `{mode}`): put the journal on a local disk"
            ),
            Self::Damaged(what) => write!(f, "it is damaged: {what}; move it away, or restore a copy"),
            Self::Refused(what) => f.write_str(what),
            Self::Taken(id) => write!(f, "there is a run `{id}` already"),
            Self::Sqlite(what, e) => {
                write!(f, "can't {what} it: {e}")?;
                match e.sqlite_error_code() {
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                        f.write_str("; another process has held it for 30 s: end that, or use another file")
                    }
                    Some(ErrorCode::DiskFull) => {
                        f.write_str("; make room and start again: nothing that was kept is lost")
                    }
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                        f.write_str("; move it away, or restore a copy")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Fault {
    /// Whether another process writes.
    pub fn is_busy(&self) -> bool {
        let code = |e: &rusqlite::Error| e.sqlite_error_code();
        matches!(self, Self::Sqlite(_, e) if matches!(code(e), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)))
    }

    /// The error for whoever uses the journal at this path.
    pub fn at(self, path: &Path) -> Error {
        let kind = match &self {
            Self::Sqlite(_, e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => Kind::Budget,
            Self::Sqlite(..) => Kind::Io,
            Self::Version { .. } | Self::Foreign | Self::NoLog(_) => Kind::Unsupported,
            Self::Damaged(_) | Self::Refused(_) => Kind::Validation,
            Self::Taken(_) => Kind::Conflict,
        };
        Error::new(kind, format!("the journal {}: {self}", path.display())).permanent()
    }
}
