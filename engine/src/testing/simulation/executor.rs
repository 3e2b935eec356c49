//! Tasks on one thread, the next one drawn from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::trace::Trace;
use super::{Shared, Waiting, lock};

/// The task that is the future given to `run`.
pub(super) const MAIN: u64 = 0;

pub(super) struct Executor {
    tasks: Mutex<Tasks>,
    ready: Ready,
}

/// The tasks whose waker was called. A set in the order of their numbers, so that the order of the wake-ups does not show.
type Ready = Shared<BTreeSet<u64>>;

struct Tasks {
    alive: BTreeMap<u64, Task>,
    spawned: u64,
    closed: bool,
    draw: SmallRng,
}

struct Task {
    name: Arc<str>,
    /// None for the main task, and for any while it runs.
    future: Option<BoxFuture<'static, ()>>,
    since: Duration,
}

/// What to run next.
pub(super) enum Next {
    Main(Waker),
    Task(u64),
    Idle,
}

struct TaskWaker {
    task: u64,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.task);
    }
}

impl Executor {
    pub(super) fn new(seed: u64) -> Self {
        let tasks = Tasks { alive: BTreeMap::new(), spawned: MAIN, closed: false, draw: SmallRng::seed_from_u64(seed) };
        Self { tasks: Mutex::new(tasks), ready: Ready::default() }
    }

    pub(super) fn spawn(&self, name: &str, future: BoxFuture<'static, ()>, now: Duration) {
        let mut tasks = lock(&self.tasks);
        if tasks.closed {
            drop(tasks);
            // Outside of the lock: what it holds may spawn on drop.
            drop(future);
            return;
        }
        tasks.spawned += 1;
        let number = tasks.spawned;
        tasks.alive.insert(number, Task { name: name.into(), future: Some(future), since: now });
        lock(&self.ready).insert(number);
    }

    pub(super) fn start_main(&self) {
        let main = Task { name: "main".into(), future: None, since: Duration::ZERO };
        lock(&self.tasks).alive.insert(MAIN, main);
        lock(&self.ready).insert(MAIN);
    }

    pub(super) fn end_main(&self) {
        lock(&self.tasks).alive.remove(&MAIN);
    }

    /// Draws one of the ready tasks.
    pub(super) fn next(&self, trace: &Trace) -> Next {
        let mut tasks = lock(&self.tasks);
        let mut ready = lock(&self.ready);
        ready.retain(|task| tasks.alive.contains_key(task));
        if ready.is_empty() {
            return Next::Idle;
        }
        let drawn = tasks.draw.random_range(0..ready.len());
        let number = *ready.iter().nth(drawn).expect("drawn below the length");
        ready.remove(&number);
        trace.step(&tasks.alive[&number].name);
        if number == MAIN { Next::Main(self.waker(MAIN)) } else { Next::Task(number) }
    }

    /// Notes that a task runs at `now`.
    pub(super) fn ran(&self, number: u64, now: Duration) {
        if let Some(task) = lock(&self.tasks).alive.get_mut(&number) {
            task.since = now;
        }
    }

    /// Lets a task run to its next await. A panic goes through: the engine's supervisor must have caught it.
    pub(super) fn step(&self, number: u64, now: Duration) {
        self.ran(number, now);
        let taken = lock(&self.tasks).alive.get_mut(&number).and_then(|t| t.future.take());
        let Some(mut future) = taken else { return };
        match future.as_mut().poll(&mut Context::from_waker(&self.waker(number))) {
            Poll::Ready(()) => {
                lock(&self.tasks).alive.remove(&number);
            }
            Poll::Pending => {
                if let Some(task) = lock(&self.tasks).alive.get_mut(&number) {
                    task.future = Some(future);
                }
            }
        }
    }

    pub(super) fn alive(&self) -> Vec<Waiting> {
        let waiting = |t: &Task| Waiting { task: t.name.to_string(), since: t.since };
        lock(&self.tasks).alive.values().map(waiting).collect()
    }

    /// Drops every task, and those that are spawned meanwhile.
    pub(super) fn close(&self) {
        let left = {
            let mut tasks = lock(&self.tasks);
            tasks.closed = true;
            mem::take(&mut tasks.alive)
        };
        drop(left);
    }

    fn waker(&self, task: u64) -> Waker {
        Arc::new(TaskWaker { task, ready: self.ready.clone() }).into()
    }
}
