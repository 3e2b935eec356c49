//! What is done anew when a run, or a step of it, is tried again, though it had completed: it was undone, it needs what is done anew, or it
//! belongs to the end of its workflow.

use std::collections::BTreeSet;

use super::chain::shapes;
use super::course::status;
use super::record::Status;
use super::result::{Part, StepShape};
use crate::journal::History;
use crate::spec::model::{Chain, Starts, Step};

/// The names of the steps that had completed and are done anew when the run is tried again, those of workflows within it too.
pub fn done_anew(chain: &Chain, history: &History) -> Vec<String> {
    let mut names = Vec::new();
    of_chain(chain, "", history, &mut names);
    names
}

/// The same when a step of this name is tried again: those of workflows within it.
pub fn done_anew_within(chain: &Chain, history: &History, name: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(step) = chain.step(name) {
        of_step(step, name, history, &mut names);
    }
    names
}

fn of_chain(chain: &Chain, scope: &str, history: &History, names: &mut Vec<String>) {
    let name = |step: &Step| format!("{scope}{}", step.id);
    let has_results: Vec<bool> = chain.steps.iter().map(|step| has_completed(history, &name(step))).collect();
    let anew = of_steps(&shapes(chain), &has_results);
    for ((step, anew), has_results) in chain.steps.iter().zip(anew).zip(has_results) {
        match (anew, has_results) {
            (false, _) => {}
            (true, true) => names.push(name(step)),
            (true, false) => of_step(step, &name(step), history, names),
        }
    }
}

/// The same within a step that did not complete: each of its elements and rounds is a workflow of its own, and those that ended well stay.
fn of_step(step: &Step, name: &str, history: &History, names: &mut Vec<String>) {
    let part = |key: &str| {
        let rest = key.strip_prefix(name).filter(|rest| rest.starts_with(History::PARTS))?;
        Some(rest[..rest.find('/')?].to_owned())
    };
    let parts: BTreeSet<String> = history.0.keys().filter_map(|key| part(key)).collect();
    for part in parts.iter().filter(|part| !has_completed(history, &format!("{name}{part}"))) {
        let work = match History::fallback_of(part) {
            0 => Some(&step.work),
            number => step.fallback.get(number - 1),
        };
        let scope = format!("{name}{part}/");
        if let Some(nested) =
            work.and_then(|work| work.workflow.as_ref()).filter(|n| !is_well(&n.chain, &scope, history))
        {
            of_chain(&nested.chain, &scope, history, names);
        }
    }
}

/// Whether a workflow within has done what it had to do, and needed no clean-up after a failure.
fn is_well(chain: &Chain, scope: &str, history: &History) -> bool {
    let mut steps = chain.steps.iter().filter(|step| step.starts == Starts::Completed);
    steps.all(|step| {
        of(history, &format!("{scope}{}", step.id)).is_some_and(|s| s.has_results() || s == Status::Skipped)
    })
}

/// How a step ended, if it did.
fn of(history: &History, name: &str) -> Option<Status> {
    history.0.get(name).and_then(|record| status(record.get()).ok())
}

fn has_completed(history: &History, name: &str) -> bool {
    of(history, name).is_some_and(Status::has_results)
}

/// Which steps of one workflow are done anew: those that did not complete, those that were undone and what needs them, and what is done at
/// the end.
pub(super) fn of_steps(steps: &[StepShape], has_results: &[bool]) -> Vec<bool> {
    let place = |id: &String| steps.iter().position(|s| s.id == *id);
    let mut anew: Vec<bool> = has_results.iter().map(|has_results| !has_results).collect();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.part != Part::Step) {
        if let Part::Undo(of) = &step.part
            && let Some(of) = place(of).filter(|_| has_results[at])
        {
            anew[of] = true;
        }
        anew[at] = true;
    }
    // Every round goes one step further.
    for _ in steps {
        for (at, step) in steps.iter().enumerate() {
            anew[at] |= step.needs.iter().filter_map(place).any(|need| anew[need]);
        }
    }
    anew
}
