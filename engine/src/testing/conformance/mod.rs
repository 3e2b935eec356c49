//! Suites that put a source, sink, stage, call or store to the promises of its trait. What it declares selects the tests.
//!
//! Each is one line in a test of the author:
//!
//! ```
//! use bourn_engine::testing::{conformance, simulation::Simulation};
//! # fn example(connector: impl bourn_engine::api::Connector) {
//! let simulation = Simulation::new(1);
//! simulation.run(conformance::source(connector).rows(100).check(&simulation.env())).done();
//! # }
//! ```
//! A suite for something that needs the real world runs on tokio with `Env::system()` instead.

pub mod call;
pub mod config;
pub mod sink;
pub mod source;
pub mod stage;
pub mod store;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};

use crate::env::Env;
pub use call::call;
pub use sink::{Target, sink};
pub use source::source;
pub use stage::{join, stage};
pub use store::store;

/// A promise that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise, one of the constants of the suite.
    pub promise: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// What a check gives.
pub type Check<T = ()> = Result<T, Broken>;

/// It never panics; a fault is an error.
pub const NO_PANIC: &str = "it does not panic: a fault is an error";

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken promise: {}\n  seen: {}", self.promise, self.seen)
    }
}

impl Broken {
    pub(crate) fn new(promise: &'static str, seen: impl fmt::Display) -> Self {
        Self { promise, seen: seen.to_string() }
    }
}

/// `Ok` if it holds.
fn require(holds: bool, promise: &'static str, seen: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken::new(promise, seen())) }
}

/// `Ok` if there is no difference.
fn equal(difference: Option<String>, promise: &'static str, when: &str) -> Check {
    difference.map_or(Ok(()), |difference| Err(Broken::new(promise, format!("{when}: {difference}"))))
}

/// Ends in time, or breaks `promise`.
async fn in_time<T>(env: &Env, bound: Duration, promise: &'static str, work: impl Future<Output = T>) -> Check<T> {
    match select(Box::pin(work), env.sleep(bound)).await {
        Either::Left((result, _)) => Ok(result),
        Either::Right(_) => Err(Broken::new(promise, format!("nothing after {bound:?}"))),
    }
}

/// Polls `work` until it has said so often that it is not ready; then drops it and returns `None`.
async fn drop_after<T>(pending: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Some(Box::pin(work));
    let mut left = pending;
    std::future::poll_fn(move |cx| {
        let polled = work.as_mut().map(|work| work.as_mut().poll(cx));
        match polled {
            Some(std::task::Poll::Ready(result)) => std::task::Poll::Ready(Some(result)),
            Some(std::task::Poll::Pending) if left > 1 => {
                left -= 1;
                std::task::Poll::Pending
            }
            _ => {
                work = None;
                std::task::Poll::Ready(None)
            }
        }
    })
    .await
}

/// Turns a panic into a broken promise.
async fn without_panic(suite: impl Future<Output = Check>) -> Check {
    AssertUnwindSafe(suite).catch_unwind().await.unwrap_or_else(|panic| Err(Broken::new(NO_PANIC, message(&*panic))))
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".into())
}

#[track_caller]
fn must_hold(name: &str, result: Check) {
    if let Err(broken) = result {
        panic!("`{name}`: {broken}");
    }
}

/// For tests of the suites: that every promise of a suite was broken by someone, and noticed.
#[cfg(test)]
pub(crate) fn each_is_caught(promises: &[&'static str], caught: &[(&'static str, Check)]) {
    for (promise, result) in caught {
        let Err(broken) = result else { panic!("nobody noticed: {promise}") };
        assert_eq!(broken.promise, *promise, "seen: {}", broken.seen);
    }
    let tested: std::collections::BTreeSet<_> = caught.iter().map(|(promise, _)| *promise).collect();
    let untested: Vec<_> = promises.iter().filter(|p| !tested.contains(*p)).collect();
    assert!(untested.is_empty(), "no test breaks: {untested:?}");
}
