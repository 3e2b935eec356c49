//! Virtual time: it stands still until it is moved to the next timer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Shared, lock};

#[derive(Clone, Default)]
pub(super) struct Timers(Shared<Inner>);

#[derive(Default)]
struct Inner {
    now: Duration,
    /// By time, then in the order in which they were set.
    set: BTreeMap<(Duration, u64), Waker>,
    count: u64,
}

/// Where time went.
pub(super) enum Advance {
    To(Duration),
    /// No timer is set.
    Never,
    /// The next one lies behind the bound.
    TooLate,
}

impl Timers {
    pub(super) fn now(&self) -> Duration {
        lock(&self.0).now
    }

    /// Ends when `duration` has passed from now on.
    pub(super) fn sleep(&self, duration: Duration) -> Sleep {
        Sleep { timers: self.0.clone(), until: self.now().saturating_add(duration), key: None }
    }

    /// Moves time to the next timer, and wakes all that are due.
    pub(super) fn advance(&self, max: Duration) -> Advance {
        let mut inner = lock(&self.0);
        let Some((&(next, _), _)) = inner.set.first_key_value() else { return Advance::Never };
        if next > max {
            return Advance::TooLate;
        }
        inner.now = next;
        let later = inner.set.split_off(&(next, u64::MAX));
        let due = std::mem::replace(&mut inner.set, later);
        drop(inner);
        due.into_values().for_each(Waker::wake);
        Advance::To(next)
    }
}

pub(super) struct Sleep {
    timers: Shared<Inner>,
    until: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timers = Arc::clone(&self.timers);
        let mut inner = lock(&timers);
        if inner.now >= self.until {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            inner.count += 1;
            (self.until, inner.count)
        });
        self.key = Some(key);
        inner.set.insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    // A timer that nobody waits for must not move time, nor hide a deadlock.
    fn drop(&mut self) {
        if let Some(key) = self.key {
            lock(&self.timers).set.remove(&key);
        }
    }
}
