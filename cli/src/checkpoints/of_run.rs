//! The checkpoints of a run: places in its history from which another one can begin.

use std::path::Path;

use bourn_engine::Engine;
use bourn_engine::workflow::context::event;
use bourn_journal::Sqlite;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::runs::args::INITIALIZATION;

/// Whether this can only be the id of a run: it is no file, no folder, no URL, and is not called as a spec is.
pub fn is_run(job: &str) -> bool {
    let is_spec = [".yaml", ".yml", ".json"].iter().any(|end| job.ends_with(end));
    !is_spec && !job.contains("://") && job != "-" && !Path::new(job).exists()
}

/// Lists them, the first one first: the beginning, and each step that ended.
///
/// # Errors
/// When there is no such run, or the journal can't be read.
pub fn list(run: &str, journal: &Path, form: Form) -> Result<Exit, Failure> {
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(journal, engine.env()).map_err(Failure::Invalid)?;
    let run = journal.run(run).map_err(Failure::Invalid)?;
    let mut all = vec![(INITIALIZATION.to_owned(), run.started, "RunStarted")];
    for happened in journal.events(&run).map_err(Failure::Failed)? {
        if let ("step", Some(step), Some(record)) = (happened.kind.as_str(), &happened.step, &happened.data) {
            let name = event(record).map_err(Failure::Failed)?;
            all.push((format!("step_completion_{step}"), happened.at, name));
        }
    }
    if form == Form::Json {
        let one = |(checkpoint, at, event): &(String, _, &str)| json!({ "checkpoint": checkpoint, "at": bourn_engine::time::Timestamp::to_string(at), "event": event });
        answer::print(&all.iter().map(one).collect::<Value>().to_string())?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(all.into_iter().map(|(name, at, event)| [name, at.to_string(), event.to_owned()]));
    answer::print(&table.trim_fmt())?;
    Ok(Exit::Ok)
}
