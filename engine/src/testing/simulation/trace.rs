//! What happened in a simulation, and its hash.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use super::{Shared, lock};

/// The last entries that are kept in words; the hash covers all.
const KEPT: usize = 10_000;

/// What happened: each step of each task, each move of time, and the events that code adds.
#[derive(Clone, Default)]
pub struct Trace(Shared<Inner>);

#[derive(Default)]
struct Inner {
    hash: Xxh3,
    steps: u64,
    task: Option<Arc<str>>,
    last: VecDeque<Entry>,
}

enum Entry {
    Step(u64, Arc<str>),
    Time(Duration),
    Event(Arc<str>, String),
}

impl Trace {
    /// Adds an event under the name of the task that runs.
    pub fn event(&self, event: impl Into<String>) {
        let mut inner = lock(&self.0);
        let task = inner.task.clone().unwrap_or_else(|| "test".into());
        inner.add(b'e', event.into(), |event| Entry::Event(task, event));
    }

    /// A hash of everything so far: equal for two runs that went the same way.
    pub fn hash(&self) -> u64 {
        lock(&self.0).hash.digest()
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        lock(&self.0).steps
    }

    /// The last entries, one a line, for the message of a test that failed.
    pub fn tail(&self, entries: usize) -> String {
        let inner = lock(&self.0);
        let mut text = String::new();
        for entry in inner.last.iter().skip(inner.last.len().saturating_sub(entries)) {
            let written = match entry {
                Entry::Step(n, task) => writeln!(text, "{n:>8} {task}"),
                Entry::Time(now) => writeln!(text, "         at {now:?}"),
                Entry::Event(task, event) => writeln!(text, "         {task}: {event}"),
            };
            written.expect("writing to a string does not fail");
        }
        text
    }

    pub(super) fn step(&self, task: &Arc<str>) {
        let mut inner = lock(&self.0);
        inner.steps += 1;
        inner.task = Some(task.clone());
        let steps = inner.steps;
        inner.add(b's', task.clone(), |task| Entry::Step(steps, task));
    }

    pub(super) fn time(&self, now: Duration) {
        lock(&self.0).add(b't', now.as_nanos().to_string(), |_| Entry::Time(now));
    }
}

impl Inner {
    fn add<T: AsRef<str>>(&mut self, kind: u8, text: T, entry: impl FnOnce(T) -> Entry) {
        let bytes = text.as_ref().as_bytes();
        self.hash.update(&[kind]);
        self.hash.update(&bytes.len().to_le_bytes());
        self.hash.update(bytes);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(entry(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_changes_the_hash_and_the_tail_tells_the_last_ones() {
        let trace = Trace::default();
        let mut hashes = vec![trace.hash()];
        trace.step(&"sink".into());
        hashes.push(trace.hash());
        trace.event("wrote 3 rows");
        hashes.push(trace.hash());
        trace.time(Duration::from_millis(5));
        hashes.push(trace.hash());
        hashes.dedup();
        assert_eq!(hashes.len(), 4);
        assert_eq!(trace.tail(2), "         sink: wrote 3 rows\n         at 5ms\n");
    }
}
