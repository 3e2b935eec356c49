//! The one writer of a process: a queue, a commit for all that is in it, and a thread that sees to it. Who brings an order when nobody
//! else does writes it, rather than waking the thread and being woken by it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

pub use crate::office::{Clock, Stats};

use crate::fault::Fault;
use crate::office::{Counters, Office, Order, Work, Written};
use crate::schema::{BUSY, LONG_LOG, SHORT_LOG};

/// Orders of one commit, at most.
const GROUP: usize = 1_024;
/// Orders that wait, those of a commit under way included; each is of a batch of runs.
const QUEUE: usize = 2 * GROUP;
/// How long orders that nobody waits for are held back, for one that somebody waits for to take them with it.
const LINGER: Duration = Duration::from_millis(5);
/// Who brings an order writes it when so many commits, one behind the other, have found nobody waiting when they ended, ...
const ALONE: u32 = 4;
/// ... and a commit usually takes no longer than this: a task must not stand still for longer than a batch takes.
const QUICK: Duration = Duration::from_millis(1);

/// After so many of these the log is kept short.
const STEADY: u32 = 64;

pub struct Writer {
    desk: Arc<Desk>,
    /// What keeps the queue bounded.
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// Where orders wait. Whoever has the office takes them, in the order in which they came.
struct Desk {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    news: Condvar,
    office: Mutex<Office>,
    counters: Counters,
    env: Env,
    /// How many commits, one behind the other, have found nobody waiting when they ended.
    alone: AtomicU32,
    /// How many nanoseconds a commit usually takes: a mean in which the last one is an eighth.
    usual: AtomicU64,
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<Order>,
    /// How many of them somebody waits for.
    awaited: usize,
    /// When the oldest came.
    since: Duration,
    /// An order came since the thread looked last.
    is_busy: bool,
    thread: Sleep,
    is_closed: bool,
    /// Why nothing more can be written.
    broken: Option<Error>,
}

/// What the thread waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleep {
    /// It is awake.
    #[default]
    None,
    /// Any order.
    Any,
    /// One that somebody waits for, or that those that are there, or come meanwhile, have waited long enough.
    Awaited,
}

impl Writer {
    /// Starts the thread.
    pub fn start(connection: Connection, path: PathBuf, env: &Env) -> Result<Self> {
        let clock = Clock { env: env.clone(), last: 0 };
        let desk = Arc::new(Desk {
            queue: Mutex::default(),
            news: Condvar::new(),
            office: Mutex::new(Office { connection, path, clock, patience: BUSY, log: LONG_LOG }),
            counters: Counters::default(),
            env: env.clone(),
            alone: AtomicU32::new(0),
            usual: AtomicU64::new(0),
        });
        let of_thread = desk.clone();
        let thread = std::thread::Builder::new().name("bourn-journal".into()).spawn(move || of_thread.work())?;
        Ok(Self { desk, room: Arc::new(Semaphore::new(QUEUE)), thread: Some(thread) })
    }

    pub fn stats(&self) -> Stats {
        self.desk.counters.stats()
    }

    /// Writes behind everything that was ordered before; returns when it is on the disk. It may stand still for as long as a commit usually
    /// takes, up to a millisecond.
    pub async fn write(
        &self,
        work: impl FnMut(&Connection, &mut Clock) -> Result<(), Fault> + Send + 'static,
    ) -> Result<()> {
        let (done, ended) = oneshot::channel();
        self.order(Box::new(work), Some(done)).await?;
        if !self.desk.write_alone() {
            self.desk.wake();
        }
        ended.await.map_err(|_| self.desk.gone())?
    }

    /// The same, without waiting for the disk: it may go there with the next one that somebody waits for. When it fails, everything later fails too.
    pub async fn write_later(
        &self,
        work: impl FnMut(&Connection, &mut Clock) -> Result<(), Fault> + Send + 'static,
    ) -> Result<()> {
        self.order(Box::new(work), None).await
    }

    /// The same as `write`, from a thread that may wait.
    pub fn write_now(
        &self,
        work: impl FnMut(&Connection, &mut Clock) -> Result<(), Fault> + Send + 'static,
    ) -> Result<()> {
        futures::executor::block_on(self.write(work))
    }

