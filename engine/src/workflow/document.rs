//! The document of a run: what the records of its steps add up to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::analysis::title;
use super::anew::of_steps;
use super::artifacts::Artifact;
use super::decisions::decided;
use super::finish::{OUTPUT, finish};
use super::record::{Cost, Failure, Items, Record, Status, state};
use super::result::{
    Action, Applied, DocumentConfig, Elements, ErrorAnalysis, Metrics, Part, PerformanceReport, RecoveryPlan,
    ResultDocument, StateArtifact, StepMetrics, StepShape, Taken,
};
use crate::error::Error;
use crate::journal::RunState;

/// The records of the steps of one run, in the order of the spec, and the failed record of a bad input.
pub(super) struct Run {
    pub id: String,
    pub admission: Option<Record>,
    pub steps: Vec<Record>,
}

/// The document of a run.
pub(super) fn document(config: &DocumentConfig, run: &Run) -> ResultDocument {
    let failed = |r: &&Record| matches!(r.status, Status::Failed | Status::TimedOut | Status::Canceled);
    let pending = run.steps.iter().any(|r| r.status.is_open());
    let is_good = run.admission.is_none() && !pending && !run.steps.iter().any(|r| failed(&r));
    let mut results = results(config, run);
    let finished = is_good.then(|| finish(config, &run.id, &results)).transpose();
    let unfinished = finished.as_ref().err().map(unfinished);
    let is_good = is_good && unfinished.is_none();
    let finished = finished.ok().flatten().unwrap_or_default();
    let status = state(run.admission.is_some(), run.steps.iter().map(Record::standing));
    let metrics = metrics(config, run);
    if !is_good {
        results.extend(elements(config, run).filter_map(|(id, record)| Some((id.clone(), record.results.clone()?))));
    }
    let (results, partial) = if is_good { (results, None) } else { (Map::new(), Some(results)) };
    ResultDocument {
        schema: "bourn.result/v1".to_owned(),
        run_id: run.id.clone(),
        workflow: config.workflow.clone(),
        status: if unfinished.is_some() { RunState::Failed } else { status },
        final_output: finished.told(),
        workflow_results: results,
        decision_path: taken(config, run),
        branch_results: branches(config, run),
        learning_insights: None,
        partial_results: partial,
        compensated: compensated(config, run),
        degraded: config
            .steps
            .iter()
            .zip(&run.steps)
            .filter(|(_, r)| is_degraded(r))
            .map(|(s, _)| s.id.clone())
            .collect(),
        error_analysis: unfinished.or_else(|| overdue(config, run, status)).or_else(|| analysis(config, run)),
        recovery_plan: plan(config, run, is_good || pending),
        state_artifacts: artifacts(config, run, finished.file.as_ref()),
        performance_report: report(config, run, metrics.duration_ms),
        execution_metrics: metrics,
    }
}

/// Whether it gave less than it was to give: what the spec has for that, or a list in which elements are missing that failed.
fn is_degraded(record: &Record) -> bool {
    let lacks = |items: &Items| record.has_results() && items.failed + items.degraded > 0;
    record.degraded || record.items.as_ref().is_some_and(lacks)
}

/// What the steps gave that completed.
fn results(config: &DocumentConfig, run: &Run) -> Map<String, Value> {
    let steps = config.steps.iter().zip(&run.steps).filter(|(step, _)| step.part == Part::Step);
    let completed = steps.filter(|(_, record)| record.has_results());
    completed.map(|(step, record)| (step.id.clone(), record.results.clone().unwrap_or_default())).collect()
}

/// The lists that failed at some of their elements, and have what the others gave.
fn elements<'a>(config: &'a DocumentConfig, run: &'a Run) -> impl Iterator<Item = (&'a String, &'a Record)> {
    let steps = config.steps.iter().zip(&run.steps).filter(|(step, _)| step.part == Part::Step);
    let some = |items: &Items| items.failed < items.total;
    let failed = steps.filter(move |(_, record)| !record.has_results() && record.items.as_ref().is_some_and(some));
    failed.map(|(step, record)| (&step.id, record))
}

