//! A seeded world: virtual time, one thread, and a schedule that is drawn from the seed.

pub mod children;
mod executor;
pub mod files;
mod programs;
mod timers;
pub mod trace;
mod world;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::env::{Env, Finished, Launch, Program};
use crate::error::Result;
use crate::time::Timestamp;
use children::{Act, Script};
use executor::{MAIN, Next};
use files::MemoryFiles;
use trace::Trace;
pub use world::SimulatedWorld;

/// A seeded world to run a future in, with every task that it spawns.
///
/// Whichever task is ready next is drawn at random by the seed; time stands still while any is ready, and jumps to the
/// next timer when none is. So a test with sleeps of hours takes no time, and the same seed gives the same
/// [`Trace::hash`], as long as the code under test takes time and chance from [`Env`] alone.
///
/// ```
/// use bourn_engine::testing::simulation::Simulation;
/// use std::time::Duration;
///
/// let simulation = Simulation::new(7);
/// let env = simulation.env();
/// simulation.run(async move { env.sleep(Duration::from_hours(1)).await }).done();
/// assert_eq!(simulation.elapsed(), Duration::from_hours(1));
/// ```
pub struct Simulation {
    world: SimulatedWorld,
    steps_max: u64,
    time_max: Duration,
}

/// How a simulation ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The future ended.
    Done(T),
    /// No task is ready and no timer is set: nothing can ever happen again.
    Deadlock(Vec<Waiting>),
    /// The bound on steps or on virtual time was reached. A deadlock beside a task that wakes up now and then looks so.
    Livelock(Vec<Waiting>),
}

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name; `main` for the future given to [`Simulation::run`].
    pub task: String,
    /// The virtual time at which it last ran.
    pub since: Duration,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (since {:?})", self.task, self.since)
    }
}

impl<T> Outcome<T> {
    /// The result of the future.
    ///
    /// # Panics
    /// When it did not end, with the names of the tasks that wait.
    #[track_caller]
    pub fn done(self) -> T {
        let list = |waiting: Vec<Waiting>| waiting.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Done(result) => result,
            Self::Deadlock(waiting) => panic!("deadlock; waiting: {}", list(waiting)),
            Self::Livelock(waiting) => panic!("the simulation does not end; alive: {}", list(waiting)),
        }
    }

    /// Whether nothing could ever happen again.
    pub fn is_deadlock(&self) -> bool {
        matches!(self, Self::Deadlock(_))
    }
}

