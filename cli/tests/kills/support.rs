//! Jobs as child processes, and what they have written.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use tempfile::TempDir;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A folder to run jobs in; it goes when the test ends.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a job.
    pub fn start(&self, spec: &str) -> Job {
        self.start_to(spec, None)
    }

    /// Starts a job, which ends itself at this point of the protocol.
    pub fn start_to(&self, spec: &str, point: Option<&str>) -> Job {
        std::fs::write(self.path("spec.yaml"), spec).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command.envs(point.map(|point| ("BOURN_KILL_AT", point)));
        command.args(["run", "spec.yaml", "-q"]).current_dir(self.0.path()).env_remove("BOURN_LOG");
        Job(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// The values of `n` in a file of JSON lines, as far as a reader gets: a job that was killed may have written a part of
    /// a line or of a member of gzip.
    pub fn numbers(&self, name: &str) -> BTreeSet<i64> {
        let bytes = std::fs::read(self.path(name)).unwrap_or_default();
        let mut text = Vec::new();
        if bytes.starts_with(&[0x1F, 0x8B]) {
            // Whatever comes before the error is there.
            let _ = MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text);
        } else {
            text = bytes;
        }
        let rows = text.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n"));
        rows.map(number).collect()
    }

    /// The names of its files that begin so, in order.
    pub fn names(&self, beginning: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.starts_with(beginning));
        names.sort();
        names
    }

    /// The values of `n` in a file of JSON lines, line by line.
    pub fn lines(&self, name: &str) -> Vec<i64> {
        let bytes = std::fs::read(self.path(name)).unwrap_or_default();
        bytes.split_inclusive(|b| *b == b'\n').filter(|line| line.ends_with(b"\n")).map(number).collect()
    }
}

fn number(row: &[u8]) -> i64 {
    serde_json::from_slice::<serde_json::Value>(row).unwrap()["n"].as_i64().unwrap()
}

/// A job under way.
pub struct Job(Child);

impl Job {
    /// Ends it as SIGKILL does: nothing is flushed, committed or acknowledged any more.
    pub fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it had ended before it was killed");
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    /// Waits until it has ended itself.
    pub fn wait_for_its_kill(mut self) {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&self.0.wait().unwrap()), Some(9));
    }

    /// Waits for its end, which is to be a good one.
    pub fn wait(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Its end is seen to when the test has failed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `holds`, or fails with what did not come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        tick.tick().await;
    }
}
