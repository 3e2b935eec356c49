//! The journal in SQLite: what runs of workflows have done and what stages of pipelines have paid for, in one file with one writer.
//!
//! A thread writes, or who brings an order alone: at once when nobody else does, and what comes while the disk is busy is the next
//! commit. Readers have connections of their own and never wait for it. Several processes may share a file, each with jobs of its own.
#![forbid(unsafe_code)]

mod answers;
mod asked;
mod cache;
mod change;
mod check;
mod claim;
mod delete;
mod ends;
mod fault;
mod job;
mod look;
mod office;
mod read;
mod replace;
mod schema;
mod spent;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bourn_engine::Result;
use bourn_engine::env::Env;
use rusqlite::{Connection, OpenFlags};

pub use answers::Journals;
pub use cache::Cache;
pub use change::Fork;
pub use check::{Health, Trouble};
pub use delete::Deleted;
pub use ends::Ended;
pub use job::{Begin, Begun, Job, Other, has_completed};
pub use read::{COLUMNS, Event, Filter, Run, Spec, history_of};
pub use writer::Stats;

use fault::{Fault, Faults as _};
use writer::Writer;

/// A journal. A clone is the same one.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    path: PathBuf,
    env: Env,
    writer: Writer,
}

impl Sqlite {
    /// Opens the journal in this file, or makes one. Its folder is made too.
    ///
    /// # Errors
    /// When it can't be opened, is damaged, or is of a later version.
    pub fn open(path: impl Into<PathBuf>, env: &Env) -> Result<Self> {
        let path = path.into();
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| bourn_engine::Error::from(e).context(format!("the journal {}", path.display())))?;
        }
        let open = || -> Result<Connection, Fault> {
            let mut connection = Connection::open(&path).told("open")?;
            schema::prepare(&mut connection, &path)?;
            Ok(connection)
        };
        let connection = open().map_err(|fault| fault.at(&path))?;
        let writer = Writer::start(connection, path.clone(), env)?;
        Ok(Self(Arc::new(Inner { path, env: env.clone(), writer })))
    }

    /// Opens a journal that is there.
    ///
    /// # Errors
    /// When there is none, or it can't be opened.
    pub fn existing(path: impl Into<PathBuf>, env: &Env) -> Result<Self> {
        let path = path.into();
        if !path.exists() {
            let message = format!("there is no journal {}: no workflow has run here", path.display());
            return Err(bourn_engine::Error::new(bourn_engine::Kind::NotFound, message));
        }
        Self::open(path, env)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the writer has done so far.
    pub fn stats(&self) -> Stats {
        self.0.writer.stats()
    }

    /// A connection that sees what is committed, and can't write.
    fn reader(&self) -> Result<Connection, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.path, flags).told("read")?;
        schema::settle(&connection)?;
        connection.pragma_update(None, "query_only", true).told("read")?;
        Ok(connection)
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T> {
        self.reader().and_then(|connection| read(&connection)).map_err(|fault| fault.at(&self.0.path))
    }
}
