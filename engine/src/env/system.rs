//! The real world, on the tokio runtime that the engine is started in.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this file is the fence around them")]

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{Files, Finished, Program, ReadFile, World, WriteFile};
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;

/// Real clocks, real files, tokio's tasks.
pub struct SystemWorld {
    start: Instant,
}

impl SystemWorld {
    /// Its monotonic clock starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
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
        run(program).boxed()
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
        let file = fs::File::options().create(true).append(true).open(path).map_err(at(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(at(path)(e)),
        }
    }

    fn is_same(&self, one: &Path, other: &Path) -> bool {
        let number = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
        number(one).is_some_and(|one| number(other) == Some(one))
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

struct DiskFile(fs::File);

impl ReadFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
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
        self.0.sync_all()
    }
}

/// Runs a program to its end. When the future is dropped, or the time is over, the program is killed.
async fn run(program: Program) -> Result<Finished> {
    let Some((name, arguments)) = program.argv.split_first() else {
        return Err(Error::validation("the argument list is empty: there is no program to run"));
    };
    let mut child = tokio::process::Command::new(name)
        .args(arguments)
        .envs(program.variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::from(e).context(format!("starting `{name}`")))?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin.take() {
            // A program may end without reading all of its input; that is its right.
            let _unread = stdin.write_all(&program.input).await;
        }
    };
    let name = name.clone();
    let work = async {
        // The first output that is too long ends the program, whatever the other one does.
        let feed = async {
            feed.await;
            Ok(())
        };
        let outputs = tokio::try_join!(feed, collect(stdout, program.output_max), collect(stderr, program.output_max));
        let ((), output, errors) = outputs?;
        let status = child.wait().await?;
        Ok(Finished { status: status.code(), signal: status.signal(), output, errors })
    };
    match tokio::time::timeout(program.timeout, work).await {
        Ok(finished) => finished,
        Err(_) => {
            Err(Error::new(Kind::Timeout, format!("`{name}` ran longer than {:?} and was ended", program.timeout)))
        }
    }
}

async fn collect(stream: Option<impl AsyncRead + Unpin>, max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(max as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > max {
        return Err(Error::new(Kind::Budget, format!("the program wrote more than {max} bytes and was ended")));
    }
    Ok(bytes)
}
