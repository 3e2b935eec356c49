//! What waits to be sent: so much and no more, and what does not fit is counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::mpsc;
use opentelemetry_proto::tonic::trace::v1::Span;

/// How many spans may wait.
const SPANS_MAX: usize = 8_192;

/// The end of the queue into which spans are put. A clone is the same one.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    spans: Mutex<mpsc::Sender<Span>>,
    put: AtomicU64,
}

impl Queue {
    /// An empty one, and the end from which it is sent.
    pub fn new() -> (Self, mpsc::Receiver<Span>) {
        // Each sender has one place beside those of all.
        let (spans, waiting) = mpsc::channel(SPANS_MAX - 1);
        (Self(Arc::new(Inner { spans: Mutex::new(spans), put: AtomicU64::new(0) })), waiting)
    }

    /// Puts one in. It never waits: what does not fit is lost.
    pub fn put(&self, span: Span) {
        self.0.put.fetch_add(1, Relaxed);
        let mut spans = self.0.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let _full_or_over = spans.try_send(span);
    }

    /// How many were put in, also those that did not fit.
    pub fn put_in(&self) -> u64 {
        self.0.put.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_reads_holds_so_many_and_counts_the_others() {
        let (queue, mut waiting) = Queue::new();
        for _ in 0..SPANS_MAX + 500 {
            queue.put(Span::default());
        }
        assert_eq!(queue.put_in(), (SPANS_MAX + 500) as u64);
        assert_eq!(std::iter::from_fn(|| waiting.try_recv().ok()).count(), SPANS_MAX);
    }
}
