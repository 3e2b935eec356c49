//! The simulated world as the engine sees it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::children::Children;
use super::executor::Executor;
use super::files::MemoryFiles;
use super::lock;
use super::programs::Programs;
use super::timers::Timers;
use super::trace::Trace;
use crate::env::{Child, Files, Finished, Launch, Program, World};
use crate::error::Result;
use crate::time::Timestamp;

/// 2020-01-01T00:00:00Z: the wall time at which a simulation begins that does not say.
const START: i64 = 1_577_836_800_000_000;

/// The world of a [`Simulation`](super::Simulation); a clone is the same world.
#[derive(Clone)]
pub struct SimulatedWorld(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) executor: Executor,
    pub(super) timers: Timers,
    pub(super) files: MemoryFiles,
    pub(super) programs: Programs,
    pub(super) children: Children,
    pub(super) trace: Trace,
    pub(super) variables: Mutex<BTreeMap<String, String>>,
    pub(super) start: AtomicI64,
    chance: Mutex<SmallRng>,
}

impl SimulatedWorld {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Parts {
            executor: Executor::new(seed),
            timers: Timers::default(),
            files: MemoryFiles::default(),
            programs: Programs::default(),
            children: Children::default(),
            trace: Trace::default(),
            variables: Mutex::default(),
            start: AtomicI64::new(START),
            // Apart from the schedule, so that a draw more in the code does not shift the schedule of every seed.
            chance: Mutex::new(SmallRng::seed_from_u64(!seed)),
        }))
    }
}

impl World for SimulatedWorld {
    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.0.timers.now().as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.start.load(Relaxed).saturating_add(passed))
    }

    fn monotonic(&self) -> Duration {
        self.0.timers.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.timers.sleep(duration).boxed()
    }

    fn random(&self) -> u64 {
        lock(&self.0.chance).random()
    }

    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.0.executor.spawn(name, task, self.0.timers.now());
    }

    /// Runs `job` at once, on the only thread: a job that waits for another task never ends here.
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        // As in the real world, a panic stays in the job; who waits for its result finds none.
        let _panic = catch_unwind(AssertUnwindSafe(job));
        // The answer takes a turn of the schedule, as that of a thread would.
        yield_once().boxed()
    }

    fn files(&self) -> &dyn Files {
        &self.0.files
    }

    fn variable(&self, name: &str) -> Option<String> {
        lock(&self.0.variables).get(name).cloned()
    }

    fn run(&self, program: Program) -> BoxFuture<'static, Result<Finished>> {
        let (time, finished) = self.0.programs.run(&program);
        self.0.timers.sleep(time).map(move |()| finished).boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'static, Result<Child>> {
        futures::future::ready(self.0.children.start(&launch, &self.0.timers)).boxed()
    }
}

async fn yield_once() {
    let mut yielded = false;
    futures::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::testing::simulation::Simulation;

    #[test]
    fn both_clocks_move_together_and_variables_are_those_given() {
        let simulation = Simulation::new(1).variable("HOME", "/home/x");
        let env = simulation.env();
        let wall = env.wall();
        simulation.run(env.sleep(Duration::from_secs(90))).done();
        assert_eq!((env.wall().since(wall).as_secs(), env.monotonic().as_secs()), (90, 90));
        assert_eq!((env.variable("HOME").as_deref(), env.variable("USER")), (Some("/home/x"), None));
        assert_eq!(wall.to_string(), "2020-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_panic_in_a_blocking_job_is_an_error_of_who_asked() {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        assert_eq!(simulation.run(env.blocking(|| 6 * 7)).done().unwrap(), 42);
        let lost = simulation.run(env.blocking(|| std::panic::resume_unwind(Box::new(())))).done();
        assert_eq!(lost.map(|()| 0).unwrap_err().kind(), Kind::Engine);
    }
}
