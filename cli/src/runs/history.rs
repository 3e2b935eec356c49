//! What happened in a run, in order, under the names that histories have.

use bourn_engine::journal::{History, RunState};
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::context::event;
use bourn_journal::{Event, Run};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::Place;
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};

/// Something that happened.
pub struct Told {
    at: Timestamp,
    name: String,
    step: Option<String>,
    data: Option<String>,
    who: Option<String>,
}

impl Told {
    /// The beginning of a run.
    pub fn start(run: &Run) -> Self {
        Self { at: run.started, name: "RunStarted".into(), step: None, data: None, who: None }
    }

    /// The end of a run that has ended.
    pub fn end(run: &Run) -> Option<Self> {
        let name = match run.status {
            RunState::Completed => "RunCompleted",
            RunState::Failed => "RunFailed",
            RunState::Canceled => "RunCanceled",
            RunState::TimedOut => "RunTimedOut",
            RunState::Running | RunState::Waiting | RunState::Paused => return None,
        };
        run.ended.map(|at| Self { at, name: name.into(), step: None, data: None, who: None })
    }

    /// What the journal has in between.
    ///
    /// # Errors
    /// When the record of a step is none.
    pub fn of(happened: Event) -> Result<Self, Failure> {
        let name = match (happened.kind.as_str(), &happened.data) {
            ("step", Some(record)) => event(record).map_err(Failure::Failed)?,
            ("wait", _) => "WaitStarted",
            ("backoff", _) => "RetryScheduled",
            ("signal", _) => "Signaled",
            ("retried", _) => "RunRetried",
            ("cancel", _) => "RunCancelRequested",
            ("pause", _) => "RunPaused",
            ("resume", _) => "RunResumed",
            (other, _) => other,
        };
        let name = name.to_owned();
        // What was said to one step alone is told of that.
        let alone = happened.step.as_deref().and_then(History::decided).map(str::to_owned);
        let step = alone.filter(|_| happened.kind == "signal").or(happened.step);
        Ok(Self { at: happened.at, name, step, data: happened.data, who: happened.who })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let record: Value = self.data.as_deref().and_then(|d| serde_json::from_str(d).ok()).unwrap_or_default();
        json!({ "at": self.at.to_string(), "event": self.name, "step": self.step, "by": self.who, "record": record })
    }

    /// For people: when, what, of which step, and by whom.
    pub fn cells(&self) -> [String; 4] {
        let who = self.who.as_ref().map_or_else(String::new, |who| format!("by {who}"));
        [self.at.to_string(), self.name.clone(), self.step.clone().unwrap_or_default(), who]
    }
}

/// Shows all of it.
///
/// # Errors
/// When the journal can't be read, or is damaged.
pub fn show(place: &Place<'_>, run: &Run) -> Result<Exit, Failure> {
    let events = place.journal.events(run).map_err(Failure::Failed)?;
    let between = events.into_iter().map(Told::of).collect::<Result<Vec<_>, _>>()?;
    let mut told: Vec<Told> = [Told::start(run)].into_iter().chain(between).chain(Told::end(run)).collect();
    told.sort_by_key(|told| told.at);
    if place.screen.form == Form::Json {
        answer::print(&format!("{:#}", told.iter().map(Told::json).collect::<Value>()))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(told.iter().map(Told::cells));
    answer::print(&table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Ok)
}
