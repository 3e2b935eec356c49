//! `bourn runs diagnose`: why a run stands as it does, and what can be done about it.

use bourn_engine::api::{Budget, OnExceeded};
use bourn_engine::journal::{Ask, RunState};
use bourn_engine::workflow::analysis::analyze;
use bourn_engine::workflow::context::ExecutionContext;
use bourn_engine::workflow::record::Record;
use bourn_engine::workflow::result::{RecoveryPlan, document_of};
use bourn_journal::Run;
use serde::Serialize;

use super::signal::waits;
use super::{Place, asked, estimate};
use crate::answer;
use crate::args::Form;
use crate::copied::quoted;
use crate::failure::{Exit, Failure};

/// What is found.
#[derive(Serialize)]
pub(super) struct Found {
    run_id: String,
    workflow: String,
    status: RunState,
    /// Since when it stands like this.
    since: String,
    /// In a sentence.
    why: String,
    /// When it has to have ended, if it has not.
    deadline: Option<String>,
    job: Job,
    waits: Vec<Waits>,
    failed: Vec<Failed>,
    /// Steps that may be under way, when a process runs it, and otherwise come next.
    active: Vec<String>,
    pending: Vec<Pending>,
    /// Commands, the first one first.
    next: Vec<String>,
    plan: Option<RecoveryPlan>,
}

/// Who runs it.
#[derive(Serialize)]
struct Job {
    number: u64,
    /// The process that runs it, or did.
    process: Option<u32>,
    is_running: bool,
}

#[derive(Serialize)]
struct Waits {
    step: String,
    signal: Option<String>,
    /// Of a step that is tried again: how often it was, and why the last attempt failed.
    attempts: Option<u32>,
    error: Option<String>,
    since: String,
    until: Option<String>,
    is_over: bool,
}

#[derive(Serialize)]
struct Failed {
    step: String,
    class: String,
    message: String,
    attempts: u32,
    /// Whether the run went on with the step's default.
    degraded: bool,
    /// What is done about failures of this class.
    advice: String,
}

#[derive(Serialize)]
struct Pending {
    step: String,
    needs: Vec<String>,
}

/// Says it.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn diagnose(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let found = find(place, run)?;
    answer::print(&match place.screen.form {
        Form::Json => serde_json::to_string_pretty(&found).map_err(|e| Failure::Failed(e.into()))?,
        Form::Text => text(&found),
    })?;
    Ok(Exit::Ok)
}

/// Looks at it.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub(super) fn find(place: &Place<'_>, run: &Run) -> Result<Found, Failure> {
    let (chain, spec) = place.spec(run)?;
    let history = place.journal.history(run).map_err(Failure::Failed)?;
    let document =
        document_of(&chain, &spec.file, (&run.id, run.status), &history, &place.flags()).map_err(Failure::Failed)?;
    let context = ExecutionContext::of(&chain, run.status, &history).map_err(Failure::Failed)?;
    let is_running = !run.status.has_ended() && place.journal.is_claimed(run).map_err(Failure::Failed)?;
    let job = Job { number: run.job, process: run.process, is_running };
    let now = place.engine.env().wall();
    let waits: Vec<Waits> = waits(place.journal, run)?
        .into_iter()
        .map(|(step, wait)| Waits {
            step,
            since: wait.began(),
            until: wait.until(),
            signal: wait.signal,
            attempts: wait.attempts,
            error: wait.error,
            is_over: wait.due.is_some_and(|due| due <= now.0),
        })
        .collect();
    let mut failed = Vec::new();
    for step in &chain.steps {
        let Some(record) = history.0.get(&step.id) else { continue };
        let record: Record = serde_json::from_str(record.get()).map_err(|e| Failure::Failed(e.into()))?;
        if let Some(error) = record.error {
            let advice = analyze(&error, &step.id, &history, run.status).advice;
            let (class, message, attempts) = (error.class, error.message, error.attempts);
            let degraded = record.degraded;
            failed.push(Failed { step: step.id.clone(), class, message, attempts, degraded, advice });
        }
    }
    let needs = |id: &String| {
        let step = chain.steps.iter().find(|step| step.id == *id);
        let ids = step.into_iter().flat_map(|step| &step.needs).map(|at| chain.steps[*at].id.clone());
        ids.filter(|id| !context.completed_steps.contains(id)).collect()
    };
    let pending = context.pending_steps.iter().map(|step| Pending { step: step.clone(), needs: needs(step) }).collect();
    let events = place.journal.events(run).map_err(Failure::Failed)?;
    let since = run.ended.unwrap_or_else(|| events.last().map_or(run.started, |event| event.at));
    let mut found = Found {
        run_id: run.id.clone(),
        workflow: run.workflow.clone(),
        status: run.status,
        since: since.to_string(),
        why: String::new(),
        deadline: run.deadline.filter(|_| !run.status.has_ended()).map(|at| at.to_string()),
        job,
        waits,
        failed,
        active: context.active_steps,
        pending,
        next: Vec::new(),
        plan: document.recovery_plan,
    };
    if let Some(plan) = &mut found.plan {
        estimate::add(place.journal, &chain, run, plan)?;
    }
    let flags = place.flags().of_run;
    (found.why, found.next) = why(&found, &flags);
    if run.status == RunState::Paused && asked(&events) != Some(Ask::Pause) {
        // What it waits for is money.
        let pauses = |budget: Option<Budget>| budget.is_some_and(|budget| budget.on_exceeded == OnExceeded::Pause);
        let (whose, before) = match (pauses(chain.run_budget), pauses(chain.budget)) {
            (true, false) => ("it", "per_run."),
            (true, true) => ("it, or its job,", "[per_run.]"),
            _ => ("its job", ""),
        };
        found.why = format!("what {whose} may spend is spent");
        found.next =
            vec![format!("bourn runs resume {}{flags} --budget {before}usd=… or {before}tokens=…", quoted(&run.id))];
    }
    Ok(found)
}

