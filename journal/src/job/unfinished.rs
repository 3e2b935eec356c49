//! Jobs that were cut off, found by what they were begun with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::{Begin, Other, run_number};
use crate::fault::{Fault, Faults as _};

/// What tells specs apart: their text, and those of the files that they include.
pub(crate) fn hash(text: &str, included: &BTreeMap<String, String>) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(text.as_bytes());
    // What files are called is no part of what the spec says.
    for text in included.values() {
        hash.update(&[0]).update(blake3::hash(text.as_bytes()).as_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// What is the same for a job that goes on, its spec aside.
pub(super) struct Keys {
    /// By the path of its inputs.
    pub(super) key: String,
    /// By where they lie from the folder of the journal.
    pub(super) beside: Option<String>,
}

impl Keys {
    pub(super) fn of(begin: &Begin, journal: &Path) -> Self {
        let key = |source: &[u8]| {
            let mut hash = blake3::Hasher::new();
            for part in [begin.workflow.as_bytes(), source] {
                hash.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            hash.update(&[u8::from(begin.mock)]).finalize().to_hex().to_string()
        };
        let source = begin.source.as_deref();
        let home = journal.parent().and_then(|folder| whole(folder).ok());
        let beside = source.zip(home).and_then(|(source, home)| pathdiff::diff_paths(source, home));
        Self {
            key: key(source.unwrap_or_default().as_bytes()),
            beside: beside.map(|path| key(path.as_os_str().as_encoded_bytes())),
        }
    }
}

/// A folder from the root, without links in it.
fn whole(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::canonicalize(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// The newest job of these keys, if it has not ended, and whether its spec is the same.
pub(super) fn unfinished(c: &Connection, keys: &Keys, hash: &str) -> Result<Option<(u64, bool)>, Fault> {
    let query = "SELECT job, ended IS NULL, hash = ?3 FROM jobs JOIN specs USING (spec) \
                 WHERE key = ?1 OR beside = ?2 ORDER BY job DESC LIMIT 1";
    let values = params![keys.key, keys.beside, hash];
    let found = c.query_row(query, values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let found: Option<(u64, bool, bool)> = found.optional().told("read")?;
    Ok(found.filter(|(_, open, _)| *open).map(|(job, _, same)| (job, same)))
}

/// The newest job of this spec that has not ended and whose inputs are not where they were.
pub(super) fn left(c: &Connection, begin: &Begin, hash: &str) -> Result<Option<Other>, Fault> {
    if begin.source.is_none() {
        return Ok(None);
    }
    let query = "SELECT job, source FROM jobs JOIN specs USING (spec) \
                 WHERE ended IS NULL AND source <> '' AND workflow = ?1 AND hash = ?2 AND mock = ?3 ORDER BY job DESC";
    let mut query = c.prepare(query).told("read")?;
    let mut rows = query.query(params![begin.workflow, hash, begin.mock]).told("read")?;
    while let Some(row) = rows.next().told("read")? {
        let (job, source): (u64, String) = (row.get(0).told("read")?, row.get(1).told("read")?);
        if !Path::new(&source).exists() {
            return Ok(Some(Other::Inputs(job, source)));
        }
    }
    Ok(None)
}

pub(super) fn counts(c: &Connection, job: u64) -> Result<(u64, u64), Fault> {
    let query = "SELECT count(ended), count(*) FROM runs WHERE run >= ?1 AND run < ?2";
    let range = params![run_number(job, 0)?, run_number(job + 1, 0)?];
    let (ended, all): (u64, u64) = c.query_row(query, range, |row| Ok((row.get(0)?, row.get(1)?))).told("read")?;
    Ok((ended, all - ended))
}
