//! Jobs within a job: for a stage that runs a whole pipeline.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::error::Result;
use crate::metrics::JobStats;

/// Runs jobs for the stages of another one. The engine implements it.
pub trait Jobs: fmt::Debug + Send + Sync {
    /// Runs a pipeline to its end. When nobody waits any more, it is asked to stop; a request with the same key waits for its end
    /// before it begins.
    ///
    /// # Errors
    /// When its spec has a problem, or what ended the job.
    fn run(&self, request: JobRequest) -> BoxFuture<'_, Result<Arc<JobStats>>>;
}

/// A pipeline that is to run once.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// The name of its spec.
    pub file: String,
    /// Its spec.
    pub text: String,
    /// The texts of the files that the spec includes, by path.
    pub included: BTreeMap<String, String>,
    /// Environment variables that it sees beside those of the engine.
    pub variables: BTreeMap<String, String>,
    /// What tells the request from others, the same after a restart: a job that was cut off goes on under it, if it keeps checkpoints.
    pub key: Arc<str>,
    /// Whether model calls must go to the mock model in the process.
    pub mock: bool,
}
