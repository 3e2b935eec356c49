//! Sends no more than the other side takes: token buckets, a rate learnt from refusals, and as many in flight as go well.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::channel::oneshot;

use super::learnt::{Learnt, Refused};
use super::token_limit::{Buckets, Expected, Need, need, seconds};
use super::turns::Turns;
use crate::api::{Backoff, BoxCall, Call, CallContext, Limits, Reply, Usage};
use crate::env::Env;
use crate::error::{Error, Kind, Result, Retry};
use crate::metrics::{StageStats, Standing};

/// The wait after a refusal that says none, and the longest sleep, so that what changes meanwhile is noticed.
const PAUSE: Duration = Duration::from_secs(1);
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// So long a request that is refused waits for its turn again before that is a failure of its own.
const PATIENCE: Duration = Duration::from_mins(15);

/// What all requests of a stage share, or of all stages that share a rate limit.
pub struct Gate {
    turns: Turns,
    state: Mutex<State>,
    env: Env,
    began: Duration,
}

struct State {
    buckets: Buckets,
    expected: Expected,
    learnt: Learnt,
    /// The most in flight that the stages allow, and how many go well: additive increase, multiplicative decrease.
    ceiling: f64,
    window: f64,
    in_flight: usize,
    /// How many were sent.
    sent: u64,
    /// It grows with each refusal or overload; those sent before it belong to the same burst.
    burst: u64,
    paused_until: Duration,
    /// Who waits for one in flight to end.
    room: Option<oneshot::Sender<()>>,
}

/// A request that is in flight.
struct Entered<'a> {
    gate: &'a Gate,
    estimate: Usage,
    reserved: Need,
    /// What was taken in all when it was sent.
    taken: Need,
    request: Refused,
    burst: u64,
}

enum Next {
    Entered(Need, Refused, u64),
    Sleep(Duration),
    Full(oneshot::Receiver<()>),
}

impl Gate {
    /// For a stage with these limits; its lanes [join](Self::join) it.
    pub fn new(limits: &Limits, env: &Env) -> Self {
        let began = env.monotonic();
        let state = State {
            buckets: Buckets::new(limits, 0.0),
            expected: Expected::default(),
            learnt: Learnt::default(),
            ceiling: 0.0,
            window: 0.0,
            in_flight: 0,
            sent: 0,
            burst: 0,
            paused_until: Duration::ZERO,
            room: None,
        };
        Self { turns: Turns::default(), state: Mutex::new(state), env: env.clone(), began }
    }

    /// One more lane, with so many in flight.
    pub fn join(&self, in_flight: usize) {
        let mut state = self.state();
        state.ceiling += in_flight as f64;
        state.window += in_flight as f64;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.env.monotonic().saturating_sub(self.began)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let now = self.now();
        let mut state = self.state();
        Standing {
            in_flight: Some((state.in_flight, state.window)),
            paused: state.paused_until.saturating_sub(now),
            buckets: state.buckets.levels(seconds(now)),
        }
    }

    /// Returns when a request may be sent.
    async fn enter(&self, estimate: Usage, again: bool) -> Entered<'_> {
        let _turn = self.turns.take(again).await;
        loop {
            let (reserved, next) = {
                let now = self.now();
                let mut state = self.state();
                let reserved = state.expected.need(estimate);
                (reserved, state.next(&reserved, now))
            };
            match next {
                Next::Entered(taken, request, burst) => {
                    return Entered { gate: self, estimate, reserved, taken, request, burst };
                }
                Next::Sleep(wait) => self.env.sleep(wait.min(SLEEP_MAX)).await,
                // An end that is dropped is one that was replaced, which nobody does while it is our turn.
                Next::Full(room) => {
                    let _there_is = room.await;
                }
            }
        }
    }
}

impl State {
    fn next(&mut self, reserved: &Need, now: Duration) -> Next {
        if self.in_flight > 0 && self.in_flight as f64 + 1.0 > self.window {
            let (tell, room) = oneshot::channel();
            self.room = Some(tell);
            return Next::Full(room);
        }
        let pause = self.paused_until.saturating_sub(now);
        if !pause.is_zero() {
            return Next::Sleep(pause);
        }
        let at = seconds(now);
        let wait = self.buckets.wait(reserved, at).max(self.learnt.wait(at));
        if wait > 0.0 {
            // Never shorter than a nanosecond, so that time goes on.
            return Next::Sleep(Duration::from_secs_f64(wait.min(SLEEP_MAX.as_secs_f64())) + Duration::from_nanos(1));
        }
        self.in_flight += 1;
        self.sent += 1;
        let request = Refused { number: self.sent, sent: at };
        self.learnt.take(request);
        Next::Entered(self.buckets.take(reserved), request, self.burst)
    }

