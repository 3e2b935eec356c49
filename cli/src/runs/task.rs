//! A task: a step that waits for somebody, as it is shown, and how it is answered.

use std::path::Path;

use bourn_engine::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::copied::quoted;

/// A step that waits, as the journal has it.
#[derive(Deserialize)]
pub struct Wait {
    /// Until when, in microseconds since 1970.
    pub due: Option<i64>,
    since: i64,
    /// For which signal.
    pub signal: Option<String>,
    /// How often it was tried, of a step that is tried again then, and why the last attempt failed.
    pub attempts: Option<u32>,
    /// As `attempts`.
    pub error: Option<String>,
    /// What went wrong, where a person is to decide about it.
    pub decide: Option<String>,
}

impl Wait {
    /// In words.
    pub fn what(&self) -> String {
        if let Some(wrong) = &self.decide {
            return format!("decision: {wrong}");
        }
        match (&self.signal, self.attempts) {
            (Some(name), _) => format!("signal {name}"),
            (None, Some(0)) => self.error.clone().unwrap_or_default(),
            (None, Some(attempts)) => format!("attempt {}", attempts + 1),
            (None, None) => "a time".to_owned(),
        }
    }

    /// When it began.
    pub fn began(&self) -> String {
        Timestamp(self.since).to_string()
    }

    /// Until when it waits.
    pub fn until(&self) -> Option<String> {
        self.due.map(|due| Timestamp(due).to_string())
    }

    /// For programs.
    pub fn document(&self, task: &str, workflow: &str) -> Value {
        json!({
            "task": task, "workflow": workflow, "signal": self.signal, "attempts": self.attempts, "error": self.error,
            "decide": self.decide, "since": self.began(), "until": self.until(),
        })
    }

    /// The commands that answer it, by what they do, for a shell anywhere on this machine.
    pub fn answers(&self, task: &str, journal: &Path) -> Map<String, Value> {
        let place = std::path::absolute(journal).unwrap_or_else(|_| journal.to_owned());
        let command = format!("bourn approve {} --journal {}", quoted(task), quoted(&place.display().to_string()));
        let ways: &[(&str, &str)] = match self.decide {
            None => &[("approve", ""), ("edit", " --data JSON"), ("reject", " --reject REASON")],
            Some(_) => &[("edit", " --data JSON"), ("retry", " --retry"), ("reject", " --reject REASON")],
        };
        ways.iter().map(|(what, flags)| ((*what).to_owned(), format!("{command}{flags}").into())).collect()
    }
}
