//! What somebody asks of runs that are under way: to end, or to pause.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures::channel::oneshot;

use super::Rest;

/// What is asked of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To end: what is in flight is dropped, and nothing else is started but what cleans up.
    Cancel,
    /// To start nothing more for now: what is in flight ends.
    Pause,
    /// To take back a pause.
    Resume,
}

impl Ask {
    /// As it is written: `cancel`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    /// That of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Cancel, Self::Pause, Self::Resume].into_iter().find(|ask| ask.name() == name)
    }
}

/// What is asked of the runs of a job. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether anything is, so that runs of which nothing is asked need no lock.
    any: AtomicBool,
    state: Mutex<State>,
    rest: Rest,
}

#[derive(Debug, Default)]
struct State {
    asked: HashMap<u64, Ask>,
    /// Requests in flight by the number of their run, with what they are made for; bounded by how many there may be.
    listening: HashMap<u64, Vec<(String, oneshot::Sender<()>)>>,
}

impl Asked {
    /// The runs of the job that are at rest.
    pub fn rest(&self) -> &Rest {
        &self.0.rest
    }

    /// Asks this of a run.
    pub fn tell(&self, run: u64, ask: Ask) {
        let mut state = self.state();
        match ask {
            Ask::Resume => drop(state.asked.remove(&run)),
            Ask::Cancel | Ask::Pause => drop(state.asked.insert(run, ask)),
        }
        self.0.any.store(!state.asked.is_empty(), Ordering::Release);
        if ask == Ask::Cancel {
            for (_, listening) in state.listening.remove(&run).into_iter().flatten() {
                // Whoever listened may have gone.
                let _gone = listening.send(());
            }
        }
        drop(state);
        // One under way comes to it by itself.
        if ask != Ask::Pause || self.0.rest.has(run) {
            self.0.rest.wake(run);
        }
    }

    /// What is asked of a run.
    pub fn of(&self, run: u64) -> Option<Ask> {
        if self.0.any.load(Ordering::Acquire) { self.state().asked.get(&run).copied() } else { None }
    }

    /// What requests of a run are in flight for, sorted: `step`, `step[3]`, `outer/step`.
    pub fn in_flight(&self, run: u64) -> Vec<String> {
        let state = self.state();
        let open = state.listening.get(&run).into_iter().flatten();
        let mut steps: Vec<String> = open.map(|(step, _)| step.clone()).collect();
        steps.sort();
        steps
    }

    /// Is over as soon as somebody asks that this run ends. Until it is dropped, a request for `step` is in flight.
    pub fn canceled(&self, run: u64, step: &str) -> Canceled {
        let (send, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.asked.get(&run) == Some(&Ask::Cancel) {
            let _here = send.send(());
        } else {
            state.listening.entry(run).or_default().push((step.to_owned(), send));
        }
        drop(state);
        Canceled { asked: self.clone(), run, receiver }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a run is to end.
#[derive(Debug)]
pub struct Canceled {
    asked: Asked,
    run: u64,
    receiver: oneshot::Receiver<()>,
}

impl Future for Canceled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match ready!(Pin::new(&mut self.receiver).poll(context)) {
            Ok(()) => Poll::Ready(()),
            // Nobody can ask any more.
            Err(oneshot::Canceled) => Poll::Pending,
        }
    }
}

impl Drop for Canceled {
    fn drop(&mut self) {
        self.receiver.close();
        let mut state = self.asked.state();
        if let Some(listening) = state.listening.get_mut(&self.run) {
            listening.retain(|(_, send)| !send.is_canceled());
            if listening.is_empty() {
                state.listening.remove(&self.run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_listens_hears_it_once_and_who_has_gone_is_forgotten() {
        let asked = Asked::default();
        let (mut first, other, gone) = (asked.canceled(1, "b"), asked.canceled(2, "c"), asked.canceled(1, "a"));
        assert_eq!(asked.in_flight(1), ["a", "b"]);
        drop(gone);
        assert_eq!(asked.in_flight(1), ["b"]);
        assert_eq!(
            (first.poll_unpin(&mut Context::from_waker(std::task::Waker::noop())), asked.of(1)),
            (Poll::Pending, None)
        );
        asked.tell(1, Ask::Pause);
        assert_eq!(asked.of(1), Some(Ask::Pause));
        asked.tell(1, Ask::Resume);
        assert_eq!(asked.of(1), None);
        asked.tell(1, Ask::Cancel);
        assert_eq!((first.now_or_never(), asked.canceled(1, "b").now_or_never()), (Some(()), Some(())));
        assert_eq!(other.now_or_never(), None);
        assert!(asked.state().listening.is_empty());
    }
}
