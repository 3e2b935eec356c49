//! What requests cost that are under way, over all their attempts: what was paid for answers that were no good belongs to the step too.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::record::{Cost, Record};
use crate::api::{CallContext, Usage};

/// What the attempts so far cost, by idempotency key; bounded by how many may be in flight.
#[derive(Default)]
pub(super) struct Paid(Mutex<HashMap<Arc<str>, Usage>>);

impl Paid {
    /// An attempt begins. However it ends, also when it is dropped, what it has noted is paid from then on.
    pub(super) fn attempt<'a>(&'a self, context: &'a CallContext) -> Attempt<'a> {
        Attempt { paid: self, context }
    }

    /// What an earlier process has paid for this request.
    pub(super) fn resume(&self, key: &Arc<str>, before: Option<Cost>) {
        if let Some(before) = before {
            self.add(key, before.into());
        }
    }

    /// So far.
    pub(super) fn so_far(&self, key: &str) -> Option<Cost> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().and_then(Cost::of)
    }

    /// It is asked again another time, perhaps by another process.
    pub(super) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The record of the request, which has ended.
    pub(super) fn end(&self, key: &str, record: Record) -> Record {
        let paid = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        record.costing(paid.and_then(Cost::of))
    }

    fn add(&self, key: &Arc<str>, more: Usage) {
        if more != Usage::default() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default() += more;
        }
    }
}

/// An attempt of a request.
pub(super) struct Attempt<'a> {
    paid: &'a Paid,
    context: &'a CallContext,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut billed = self.context.bill.total();
        billed.lost += billed.kept;
        self.paid.add(&self.context.idempotency_key, billed.lost);
    }
}
