//! What a task does with its time: busy, idle, backpressured, waiting on something outside. The four add up.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use crate::env::Env;
use crate::metrics::{StageStats, Tally, nanos};

/// How old counts may get while a task never waits.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// The time of one task since its last flush. The clock is read when the task waits and when it flushes, not per batch.
pub struct Shares {
    env: Env,
    flushed: Duration,
    backpressured: Duration,
    waiting: Duration,
}

/// How long a future was polled, and how long it was not ready.
pub struct Timed<T> {
    /// What it returned.
    pub output: T,
    /// Time inside its polls.
    pub busy: Duration,
    /// Time between them.
    pub waiting: Duration,
}

impl Shares {
    /// Starts now.
    pub fn new(env: Env) -> Self {
        let flushed = env.monotonic();
        Self { env, flushed, backpressured: Duration::ZERO, waiting: Duration::ZERO }
    }

    /// Runs what waits for room behind this task.
    pub async fn backpressured<T>(&mut self, work: impl Future<Output = T>) -> T {
        let start = self.env.monotonic();
        let output = work.await;
        self.backpressured += self.env.monotonic().saturating_sub(start);
        output
    }

    /// Runs what waits for something outside; the time inside its polls is work.
    pub async fn outside<T>(&mut self, tally: &mut Tally, work: impl Future<Output = T>) -> T {
        let timed = timed(&self.env, work).await;
        self.waiting += timed.waiting;
        tally.busy += nanos(timed.busy);
        timed.output
    }

    /// Adds time that was spent waiting for something outside.
    pub fn add_waiting(&mut self, time: Duration) {
        self.waiting += time;
    }

    /// Whether the counts should be shown although the task never waits.
    pub fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.flushed) >= SHOWN_EVERY
    }

    /// Adds the counts and times of the task's stages to the shared ones. What is left of the time is idle.
    pub fn flush<'a>(&mut self, stages: impl Iterator<Item = (&'a mut Tally, &'a Arc<StageStats>)>) {
        let now = self.env.monotonic();
        let elapsed = nanos(now.saturating_sub(self.flushed));
        let (held_up, waiting) =
            (nanos(std::mem::take(&mut self.backpressured)), nanos(std::mem::take(&mut self.waiting)));
        self.flushed = now;
        for (tally, stats) in stages {
            stats.backpressured.fetch_add(held_up, Relaxed);
            stats.waiting.fetch_add(waiting, Relaxed);
            stats.idle.fetch_add(elapsed.saturating_sub(tally.busy + held_up + waiting), Relaxed);
            tally.flush(stats);
        }
    }
}

/// Runs a future and notes its time.
pub async fn timed<T>(env: &Env, work: impl Future<Output = T>) -> Timed<T> {
    let mut work = pin!(work);
    let start = env.monotonic();
    let mut busy = Duration::ZERO;
    let output = poll_fn(|context| {
        let began = env.monotonic();
        let poll = work.as_mut().poll(context);
        busy += env.monotonic().saturating_sub(began);
        match poll {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let waiting = env.monotonic().saturating_sub(start).saturating_sub(busy);
    Timed { output, busy, waiting }
}
