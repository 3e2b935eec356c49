//! How far a run has come: which steps have ended, which may be under way, and which wait. It is read off the history alone, so
//! the three can't disagree.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::record::{Record, Status};
use crate::error::Result;
use crate::journal::{History, RunState};
use crate::spec::Chain;

/// The steps of a run, each in one of three lists, in the order of the spec, and what they gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExecutionContext {
    /// How the run stands.
    pub current_phase: String,
    /// Those that have ended, however they did.
    pub completed_steps: Vec<String>,
    /// Those that may be under way: all that they need has ended.
    pub active_steps: Vec<String>,
    /// Those that wait for others, or that a run that has ended never came to.
    pub pending_steps: Vec<String>,
    /// What steps gave, by id.
    pub accumulated_results: Map<String, Value>,
}

impl ExecutionContext {
    /// That of a run with this history.
    ///
    /// # Errors
    /// When a record in the history is none.
    pub fn of(spec: &Chain, state: RunState, history: &History) -> Result<Self> {
        let mut context = Self { current_phase: state.name().to_owned(), ..Self::default() };
        let has_ended = |id: &String| history.0.contains_key(id);
        for step in &spec.steps {
            let list = match () {
                () if has_ended(&step.id) => &mut context.completed_steps,
                () if state.has_ended() => &mut context.pending_steps,
                () if step.follows.iter().all(|one| has_ended(&spec.steps[*one].id)) => &mut context.active_steps,
                () => &mut context.pending_steps,
            };
            list.push(step.id.clone());
            if let Some(value) = history.0.get(&step.id).map(|record| results(record)).transpose()?.flatten() {
                context.accumulated_results.insert(step.id.clone(), value);
            }
        }
        Ok(context)
    }
}

fn results(record: &RawValue) -> Result<Option<Value>> {
    let record: Record = serde_json::from_str(record.get())?;
    Ok(record.results)
}

/// The name of what happened to a step, as histories show it: `StepCompleted`.
///
/// # Errors
/// When the record is none.
pub fn event(record: &str) -> Result<&'static str> {
    Ok(match super::course::status(record)? {
        Status::Completed => "StepCompleted",
        Status::Failed => "StepFailed",
        Status::TimedOut => "StepTimedOut",
        Status::Canceled => "StepCanceled",
        Status::Skipped => "StepSkipped",
        Status::Cached => "StepCached",
        Status::Reused => "StepReused",
        Status::Waiting => "StepWaiting",
        Status::BackingOff => "StepBackingOff",
        Status::Pending => "StepPending",
    })
}
