//! A world whose files are objects.

use std::time::Duration;

use bourn_engine::Result;
use bourn_engine::env::{Child, Env, Files, Finished, Launch, Program, World};
use bourn_engine::time::Timestamp;
use futures::future::BoxFuture;

use super::files::Objects;

/// The world of `env`, with `objects` as its file system.
pub fn with_files(env: &Env, objects: Objects) -> Env {
    Env::new(WithFiles { env: env.clone(), objects })
}

struct WithFiles {
    env: Env,
    objects: Objects,
}

impl World for WithFiles {
    fn wall(&self) -> Timestamp {
        self.env.wall()
    }
    fn monotonic(&self) -> Duration {
        self.env.monotonic()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.env.sleep(duration)
    }
    fn random(&self) -> u64 {
        self.env.random()
    }
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        World::spawn(&*self.env, name, task);
    }
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.env.spawn_blocking(job)
    }
    fn files(&self) -> &dyn Files {
        &self.objects
    }
    fn reached(&self, point: &str) {
        self.env.reached(point);
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.env.variable(name)
    }
    fn run(&self, program: Program) -> BoxFuture<'static, Result<Finished>> {
        self.env.run(program)
    }
    fn start(&self, launch: Launch) -> BoxFuture<'static, Result<Child>> {
        self.env.start(launch)
    }
}
