//! The places of a stage's requests: one that waits for its next attempt gives its own up meanwhile, so that others are asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::channel::oneshot;

/// So many may wait without a place; what comes then waits with one.
const RESTING: usize = 1_024;

/// The places of one lane.
pub struct Places {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Places that are taken.
    taken: usize,
    /// Who has given a place up, and not got one again.
    resting: usize,
    /// Those of them who want one again, in order; they come before new requests.
    returning: VecDeque<oneshot::Sender<()>>,
    /// Who wants to begin a new request.
    new: Option<Waker>,
}

/// A place, until it is dropped.
pub struct Place(Arc<Places>);

/// A place that is given up; there is one again when this is dropped.
struct Given<'a> {
    places: &'a Places,
    is_back: bool,
    /// Where who waits for one is told that it is there.
    turn: Option<oneshot::Receiver<()>>,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new request, if there is one.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        let is_free = state.is_free(self.most);
        state.taken += usize::from(is_free);
        is_free.then(|| Place(self.clone()))
    }

    /// How many requests wait without a place.
    pub fn resting(&self) -> usize {
        self.state().resting
    }

    /// Ready when there is a place for a new request. Who has asked last is woken when one is given up, though there was one before.
    ///
    /// Cancel safety: it is a poll, and takes nothing.
    pub fn poll_free(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        state.new = Some(context.waker().clone());
        if state.is_free(self.most) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits, for one that has a place, which others may have meanwhile; returns when it has one again.
    ///
    /// Cancel safety: who gives up has a place at once, for it ends then.
    pub async fn rest(&self, wait: impl Future<Output = ()>) {
        let given = self.give_up();
        wait.await;
        if let Some(given) = given {
            given.back().await;
        }
    }

    fn give_up(&self) -> Option<Given<'_>> {
        let mut state = self.state();
        (state.resting < RESTING).then(|| {
            state.resting += 1;
            state.pass_on(self.most);
            Given { places: self, is_back: false, turn: None }
        })
    }
}

impl Given<'_> {
    async fn back(mut self) {
        self.turn = {
            let mut state = self.places.state();
            (state.taken >= self.places.most).then(|| {
                let (tell, turn) = oneshot::channel();
                state.returning.push_back(tell);
                turn
            })
        };
        if let Some(turn) = &mut self.turn {
            // The other end is sent to or dropped with the places, which are borrowed here.
            self.is_back = turn.await.is_ok();
            self.turn = None;
        }
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if let Some(turn) = &mut self.turn {
            turn.close();
            self.is_back = matches!(turn.try_recv(), Ok(Some(())));
        }
        state.resting -= 1;
        state.taken += usize::from(!self.is_back);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().pass_on(self.0.most);
    }
}

impl State {
    fn is_free(&self, most: usize) -> bool {
        self.taken < most && self.returning.is_empty()
    }

    /// A place is free: for who returns, or else for a new request.
    fn pass_on(&mut self, most: usize) {
        // There are more than there should be for as long as one that gives up has not ended.
        while self.taken <= most
            && let Some(next) = self.returning.pop_front()
        {
            // Some have given up meanwhile.
            if next.send(()).is_ok() {
                return;
            }
        }
        self.taken -= 1;
        if let Some(new) = self.new.take() {
            new.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use futures::FutureExt;
    use futures::future::pending;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn who_waits_has_no_place_and_comes_before_new_ones_when_it_returns() {
        let places = Arc::new(Places::new(1));
        let first = places.take().unwrap();
        assert!(places.take().is_none());
        let (tell, wait) = oneshot::channel::<()>();
        let mut rest = Box::pin(places.rest(wait.map(|_| ())));
        assert!(rest.as_mut().now_or_never().is_none());
        assert_eq!(places.resting(), 1);
        let second = places.take().unwrap();
        tell.send(()).unwrap();
        assert!(rest.as_mut().now_or_never().is_none() && places.take().is_none());
        drop(second);
        assert!(places.take().is_none(), "the place is for the one that returns");
        assert!(rest.as_mut().now_or_never().is_some());
        assert!(places.take().is_none() && places.resting() == 0);
        drop(first);
        assert!(places.take().is_some());
    }

    #[test]
    fn who_gives_up_while_it_waits_leaves_as_many_places_as_there_were() {
        let places = Arc::new(Places::new(2));
        let [first, second] = [(); 2].map(|()| places.take().unwrap());
        // One gives up while it rests, ...
        let mut rest = Box::pin(places.rest(pending()));
        assert!(rest.as_mut().now_or_never().is_none());
        drop((rest, first));
        let third = places.take().unwrap();
        assert!(places.take().is_none());
        // ... one while it waits for a place, whose end is no place for the other, ...
        let (tells, mut rests): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (tell, wait) = oneshot::channel::<()>();
                let mut rest = Box::pin(places.rest(wait.map(|_| ())));
                assert!(rest.as_mut().now_or_never().is_none());
                (tell, rest)
            })
            .unzip();
        let [fourth, fifth] = [(); 2].map(|()| places.take().unwrap());
        for tell in tells {
            tell.send(()).unwrap();
        }
        assert!(rests.iter_mut().all(|rest| rest.as_mut().now_or_never().is_none()));
        drop((rests.remove(0), second));
        assert!(rests[0].as_mut().now_or_never().is_none());
        // ... and one when its place has come already.
        drop(fourth);
        drop((rests.remove(0), third));
        let sixth = places.take();
        assert!(sixth.is_some() && places.take().is_none() && places.resting() == 0);
        drop((fifth, sixth));
        assert!(places.take().is_some());
    }

    #[test]
    fn more_than_so_many_wait_with_a_place() {
        let places = Arc::new(Places::new(RESTING + 1));
        let all = (0..=RESTING).map(|_| places.take().unwrap()).collect::<Vec<_>>();
        let mut rests = all.iter().map(|_| Box::pin(places.rest(pending()))).collect::<Vec<_>>();
        assert!(rests.iter_mut().all(|rest| rest.as_mut().now_or_never().is_none()));
        assert_eq!(places.resting(), RESTING);
        let more = (0..RESTING).map(|_| places.take().unwrap()).collect::<Vec<_>>();
        assert!(places.take().is_none() && more.len() == RESTING);
    }

    #[test]
    fn who_wants_to_begin_a_request_is_told_when_there_is_a_place() {
        let places = Arc::new(Places::new(1));
        let first = places.take().unwrap();
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let context = Context::from_waker(&waker);
        assert!(places.poll_free(&context).is_pending() && woken.0.load(Relaxed) == 0);
        drop(first);
        assert!(woken.0.load(Relaxed) == 1 && places.poll_free(&context).is_ready());
    }
}
