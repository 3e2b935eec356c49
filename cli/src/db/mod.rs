//! `bourn db check`: whether the journal is whole, and the way out when it is not.

use bourn_engine::env::Env;
use bourn_journal::{Health, Sqlite};
use clap::Subcommand;

use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::runs::args::Journal;
use crate::screen::Screen;

/// What can be done with the journal as a database.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Read every page, index and row, and tell what is not as it should be, with the way out; ends with 1 then.
    Check {
        #[command(flatten)]
        journal: Journal,
    },
}

/// Does what the command line says.
///
/// # Errors
/// When there is no journal, or it can't be read at all.
pub fn run(what: &Db, screen: &Screen) -> Result<Exit, Failure> {
    let Db::Check { journal } = what;
    let env = Env::system();
    let journal = Sqlite::existing(&journal.journal, &env).map_err(Failure::Invalid)?;
    let health = journal.health().map_err(Failure::Failed)?;
    answer::print(&match screen.form {
        Form::Json => serde_json::to_string_pretty(&health).map_err(|e| Failure::Failed(e.into()))?,
        Form::Text => text(&journal, &health),
    })?;
    Ok(if health.troubles.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn text(journal: &Sqlite, health: &Health) -> String {
    let list = |all: &std::collections::BTreeMap<String, u64>| {
        let all = all.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{count} {name}"));
        all.collect::<Vec<_>>().join(", ")
    };
    let state = if health.troubles.is_empty() { "whole" } else { "not whole" };
    let Health { version, bytes, .. } = health;
    let mut lines =
        vec![format!("{} is {state}: {bytes} bytes, tables of version {version}", journal.path().display())];
    for (what, counts) in [("rows", list(&health.rows)), ("runs", list(&health.runs))] {
        if !counts.is_empty() {
            lines.push(format!("{what}: {counts}"));
        }
    }
    for trouble in &health.troubles {
        let example = trouble.example.as_ref().map_or_else(String::new, |example| format!(", such as {example}"));
        lines.push(format!("{} {}{example}\n  {}", trouble.count, trouble.what, trouble.way));
    }
    if !health.cut_off.is_empty() {
        let jobs: Vec<_> = health.cut_off.iter().map(u64::to_string).collect();
        lines.push(format!("cut off: runs of job {}", jobs.join(", ")));
        lines.push("  `bourn run` as before goes on with them, `bourn runs resume RUN` with one".into());
    }
    lines.join("\n")
}
