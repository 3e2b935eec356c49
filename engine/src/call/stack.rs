//! The order of the layers, in one place.

use std::sync::Arc;

use crate::api::{BoxCall, Call, Limits, Memo, Outage, Purse, Purses};
use crate::metrics::StageStats;

use super::adaptive::{Adaptive, Gate};
use super::again::Again;
use super::deadlines::{ScheduleToClose, ScheduleToStart};
use super::known::Known;
use super::metered::{self, Metered};
use super::places::Places;
use super::rate_limit::{Limiter, RateLimit};
use super::retry::Retry;
use super::spend::{Pause, Spend};
use super::timeout::Timeout;

/// What the layers of a stage share.
#[derive(Clone)]
pub struct Shared {
    /// One for all lanes of the stage.
    pub limiter: Arc<Limiter>,
    /// One for all lanes of the stage, if its limits are adaptive.
    pub gate: Option<Arc<Gate>>,
    /// What other processes keep too, of a limit that has a name.
    pub metered: Option<Arc<Metered>>,
    /// One for all lanes of the stage.
    pub outage: Outage,
    /// Where answers are kept, if they are.
    pub journal: Option<Arc<dyn Memo>>,
    /// What may be spent: by the stage, and by the job.
    pub purses: Vec<Arc<Purse>>,
    /// The same by each run.
    pub runs: Option<Purses>,
    /// Stops the job, so that it goes on when there is more to spend.
    pub pause: Pause,
    /// Of the requests of the lane.
    pub places: Arc<Places>,
    /// The counters of the lane.
    pub stats: Arc<StageStats>,
}

/// `Again(Known(ScheduleToClose(Retry(Spend(ScheduleToStart(Adaptive(RateLimit(Shared(Timeout(call))))))))))`: each round is a request of its own; what
/// asks nobody, such as a kept answer, passes nothing; every attempt is paid for and waits for the rate; the time of an attempt does not count the wait for its
/// turn. What is refused because of a limit waits again in `Adaptive`, which is there if the limits say so.
pub fn stack(call: BoxCall, limits: &Limits, shared: Shared) -> BoxCall {
    let known = call.clone();
    let (has_more, deadlines) = (call.deadlines().is_some(), call.deadlines().unwrap_or_default());
    let named = if has_more { " (`start_to_close`)" } else { "" };
    let call = BoxCall::new(Timeout { inner: call, limit: limits.timeout.0, heartbeat: deadlines.heartbeat, named });
    let call = match shared.metered {
        Some(metered) => BoxCall::new(metered::Shared { inner: call, metered }),
        None => call,
    };
    let call = BoxCall::new(RateLimit { inner: call, limiter: shared.limiter, pauses: shared.gate.is_none() });
    let call = match shared.gate {
        Some(gate) => BoxCall::new(Adaptive { inner: call, call: known.clone(), gate, stats: shared.stats.clone() }),
        None => call,
    };
    let call = match deadlines.schedule_to_start {
        Some(limit) => BoxCall::new(ScheduleToStart { call: known.clone(), inner: call, limit }),
        None => call,
    };
    let (purses, runs) = (shared.purses, shared.runs);
    let (pause, journal) = (shared.pause, shared.journal);
    let call = Spend { call: known.clone(), inner: call, purses, runs, pause, journal, stats: shared.stats.clone() };
    let (policy, stats) = (limits.retry.clone(), shared.stats.clone());
    let (outage, places) = (shared.outage, shared.places);
    let call = BoxCall::new(Retry { inner: call, call: known.clone(), policy, stats, outage, places });
    let call = match deadlines.schedule_to_close {
        Some(limit) => BoxCall::new(ScheduleToClose { call: known.clone(), inner: call, limit }),
        None => call,
    };
    let inner = BoxCall::new(Known { call: known.clone(), inner: call, stats: shared.stats });
    BoxCall::new(Again { call: known, inner })
}
