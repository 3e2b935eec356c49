//! Every task has a name and an owner: spawning happens here alone.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Mutex;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{AbortHandle, Abortable, Either, select};

use super::channel::Post;
use super::narrow::panicked;
use crate::checkpoint::coordinator::{Report, TaskId};
use crate::checkpoint::saved::Saved;
use crate::env::Env;
use crate::error::{Error, Kind, Result};

/// What the owner of the tasks learns of them.
#[derive(Debug)]
pub enum Note {
    /// A step of the epoch protocol.
    Report(Report),
    /// What a task has to keep of this epoch; it comes before its report.
    Saved(TaskId, Saved),
    /// A task has ended, by itself or because it was stopped.
    Ended(TaskId, Result<()>),
}

/// Spawns the tasks of one job and can end them all.
pub struct Supervisor {
    env: Env,
    notes: Post<Note>,
    handles: Mutex<Vec<AbortHandle>>,
}

impl Supervisor {
    /// The owner reads `notes`.
    pub fn new(env: Env, notes: Post<Note>) -> Self {
        Self { env, notes, handles: Mutex::new(Vec::new()) }
    }

    /// Runs a task of the plan. Its end, be it a panic, is noted.
    pub fn spawn(&self, id: TaskId, name: &str, work: impl Future<Output = Result<()>> + Send + 'static) {
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(handle);
        let work = Abortable::new(AssertUnwindSafe(work).catch_unwind(), registration);
        let notes = self.notes.clone();
        let task = async move {
            let result = match work.await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(panicked(&*panic)),
                Err(_aborted) => Err(Error::new(Kind::Canceled, "stopped because the job has failed")),
            };
            // The owner is gone only when the job is.
            let _ = notes.send(Note::Ended(id, result)).await;
        };
        self.env.spawn(name, task.boxed());
    }

    /// Runs the owner itself, which nobody but the job's handle watches.
    pub fn spawn_owner(env: &Env, name: &str, work: impl Future<Output = ()> + Send + 'static) {
        env.spawn(name, work.boxed());
    }

    /// Runs a request beside its task; it is dropped when the returned end is.
    pub fn spawn_request<T: Send + 'static>(
        &self,
        name: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (mut send, receive) = oneshot::channel();
        let task = async move {
            let output = match select(pin!(work), send.cancellation()).await {
                Either::Left((output, _)) => output,
                Either::Right(_) => return,
            };
            // The reader may have gone while the work ended; nobody misses the answer then.
            let _ = send.send(output);
        };
        self.env.spawn(name, task.boxed());
        receive
    }

    /// Ends every task at its next await.
    pub fn abort(&self) {
        self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }
}