impl Simulation {
    /// A world whose every choice follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { world: SimulatedWorld::new(seed), steps_max: 5_000_000, time_max: Duration::from_hours(24) }
    }

    /// The same with these files, such as what a crash of another simulation has left.
    ///
    /// # Panics
    /// When the world has been handed out already.
    #[must_use]
    pub fn over(mut self, files: MemoryFiles) -> Self {
        let world = Arc::get_mut(&mut self.world.0).expect("a simulation is made before its world is used");
        world.files = files;
        self
    }

    /// Gives up after so many steps; 5,000,000 if not said.
    #[must_use]
    pub fn steps_max(mut self, steps: u64) -> Self {
        self.steps_max = steps;
        self
    }

    /// Gives up after so much virtual time; a day if not said.
    #[must_use]
    pub fn time_max(mut self, time: Duration) -> Self {
        self.time_max = time;
        self
    }

    /// Begins at this time of day; 2020-01-01T00:00:00Z if not said.
    #[must_use]
    pub fn begin(self, wall: Timestamp) -> Self {
        self.world.0.start.store(wall.0, Relaxed);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn variable(self, name: &str, value: &str) -> Self {
        lock(&self.world.0.variables).insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a program: what it leaves, and after how long. Any other program is not found.
    #[must_use]
    pub fn program(
        self,
        name: &str,
        script: impl Fn(&Program) -> (Duration, Result<Finished>) + Send + Sync + 'static,
    ) -> Self {
        self.world.0.programs.add(name, script);
        self
    }

    /// Adds a program that stays: what it does when it is started, and what for each line that it reads. The first argument
    /// of a launch names it.
    #[must_use]
    pub fn child(self, name: &str, start: impl Fn(&Launch) -> (Vec<Act>, Script) + Send + Sync + 'static) -> Self {
        self.world.0.children.add(name, start);
        self
    }

    /// How many programs that stay are running.
    pub fn children(&self) -> usize {
        self.world.0.children.alive()
    }

    /// The handle that the code under test is given.
    pub fn env(&self) -> Env {
        Env::new(self.world.clone())
    }

    /// The file system, for putting files in, looking at them, and letting calls fail.
    pub fn files(&self) -> &MemoryFiles {
        &self.world.0.files
    }

    /// What has happened so far; a clone may be moved into the code under test, which can add events.
    pub fn trace(&self) -> Trace {
        self.world.0.trace.clone()
    }

    /// The virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.world.0.timers.now()
    }

    /// The tasks that have not ended.
    pub fn alive(&self) -> Vec<Waiting> {
        self.world.0.executor.alive()
    }

    /// Drives `future` and all tasks until the future has ended. Tasks that have not ended then stay, and go on in the
    /// next `run`.
    pub fn run<F: Future>(&self, future: F) -> Outcome<F::Output> {
        let shared = &self.world.0;
        let mut future = pin!(future);
        shared.executor.start_main();
        for _ in 0..self.steps_max {
            match shared.executor.next(&shared.trace) {
                Next::Main(waker) => {
                    shared.executor.ran(MAIN, shared.timers.now());
                    if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        shared.executor.end_main();
                        return Outcome::Done(result);
                    }
                }
                Next::Task(task) => shared.executor.step(task, shared.timers.now()),
                Next::Idle => match shared.timers.advance(self.time_max) {
                    timers::Advance::To(now) => shared.trace.time(now),
                    timers::Advance::Never => return Outcome::Deadlock(shared.executor.alive()),
                    timers::Advance::TooLate => return Outcome::Livelock(shared.executor.alive()),
                },
            }
        }
        Outcome::Livelock(shared.executor.alive())
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // Tasks hold handles to the world, and the world holds the tasks.
        self.world.0.executor.close();
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Shared<T> = Arc<Mutex<T>>;

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::{mpsc, oneshot};
    use futures::{FutureExt, SinkExt, StreamExt};

    /// Three tasks that take turns on a channel, with sleeps between.
    fn babble(seed: u64) -> (u64, Vec<u64>) {
        let simulation = Simulation::new(seed);
        let (env, trace) = (simulation.env(), simulation.trace());
        let heard = simulation.run(async move {
            let (mouth, ear) = mpsc::channel(1);
            for n in 0..3 {
                let (world, mut mouth, trace) = (env.clone(), mouth.clone(), trace.clone());
                let task = async move {
                    for i in 0..5 {
                        world.sleep(Duration::from_millis(world.random() % 3)).await;
                        trace.event(format!("{n} says {i}"));
                        mouth.send(n * 10 + i).await.unwrap();
                    }
                };
                env.spawn(&format!("speaker {n}"), task.boxed());
            }
            drop(mouth);
            ear.collect::<Vec<u64>>().await
        });
        (simulation.trace().hash(), heard.done())
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
        let all: std::collections::BTreeSet<_> = (0..20).map(babble).collect();
        assert_eq!(all, (0..20).map(babble).collect());
        assert!(all.len() >= 18, "20 seeds gave {} schedules", all.len());
        assert!(all.iter().all(|(_, heard)| heard.len() == 15));
    }

    #[test]
    fn which_of_the_ready_tasks_runs_next_is_drawn_from_the_seed() {
        let order = |seed| {
            let simulation = Simulation::new(seed);
            let (env, ran) = (simulation.env(), Shared::<Vec<u32>>::default());
            for n in 0..4 {
                let ran = ran.clone();
                env.spawn("task", async move { lock(&ran).push(n) }.boxed());
            }
            simulation.run(env.sleep(Duration::from_secs(1))).done();
            lock(&ran).clone()
        };
        let orders: std::collections::BTreeSet<_> = (0..200).map(order).collect();
        assert_eq!(orders.len(), 24, "every order of four tasks is drawn by some seed");
    }

    #[test]
    fn a_deadlock_is_told_with_the_names_of_the_tasks_that_wait() {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let outcome = simulation.run(async move {
            let (a, wait_a) = oneshot::channel::<()>();
            let (b, wait_b) = oneshot::channel::<()>();
            env.spawn("left", wait_a.map(move |_| drop(b)).boxed());
            env.spawn("right", wait_b.map(move |_| drop(a)).boxed());
            env.sleep(Duration::from_secs(5)).await;
            futures::future::pending::<()>().await;
        });
        let Outcome::Deadlock(waiting) = outcome else { panic!("{outcome:?}") };
        let names: Vec<_> = waiting.iter().map(|w| (w.task.as_str(), w.since.as_secs())).collect();
        assert_eq!(names, [("main", 5), ("left", 0), ("right", 0)]);
    }

    #[test]
    fn a_task_that_never_rests_is_a_livelock() {
        let simulation = Simulation::new(1).steps_max(1_000);
        let spin = futures::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(matches!(simulation.run(spin), Outcome::Livelock(_)));
        let simulation = Simulation::new(1).time_max(Duration::from_mins(1));
        let env = simulation.env();
        let outcome: Outcome<()> = simulation.run(async move {
            loop {
                env.sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(matches!(outcome, Outcome::Livelock(_)), "{outcome:?}");
        assert!(simulation.elapsed() <= Duration::from_mins(1));
    }

    #[test]
    fn timers_fire_in_their_order_and_a_dropped_one_never() {
        for seed in 0..10 {
            let simulation = Simulation::new(seed);
            let env = simulation.env();
            let order: Shared<Vec<u64>> = Arc::default();
            let log = order.clone();
            let outcome = simulation.run(async move {
                drop(env.sleep(Duration::from_mins(15)));
                let mut dropped = env.sleep(Duration::from_secs(800));
                assert!((&mut dropped).now_or_never().is_none());
                drop(dropped);
                let sleeps = [30, 10, 20].map(|n| {
                    let (env, log) = (env.clone(), log.clone());
                    async move {
                        env.sleep(Duration::from_secs(n)).await;
                        lock(&log).push(env.monotonic().as_secs());
                    }
                });
                futures::future::join_all(sleeps).await;
                futures::future::pending::<()>().await;
            });
            // The clock stands at the last timer that somebody waited for.
            assert!(outcome.is_deadlock());
            assert_eq!((lock(&order).clone(), simulation.elapsed().as_secs()), (vec![10, 20, 30], 30));
        }
    }

    #[test]
    fn the_time_of_day_begins_where_it_is_told_to() {
        let simulation = Simulation::new(1).begin(Timestamp(5_000_000));
        let env = simulation.env();
        simulation.run(env.sleep(Duration::from_secs(2))).done();
        assert_eq!(env.wall(), Timestamp(7_000_000));
    }

    #[test]
    fn a_simulation_ends_the_tasks_that_are_left() {
        let kept = Arc::new(());
        let simulation = Simulation::new(1);
        let (env, held) = (simulation.env(), kept.clone());
        // It holds the world that holds it.
        let world = env.clone();
        let task = async move {
            futures::future::pending::<()>().await;
            drop((held, world));
        };
        simulation.run(async move { env.spawn("stays", task.boxed()) }).done();
        assert_eq!(simulation.alive().iter().map(|w| w.task.as_str()).collect::<Vec<_>>(), ["stays"]);
        drop(simulation);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
