//! `bourn memory`: what is kept of a workflow beyond its runs, in files that people can read and change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bourn_engine::checkpoint::store::plain;
use bourn_engine::data::units::Size;
use bourn_engine::journal::History;
use bourn_engine::{Engine, Error};
use bourn_journal::{Filter, Run, Sqlite};
use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::runs::args::{Insights, Journal};
use crate::runs::insights;
use crate::runs::task::Wait;
use crate::screen::Screen;

/// What each workflow has, made of its runs when it is looked at for the first time, and left alone from then on.
const FILES: [&str; 3] = ["workflow_metadata", "optimization_patterns", "learned_preferences"];
/// The newest runs that a file is made of, at most.
const RUNS: usize = 10_000;

/// What can be done with the memory of a workflow.
#[derive(Debug, Subcommand)]
pub enum Memory {
    /// List its files. Those that every workflow has are made of its runs so far, if they are not there: `workflow_metadata`,
    /// `optimization_patterns` and `learned_preferences`.
    List {
        /// The name of the workflow.
        #[arg(value_name = "WORKFLOW")]
        workflow: String,
        #[command(flatten)]
        journal: Journal,
    },
    /// Show one of them.
    Show {
        /// The name of the workflow.
        #[arg(value_name = "WORKFLOW")]
        workflow: String,
        /// The name of the file, as `list` says it.
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        journal: Journal,
    },
}

/// Does what the command line says.
///
/// # Errors
/// When there is no such workflow or file, or the disk fails.
pub fn run(what: &Memory, screen: &Screen) -> Result<Exit, Failure> {
    let (Memory::List { workflow, journal } | Memory::Show { workflow, journal, .. }) = what;
    let engine = Engine::new(prepare::registry());
    let place = Sqlite::existing(&journal.journal, engine.env()).map_err(Failure::Invalid)?;
    // It stands beside the journal: both go to another machine together.
    let folder = place.path().parent().unwrap_or(Path::new("")).join("memory").join(plain(workflow));
    seed(&folder, workflow, journal, &place)?;
    match what {
        Memory::List { .. } => list(&folder, screen.form),
        Memory::Show { name, .. } => show(&folder, name),
    }
}

/// Makes what is not there.
fn seed(folder: &Path, workflow: &str, journal: &Journal, place: &Sqlite) -> Result<(), Failure> {
    let missing: Vec<&str> = FILES.into_iter().filter(|name| !file(folder, name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let args = Insights { workflow: workflow.to_owned(), limit: RUNS, journal: journal.clone() };
    let found = insights::find(place, &args)?;
    let filter = Filter { workflow: Some(workflow.to_owned()), limit: RUNS, ..Filter::default() };
    let runs = place.runs(&filter).map_err(Failure::Failed)?;
    let failed = |e: Error| Failure::Failed(e.context(folder.display()));
    std::fs::create_dir_all(folder).map_err(|e| failed(e.into()))?;
    for name in missing {
        let value = match name {
            "workflow_metadata" => metadata(workflow, &runs, place)?,
            "optimization_patterns" => serde_json::to_value(&found).map_err(|e| failed(e.into()))?,
            _ => preferences(&runs, place)?,
        };
        #[expect(clippy::disallowed_methods, reason = "these files are for people, beside the journal")]
        std::fs::write(file(folder, name), format!("{value:#}\n")).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// What the workflow is, by its newest run.
fn metadata(workflow: &str, runs: &[Run], place: &Sqlite) -> Result<Value, Failure> {
    let spec = runs.first().map(|run| place.spec(run.job)).transpose().map_err(Failure::Failed)?;
    Ok(json!({
        "workflow": workflow,
        "workflow_type": runs.first().map(|run| &run.workflow_type),
        "file": spec.as_ref().map(|spec| &spec.file),
        "spec_hash": spec.as_ref().map(|spec| &spec.hash),
        "runs": runs.len(),
        "first_started_at": runs.last().map(|run| run.started.to_string()),
        "last_started_at": runs.first().map(|run| run.started.to_string()),
    }))
}

/// What people and programs have answered to steps that waited, by the name of the signal.
fn preferences(runs: &[Run], place: &Sqlite) -> Result<Value, Failure> {
    let mut signals: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    for run in runs {
        // What was said to one step alone counts for the signal that this waits for.
        let mut waits: BTreeMap<String, String> = BTreeMap::new();
        for happened in place.events(run).map_err(Failure::Failed)? {
            let named = happened.step.clone().unwrap_or_default();
            match happened.kind.as_str() {
                "signal" => {}
                "wait" => {
                    let wait = happened.data.and_then(|data| serde_json::from_str::<Wait>(&data).ok());
                    waits.extend(wait.and_then(|wait| Some((named, wait.signal?))));
                    continue;
                }
                _ => continue,
            }
            let signal = History::decided(&named).and_then(|step| waits.get(step).cloned()).unwrap_or(named);
            let data: Value =
                happened.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
            let answer = match data["approved"].as_bool() {
                Some(true) => "approved",
                Some(false) => "refused",
                None => "other",
            };
            *signals.entry(signal).or_default().entry(answer).or_default() += 1;
        }
    }
    Ok(json!({ "signals": signals }))
}

fn list(folder: &Path, form: Form) -> Result<Exit, Failure> {
    let failed = |e: std::io::Error| Failure::Failed(Error::from(e).context(folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = entry.metadata().map_err(failed)?.len();
        files.push((entry.file_name().to_string_lossy().trim_end_matches(".json").to_owned(), bytes, entry.path()));
    }
    files.sort();
    if form == Form::Json {
        let one = |(name, bytes, path): &(String, u64, PathBuf)| json!({ "name": name, "bytes": bytes, "path": path });
        answer::print(&files.iter().map(one).collect::<Value>().to_string())?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(
        files.into_iter().map(|(name, bytes, path)| [name, Size(bytes).to_string(), path.display().to_string()]),
    );
    answer::print(&table.trim_fmt())?;
    Ok(Exit::Ok)
}

fn show(folder: &Path, name: &str) -> Result<Exit, Failure> {
    let path = file(folder, name);
    let is_plain = !name.contains(['/', '\\']) && !name.starts_with('.');
    if !is_plain || !path.exists() {
        return Err(Failure::invalid(format!("there is no `{name}` in {}; see `bourn memory list`", folder.display())));
    }
    #[expect(clippy::disallowed_methods, reason = "these files are for people, beside the journal")]
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::Failed(Error::from(e).context(path.display())))?;
    answer::print(text.trim_end_matches('\n'))?;
    Ok(Exit::Ok)
}
