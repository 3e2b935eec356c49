//! What a program writes on its standard error: into the log, and the last of it into errors.

use std::collections::VecDeque;
use std::time::Duration;

use bourn_engine::data::secret::shortened;
use bourn_engine::env::Env;

/// The most of a line that is logged or kept, in bytes.
const LINE_MAX: usize = 1 << 10;
/// How many lines an error shows.
const SHOWN: usize = 3;
/// The most lines logged in a second; the others are counted.
const LOGGED_MAX: u64 = 100;

/// Lines of one program.
pub struct Complaints {
    env: Env,
    stage: String,
    line: Vec<u8>,
    last: VecDeque<String>,
    /// The second that is being counted, and the lines in it.
    second: Duration,
    lines: u64,
}

impl Complaints {
    /// None yet of the program of `stage`.
    pub fn of(stage: &str, env: &Env) -> Self {
        let second = env.monotonic();
        Self { env: env.clone(), stage: stage.to_owned(), line: Vec::new(), last: VecDeque::new(), second, lines: 0 }
    }

    /// Takes what was read.
    pub fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < part.len() {
                self.end_line();
            }
        }
    }

    /// The last lines, the unfinished one included; empty if there is none.
    pub fn last(&mut self) -> String {
        self.end_line();
        self.last.make_contiguous().join(" / ")
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if line.is_empty() {
            return;
        }
        let now = self.env.monotonic();
        if now.saturating_sub(self.second) >= Duration::from_secs(1) {
            if let Some(more @ 1..) = self.lines.checked_sub(LOGGED_MAX) {
                tracing::warn!("{}: {more} more lines of its standard error", self.stage);
            }
            (self.second, self.lines) = (now, 0);
        }
        self.lines += 1;
        if self.lines <= LOGGED_MAX {
            tracing::warn!("{}: {line}", self.stage);
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(shortened(&line, 300));
    }
}
