//! Everything that a stage, call, source or sink needs of the world, so that a simulation can own it.

pub mod files;
pub mod points;
pub mod process;
pub mod system;

mod overlay;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use overlay::Overlay;

use crate::error::Result;
use crate::time::Timestamp;
pub use files::{FileId, Files, ReadFile, WriteFile};
pub use process::{Child, End, Exit, Finished, Heard, Launch, Program};

/// The world as the engine sees it. [`system::SystemWorld`] is the real one; `testing` has a simulated one.
pub trait World: Send + Sync + 'static {
    /// The time of day. For event data only; it may jump.
    fn wall(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back. For every duration and deadline.
    fn monotonic(&self) -> Duration;
    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// 64 random bits.
    fn random(&self) -> u64;
    /// Runs `task` beside the others. Only the engine's supervisor calls this: a task has a name and an owner.
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>);
    /// Runs `job`, which may block for long (a pipe that waits for a person), on a thread that is not a worker's.
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// The file system.
    fn files(&self) -> &dyn Files;
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// Runs a program to its end.
    fn run(&self, program: Program) -> BoxFuture<'static, Result<Finished>>;
    /// Starts a program that stays. It is killed when the [`Child`] is dropped.
    fn start(&self, launch: Launch) -> BoxFuture<'static, Result<Child>>;
    /// Kills every program that runs and was started here, with what it has started: the process is about to end without dropping them.
    fn end_programs(&self) {}
    /// The job has come to one of the [`points`] of its epochs: a test may end the process here. Costs nothing otherwise.
    fn reached(&self, _point: &str) {}
}

/// A handle to the world; a clone is the same world.
#[derive(Clone)]
pub struct Env(Arc<dyn World>);

impl Env {
    /// The world that `world` describes.
    pub fn new(world: impl World) -> Self {
        Self(Arc::new(world))
    }

    /// The real world, on the tokio runtime that the engine is started in.
    pub fn system() -> Self {
        Self::new(system::SystemWorld::new())
    }

    /// The same world with these environment variables over its own.
    #[must_use]
    pub fn with_variables(&self, variables: BTreeMap<String, String>) -> Self {
        Self::new(Overlay { inner: self.clone(), variables })
    }

    /// Ends with what `job` returns, which runs where blocking does no harm.
    ///
    /// # Errors
    /// When the job panicked.
    pub async fn blocking<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (send, receive) = futures::channel::oneshot::channel();
        self.spawn_blocking(Box::new(move || drop(send.send(job())))).await;
        receive.await.map_err(|_| crate::error::Error::engine("a blocking job panicked"))
    }

    /// The paths that match a glob pattern, sorted; see [`Files::glob`].
    ///
    /// # Errors
    /// When the pattern is none, or a folder can't be read.
    pub fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        self.files().glob(pattern)
    }
}

impl std::ops::Deref for Env {
    type Target = dyn World;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}
