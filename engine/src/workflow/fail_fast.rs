//! What ends the rest of a run, or of a list, at once when a part of it has failed for good.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::AsArray;
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use serde_json::{Value, json};

use super::columns::{ITEMS, cell, numbers, scope};
use super::course::{Place, item, status};
use super::record::Status;
use crate::api::erased::ErasedStage;
use crate::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};

/// Why an element was canceled when another one of its list had failed.
pub(super) const ELEMENT_FAILED: &str = "another element failed";
/// Runs whose failures are remembered at once: more than may be under way. What is forgotten too early ends a run less soon.
const RUNS_MAX: usize = 65_536;

/// The failures that end other parts of their runs. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct FailFast(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there is any, so that runs need no lock as long as nothing has failed.
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What has failed in which run.
    failed: HashMap<u64, Failed>,
    /// The same runs, the one that failed first at the front.
    order: VecDeque<u64>,
    /// Requests in flight by their run, with their names; bounded by how many there may be.
    listening: HashMap<u64, Vec<(String, oneshot::Sender<String>)>>,
}

#[derive(Debug, Default)]
struct Failed {
    /// What the names begin with of all that ends, and why.
    ended: Vec<(String, String)>,
    /// The elements that have failed, by the name of their step: a run that comes back passes them again.
    elements: HashMap<String, HashSet<u64>>,
}

impl State {
    fn of(&mut self, run: u64) -> &mut Failed {
        if !self.failed.contains_key(&run) {
            if self.order.len() == RUNS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.failed.remove(&oldest);
            }
            self.order.push_back(run);
        }
        self.failed.entry(run).or_default()
    }

    fn reason(&self, run: u64, name: &str) -> Option<String> {
        let ended = &self.failed.get(&run)?.ended;
        ended.iter().find(|(begin, _)| name.starts_with(begin)).map(|(_, reason)| reason.clone())
    }
}

impl FailFast {
    /// Ends all of a run whose name begins so.
    fn end(&self, run: u64, begin: String, reason: String) {
        let mut state = self.state();
        if state.reason(run, &begin).is_some() {
            return;
        }
        for (name, send) in state.listening.remove(&run).into_iter().flatten() {
            if name.starts_with(&begin) {
                // Whoever listened may have gone.
                let _gone = send.send(reason.clone());
            } else {
                state.listening.entry(run).or_default().push((name, send));
            }
        }
        state.of(run).ended.push((begin, reason));
        self.0.any.store(true, Ordering::Release);
    }

    /// Counts an element that failed: how many there are now.
    fn count(&self, run: u64, step: &str, element: u64) -> usize {
        let mut state = self.state();
        let elements = state.of(run).elements.entry(step.to_owned()).or_default();
        elements.insert(element);
        elements.len()
    }

    /// Why what has this name ends at once, if it does.
    pub(super) fn reason(&self, run: u64, name: impl FnOnce() -> Result<String>) -> Result<Option<String>> {
        Ok(if self.0.any.load(Ordering::Acquire) { self.state().reason(run, &name()?) } else { None })
    }

    /// Is over with the reason as soon as what has this name is to end.
    pub(super) fn ended(&self, run: u64, name: String) -> BoxFuture<'static, String> {
        let (send, receiver) = oneshot::channel();
        let mut state = self.state();
        if let Some(reason) = state.reason(run, &name) {
            return std::future::ready(reason).boxed();
        }
        let listening = state.listening.entry(run).or_default();
        listening.retain(|(_, send)| !send.is_canceled());
        listening.push((name, send));
        drop(state);
        let gone = Gone { all: self.clone(), run };
        let heard = receiver.or_else(|_| std::future::pending::<Result<String, std::convert::Infallible>>());
        async move {
            // Who listens no longer is forgotten with this.
            let _gone = gone;
            heard.await.unwrap_or_else(|never| match never {})
        }
        .boxed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a request off the list when it has ended.
struct Gone {
    all: FailFast,
    run: u64,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(listening) = state.listening.get_mut(&self.run) {
            listening.retain(|(_, send)| !send.is_canceled());
            if listening.is_empty() {
                state.listening.remove(&self.run);
            }
        }
    }
}

/// Looks at the records of a step, or of its elements, and ends the rest when one has failed. It can't be read from a spec.
#[derive(Clone)]
pub(super) struct Watch {
    pub step: Arc<str>,
    pub fails: FailFast,
    /// Of elements: the share that may fail, in percent.
    pub tolerated: Option<f64>,
}

impl ErasedStage for Watch {
    fn kind(&self) -> &'static str {
        "fail_fast"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(self.clone()))
    }

    fn describe(&self) -> Value {
        json!({ "step": &*self.step })
    }
}

impl Stage for Watch {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        for (row, run) in numbers(rows)?.iter().enumerate() {
            let Some(record) = cell(rows, &self.step, row)? else { continue };
            if !matches!(status(record)?, Status::Failed | Status::TimedOut) {
                continue;
            }
            let scope = scope(rows, row)?;
            match self.tolerated {
                None => self.fails.end(*run, scope.to_owned(), format!("`{}` failed", self.step)),
                Some(tolerated) => {
                    let items = rows.column_by_name(ITEMS).and_then(|c| c.as_primitive_opt::<UInt64Type>());
                    let items = items.ok_or_else(|| Error::engine("an element has no list"))?.value(row);
                    let step = format!("{scope}{}", self.step);
                    let element = item(rows, row)?.map_or(0, |Place(element)| element);
                    #[expect(clippy::cast_precision_loss, reason = "a share of a list")]
                    let is_tolerated =
                        self.fails.count(*run, &step, element) as f64 * 100.0 <= tolerated * items as f64;
                    if !is_tolerated {
                        self.fails.end(*run, format!("{step}["), ELEMENT_FAILED.to_owned());
                    }
                }
            }
        }
        out.emit(rows.clone());
        Ok(Progress::Done)
    }
}
