//! `bourn runs diff`: in what two runs differ, step by step.

use bourn_engine::workflow::record::{Record, Status};
use bourn_journal::{Run, Sqlite};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::screen::Screen;

/// The most characters of a value in the table.
const SHOWN: usize = 60;

/// Shows the input and the steps that are not the same in both.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn diff(journal: &Sqlite, a: &Run, b: &Run, screen: &Screen) -> Result<Exit, Failure> {
    let [first, second] = [known(journal, a)?, known(journal, b)?];
    let mut names: Vec<&String> = first.iter().chain(&second).map(|(name, _)| name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let of = |all: &[(String, Value)], name: &String| {
        all.iter().find(|(known, _)| known == name).map_or(Value::Null, |(_, value)| value.clone())
    };
    let pairs = names.into_iter().map(|name| (name, of(&first, name), of(&second, name)));
    let differ: Vec<_> = pairs.filter(|(_, a, b)| a != b).collect();
    if screen.form == Form::Json {
        let one = |(name, a, b): &(&String, Value, Value)| json!({ "step": name, "a": a, "b": b });
        answer::print(&format!("{:#}", differ.iter().map(one).collect::<Value>()))?;
        return Ok(Exit::Ok);
    }
    if differ.is_empty() {
        answer::print("they do not differ")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["step", a.id.as_str(), b.id.as_str()]);
    for (name, a, b) in &differ {
        table.add_row([name.as_str(), &shown(a), &shown(b)]);
    }
    answer::print(&table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}

/// The input and what each step came to, without its times, in the order of the history.
fn known(journal: &Sqlite, run: &Run) -> Result<Vec<(String, Value)>, Failure> {
    let input: Option<Value> =
        run.input.as_deref().map(serde_json::from_str).transpose().map_err(|e| Failure::Failed(e.into()))?;
    let mut known = vec![("input".to_owned(), json!({ "results": input }))];
    let history = journal.history(run).map_err(Failure::Failed)?;
    for event in journal.events(run).map_err(Failure::Failed)? {
        let (Some(name), "step") = (event.step, event.kind.as_str()) else { continue };
        // One that was tried again has another record now, or none.
        let Some(record) = history.0.get(&name) else { continue };
        let record: Record = serde_json::from_str(record.get()).map_err(|e| Failure::Failed(e.into()))?;
        known.retain(|(other, _)| *other != name);
        known.push((name, came_to(record)));
    }
    Ok(known)
}

fn came_to(record: Record) -> Value {
    // What a fork has taken over is what the run before had completed, and so is what the cache had.
    let is_taken = matches!(record.status, Status::Reused | Status::Cached);
    let status = if is_taken { Status::Completed } else { record.status };
    let mut value = json!({ "status": status });
    let members = [
        ("results", record.results),
        ("error", record.error.map(|error| error.message.into())),
        ("rounds", record.rounds.map(Into::into)),
        ("fallback", record.fallback.map(Into::into)),
        ("degraded", record.degraded.then_some(true.into())),
    ];
    for (name, member) in members {
        if let Some(member) = member {
            value[name] = member;
        }
    }
    value
}

fn shown(value: &Value) -> String {
    if value.is_null() {
        return "-".to_owned();
    }
    let status = value["status"].as_str().filter(|status| *status != "COMPLETED");
    let rest = value.get("error").or_else(|| value.get("results")).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let text = status.map(str::to_owned).into_iter().chain(rest).collect::<Vec<_>>().join(": ").replace('\n', " ");
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN - 1).chain(['…']).collect() }
}
