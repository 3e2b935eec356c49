//! `bourn runs show --decisions`: what was decided in a run, on what grounds, read off its history.

use std::collections::BTreeMap;

use bourn_engine::spec::model::Chain;
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::decisions::{Decision, decisions};
use bourn_engine::workflow::record::Record;
use bourn_journal::{Event, Run};
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::Place;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};

/// Something that was decided.
#[derive(Serialize)]
pub(super) struct Decided {
    at: String,
    step: String,
    /// `if`, `switch`, `route`, `fallback`, `default`, `retry`, `repeat` or `tolerated`.
    kind: &'static str,
    /// As the spec has it.
    condition: Value,
    result: Value,
    context: Snapshot,
}

/// What a decision saw: by reference, not a copy.
#[derive(Clone, Serialize)]
pub(super) struct Snapshot {
    /// The steps whose records it could read, with the time that each stands under in the history.
    steps: BTreeMap<String, String>,
    /// The hash (BLAKE3) of the input and those records.
    hash: String,
}

/// All of them, in order. The text of the spec is that which conditions are shown of.
///
/// # Errors
/// When a record is none.
pub(super) fn of(chain: &Chain, text: &str, run: &Run, events: &[Event]) -> Result<Vec<Decided>, Failure> {
    let written: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let mut known: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
    let mut all = Vec::new();
    for event in events {
        let (Some(name), Some(data), "step") = (&event.step, &event.data, event.kind.as_str()) else { continue };
        if let Some(at) = chain.steps.iter().position(|step| step.id == *name) {
            let record: Record = serde_json::from_str(data).map_err(|e| Failure::Failed(e.into()))?;
            let snapshot = snapshot(chain, at, run, &known);
            for Decision { kind, key, result } in decisions(&chain.steps[at], &record) {
                let (at, step, condition) = (event.at.to_string(), name.clone(), said(&written, name, key));
                all.push(Decided { at, step, kind, condition, result, context: snapshot.clone() });
            }
        }
        known.insert(name.clone(), (event.at, data.clone()));
    }
    Ok(all)
}

/// Shows them, in order.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn show(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let (chain, spec) = place.spec(run)?;
    let decisions = of(&chain, &spec.text, run, &place.journal.events(run).map_err(Failure::Failed)?)?;
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
