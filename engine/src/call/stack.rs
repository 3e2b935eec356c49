//! The order of the layers, in one place.

use std::sync::Arc;

use crate::api::call::Memo;
use crate::api::{BoxCall, Limits};
use crate::metrics::StageStats;

use super::journaled::Journaled;
use super::rate_limit::{Limiter, RateLimit};
use super::retry::Retry;
use super::timeout::Timeout;

/// What the layers of a stage share.
#[derive(Clone)]
pub struct Shared {
    /// One for all lanes of the stage.
    pub limiter: Arc<Limiter>,
    /// Where answers are kept, if they are.
    pub journal: Option<Arc<dyn Memo>>,
    /// The counters of the lane.
    pub stats: Arc<StageStats>,
}

/// `Journaled(Retry(RateLimit(Timeout(call))))`: a kept answer costs nothing; every attempt waits for the rate; the time
/// of an attempt does not count the wait for its turn.
pub fn stack(call: BoxCall, limits: &Limits, shared: Shared) -> BoxCall {
    let call = Timeout { inner: call, limit: limits.timeout.0 };
    let call = RateLimit { inner: call, limiter: shared.limiter };
    let call = Retry { inner: call, policy: limits.retry.clone(), stats: shared.stats };
    BoxCall::new(Journaled { inner: call, journal: shared.journal })
}
