//! Who is next: a queue in which each waits for its turn, and one that gives up does not hold up the others.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

/// The queue. It holds no more than the requests that are in flight, which their stages bound.
#[derive(Default)]
pub struct Turns(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    is_taken: bool,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// It is the holder's turn until this is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    /// None once it is its turn.
    waiting: Option<oneshot::Receiver<()>>,
}

impl Turns {
    /// Waits for a turn, behind all others or, for one that has waited before, in front of them.
    ///
    /// Cancel safety: a turn that came to one that gives up is passed on.
    pub async fn take(&self, at_the_front: bool) -> Turn<'_> {
        let mut turn = self.join(at_the_front);
        if let Some(waiting) = &mut turn.waiting {
            // The other end is sent to or dropped with the queue, which is borrowed here.
            let _its_turn = waiting.await;
        }
        turn.waiting = None;
        turn
    }

    fn join(&self, at_the_front: bool) -> Turn<'_> {
        let mut queue = self.queue();
        if !queue.is_taken {
            queue.is_taken = true;
            return Turn { turns: self, waiting: None };
        }
        let (tell, waiting) = oneshot::channel();
        if at_the_front {
            queue.waiting.push_front(tell);
        } else {
            queue.waiting.push_back(tell);
        }
        Turn { turns: self, waiting: Some(waiting) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self) {
        let mut queue = self.queue();
        while let Some(next) = queue.waiting.pop_front() {
            if next.send(()).is_ok() {
                return;
            }
        }
        queue.is_taken = false;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let has_turn = match &mut self.waiting {
            None => true,
            Some(waiting) => {
                waiting.close();
                matches!(waiting.try_recv(), Ok(Some(())))
            }
        };
        if has_turn {
            self.turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn turns_are_taken_in_order_and_who_was_there_before_goes_first() {
        let turns = Turns::default();
        let first = turns.take(false).now_or_never().unwrap();
        let mut second = Box::pin(turns.take(false));
        let mut again = Box::pin(turns.take(true));
        assert!(second.as_mut().now_or_never().is_none() && again.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
        drop(again.as_mut().now_or_never().unwrap());
        assert!(second.as_mut().now_or_never().is_some());
    }

    #[test]
    fn one_that_gives_up_does_not_hold_up_the_others() {
        let turns = Turns::default();
        let first = turns.take(false).now_or_never().unwrap();
        let mut queue: Vec<_> = (0..3).map(|_| Box::pin(turns.take(false))).collect();
        assert!(queue.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        // The middle one gives up while it waits, and the next one when its turn has come already.
        drop(queue.remove(1));
        drop(first);
        drop(queue.remove(0));
        assert!(queue.remove(0).as_mut().now_or_never().is_some());
        assert!(turns.take(false).now_or_never().is_some());
    }
}
