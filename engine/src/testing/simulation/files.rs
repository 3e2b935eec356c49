//! A file system in memory, whose calls can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::{Shared, lock};
use crate::env::{FileId, Files, ReadFile, WriteFile};
use crate::error::{Error, Kind, Result};

/// Files in memory. As on a disk, an open file stays readable when its name is gone or names another.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    files: Shared<BTreeMap<PathBuf, Content>>,
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
}

impl Faults {
    /// Counts a call; returns how many of `bytes` it may move.
    fn call(&self, bytes: usize) -> io::Result<usize> {
        let mut plan = lock(&self.0);
        plan.calls += 1;
        let call = plan.calls;
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
        lock(&self.files).insert(plain(path.as_ref()), self.made(content.into()));
    }

    /// Adds bytes to the end of a file, as another program would; makes one that is not there.
    pub fn append(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let content = lock(&self.files).entry(plain(path.as_ref())).or_insert_with(|| self.made(Vec::new())).clone();
        lock(&content.bytes).extend_from_slice(bytes.as_ref());
    }

    fn made(&self, bytes: Vec<u8>) -> Content {
        Arc::new(Held { number: self.made.fetch_add(1, Relaxed), bytes: Mutex::new(bytes) })
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
        self.faults.call(0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &MemoryFiles, path: &str) -> Result<Vec<u8>> {
        let file = files.open(Path::new(path))?;
        let mut buffer = vec![0; 64];
        let count = file.read_at(0, &mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    #[test]
    fn files_are_written_renamed_found_and_removed() {
        let files = MemoryFiles::default();
        files.put("in/a.txt", "a");
        files.put("./in/b.txt", "b");
        files.put("in/deep/c.txt", "c");
        assert_eq!(files.glob("in/*.txt").unwrap(), [Path::new("in/a.txt"), Path::new("in/b.txt")]);
        assert_eq!(files.glob("**/*.txt").unwrap().len(), 3);
        assert_eq!(files.glob("none.txt").unwrap(), [Path::new("none.txt")]);
        let mut file = files.create(Path::new("out/x.tmp")).unwrap();
        file.write_all(b"hello").unwrap();
        file.sync().unwrap();
        files.rename(Path::new("out/x.tmp"), Path::new("in/a.txt")).unwrap();
        assert_eq!(read(&files, "in/a.txt").unwrap(), b"hello");
        files.remove(Path::new("in/a.txt")).unwrap();
        assert_eq!(read(&files, "in/a.txt").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(read(&files, "in").unwrap_err().to_string(), "in: is a folder");
    }

    #[test]
    fn a_locked_file_is_free_again_when_the_lock_is_dropped() {
        let files = MemoryFiles::default();
        let held = files.lock(Path::new("a.lock")).unwrap().unwrap();
        assert!(files.lock(Path::new("./a.lock")).unwrap().is_none());
        drop(held);
        assert_eq!(files.identify(Path::new("a.lock")).unwrap(), None);
        assert!(files.lock(Path::new("a.lock")).unwrap().is_some());
    }

    #[test]
    fn a_file_keeps_its_number_under_another_name_and_what_takes_its_name_has_another() {
        let files = MemoryFiles::default();
        files.put("a", "1");
        let id = files.identify(Path::new("a")).unwrap();
        let open = files.open(Path::new("a")).unwrap();
        files.rename(Path::new("a"), Path::new("b")).unwrap();
        files.append("a", "2");
        assert_eq!((files.identify(Path::new("b")).unwrap(), Some(open.id().unwrap())), (id, id));
        assert_ne!(files.identify(Path::new("a")).unwrap(), id);
        files.append("b", "3");
        assert_eq!(files.get("b").unwrap(), b"13");
        files.change("b", |bytes| bytes.truncate(1));
        assert_eq!((open.len().unwrap(), files.identify(Path::new("c")).unwrap()), (1, None));
    }

    #[test]
    fn the_nth_call_fails_as_told() {
        let write = |fault: Option<(u64, Fault)>| {
            let files = MemoryFiles::default();
            if let Some((nth, fault)) = fault {
                files.fail(nth, fault);
            }
            let result = (|| -> Result<usize> {
                let mut file = files.create(Path::new("a"))?;
                let written = file.write(b"12345678")?;
                file.sync()?;
                Ok(written)
            })();
            (result, files.get("a"), files.calls())
        };
        let (result, content, calls) = write(None);
        assert_eq!((result.unwrap(), content.unwrap().len(), calls), (8, 8, 3));
        assert_eq!(write(Some((1, Fault::Io))).0.unwrap_err().message().split(':').next(), Some("a"));
        assert_eq!(write(Some((2, Fault::Full))).0.unwrap_err().kind(), Kind::Io);
        let (result, content, _) = write(Some((2, Fault::Short)));
        assert_eq!((result.unwrap(), content.unwrap()), (4, b"1234".to_vec()));
        assert_eq!(write(Some((3, Fault::Io))).0.unwrap_err().kind(), Kind::Io);
    }
}
