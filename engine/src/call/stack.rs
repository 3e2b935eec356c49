//! The order of the layers, in one place.

use std::sync::Arc;

use crate::api::call::Memo;
use crate::api::{BoxCall, Limits, Outage};
use crate::metrics::StageStats;

use super::adaptive::{Adaptive, Gate};
use super::again::Again;
use super::journaled::Journaled;
use super::known::Known;
use super::rate_limit::{Limiter, RateLimit};
use super::retry::Retry;
use super::timeout::Timeout;

/// What the layers of a stage share.
#[derive(Clone)]
pub struct Shared {
    /// One for all lanes of the stage.
    pub limiter: Arc<Limiter>,
    /// One for all lanes of the stage, if its limits are adaptive.
    pub gate: Option<Arc<Gate>>,
    /// One for all lanes of the stage.
    pub outage: Outage,
    /// Where answers are kept, if they are.
    pub journal: Option<Arc<dyn Memo>>,
    /// The counters of the lane.
    pub stats: Arc<StageStats>,
}

/// `Again(Known(Journaled(Retry(Adaptive(RateLimit(Timeout(call)))))))`: each round is a request of its own; what asks nobody passes nothing; a kept answer costs nothing; every attempt waits for the rate; the
/// time of an attempt does not count the wait for its turn. What is refused because of a limit waits again in `Adaptive`,
/// which is there if the limits say so.
pub fn stack(call: BoxCall, limits: &Limits, shared: Shared) -> BoxCall {
    let known = call.clone();
    let call = Timeout { inner: call, limit: limits.timeout.0 };
    let call = BoxCall::new(RateLimit { inner: call, limiter: shared.limiter });
    let call = match shared.gate {
        Some(gate) => BoxCall::new(Adaptive { inner: call, gate, stats: shared.stats.clone() }),
        None => call,
    };
    let call = Retry { inner: call, policy: limits.retry.clone(), stats: shared.stats, outage: shared.outage };
    let inner = BoxCall::new(Journaled { inner: call, journal: shared.journal });
    let inner = BoxCall::new(Known { call: known.clone(), inner });
    BoxCall::new(Again { call: known, inner })
}