    /// Half as many in flight.
    fn halve(&mut self) {
        self.window = (self.window / 2.0).max(1.0);
    }

    /// An answer came: one more in flight for each window of them.
    fn succeed(&mut self) {
        self.window = (self.window + 1.0 / self.window.max(1.0)).min(self.ceiling);
    }
}

impl Entered<'_> {
    /// Settles what it cost, and learns from what became of it.
    fn settle(self, reply: &Result<Reply>) {
        let now = self.gate.now();
        let mut guard = self.gate.state();
        let state = &mut *guard;
        match reply {
            Ok(reply) => {
                state.succeed();
                state.learnt.came(false);
                let used = reply.usage;
                if used != Usage::default() {
                    state.expected.learn(self.estimate, used);
                    let actual = need(used.input_tokens as f64, used.output_tokens as f64);
                    let difference = std::array::from_fn(|what| actual[what] - self.reserved[what]);
                    state.buckets.take(&difference);
                }
                if let Some(limits) = &reply.limits {
                    state.buckets.tell(limits, &self.taken, seconds(now));
                }
            }
            Err(error) => {
                let asked = if let Retry::After(wait) = error.retry() { Some(wait) } else { None };
                let is_first = self.burst == state.burst;
                match error.kind() {
                    Kind::RateLimit => {
                        // It took none of the tokens.
                        let [_, tokens, input, output] = self.reserved;
                        state.buckets.take(&[0.0, -tokens, -input, -output]);
                        state.learnt.came(true);
                        if state.learnt.is_alone() {
                            return;
                        }
                        if is_first {
                            let pause = now + asked.unwrap_or(PAUSE);
                            state.burst += 1;
                            state.paused_until = state.paused_until.max(pause);
                            // The rate that is learnt holds them back: fewer in flight would only make it slower than need be.
                            state.learnt.refused(self.request, seconds(pause));
                        } else {
                            state.learnt.refused_too();
                        }
                    }
                    Kind::Overloaded if is_first => {
                        state.burst += 1;
                        state.halve();
                        state.paused_until = state.paused_until.max(now + asked.unwrap_or_default());
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.in_flight -= 1;
        if let Some(room) = state.room.take() {
            // Who waited may have given up.
            let _gone = room.send(());
        }
    }
}

/// Lets a request through the gate, and one that is refused because of a limit through it again, before all others and
/// without counting it as an attempt: it is not the request that is at fault.
pub struct Adaptive<C> {
    /// What is limited.
    pub inner: C,
    /// Who is told of waits: the call without its layers.
    pub call: BoxCall,
    /// Shared by the lanes of a stage.
    pub gate: Arc<Gate>,
    /// Where refusals are counted, as tries.
    pub stats: Arc<StageStats>,
}

impl<C: Call> Call for Adaptive<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let count_tokens = self.gate.state().buckets.count_tokens();
        let estimate = if count_tokens { self.inner.estimate(&rows) } else { Usage::default() };
        let (began, mut again) = (context.env.monotonic(), false);
        loop {
            let entered = self.gate.enter(estimate, again).await;
            let reply = self.inner.call(rows.clone(), context).await;
            entered.settle(&reply);
            let waited = context.env.monotonic().saturating_sub(began);
            let error = match reply {
                Err(e) if e.kind() == Kind::RateLimit && e.retry() != Retry::Never && waited < PATIENCE => e,
                reply => return reply,
            };
            self.stats.retries.fetch_add(1, Relaxed);
            again = true;
            let wait = if let Retry::After(wait) = error.retry() { wait } else { PAUSE };
            let backoff = Backoff { attempts: context.attempt - 1, wait, error: &error };
            if let Some(noted) = self.call.backs_off(&rows, backoff, context)
                && let Some(answer) = noted.await?
            {
                return Ok(Reply::rows(answer));
            }
            if self.gate.state().learnt.is_alone() {
                context.env.sleep(wait).await;
            }
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