    async fn order(&self, work: Work, done: Option<oneshot::Sender<Result<()>>>) -> Result<()> {
        let place = self.room.clone().acquire_owned().await.map_err(|_| self.desk.gone())?;
        self.desk.put(Order { work, done, _place: place })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What was ordered is written first.
        self.desk.queue().is_closed = true;
        self.desk.news.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> Error {
        self.queue().broken.as_ref().map_or_else(|| Error::engine("the journal is closed"), Error::summary)
    }

    /// Puts an order behind all others. Who waits for one sees to it that it is written.
    fn put(&self, order: Order) -> Result<()> {
        let mut queue = self.queue();
        if queue.broken.is_some() || queue.is_closed {
            drop(queue);
            return Err(self.gone());
        }
        if queue.orders.is_empty() {
            queue.since = self.env.monotonic();
        }
        let is_awaited = order.done.is_some();
        queue.awaited += usize::from(is_awaited);
        queue.is_busy = true;
        queue.orders.push_back(order);
        if !is_awaited && queue.thread == Sleep::Any {
            self.news.notify_one();
        }
        Ok(())
    }

    /// There is an order that somebody waits for.
    fn wake(&self) {
        if self.queue().thread != Sleep::None {
            self.news.notify_one();
        }
    }

    /// The oldest orders. Only who has the office may ask for them.
    fn take(&self) -> Vec<Order> {
        let mut queue = self.queue();
        let count = queue.orders.len().min(GROUP);
        let group: Vec<_> = queue.orders.drain(..count).collect();
        queue.awaited -= group.iter().filter(|order| order.done.is_some()).count();
        group
    }

    /// What the thread does.
    fn work(&self) {
        while self.wait() {
            let mut office = self.office.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have written meanwhile what there was.
            let group = self.take();
            if !group.is_empty() {
                self.commit(&mut office, group, BUSY);
            }
        }
    }

    /// Waits until there is something to be written; false when nothing will be.
    fn wait(&self) -> bool {
        let mut queue = self.queue();
        loop {
            if queue.broken.is_some() || (queue.is_closed && queue.orders.is_empty()) {
                return false;
            }
            let waited = self.env.monotonic().saturating_sub(queue.since);
            let is_due = queue.awaited > 0 || queue.is_closed || queue.orders.len() >= GROUP || waited >= LINGER;
            if !queue.orders.is_empty() && is_due {
                return true;
            }
            // Who comes again and again need not wake it each time.
            queue = if queue.orders.is_empty() && !std::mem::take(&mut queue.is_busy) {
                queue.thread = Sleep::Any;
                self.news.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                queue.thread = Sleep::Awaited;
                let rest = if queue.orders.is_empty() { LINGER } else { LINGER.saturating_sub(waited) };
                self.news.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0
            };
            queue.thread = Sleep::None;
        }
    }

    /// Writes what there is, if nobody else writes or waits lately and that takes no time; false if the thread is to do it.
    fn write_alone(&self) -> bool {
        if self.alone.load(Relaxed) < ALONE || Duration::from_nanos(self.usual.load(Relaxed)) > QUICK {
            return false;
        }
        let mut office = match self.office.try_lock() {
            Ok(office) => office,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let group = self.take();
        group.is_empty() || self.commit(&mut office, group, Duration::ZERO)
    }

    /// False when another process writes, and that is not to be waited for.
    fn commit(&self, office: &mut Office, group: Vec<Order>, patience: Duration) -> bool {
        let start = self.env.monotonic();
        let written = office.commit(group, patience, &self.counters);
        let took = bourn_engine::metrics::nanos(self.env.monotonic().saturating_sub(start));
        let usual = self.usual.load(Relaxed);
        self.usual.store(usual - usual / 8 + took / 8, Relaxed);
        let mut queue = self.queue();
        let alone = if queue.awaited == 0 { self.alone.load(Relaxed).saturating_add(1) } else { 0 };
        self.alone.store(alone, Relaxed);
        if alone == 0 || alone == STEADY {
            office.bound_log(if alone == 0 { LONG_LOG } else { SHORT_LOG });
        }
        match written {
            Written::All => true,
            Written::Busy(group) => {
                queue.awaited += group.iter().filter(|order| order.done.is_some()).count();
                for order in group.into_iter().rev() {
                    queue.orders.push_front(order);
                }
                false
            }
            Written::Broken(error, rest) => {
                queue.broken = Some(error);
                // Who waits for them is told, as they are dropped.
                let orders = std::mem::take(&mut queue.orders);
                queue.awaited = 0;
                self.news.notify_one();
                drop(queue);
                drop((rest, orders));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};

    use futures::FutureExt;
    use tempfile::TempDir;

    use super::*;
    use crate::schema;

    fn writer(folder: &TempDir) -> Writer {
        let path = folder.path().join("journal.db");
        let mut connection = Connection::open(&path).unwrap();
        schema::prepare(&mut connection, &path).unwrap();
        Writer::start(connection, path, &Env::system()).unwrap()
    }

    /// By which thread it was written.
    fn by(written: &Arc<Mutex<Option<ThreadId>>>) -> impl FnMut(&Connection, &mut Clock) -> Result<(), Fault> + use<> {
        let written = written.clone();
        move |_, _| {
            *written.lock().unwrap() = Some(current().id());
            Ok(())
        }
    }

    #[test]
    fn who_is_alone_writes_its_orders_and_who_is_not_does_not() {
        let folder = TempDir::new().unwrap();
        let (writer, written) = (writer(&folder), Arc::new(Mutex::new(None)));
        let desk = &writer.desk;
        // Who waited is told before the office is free again.
        let is_free = || drop(desk.office.lock().unwrap());
        let here = |order: &dyn Fn()| {
            is_free();
            order();
            written.lock().unwrap().take() == Some(current().id())
        };
        let one = || writer.write_now(by(&written)).unwrap();
        let quick = || {
            is_free();
            desk.usual.store(0, Relaxed);
        };
        for _ in 0..ALONE {
            assert!(!here(&one), "the thread does it at first");
        }
        quick();
        assert!(here(&one));
        // What nobody waits for goes with it, before it.
        let times = Arc::new(Mutex::new(Vec::new()));
        let noted = |n: u32| {
            let times = times.clone();
            move |_: &Connection, _: &mut Clock| {
                times.lock().unwrap().push(n);
                Ok(())
            }
        };
        quick();
        let before = writer.stats();
        futures::executor::block_on(async {
            // The thread lingers over this one.
            writer.write_later(noted(1)).await?;
            writer.write(noted(2)).await
        })
        .unwrap();
        assert_eq!(*times.lock().unwrap(), [1, 2]);
        let after = writer.stats();
        assert_eq!((after.commits - before.commits, after.orders - before.orders), (1, 2));
        // Commits that take long are for the thread.
        is_free();
        desk.usual.store(bourn_engine::metrics::nanos(2 * QUICK), Relaxed);
        assert!(!here(&one));
        // So are those of many.
        quick();
        let mut all: Vec<_> = (0..3).map(|_| Box::pin(writer.write(by(&written)))).collect();
        let office = desk.office.lock().unwrap();
        assert!(all.iter_mut().all(|write| write.as_mut().now_or_never().is_none()));
        drop(office);
        for write in all {
            futures::executor::block_on(write).unwrap();
        }
        assert_ne!(written.lock().unwrap().take(), Some(current().id()));
    }

    #[test]
    fn who_is_alone_does_not_stand_still_while_another_process_writes() {
        let folder = TempDir::new().unwrap();
        let (writer, written) = (writer(&folder), Arc::new(Mutex::new(None)));
        writer.desk.alone.store(ALONE, Relaxed);
        let other = Connection::open(folder.path().join("journal.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut write = Box::pin(writer.write(by(&written)));
        assert!(write.as_mut().now_or_never().is_none());
        assert!(written.lock().unwrap().is_none());
        other.execute_batch("COMMIT").unwrap();
        futures::executor::block_on(write).unwrap();
        assert_ne!(written.lock().unwrap().take(), Some(current().id()));
        assert_eq!(writer.stats(), Stats { commits: 1, orders: 1 });
    }
}
