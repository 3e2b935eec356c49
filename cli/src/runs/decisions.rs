//! `bourn runs show --decisions`: what was decided in a run, on what grounds, read off its history.

use std::collections::BTreeMap;

use bourn_engine::spec::model::Chain;
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::record::{Record, Status};
use bourn_journal::Run;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use super::Place;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};

/// Something that was decided.
#[derive(Serialize)]
struct Decision {
    at: String,
    step: String,
    /// `if`, `switch`, `fallback`, `default`, `retry`, `repeat` or `tolerated`.
    kind: &'static str,
    /// As the spec has it.
    condition: Value,
    result: Value,
    context: Snapshot,
}

/// What a decision saw: by reference, not a copy.
#[derive(Clone, Serialize)]
struct Snapshot {
    /// The steps whose records it could read, with the time that each stands under in the history.
    steps: BTreeMap<String, String>,
    /// The hash (BLAKE3) of the input and those records.
    hash: String,
}

/// Shows them, in order.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn show(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let (chain, spec) = place.spec(run)?;
    let written: Value = serde_saphyr::from_str(&spec.text).unwrap_or_default();
    let mut known: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
    let mut decisions = Vec::new();
    for event in place.journal.events(run).map_err(Failure::Failed)? {
        let (Some(name), Some(data), "step") = (event.step, event.data, event.kind.as_str()) else { continue };
        if let Some(at) = chain.steps.iter().position(|step| step.id == name) {
            let record: Record = serde_json::from_str(&data).map_err(|e| Failure::Failed(e.into()))?;
            let snapshot = snapshot(&chain, at, run, &known);
            let said = |key: &str| said(&written, &name, key);
            for (kind, key, result) in decided(&chain, at, &record, said) {
                let (at, step, condition) = (event.at.to_string(), name.clone(), said(key));
                decisions.push(Decision { at, step, kind, condition, result, context: snapshot.clone() });
            }
        }
        known.insert(name, (event.at, data));
    }
    if place.screen.form == Form::Json {
        let text = serde_json::to_string_pretty(&decisions).map_err(|e| Failure::Failed(e.into()))?;
        answer::print(&text)?;
        return Ok(Exit::Ok);
    }
    if decisions.is_empty() {
        answer::print("nothing was to be decided")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["step", "decision", "result", "seen"]);
    for decision in &decisions {
        let result = decision.result.as_str().map_or_else(|| decision.result.to_string(), str::to_owned);
        table.add_row([&decision.step, decision.kind, &result, &decision.context.hash[..12]]);
    }
    answer::print(&table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}

/// What the record of a step says of decisions: of which kind, the key of the spec that has the condition, what came out.
fn decided(
    chain: &Chain,
    at: usize,
    record: &Record,
    said: impl Fn(&str) -> Value,
) -> Vec<(&'static str, &'static str, Value)> {
    let step = &chain.steps[at];
    let mut all = Vec::new();
    if step.condition.is_some() {
        // A step that was skipped for another reason was not asked.
        match (record.status, record.reason.as_deref()) {
            (Status::Skipped, Some("its condition is false")) => all.push(("if", "if", json!(false))),
            (Status::Skipped, _) => {}
            _ => all.push(("if", "if", json!(true))),
        }
    }
    if record.status == Status::Completed && !said("switch").is_null() {
        all.push(("switch", "switch", record.results.clone().unwrap_or_default()));
    }
    if record.attempts > 1 && record.rounds.is_none() && record.items.is_none() {
        all.push(("retry", "retry", json!({ "attempts": record.attempts })));
    }
    if let Some(fallback) = record.fallback {
        let command = step.fallback.get(fallback - 1).map(|work| work.command.clone());
        all.push(("fallback", "fallback", json!({ "number": fallback, "command": command })));
    }
    if record.degraded {
        all.push(("default", "default", step.default.clone().unwrap_or_default()));
    }
    if let Some(rounds) = record.rounds {
        all.push(("repeat", "repeat", json!({ "rounds": rounds })));
    }
    if let Some(items) = record.items.as_ref().filter(|items| items.failed > 0) {
        all.push(("tolerated", "for_each", json!({ "failed": items.failed, "of": items.total })));
    }
    all
}

/// What the step could read when it started.
fn snapshot(chain: &Chain, at: usize, run: &Run, known: &BTreeMap<String, (Timestamp, String)>) -> Snapshot {
    let mut hash = blake3::Hasher::new();
    hash.update(run.input.as_deref().unwrap_or_default().as_bytes());
    let mut steps = BTreeMap::new();
    for read in chain.steps[at].reads.iter().map(|read| &chain.steps[*read].id) {
        if let Some((at, record)) = known.get(read) {
            hash.update(record.as_bytes());
            steps.insert(read.clone(), at.to_string());
        }
    }
    Snapshot { steps, hash: hash.finalize().to_hex().to_string() }
}

/// What the spec has under this key of a step.
fn said(written: &Value, step: &str, key: &str) -> Value {
    let lists = ["steps", "finally"].iter().filter_map(|list| written.get(list)?.as_array());
    let found = lists.flatten().find(|one| one.get("id").and_then(Value::as_str) == Some(step));
    found.and_then(|step| step.get(key)).cloned().unwrap_or_default()
}
