//! Results of steps, kept for whoever asks the same again: a store that may lose all it has, and one request where many ask at once.
//!
//! A step says `cache`; whoever starts runs says where ([`Memory`] in the process, a journal, Redis). What is not there, or can't be
//! looked up, is asked as if there were no cache.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared, ready};
use hashbrown::HashMap;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Bounded;

use super::memo::Key;
use crate::error::Result;
use crate::time::Timestamp;

/// Bytes of answers that a process keeps, at most.
const BYTES_MAX: u64 = 64 << 20;
/// Entries that it makes room for at first.
const ENTRIES: usize = 1_024;
/// What an entry needs beside its answer.
const OVERHEAD: u64 = 64;

/// Where answers are kept for a time. It is never the only place of anything: a call asks again for what is not there.
pub trait Cache: Send + Sync + 'static {
    /// What is kept under this key, and holds longer than `now`.
    fn find(&self, key: Key, now: Timestamp) -> BoxFuture<'_, Result<Option<Vec<u8>>>>;

    /// Keeps an answer that holds until then, in place of an earlier one.
    fn keep(&self, key: Key, answer: Vec<u8>, until: Timestamp) -> BoxFuture<'_, Result<()>>;
}

/// Answers in the process, as many as fit; those that are asked for most stay. A clone is the same one.
#[derive(Clone)]
pub struct Memory(Arc<Bounded<Key, Entry, Bytes>>);

#[derive(Clone)]
struct Entry {
    answer: Arc<[u8]>,
    until: Timestamp,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        entry.answer.len() as u64 + OVERHEAD
    }
}

impl Memory {
    /// One that holds so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self(Arc::new(Bounded::with_weighter(ENTRIES, bytes, Bytes)))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers in {} bytes", self.0.len(), self.0.weight())
    }
}

impl Cache for Memory {
    fn find(&self, key: Key, now: Timestamp) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        let found = self.0.get(&key).filter(|entry| entry.until > now);
        ready(Ok(found.map(|entry| entry.answer.to_vec()))).boxed()
    }

    fn keep(&self, key: Key, answer: Vec<u8>, until: Timestamp) -> BoxFuture<'_, Result<()>> {
        self.0.insert(key, Entry { answer: answer.into(), until });
        ready(Ok(())).boxed()
    }
}

/// What is asked for right now. A clone is the same one. There are as many as there are requests in flight, at most.
#[derive(Clone, Debug, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, Shared<oneshot::Receiver<()>>>>>);

/// The right to ask, for one that others wait for. They go on when it is dropped.
#[derive(Debug)]
pub struct Turn {
    flights: Flights,
    key: Key,
    _over: oneshot::Sender<()>,
}

impl Flights {
    /// The turn to ask, of who comes first. None for all others, when that one has ended: what it was answered is in the cache, and if it
    /// failed, each asks for itself.
    pub async fn turn(&self, key: Key) -> Option<Turn> {
        let over = {
            let mut flights = self.under_way();
            if let Some(over) = flights.get(&key) {
                over.clone()
            } else {
                let (tell, over) = oneshot::channel();
                flights.insert(key, over.shared());
                return Some(Turn { flights: self.clone(), key, _over: tell });
            }
        };
        // It is dropped, and never sent.
        let _over = over.await;
        None
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, Shared<oneshot::Receiver<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.flights.under_way().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[test]
    fn an_answer_holds_until_its_time_and_a_later_one_takes_its_place() {
        let (memory, key) = (Memory::default(), Key::of(["a"]));
        let find = |now| now_or_never(memory.find(key, Timestamp(now))).unwrap().unwrap();
        assert_eq!(find(0), None);
        now_or_never(memory.keep(key, b"1".to_vec(), Timestamp(10))).unwrap().unwrap();
        assert_eq!((find(9), find(10)), (Some(b"1".to_vec()), None));
        now_or_never(memory.keep(key, b"2".to_vec(), Timestamp(20))).unwrap().unwrap();
        assert_eq!(find(10), Some(b"2".to_vec()));
    }

    #[test]
    fn what_a_process_keeps_has_a_bound() {
        let memory = Memory::of(10_000);
        for n in 0..1_000 {
            let answer = vec![0; 100];
            now_or_never(memory.keep(Key::of([n.to_string().as_str()]), answer, Timestamp(1))).unwrap().unwrap();
        }
        assert!(memory.0.weight() <= 10_000 && memory.0.len() > 10, "{memory:?}");
    }

    #[test]
    fn of_many_that_ask_the_same_one_has_its_turn_and_the_others_go_on_when_that_is_over() {
        let (flights, a, b) = (Flights::default(), Key::of(["a"]), Key::of(["b"]));
        let first = now_or_never(flights.turn(a)).unwrap();
        assert!(first.is_some() && now_or_never(flights.turn(b)).unwrap().is_some());
        let mut others = [Box::pin(flights.turn(a)), Box::pin(flights.turn(a))];
        assert!(others.iter_mut().all(|other| other.as_mut().now_or_never().is_none()));
        drop(first);
        assert!(others.into_iter().all(|other| other.now_or_never().unwrap().is_none()));
        assert!(now_or_never(flights.turn(a)).unwrap().is_some() && flights.under_way().is_empty());
    }
}
