//! Where orders become commits: one connection, which one at a time writes with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bourn_engine::env::{Env, points};
use bourn_engine::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::fault::{Fault, Faults as _};
use crate::schema::{SOON, tell_of_waiting};

/// What is to be written. It may be called again, when another one of the same commit has failed.
pub type Work = Box<dyn FnMut(&Connection, &mut Clock) -> Result<(), Fault> + Send>;

/// What somebody wants to be written.
pub struct Order {
    pub work: Work,
    /// Who waits for it.
    pub done: Option<oneshot::Sender<Result<()>>>,
    /// Its place in the queue, which is free when this is dropped.
    pub _place: OwnedSemaphorePermit,
}

/// What a writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commits, each with one fsync.
    pub commits: u64,
    /// Orders in them.
    pub orders: u64,
}

#[derive(Default)]
pub struct Counters {
    commits: AtomicU64,
    orders: AtomicU64,
}

impl Counters {
    pub fn stats(&self) -> Stats {
        Stats { commits: self.commits.load(Relaxed), orders: self.orders.load(Relaxed) }
    }
}

/// Gives every event a time of its own.
pub struct Clock {
    pub env: Env,
    pub last: i64,
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

/// What became of orders.
pub enum Written {
    /// Each was answered.
    All,
    /// Another process writes, and that was not to be waited for: nothing has happened.
    Busy(Vec<Order>),
    /// Nobody waited for one that can't be written: nothing more can be, these neither.
    Broken(Error, Vec<Order>),
}

/// Who has it writes.
pub struct Office {
    pub connection: Connection,
    pub path: PathBuf,
    pub clock: Clock,
    /// How long the connection waits for other processes.
    pub patience: Duration,
    /// How long its log becomes, in pages.
    pub log: i64,
}

impl Office {
    /// Bounds the log from the next commit on.
    pub fn bound_log(&mut self, pages: i64) {
        if self.log != pages && self.connection.pragma_update(None, "wal_autocheckpoint", pages).is_ok() {
            self.log = pages;
        }
    }

    /// Commits all orders together, or else each alone, so that one at fault does not take the others with it. Other processes that write are
    /// waited for so long.
    pub fn commit(&mut self, mut group: Vec<Order>, patience: Duration, counters: &Counters) -> Written {
        if group.len() > 1 || patience.is_zero() {
            match self.together(&mut group, patience, counters) {
                Ok(()) => {
                    for order in group {
                        answer(order, Ok(()));
                    }
                    return Written::All;
                }
                Err(fault) if fault.is_busy() && patience.is_zero() => return Written::Busy(group),
                Err(_) => {}
            }
        }
        let mut rest = group.into_iter();
        while let Some(order) = rest.next() {
            let mut alone = [order];
            let result = self.together(&mut alone, patience, counters).map_err(|fault| fault.at(&self.path));
            let [order] = alone;
            match (&order.done, result) {
                // Nobody waits for this order, so nobody would know: all that come behind it are told instead.
                (None, Err(error)) => return Written::Broken(error, rest.collect()),
                (_, result) => answer(order, result),
            }
        }
        Written::All
    }

    fn together(&mut self, orders: &mut [Order], patience: Duration, counters: &Counters) -> Result<(), Fault> {
        match self.within(orders, patience.min(SOON), counters) {
            Err(fault) if fault.is_busy() && patience > SOON => {
                tell_of_waiting(&self.path);
                self.within(orders, patience.saturating_sub(SOON), counters)
            }
            written => written,
        }
    }

    fn within(&mut self, orders: &mut [Order], patience: Duration, counters: &Counters) -> Result<(), Fault> {
        if self.patience != patience && self.connection.busy_timeout(patience).is_ok() {
            self.patience = patience;
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).told("lock")?;
        for order in orders.iter_mut() {
            (order.work)(&transaction, &mut self.clock)?;
        }
        self.clock.env.reached(points::JOURNAL_COMMIT);
        transaction.commit().told("write")?;
        self.clock.env.reached(points::JOURNAL_COMMITTED);
        counters.commits.fetch_add(1, Relaxed);
        counters.orders.fetch_add(orders.len() as u64, Relaxed);
        Ok(())
    }
}

fn answer(order: Order, result: Result<()>) {
    if let Some(done) = order.done {
        // Whoever asked may have gone.
        let _ = done.send(result);
    }
}
