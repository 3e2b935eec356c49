//! A file system in memory, whose calls can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{Shared, lock};
use crate::env::files::shorter;
use crate::env::{FileId, Files, ReadFile, WriteFile};
use crate::error::{Error, Kind, Result};

/// Files in memory. As on a disk, an open file stays readable when its name is gone or names another.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    files: Shared<BTreeMap<PathBuf, Content>>,
    /// The names that a crash of the host leaves: those of the last time that each folder was synced.
    synced: Shared<BTreeMap<PathBuf, Content>>,
    locks: Shared<BTreeSet<PathBuf>>,
    faults: Arc<Faults>,
    /// How many files were ever made.
    made: Arc<AtomicU64>,
}

/// A file, whatever its name.
type Content = Arc<Held>;

struct Held {
    number: u64,
    bytes: Mutex<Vec<u8>>,
    /// What a crash of the host leaves: what was there when it was last synced.
    synced: Mutex<Vec<u8>>,
}

impl Held {
    fn sync(&self) {
        lock(&self.bytes).clone_into(&mut lock(&self.synced));
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is broken: `EIO`.
    Io,
    /// The disk is full: `ENOSPC`.
    Full,
    /// A read or write moves half of the bytes and says so. Other calls are spared.
    Short,
}

#[derive(Default)]
struct Faults(Mutex<Plan>);

#[derive(Default)]
struct Plan {
    calls: u64,
    due: BTreeMap<u64, Fault>,
    /// From this call on nothing reaches the disk.
    down: Option<u64>,
}

impl Faults {
    /// Counts a call; returns how many of `bytes` it may move.
    fn call(&self, bytes: usize) -> io::Result<usize> {
        let mut plan = lock(&self.0);
        plan.calls += 1;
        let call = plan.calls;
        if plan.down.is_some_and(|from| call >= from) {
            return Err(io::Error::from_raw_os_error(5));
        }
        // The numbers are those of Linux.
        match plan.due.remove(&call) {
            None => Ok(bytes),
            Some(Fault::Io) => Err(io::Error::from_raw_os_error(5)),
            Some(Fault::Full) => Err(io::Error::from_raw_os_error(28)),
            Some(Fault::Short) => Ok(bytes.div_ceil(2)),
        }
    }
}

impl MemoryFiles {
    /// Puts a file there.
    pub fn put(&self, path: impl AsRef<Path>, content: impl Into<Vec<u8>>) {
        let (path, content) = (plain(path.as_ref()), self.made(content.into()));
        content.sync();
        lock(&self.synced).insert(path.clone(), content.clone());
        lock(&self.files).insert(path, content);
    }

    /// Adds bytes to the end of a file, as another program would; makes one that is not there.
    pub fn append(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let content = lock(&self.files).entry(plain(path.as_ref())).or_insert_with(|| self.made(Vec::new())).clone();
        lock(&content.bytes).extend_from_slice(bytes.as_ref());
    }

    fn made(&self, bytes: Vec<u8>) -> Content {
        Arc::new(Held { number: self.made.fetch_add(1, Relaxed), bytes: Mutex::new(bytes), synced: Mutex::default() })
    }

    /// The host goes down and comes up again: of what was not synced, `keeps` says what is there nevertheless, once for each
    /// name that was made, renamed or removed, and once for each file that was written to. A file that is not kept whole
    /// is kept in part, if `keeps` says so then. Locks are free.
    pub fn crash(&self, mut keeps: impl FnMut() -> bool) {
        let (mut files, mut synced) = (lock(&self.files), lock(&self.synced));
        let paths: BTreeSet<PathBuf> = files.keys().chain(synced.keys()).cloned().collect();
        for path in paths {
            let (now, before) = (files.get(&path).cloned(), synced.get(&path).cloned());
            let same = match (&now, &before) {
                (Some(now), Some(before)) => Arc::ptr_eq(now, before),
                (now, before) => now.is_none() && before.is_none(),
            };
            let left = if same || keeps() { now } else { before };
            match left {
                Some(content) => files.insert(path, content),
                None => files.remove(&path),
            };
        }
        for content in files.values() {
            let (mut bytes, kept) = (lock(&content.bytes), lock(&content.synced));
            if *bytes == *kept || keeps() {
                continue;
            }
            // A file only grows or is cut, so its first half may be on the disk.
            let torn = if keeps() { bytes.len() / 2 } else { 0 };
            *bytes = if torn > kept.len() { bytes[..torn].to_vec() } else { kept.clone() };
        }
        *synced = files.clone();
        for content in files.values() {
            content.sync();
        }
        lock(&self.locks).clear();
        // Those of the disk that was.
        let mut plan = lock(&self.faults.0);
        plan.due.clear();
        plan.down = None;
    }

    /// What a file holds.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        lock(&self.files).get(&plain(path.as_ref())).map(|content| lock(&content.bytes).clone())
    }

    /// Changes what a file holds, also for those who have it open.
    pub fn change(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(content) = lock(&self.files).get(&plain(path.as_ref())) {
            change(&mut lock(&content.bytes));
        }
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        lock(&self.files).keys().cloned().collect()
    }

    /// How many calls were made so far: what a test that lets each fail in turn counts to.
    pub fn calls(&self) -> u64 {
        lock(&self.faults.0).calls
    }