/// What was decided, in the order of the spec.
fn taken(config: &DocumentConfig, run: &Run) -> Vec<Taken> {
    let of = |(step, record): (&StepShape, &Record)| {
        let all = decided(&step.decides, record).into_iter();
        all.map(|one| Taken { step: step.id.clone(), kind: one.kind.to_owned(), result: one.result })
            .collect::<Vec<_>>()
    };
    config.steps.iter().zip(&run.steps).flat_map(of).collect()
}

/// What the steps gave of the ways that were taken.
fn branches(config: &DocumentConfig, run: &Run) -> BTreeMap<String, BTreeMap<String, Map<String, Value>>> {
    let mut branches = BTreeMap::new();
    for (switch, chosen) in config.steps.iter().zip(&run.steps).filter(|(step, _)| step.decides.chooses()) {
        let Some(Value::Array(chosen)) = &chosen.results else { continue };
        let all = config.steps.iter().filter(|step| step.chosen_by.contains(&switch.id));
        let all: Vec<(&str, Vec<String>)> = all.map(|way| (way.id.as_str(), downstream(config, &way.id))).collect();
        // Where ways meet again none of them goes on.
        let is_of = |way: &str, step: &str| {
            let mut ways = all.iter().filter(|(first, rest)| *first == step || rest.iter().any(|one| one == step));
            ways.next().is_some_and(|(first, _)| *first == way) && ways.next().is_none()
        };
        let way = |first: &str| {
            let steps = config.steps.iter().zip(&run.steps);
            let of = steps.filter(|(step, record)| is_of(first, &step.id) && record.has_results());
            of.map(|(step, record)| (step.id.clone(), record.results.clone().unwrap_or_default())).collect()
        };
        let ways: BTreeMap<_, _> =
            chosen.iter().filter_map(Value::as_str).map(|first| (first.to_owned(), way(first))).collect();
        branches.insert(switch.id.clone(), ways);
    }
    branches
}

/// The files that steps left, in the order of the spec.
fn artifacts(config: &DocumentConfig, run: &Run, output: Option<&(Artifact, Vec<u8>)>) -> Vec<StateArtifact> {
    let of = |(step, record): (&StepShape, &Record)| {
        let file = |file: &Artifact| StateArtifact { step: step.id.clone(), file: file.clone() };
        record.artifacts.iter().map(file).collect::<Vec<_>>()
    };
    let output = output.map(|(file, _)| StateArtifact { step: OUTPUT.to_owned(), file: file.clone() });
    config.steps.iter().zip(&run.steps).flat_map(of).chain(output).collect()
}

/// The steps that were undone, the last one first.
fn compensated(config: &DocumentConfig, run: &Run) -> Vec<String> {
    let mut undone: Vec<_> = (config.steps.iter().zip(&run.steps))
        .filter_map(|(step, record)| match &step.part {
            Part::Undo(of) if record.has_results() => Some((record.started_at.clone(), of.clone())),
            _ => None,
        })
        .collect();
    // Of those that began in the same moment the one that stands later in the spec was first.
    undone.reverse();
    undone.sort_by(|a, b| a.0.cmp(&b.0));
    undone.into_iter().map(|(_, of)| of).collect()
}

/// Why a run of which all steps are done gives nothing.
fn unfinished(error: &Error) -> ErrorAnalysis {
    told(error.class(), error.to_string(), "/output", Vec::new())
}

