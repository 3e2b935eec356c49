//! What the real process does at the points of its epochs: it writes them down, or ends there, if a test wants it so.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, getpid, kill_process};

use crate::env::points::{KILL_AT, TOLD_IN};

/// What a process does at its points, as it was told by its environment when it began.
pub(super) struct Points {
    kill_at: Option<(String, u64)>,
    told_in: Option<Mutex<File>>,
    reached: Mutex<HashMap<String, u64>>,
}

impl Points {
    /// None when nothing is to be done at any point.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let kill_at = variable(KILL_AT).and_then(|at| {
            let (point, count) = at.split_once(':').unwrap_or((&at, "1"));
            Some((point.to_owned(), count.parse().ok()?))
        });
        let open = |path: String| OpenOptions::new().create(true).append(true).open(path).ok();
        let told_in = variable(TOLD_IN).and_then(open).map(Mutex::new);
        let is_nothing = kill_at.is_none() && told_in.is_none();
        (!is_nothing).then(|| Self { kill_at, told_in, reached: Mutex::default() })
    }

    pub(super) fn reached(&self, point: &str) {
        if let Some(file) = &self.told_in {
            // Who wants to know finds a line less; the job is none the worse.
            let _ = writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{point}");
        }
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reached.entry(point.to_owned()).or_default();
        *count += 1;
        if self.kill_at.as_ref().is_some_and(|(at, n)| at == point && n == count) {
            let _ = kill_process(getpid(), Signal::KILL);
            // Nothing runs behind the signal. Should it be refused, this is the next best.
            std::process::abort();
        }
    }
}
