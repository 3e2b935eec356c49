//! The real world, on the tokio runtime that the engine is started in.
#![expect(clippy::disallowed_methods, reason = "this file is the fence around them")]

mod fatal;
mod process;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::files::shorter;
use super::{Child, FileId, Files, Finished, Launch, Program, ReadFile, World, WriteFile};
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;
use fatal::Points;

/// Real clocks, real files, tokio's tasks.
pub struct SystemWorld {
    start: Instant,
    points: Option<Points>,
    programs: process::Programs,
}

impl SystemWorld {
    /// Its monotonic clock starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            points: Points::of(|name| std::env::var(name).ok()),
            programs: process::Programs::default(),
        }
    }
}

impl Default for SystemWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl World for SystemWorld {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn spawn(&self, _name: &str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        tokio::task::spawn_blocking(job).map(drop).boxed()
    }

    fn files(&self) -> &dyn Files {
        &Disk
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn run(&self, program: Program) -> BoxFuture<'static, Result<Finished>> {
        process::run(self.programs.clone(), program).boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'static, Result<Child>> {
        ready(process::start(&self.programs, &launch)).boxed()
    }

    fn end_programs(&self) {
        self.programs.end();
    }

    fn reached(&self, point: &str) {
        if let Some(points) = &self.points {
            points.reached(point);
        }
    }
}

struct Disk;

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::from(e).context(path)
}

impl Files for Disk {
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>> {
        let file = fs::File::open(path).map_err(at(path))?;
        if file.metadata().map_err(at(path))?.is_dir() {
            return Err(Error::validation(format!("{}: is a folder", path.display())));
        }
        Ok(Arc::new(DiskFile(file)))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        Ok(Box::new(DiskFile(fs::File::create(path).map_err(at(path))?)))
    }

    fn reopen(&self, path: &Path, length: u64) -> Result<Box<dyn WriteFile>> {
        // Append, so that nothing is ever written but behind the end.
        let file = fs::File::options().append(true).open(path).map_err(at(path))?;
        let there = file.metadata().map_err(at(path))?.len();
        if there < length {
            return Err(Error::new(Kind::Io, shorter(path, there, length)));
        }
        file.set_len(length).map_err(at(path))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(at(to))
    }

    fn is_special(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|about| !about.is_file())
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Send + Sync>>> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        loop {
            let file = fs::File::options().create(true).append(true).open(path).map_err(at(path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(e)) => return Err(at(path)(e)),
            }
            // Whoever had it may have removed the name since it was opened: a lock counts only on the file that has it.
            let opened = file.metadata().map_err(at(path))?;
            if fs::metadata(path).is_ok_and(|named| id_of(&named) == id_of(&opened)) {
                return Ok(Some(Box::new(Locked { path: path.to_owned(), file })));
            }
        }
    }

    fn is_same(&self, one: &Path, other: &Path) -> bool {
        let number = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
        number(one).is_some_and(|one| number(other) == Some(one))
    }

    fn identify(&self, path: &Path) -> Result<Option<FileId>> {
        match fs::metadata(path) {
            Ok(about) => Ok(about.is_file().then(|| id_of(&about))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(at(path)(e)),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(at(path))
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![pattern.into()]);
        }
        let paths =
            glob::glob(pattern).map_err(|e| Error::validation(format!("`{pattern}` is no pattern: {}", e.msg)))?;
        let mut files = Vec::new();
        for path in paths {
            let path = path.map_err(|e| Error::new(Kind::Io, e.to_string()))?;
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

fn id_of(about: &fs::Metadata) -> FileId {
    FileId { device: about.dev(), number: about.ino() }
}

/// A file that is locked.
struct Locked {
    path: PathBuf,
    #[expect(dead_code, reason = "held for its drop")]
    file: fs::File,
}

impl Drop for Locked {
    fn drop(&mut self) {
        // The lock is still held, so nobody else can have taken this name by now. One that stays is taken over.
        let _ = fs::remove_file(&self.path);
    }
}

struct DiskFile(fs::File);

impl ReadFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn id(&self) -> io::Result<FileId> {
        Ok(id_of(&self.0.metadata()?))
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl WriteFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        let is_file = || self.0.metadata().map_or(true, |about| about.is_file());
        match self.0.sync_all() {
            // A pipe keeps nothing that could be synced.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput && !is_file() => Ok(()),
            synced => synced,
        }
    }
}