    /// Lets the `nth` call from the beginning fail, counted from 1.
    pub fn fail(&self, nth: u64, fault: Fault) {
        lock(&self.faults.0).due.insert(nth, fault);
    }

    /// Lets the `nth` call from the beginning and all behind it fail, until a [`MemoryFiles::crash`]: the disk is gone.
    pub fn down(&self, nth: u64) {
        lock(&self.faults.0).down = Some(nth);
    }

    fn call(&self, path: &Path) -> Result<()> {
        self.faults.call(0).map(drop).map_err(|e| Error::from(e).context(path.display()))
    }
}

/// `./a/b` is `a/b`.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != Component::CurDir).collect()
}

fn missing(path: &Path) -> Error {
    Error::new(Kind::NotFound, format!("{}: no such file", path.display()))
}

impl Files for MemoryFiles {
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>> {
        self.call(path)?;
        let files = lock(&self.files);
        let name = plain(path);
        if let Some(content) = files.get(&name) {
            return Ok(Arc::new(OpenFile { content: content.clone(), faults: self.faults.clone() }));
        }
        if files.keys().any(|file| file.starts_with(&name)) {
            return Err(Error::validation(format!("{}: is a folder", path.display())));
        }
        Err(missing(path))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>> {
        self.call(path)?;
        let mut files = lock(&self.files);
        // As on a disk, a file that is there is emptied, also for those who have it open.
        let content = files.entry(plain(path)).or_insert_with(|| self.made(Vec::new())).clone();
        lock(&content.bytes).clear();
        Ok(Box::new(OpenFile { content, faults: self.faults.clone() }))
    }

    fn reopen(&self, path: &Path, length: u64) -> Result<Box<dyn WriteFile>> {
        self.call(path)?;
        let content = lock(&self.files).get(&plain(path)).cloned().ok_or_else(|| missing(path))?;
        let mut bytes = lock(&content.bytes);
        if (bytes.len() as u64) < length {
            return Err(Error::new(Kind::Io, shorter(path, bytes.len() as u64, length)));
        }
        bytes.truncate(usize::try_from(length)?);
        drop(bytes);
        Ok(Box::new(OpenFile { content, faults: self.faults.clone() }))
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        self.call(path)?;
        let folder = plain(path);
        let is_in = |file: &Path| file.parent() == Some(&*folder);
        let (files, mut synced) = (lock(&self.files), lock(&self.synced));
        synced.retain(|file, _| !is_in(file));
        synced.extend(
            files.iter().filter(|(file, _)| is_in(file)).map(|(file, content)| (file.clone(), content.clone())),
        );
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(to)?;
        let mut files = lock(&self.files);
        let content = files.remove(&plain(from)).ok_or_else(|| missing(from))?;
        files.insert(plain(to), content);
        Ok(())
    }

    fn is_special(&self, path: &Path) -> bool {
        let name = plain(path);
        lock(&self.files).keys().any(|file| *file != name && file.starts_with(&name))
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Send + Sync>>> {
        self.call(path)?;
        let path = plain(path);
        if !lock(&self.locks).insert(path.clone()) {
            return Ok(None);
        }
        lock(&self.files).entry(path.clone()).or_insert_with(|| self.made(Vec::new()));
        Ok(Some(Box::new(Locked { path, locks: self.locks.clone(), files: self.files.clone() })))
    }

    fn is_same(&self, one: &Path, other: &Path) -> bool {
        plain(one) == plain(other) && lock(&self.files).contains_key(&plain(one))
    }

    fn identify(&self, path: &Path) -> Result<Option<FileId>> {
        self.call(path)?;
        Ok(lock(&self.files).get(&plain(path)).map(|content| FileId { device: 0, number: content.number }))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.call(path)?;
        lock(&self.files).remove(&plain(path)).map(drop).ok_or_else(|| missing(path))
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![pattern.into()]);
        }
        self.call(Path::new(pattern))?;
        let compiled = glob::Pattern::new(pattern.trim_start_matches("./"))
            .map_err(|e| Error::validation(format!("`{pattern}` is no pattern: {}", e.msg)))?;
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let matches = |path: &&PathBuf| compiled.matches_path_with(path, options);
        Ok(lock(&self.files).keys().filter(matches).cloned().collect())
    }
}

/// A locked file, free again when this is dropped.
struct Locked {
    path: PathBuf,
    locks: Shared<BTreeSet<PathBuf>>,
    files: Shared<BTreeMap<PathBuf, Content>>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        lock(&self.files).remove(&self.path);
        lock(&self.locks).remove(&self.path);
    }
}

struct OpenFile {
    content: Content,
    faults: Arc<Faults>,
}

impl ReadFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.faults.call(0)?;
        Ok(lock(&self.content.bytes).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = lock(&self.content.bytes);
        let rest = usize::try_from(offset).ok().and_then(|o| content.get(o..)).unwrap_or_default();
        let count = self.faults.call(rest.len().min(buffer.len()))?;
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn id(&self) -> io::Result<FileId> {
        self.faults.call(0)?;
        Ok(FileId { device: 0, number: self.content.number })
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.faults.call(bytes.len())?;
        lock(&self.content.bytes).extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for OpenFile {
    fn sync(&mut self) -> io::Result<()> {
        self.faults.call(0)?;
        self.content.sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