/// The sentence, and the commands.
fn why(found: &Found, flags: &str) -> (String, Vec<String>) {
    let id = &quoted(&found.run_id);
    let planned = || found.plan.iter().flat_map(|plan| &plan.actions).map(|action| action.command.clone()).collect();
    let (number, process) = (found.job.number, found.job.process.map_or_else(String::new, |pid| format!(" {pid}")));
    match found.status {
        RunState::Completed => {
            let degraded = if found.failed.is_empty() { "" } else { ", degraded" };
            (format!("it has completed{degraded}"), vec![format!("bourn runs result {id}{flags}")])
        }
        RunState::TimedOut => ("it took longer than its `timeout`".into(), planned()),
        RunState::Canceled => ("somebody has canceled it".into(), vec![format!("bourn runs recover {id}{flags}")]),
        RunState::Failed => {
            let why = found.failed.iter().find(|failed| !failed.degraded).map_or_else(
                || "its input is not valid".to_owned(),
                |failed| {
                    let times = if failed.attempts == 1 { "" } else { "s" };
                    let Failed { step, class, attempts, .. } = failed;
                    format!("step `{step}` failed for good after {attempts} attempt{times} ({class})")
                },
            );
            (why, planned())
        }
        RunState::Paused => ("somebody has paused it".into(), vec![format!("bourn runs resume {id}{flags}")]),
        RunState::Running | RunState::Waiting if found.job.is_running => {
            (format!("process{process} runs it, as one of job {number}"), vec![format!("bourn runs watch {id}{flags}")])
        }
        RunState::Waiting if found.waits.iter().any(|wait| wait.is_over) => {
            let why = "the time that it waited for has come, and no process runs it";
            (why.into(), vec![format!("bourn runs resume {id}{flags}")])
        }
        RunState::Waiting => {
            let step = found.waits.first().map_or("", |wait| wait.step.as_str());
            let next = found.waits.iter().map(|wait| match &wait.signal {
                Some(_) => format!("bourn approve {}{flags}", quoted(&format!("{}/{}", found.run_id, wait.step))),
                None => format!("bourn runs resume {id}{flags}"),
            });
            (format!("step `{step}` waits, in no process"), next.collect())
        }
        RunState::Running => {
            let why = format!("its process{process} has gone before it ended, and nobody runs job {number}");
            (why, vec![format!("bourn runs resume {id}{flags}")])
        }
    }
}

fn text(found: &Found) -> String {
    let mut lines = vec![format!("{} {}: {} since {}", found.workflow, found.run_id, found.status.name(), found.since)];
    lines.push(format!("{}.", found.why));
    lines.extend(found.deadline.iter().map(|at| format!("  it has to have ended at {at}, or is ended then")));
    for wait in &found.waits {
        if let (Some(attempts), Some(until)) = (wait.attempts, &wait.until) {
            let why = wait.error.as_deref().unwrap_or_default();
            lines.push(format!(
                "  {} is tried again at {until}, after {attempts} since {}: {why}",
                wait.step, wait.since
            ));
            continue;
        }
        let what = wait.signal.as_ref().map_or_else(|| "a time".into(), |name| format!("the signal `{name}`"));
        let until = wait.until.as_ref().map_or_else(String::new, |until| format!(", until {until}"));
        lines.push(format!("  {} waits for {what} since {}{until}", wait.step, wait.since));
    }
    for failed in &found.failed {
        lines.push(format!("  {}: {} ({})", failed.step, failed.message, failed.class));
        lines.push(format!("    {}", failed.advice));
    }
    if !found.active.is_empty() {
        let what = if found.job.is_running { "under way" } else { "next" };
        lines.push(format!("  {what}: {}", found.active.join(", ")));
    }
    for pending in found.pending.iter().filter(|pending| !pending.needs.is_empty()) {
        lines.push(format!("  {} needs {}", pending.step, pending.needs.join(", ")));
    }
    for action in found.plan.iter().flat_map(|plan| &plan.actions) {
        let list = |steps: &[String]| if steps.is_empty() { "nothing".to_owned() } else { steps.join(", ") };
        lines.push(format!("plan: {} reuses {} and runs {}", action.kind, list(&action.reuses), list(&action.reruns)));
        lines.extend(action.estimate.as_ref().map(|estimate| format!("  {}", estimate::text(estimate))));
    }
    lines.extend(found.next.iter().map(|command| format!("next: {command}")));
    lines.join("\n")
}
