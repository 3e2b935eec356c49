//! Requests under way: spawned, so that they proceed while their task waits for room, and bounded by their task.

use std::task::{Context, Poll};

use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, Ready, ready};
#[expect(clippy::disallowed_types, reason = "this file is the fence around them")]
use futures::stream::{FuturesOrdered, FuturesUnordered};

use crate::api::Order;
use crate::error::{Error, Result};

/// An answer that is there, or that its task will send.
type Answer<T> = Either<Ready<Result<T, oneshot::Canceled>>, oneshot::Receiver<T>>;

/// A set of requests whose answers leave in order or as they come.
#[expect(clippy::disallowed_types, reason = "this file is the fence around them")]
pub enum InFlight<T> {
    /// In the order of the requests.
    Kept(FuturesOrdered<Answer<T>>),
    /// As they come.
    Free(FuturesUnordered<Answer<T>>),
}

impl<T> InFlight<T> {
    /// None yet.
    #[expect(clippy::disallowed_types, reason = "this file is the fence around them")]
    pub fn new(order: Order) -> Self {
        match order {
            Order::Kept => Self::Kept(FuturesOrdered::new()),
            Order::Free => Self::Free(FuturesUnordered::new()),
        }
    }

    /// How many are under way, the answered ones included until they are taken.
    pub fn len(&self) -> usize {
        match self {
            Self::Kept(set) => set.len(),
            Self::Free(set) => set.len(),
        }
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a request whose answer is there already.
    pub fn answered(&mut self, answer: T) {
        self.push(Either::Left(ready(Ok(answer))));
    }

    /// Adds a request that runs as a task of its own.
    pub fn waiting(&mut self, answer: oneshot::Receiver<T>) {
        self.push(Either::Right(answer));
    }

    fn push(&mut self, answer: Answer<T>) {
        match self {
            Self::Kept(set) => set.push_back(answer),
            Self::Free(set) => set.push(answer),
        }
    }

    /// The next answer in the order; none when nothing is under way.
    ///
    /// Cancel safety: it is a poll; nothing is taken before it is ready.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let next = match self {
            Self::Kept(set) => set.poll_next_unpin(context),
            Self::Free(set) => set.poll_next_unpin(context),
        };
        next.map(|answer| answer.map(|a| a.map_err(|_| Error::engine("a request's task ended without an answer"))))
    }
}
