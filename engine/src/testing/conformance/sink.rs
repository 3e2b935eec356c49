//! The promises of a sink.

#[cfg(test)]
mod broken;
mod run;
mod types;

use std::future::Future;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Broken, Check, config, must_hold, without_panic};
use crate::api::{Connector, Delivery};
use crate::env::Env;
use crate::error::Result;
use crate::rows;
use run::Run;

/// The connector says that it has a sink.
pub const DECLARED: &str =
    "a connector with a sink declares its delivery, and a transactional one gives a receipt for rows that it prepared";
/// Calls end.
pub const ENDS: &str = "every call ends within the bound";
/// Writing works.
pub const WRITES: &str = "what is written over two epochs is found once the job has ended, each row once";
/// A refusal names rows that were there.
pub const REJECTS: &str = "rows that are refused are rows of the batch, and the others are taken";
/// No row at all.
pub const EMPTY: &str = "a job without rows ends well, and leaves a target without rows";
/// An epoch without rows.
pub const IDLE_EPOCH: &str = "an epoch without rows can be prepared and committed, and adds nothing";
/// Commit is idempotent.
pub const COMMIT_TWICE: &str = "a commit that is asked for twice succeeds twice, and the rows are there once";
/// A receipt is enough.
pub const COMMIT_ELSEWHERE: &str =
    "another instance commits by the receipt, as after a crash, without loss or repetition";
/// Nothing early.
pub const INVISIBLE: &str = "transactional: nothing is visible before its commit";
/// What is not kept is gone.
pub const FORGETS: &str = "transactional or revocable: what no checkpoint has is not there when the job has ended";
/// Types.
pub const TYPES: &str = "a schema that the sink can't take is a problem at planning; one that it agreed to is written";

/// What [`Suite::check`] tests beside [`config::PROMISES`] and [`super::NO_PANIC`].
pub const PROMISES: &[&str] =
    &[DECLARED, ENDS, WRITES, REJECTS, EMPTY, IDLE_EPOCH, COMMIT_TWICE, COMMIT_ELSEWHERE, INVISIBLE, FORGETS, TYPES];

/// Somewhere to write, used for one job.
pub struct Target<C> {
    connector: C,
    read_back: Option<ReadBack>,
}

type ReadBack = Box<dyn Fn() -> BoxFuture<'static, Result<Vec<Value>>> + Send + Sync>;

impl<C: Connector> Target<C> {
    /// A target that nobody can look into (a console): what is tested then is the protocol alone.
    pub fn new(connector: C) -> Self {
        Self { connector, read_back: None }
    }

    /// Says how to find what a reader would see: the rows as JSON, in any order; none while there is nothing yet.
    #[must_use]
    pub fn read_back<F>(mut self, read: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Vec<Value>>> + Send + 'static,
    {
        self.read_back = Some(Box::new(move || read().boxed()));
        self
    }
}

/// The suite for a sink. `target` makes a fresh place to write for each of the jobs, which are numbered.
///
/// ```
/// # use bourn_engine::api::Connector;
/// # use bourn_engine::testing::{conformance::{self, Target}, simulation::Simulation};
/// # fn example<Lines: Connector>(lines: impl Fn(String) -> Lines + Sync, read: fn(String) -> Vec<serde_json::Value>) {
/// let simulation = Simulation::new(1);
/// let suite = conformance::sink(|n| {
///     let path = format!("out/{n}.jsonl");
///     Target::new(lines(path.clone())).read_back(move || { let rows = read(path.clone()); async { Ok(rows) } })
/// });
/// simulation.run(suite.check(&simulation.env())).done();
/// # }
/// ```
pub fn sink<C: Connector, T: Fn(usize) -> Target<C>>(target: T) -> Suite<T> {
    let sample = rows![
        {"id": 1, "name": "one", "weight": 0.5, "good": true},
        {"id": 2, "name": null, "weight": -1.25, "good": false},
        {"id": 3, "name": "drei \"3\", \\ \n\t☃", "weight": null, "good": null},
        {"id": null, "name": "", "weight": 1e9, "good": true},
        {"id": -5, "name": "five", "weight": 0.0, "good": false},
        {"id": 6, "name": "a longer text, so that no view is inlined", "weight": 6.5, "good": true}
    ];
    Suite { target, sample, bound: Duration::from_mins(1) }
}

/// See [`sink()`].
pub struct Suite<T> {
    target: T,
    sample: RecordBatch,
    bound: Duration,
}

impl<C: Connector, T: Fn(usize) -> Target<C>> Suite<T> {
    /// The rows to write, at least six; a sample of numbers, texts and nulls if not said.
    #[must_use]
    pub fn rows(mut self, sample: RecordBatch) -> Self {
        self.sample = sample;
        self
    }

    /// How long one call may take; a minute if not said.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Tests every promise that the declared capabilities imply.
    ///
    /// # Panics
    /// With the first promise that is broken.
    pub async fn check(&self, env: &Env) {
        must_hold(C::NAME, self.verify(env).await);
    }

    /// As [`Suite::check`].
    ///
    /// # Errors
    /// The first promise that is broken.
    pub async fn verify(&self, env: &Env) -> Check {
        without_panic(self.all(env)).await
    }

    async fn all(&self, env: &Env) -> Check {
        let first = (self.target)(0).connector;
        config::check(&first)?;
        let delivery = first.capabilities().sink;
        let delivery = delivery.ok_or_else(|| Broken::new(DECLARED, "`capabilities().sink` is none"))?;
        let folder = std::env::temp_dir().join(format!("bourn-conformance-{:x}", env.random()));
        let mut run =
            Run { folder, env, bound: self.bound, sample: &self.sample, delivery, target: &self.target, jobs: 0 };
        run.writes().await?;
        run.empty().await?;
        run.idle_epoch().await?;
        run.commit_twice().await?;
        if delivery != Delivery::Plain {
            run.commit_elsewhere().await?;
        }
        if delivery == Delivery::Transactional {
            run.invisible().await?;
        }
        if delivery != Delivery::Plain {
            run.forgets().await?;
        }
        run.types().await
    }
}
