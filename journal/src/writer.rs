//! The one writer of a process: a thread, a queue before it, and a commit for all that has come meanwhile.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bourn_engine::env::{Env, points};
use bourn_engine::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::fault::{Fault, Faults as _};

/// Orders that wait, at most; each is of a batch of runs.
const QUEUE: usize = 1_024;
/// Orders of one commit, at most.
const GROUP: usize = 1_024;
/// How long orders that nobody waits for are held back, for one that somebody waits for to take them with it.
const LINGER: Duration = Duration::from_millis(5);

/// What is to be written. It may be called again, when another one of the same commit has failed.
type Work = Box<dyn FnMut(&Connection, &mut Clock) -> Result<(), Fault> + Send>;

struct Order {
    work: Work,
    /// Who waits for it.
    done: Option<oneshot::Sender<Result<()>>>,
}

/// An order and its place in the queue, which is free as soon as the order is taken out.
type Queued = (Order, OwnedSemaphorePermit);

/// What a writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits, each with one fsync.
    pub commits: u64,
    /// Orders in them.
    pub orders: u64,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    orders: AtomicU64,
}

/// Gives every event a time of its own.
pub struct Clock {
    env: Env,
    last: i64,
}

impl Clock {
    /// Microseconds since 1970, later than every one before.
    pub fn next(&mut self) -> i64 {
        self.last = (self.last + 1).max(self.env.wall().0);
        self.last
    }

    /// The time of what happened then, if nothing that is written came later.
    pub fn of(&mut self, then: i64) -> i64 {
        self.last = (self.last + 1).max(then);
        self.last
    }
}

/// Why nothing more can be written.
type Broken = Arc<Mutex<Option<Error>>>;

pub struct Writer {
    queue: Option<mpsc::Sender<Queued>>,
    /// What keeps the queue bounded.
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
    broken: Broken,
}

impl Writer {
    /// Starts the thread.
    pub fn start(connection: Connection, path: PathBuf, env: &Env) -> Result<Self> {
        let (queue, orders) = mpsc::channel();
        let (counters, broken) = (Arc::new(Counters::default()), Broken::default());
        let clock = Clock { env: env.clone(), last: 0 };
        let office = Office { connection, path, clock, counters: counters.clone(), broken: broken.clone() };
        let thread = std::thread::Builder::new().name("bourn-journal".into()).spawn(move || office.work(orders))?;
        let room = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { queue: Some(queue), room, thread: Some(thread), counters, broken })
    }

    pub fn stats(&self) -> Stats {
        Stats { commits: self.counters.commits.load(Relaxed), orders: self.counters.orders.load(Relaxed) }
    }

    /// Writes behind everything that was ordered before; returns when it is on the disk.
    pub async fn write(
        &self,
        work: impl FnMut(&Connection, &mut Clock) -> Result<(), Fault> + Send + 'static,
    ) -> Result<()> {
        let (done, ended) = oneshot::channel();
        self.order(Box::new(work), Some(done)).await?;
        ended.await.map_err(|_| self.gone())?
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
        let queue = self.queue.as_ref().ok_or_else(|| self.gone())?;
        let place = self.room.clone().acquire_owned().await.map_err(|_| self.gone())?;
        queue.send((Order { work, done }, place)).map_err(|_| self.gone())
    }

    fn gone(&self) -> Error {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.as_ref().map_or_else(|| Error::engine("the journal is closed"), Error::summary)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What was ordered is written first.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Office {
    connection: Connection,
    path: PathBuf,
    clock: Clock,
    counters: Arc<Counters>,
    broken: Broken,
}

impl Office {
    fn work(mut self, orders: mpsc::Receiver<Queued>) {
        let mut group = Vec::new();
        while let Ok(first) = orders.recv() {
            let until = self.clock.env.monotonic() + LINGER;
            let (mut next, mut is_awaited) = (Some(first), false);
            while let Some((order, _)) = next.take() {
                is_awaited |= order.done.is_some();
                group.push(order);
                if group.len() == GROUP {
                    break;
                }
                let left = || until.saturating_sub(self.clock.env.monotonic());
                next = match orders.try_recv() {
                    Ok(order) => Some(order),
                    Err(_) if is_awaited => None,
                    Err(_) => orders.recv_timeout(left()).ok(),
                };
            }
            if !self.commit(&mut group) {
                return;
            }
        }
    }

    /// Commits all orders together, or else each alone, so that one at fault does not take the others with it. False when nothing
    /// more can be written.
    fn commit(&mut self, group: &mut Vec<Order>) -> bool {
        if group.len() > 1 && self.together(group).is_ok() {
            group.drain(..).for_each(|order| answer(order, Ok(())));
            return true;
        }
        for order in group.drain(..) {
            let mut alone = vec![order];
            let result = self.together(&mut alone).map_err(|fault| fault.at(&self.path));
            let Some(order) = alone.pop() else { continue };
            match (&order.done, result) {
                (None, Err(error)) => {
                    // Nobody waits for this order, so nobody would know: all that come behind it are told instead.
                    *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return false;
                }
                (_, result) => answer(order, result),
            }
        }
        true
    }

    fn together(&mut self, orders: &mut [Order]) -> Result<(), Fault> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).told("lock")?;
        for order in orders.iter_mut() {
            (order.work)(&transaction, &mut self.clock)?;
        }
        self.clock.env.reached(points::JOURNAL_COMMIT);
        transaction.commit().told("write")?;
        self.clock.env.reached(points::JOURNAL_COMMITTED);
        self.counters.commits.fetch_add(1, Relaxed);
        self.counters.orders.fetch_add(orders.len() as u64, Relaxed);
        Ok(())
    }
}

fn answer(order: Order, result: Result<()>) {
    if let Some(done) = order.done {
        // Whoever asked may have gone.
        let _ = done.send(result);
    }
}
