//! A world with more environment variables.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Child, Env, Files, Finished, Launch, Program, World};
use crate::error::Result;
use crate::time::Timestamp;

/// Another world, in which some variables are set.
pub(super) struct Overlay {
    pub inner: Env,
    pub variables: BTreeMap<String, String>,
}

impl Overlay {
    /// What a program sees: its own variables stand over these.
    fn seen(&self, own: Vec<(String, String)>) -> Vec<(String, String)> {
        self.variables.clone().into_iter().chain(own).collect()
    }
}

impl World for Overlay {
    fn wall(&self) -> Timestamp {
        self.inner.wall()
    }
    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }
    fn random(&self) -> u64 {
        self.inner.random()
    }
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(name, task);
    }
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.inner.spawn_blocking(job)
    }
    fn files(&self) -> &dyn Files {
        self.inner.files()
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned().or_else(|| self.inner.variable(name))
    }
    fn run(&self, mut program: Program) -> BoxFuture<'static, Result<Finished>> {
        if !program.clear_variables {
            program.variables = self.seen(program.variables);
        }
        self.inner.run(program)
    }
    fn start(&self, mut launch: Launch) -> BoxFuture<'static, Result<Child>> {
        if !launch.clear_variables {
            launch.variables = self.seen(launch.variables);
        }
        self.inner.start(launch)
    }
    fn end_programs(&self) {
        self.inner.end_programs();
    }

    fn reached(&self, point: &str) {
        self.inner.reached(point);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::simulation::Simulation;

    #[test]
    fn what_is_laid_over_stands_before_what_is_there() {
        let under = Simulation::new(1).variable("A", "under").variable("B", "under");
        let env = under.env().with_variables([("A".to_owned(), "over".to_owned())].into());
        let seen = ["A", "B", "C"].map(|name| env.variable(name));
        assert_eq!(seen, [Some("over".into()), Some("under".into()), None]);
        assert_eq!(under.env().variable("A").as_deref(), Some("under"), "the world under it is as it was");
    }
}
