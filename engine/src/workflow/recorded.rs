//! What a run has left, in the place of whoever its steps would ask: so that all else of the run can be decided again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::attempts::Attempts;
use super::course::status;
use super::record::{Failure, Record, Status};
use crate::error::Result;
use crate::journal::History;

/// Why a step is open that nothing is recorded of.
const NOT_RECORDED: &str = "nothing is recorded of it";

/// The history of a run that is decided again. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Recorded(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    history: History,
    /// What would have been asked, by name.
    missing: Mutex<BTreeSet<String>>,
}

/// What is asked of a history.
pub(super) struct Question<'a> {
    /// The name of the step in the history.
    pub name: &'a str,
    /// Of a step that is done in rounds: the name of this one, and its number from 1.
    pub round: Option<(String, u32)>,
    /// Which fallback asks; 0 is the step itself.
    pub fallback: usize,
    /// What the spec gives for a failure.
    pub default: Option<&'a Value>,
}

impl Recorded {
    /// What the journal knows of a run.
    pub fn of(history: History) -> Self {
        Self(Arc::new(Inner { history, missing: Mutex::default() }))
    }

    /// All of it.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// What had to be asked, and is not recorded: the names of steps, rounds and elements.
    pub fn missing(&self) -> BTreeSet<String> {
        self.0.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The record of this name.
    pub(super) fn record(&self, name: &str) -> Result<Option<Record>> {
        Ok(self.0.history.0.get(name).map(|record| serde_json::from_str(record.get())).transpose()?)
    }

    /// What is measured anew has the times that it had: a place may read them.
    pub(super) fn retime(&self, name: &str, record: &mut Record) -> Result<()> {
        if let Some(known) = self.record(name)? {
            (record.started_at, record.duration_ms) = (known.started_at, known.duration_ms);
        }
        Ok(())
    }

    /// The record of a step of which no spec has decided: a fork took it over, or somebody, or a failure elsewhere, has ended it. When that
    /// came to a step under way is no decision either.
    pub(super) fn given(&self, name: &str) -> Result<Option<Record>> {
        Ok(self.record(name)?.filter(is_given))
    }

    /// Whether a step that has failed may have been kept from its fallbacks: none of them was tried, and something else of the run has
    /// failed or was canceled.
    pub(super) fn was_cut_off(&self, name: &str) -> Result<bool> {
        let Some(Record { error: Some(error), attempts, degraded: false, .. }) = self.record(name)? else {
            return Ok(false);
        };
        if error.attempts != attempts {
            return Ok(false);
        }
        // What it is an element or a step of has failed because of it.
        let is_around = |other: &str| name.strip_prefix(other).is_some_and(|rest| rest.starts_with(['[', '/', '#']));
        for (other, record) in &self.0.history.0 {
            if other == name || other.starts_with('@') || is_around(other) {
                continue;
            }
            if matches!(status(record.get())?, Status::Failed | Status::TimedOut | Status::Canceled) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The record of a workflow within this one, of whose steps nothing is kept: it is taken as a whole.
    pub(super) fn whole(&self, name: &str) -> Result<Option<Record>> {
        if self.has_more(name, &['/', '#']) {
            return Ok(None);
        }
        // What has failed on its way in has no place within.
        let went_in = |record: &Record| record.has_results() || record.error.as_ref().is_some_and(|e| e.at.is_some());
        Ok(self.entry(name, None)?.filter(went_in))
    }

    /// What a signal of this name has brought.
    pub(super) fn signal(&self, name: &str) -> Result<Option<Value>> {
        let data = self.0.history.0.get(&History::signal(name));
        Ok(data.map(|data| serde_json::from_str(data.get())).transpose()?)
    }

    /// What was answered: the record as it would be behind the step, before its default.
    pub(super) fn answer(&self, question: &Question<'_>) -> Result<Record> {
        let asked = question.round.as_ref().map_or(question.name, |(round, _)| round);
        let of_round = if question.round.is_some() { self.record(asked)? } else { None };
        let record = if of_round.is_some() { of_round } else { self.entry(question.name, question.default)? };
        let round = question.round.as_ref().map_or(0, |(_, number)| *number);
        // It had its last round before.
        let record = record.filter(|record| record.rounds.is_none_or(|rounds| rounds >= round));
        match record {
            Some(record) if record.status != Status::Skipped => Ok(record.asked_of(question.fallback)),
            _ => self.open(asked),
        }
    }

    /// The record of what has not ended, and of what nothing is known.
    pub(super) fn open(&self, name: &str) -> Result<Record> {
        if let Some(data) = self.0.history.0.get(&History::backoff(name)) {
            return Ok(serde_json::from_str::<Attempts>(data.get())?.record());
        }
        self.0.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(Record { reason: Some(NOT_RECORDED.into()), ..Record::pending() })
    }

    /// The record of this name, or of an element as that of its list has it: with `durability: exit` no more is kept.
    fn entry(&self, name: &str, default: Option<&Value>) -> Result<Option<Record>> {
        if let Some(record) = self.record(name)? {
            return Ok(Some(record));
        }
        let element = name.strip_suffix(']').and_then(|name| name.rsplit_once('['));
        let Some((list, at)) = element.and_then(|(list, at)| Some((list, at.parse::<usize>().ok()?))) else {
            return Ok(None);
        };
        if self.has_more(list, &['[']) {
            return Ok(None);
        }
        let Some(Record { results: Some(Value::Array(mut results)), items, started_at, .. }) = self.record(list)?
        else {
            return Ok(None);
        };
        if at >= results.len() {
            return Ok(None);
        }
        let items = items.unwrap_or_default();
        let results = results.swap_remove(at);
        // Not all failures are told one by one.
        let more = items.degraded > items.failures.iter().filter(|failure| failure.degraded).count() as u64;
        let is_default = more && default == Some(&results);
        let told = items.failures.into_iter().find(|failure| failure.item == at as u64);
        let ended = Record { started_at, attempts: 1, reason: None, ..Record::skipped(String::new()) };
        let is_failed = told.is_some() || (results.is_null() && items.failed > 0) || is_default;
        if !is_failed {
            return Ok(Some(Record { status: Status::Completed, results: Some(results), ..ended }));
        }
        let (class, message) = told.map_or(("permanent".into(), String::new()), |told| (told.class, told.message));
        let error = Failure { class, message, attempts: 1, at: None };
        Ok(Some(Record { status: error.status(), error: Some(error), ..ended }))
    }

    /// Whether the history has names that begin with this one and one of these.
    fn has_more(&self, name: &str, behind: &[char]) -> bool {
        let begins = |known: &String| known.strip_prefix(name).is_some_and(|rest| rest.starts_with(behind));
        // Names are sorted, and what begins with a name stands behind it.
        let from = self.0.history.0.range(name.to_owned()..).map(|(known, _)| known);
        from.take_while(|known| known.starts_with(name)).any(begins)
    }
}

/// Whether a record is none that a spec has decided.
pub(super) fn is_given(record: &Record) -> bool {
    matches!(record.status, Status::Reused | Status::Canceled)
}

impl Record {
    /// What this fallback left, of the record that its step left in the end.
    fn asked_of(self, fallback: usize) -> Self {
        let answered = self.fallback.unwrap_or(0);
        match &self.error {
            // The default was given because all that was tried had failed.
            Some(error) if self.degraded => Self { status: error.status(), results: None, degraded: false, ..self },
            None if self.has_results() && fallback < answered => {
                let message = format!("it failed, and its fallback {answered} answered");
                let error = Failure { class: "permanent".into(), message, attempts: 1, at: None };
                Self { status: Status::Failed, results: None, error: Some(error), fallback: None, ..self }
            }
            _ => self,
        }
    }
}

impl Failure {
    /// How a step stands that ended so.
    fn status(&self) -> Status {
        match self.class.as_str() {
            "timeout" => Status::TimedOut,
            "canceled" => Status::Canceled,
            _ => Status::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;

    fn recorded(history: &[(&str, Value)]) -> Recorded {
        let entry =
            |(name, data): &(&str, Value)| ((*name).to_owned(), RawValue::from_string(data.to_string()).unwrap());
        Recorded::of(History(history.iter().map(entry).collect()))
    }

    fn ask(recorded: &Recorded, name: &str, round: Option<u32>, fallback: usize) -> Record {
        let round = round.map(|number| (format!("{name}#{number}"), number));
        recorded.answer(&Question { name, round, fallback, default: None }).unwrap()
    }

    #[test]
    fn each_work_of_a_step_has_what_it_left() {
        let recorded = recorded(&[
            ("second", json!({ "status": "COMPLETED", "results": 1, "attempts": 3, "fallback": 2 })),
            (
                "lost",
                json!({ "status": "COMPLETED", "results": "none", "degraded": true, "attempts": 1,
                    "error": { "class": "timeout", "message": "late", "attempts": 1 } }),
            ),
            ("skipped", json!({ "status": "SKIPPED", "reason": "so", "attempts": 0 })),
        ]);
        let statuses: Vec<_> = (0..3).map(|fallback| ask(&recorded, "second", None, fallback).status).collect();
        assert_eq!(statuses, [Status::Failed, Status::Failed, Status::Completed]);
        let lost = ask(&recorded, "lost", None, 0);
        assert_eq!((lost.status, lost.results, lost.degraded), (Status::TimedOut, None, false));
        // Of what was not started, or is not there, no answer is recorded.
        let open = ["skipped", "other"].map(|name| ask(&recorded, name, None, 0).status);
        assert_eq!(open, [Status::Pending; 2]);
        assert_eq!(recorded.missing().into_iter().collect::<Vec<_>>(), ["other", "skipped"]);
    }

    #[test]
    fn rounds_and_elements_are_found_where_they_are_kept_and_in_the_whole_where_they_are_not() {
        let round = |n: u32| json!({ "status": "COMPLETED", "results": n, "rounds": n, "attempts": n });
        let kept = recorded(&[("poll", round(3)), ("poll#1", round(1)), ("poll#2", round(2))]);
        let results: Vec<_> = (1..5).map(|n| ask(&kept, "poll", Some(n), 0).results).collect();
        assert_eq!(results, [Some(json!(1)), Some(json!(2)), Some(json!(3)), None]);
        assert_eq!(kept.missing().into_iter().collect::<Vec<_>>(), ["poll#4"]);
        let items =
            json!({ "total": 2, "failed": 1, "failures": [{ "item": 1, "class": "timeout", "message": "late" }] });
        let list = json!({ "status": "COMPLETED", "results": ["a", null], "attempts": 2, "items": items });
        let alone = recorded(&[("poll", round(3)), ("each", list.clone())]);
        assert_eq!(ask(&alone, "poll", Some(1), 0).rounds, Some(3));
        let of = |at: usize| ask(&alone, &format!("each[{at}]"), None, 0);
        assert_eq!(of(0).results, Some(json!("a")));
        assert_eq!((of(1).status, of(2).status), (Status::TimedOut, Status::Pending));
        // Where elements are kept, one that is not was never done.
        let cut = recorded(&[("each", list), ("each[0]", round(1))]);
        assert_eq!(ask(&cut, "each[1]", None, 0).status, Status::Pending);
    }
}