/// A failure that is no step's.
fn told(class: &str, detail: String, instance: &str, affected_steps: Vec<String>) -> ErrorAnalysis {
    let (r#type, title) = (format!("urn:bourn:error:{class}"), title(class).to_owned());
    let (class, instance) = (class.to_owned(), instance.to_owned());
    ErrorAnalysis { r#type, title, class, detail, instance, attempts: 1, affected_steps }
}

/// What is to be said of a run whose time is over.
fn overdue(config: &DocumentConfig, run: &Run, status: RunState) -> Option<ErrorAnalysis> {
    if status != RunState::TimedOut {
        return None;
    }
    let limit = config.timeout.map_or_else(String::new, |timeout| format!(" of {timeout}"));
    let is_ended = |record: &Record| record.standing() == RunState::TimedOut;
    let ended = config.steps.iter().zip(&run.steps).filter(|(_, record)| is_ended(record));
    let detail = format!("it took longer than its `timeout`{limit}");
    Some(told("timeout", detail, "/run", ended.map(|(step, _)| step.id.clone()).collect()))
}

/// The failure that came first, and what it kept from running.
fn analysis(config: &DocumentConfig, run: &Run) -> Option<ErrorAnalysis> {
    let of = |failure: &Failure, instance: String, affected: Vec<String>| ErrorAnalysis {
        r#type: format!("urn:bourn:error:{}", failure.class),
        title: title(&failure.class).to_owned(),
        class: failure.class.clone(),
        detail: failure.message.clone(),
        instance,
        attempts: failure.attempts,
        affected_steps: affected,
    };
    if let Some(failure) = run.admission.as_ref().and_then(|r| r.error.as_ref()) {
        return Some(of(failure, "/input".to_owned(), config.steps.iter().map(|s| s.id.clone()).collect()));
    }
    let failed = config.steps.iter().zip(&run.steps).filter(|(_, r)| !r.degraded);
    let failures = failed.filter_map(|(s, r)| Some((s, r, r.error.as_ref()?)));
    let first = failures.min_by(|a, b| a.1.ended().cmp(&b.1.ended()))?;
    let affected = downstream(config, &first.0.id);
    let below = first.2.at.as_ref().map(|at| format!("/{at}")).unwrap_or_default();
    Some(of(first.2, format!("/steps/{}{below}", first.0.id), affected))
}

/// The steps that need this one, over any number of others, in the order of the spec.
fn downstream(config: &DocumentConfig, id: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    // Steps may stand before those that they need.
    for _ in &config.steps {
        for step in config.steps.iter().filter(|s| !found.contains(&s.id)).collect::<Vec<_>>() {
            if step.needs.iter().any(|need| need == id || found.contains(need)) {
                found.push(step.id.clone());
            }
        }
    }
    config.steps.iter().map(|s| s.id.clone()).filter(|s| found.contains(s)).collect()
}

/// What can be done about it: what did not complete is done again, and what did is used again where it is kept.
fn plan(config: &DocumentConfig, run: &Run, is_good: bool) -> Option<RecoveryPlan> {
    if is_good {
        return None;
    }
    let all = || config.steps.iter().map(|s| s.id.clone());
    let again = |kind: &str| Action {
        kind: kind.to_owned(),
        command: format!("bourn run {} --input @input.json{}", quoted(&config.file), config.flags.anew),
        reuses: Vec::new(),
        reruns: all().collect(),
        items: BTreeMap::new(),
        estimate: None,
    };
    let action = match () {
        () if run.admission.is_some() => again("fix_input"),
        () if config.kept => {
            let has_results: Vec<bool> = run.steps.iter().map(Record::has_results).collect();
            let anew = of_steps(&config.steps, &has_results);
            let is_anew = |id: &String| all().zip(&anew).any(|(one, anew)| one == *id && *anew);
            let from =
                |id: &String| config.steps.iter().find(|s| s.id == *id).is_some_and(|s| s.needs.iter().any(is_anew));
            let of = |items: &Items| Elements { reused: items.total - items.failed, rerun: items.failed };
            // One whose list may be another one begins at its first element.
            let items = elements(config, run).filter(|(id, _)| !from(id));
            let items = items.filter_map(|(id, record)| Some((id.clone(), of(record.items.as_ref()?)))).collect();
            let (reruns, reuses): (Vec<_>, Vec<_>) = all().zip(anew).partition(|(_, anew)| *anew);
            let ids = |steps: Vec<(String, bool)>| steps.into_iter().map(|(id, _)| id).collect();
            let command = format!("bourn runs recover {}{}", quoted(&run.id), config.flags.of_run);
            Action {
                kind: "recover".to_owned(),
                command,
                reuses: ids(reuses),
                reruns: ids(reruns),
                items,
                estimate: None,
            }
        }
        () => again("rerun"),
    };
    Some(RecoveryPlan { strategy: action.kind.clone(), actions: vec![action] })
}

/// For a shell.
fn quoted(text: &str) -> std::borrow::Cow<'_, str> {
    // Only what has a zero byte can't be.
    shlex::try_quote(text).unwrap_or(text.into())
}

fn metrics(config: &DocumentConfig, run: &Run) -> Metrics {
    let mut usage = Cost::default();
    run.steps.iter().filter(|r| r.status != Status::Reused).filter_map(|r| r.usage).for_each(|u| usage.add(u));
    // What a fork has taken over was not done by it.
    let done = || run.steps.iter().filter(|r| r.status != Status::Reused);
    let begin = done().filter_map(Record::begun).min();
    let end = done().filter_map(Record::ended).max();
    let count = |wanted: &[Status]| run.steps.iter().filter(|r| wanted.contains(&r.status)).count();
    let step = |record: &Record| StepMetrics {
        status: record.status,
        attempts: record.attempts,
        started_at: record.started_at.clone(),
        duration_ms: record.duration_ms,
        usage: record.usage,
        reason: record.reason.clone(),
        fallback: record.fallback,
        items: record.items.clone(),
        quality_gates: record.quality_gates.clone(),
    };
    Metrics {
        // RFC 3339 in UTC with a fixed number of digits sorts as text.
        started_at: done().filter_map(|r| r.started_at.clone()).min(),
        duration_ms: begin.zip(end).map_or(0, |(b, e)| u64::try_from(e - b).unwrap_or(0) / 1_000),
        attempts: run.steps.iter().map(|r| r.attempts).sum(),
        completed: count(&[Status::Completed, Status::Cached, Status::Reused]),
        failed: count(&[Status::Failed, Status::TimedOut, Status::Canceled]),
        skipped: count(&[Status::Skipped]),
        usage,
        steps: config.steps.iter().zip(&run.steps).map(|(s, r)| (s.id.clone(), step(r))).collect(),
    }
}

fn report(config: &DocumentConfig, run: &Run, duration_ms: u64) -> PerformanceReport {
    let took: HashMap<&str, u64> =
        config.steps.iter().zip(&run.steps).map(|(s, r)| (s.id.as_str(), r.duration_ms.unwrap_or(0))).collect();
    let mut longest: HashMap<&str, (u64, Vec<String>)> = HashMap::new();
    // Every round settles the steps whose needs are settled.
    for _ in &config.steps {
        for step in config.steps.iter().filter(|s| !longest.contains_key(s.id.as_str())).collect::<Vec<_>>() {
            let all = step.needs.iter().chain(&step.after);
            let Some(before) = all.map(|n| longest.get(n.as_str())).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let (time, mut way) = before.into_iter().max_by_key(|(time, _)| *time).cloned().unwrap_or_default();
            way.push(step.id.clone());
            longest.insert(&step.id, (time + took[step.id.as_str()], way));
        }
    }
    // Of equal ways the longer one, and of these the first by name, so that equal runs have equal reports.
    let rank = |way: &(u64, Vec<String>)| (way.0, way.1.len(), Reverse(way.1.clone()));
    let (time, path) = longest.into_values().max_by_key(rank).unwrap_or_default();
    let steps_ms = took.values().sum();
    let optimization_applied = applied(run, steps_ms, duration_ms);
    PerformanceReport { critical_path: path, critical_path_ms: time, steps_ms, optimization_applied }
}

/// What had an effect, as far as the records show one.
fn applied(run: &Run, steps_ms: u64, duration_ms: u64) -> Vec<Applied> {
    let mut all = Vec::new();
    // Only steps that overlapped can have taken longer together than the run did.
    if let Some(saved) = steps_ms.checked_sub(duration_ms).filter(|saved| *saved > 0) {
        let effect = format!("steps of {steps_ms} ms took {duration_ms} ms");
        let name = "parallel_where_possible".to_owned();
        all.push(Applied { name, effect, saved_ms: Some(saved), answers: None });
    }
    let of = |record: &Record| match (&record.items, record.status) {
        (Some(items), _) => items.cached,
        (None, Status::Cached) => 1,
        _ => 0,
    };
    let answers: u64 = run.steps.iter().map(of).sum();
    if answers > 0 {
        let effect = format!("{answers} answer{} from the cache", if answers == 1 { "" } else { "s" });
        all.push(Applied { name: "cache".to_owned(), effect, saved_ms: None, answers: Some(answers) });
    }
    all
}
