//! What a run has cost, read off what happened in it, in order.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::History;
use crate::api::Usage;
use crate::error::Result;

/// Adds up what the steps of a run have cost. A record of a list, a workflow, a round or a step that has gates has in it what its parts have
/// cost, as far as those have left records themselves.
#[derive(Clone, Debug, Default)]
pub struct Spending {
    /// Of what is done anew since.
    settled: Usage,
    /// By the name of a record: what it added, and whether it has results.
    counted: BTreeMap<String, (Usage, bool)>,
}

/// Of what is noted of a step that has not ended what it has cost: by itself, or as the failed record before what waits now.
#[derive(Deserialize)]
struct Open {
    #[serde(default)]
    usage: Option<Cost>,
    #[serde(default)]
    before: Option<Before>,
}

#[derive(Deserialize)]
struct Before {
    #[serde(default)]
    usage: Option<Cost>,
}

/// Of a record what it cost.
#[derive(Deserialize)]
struct Left {
    status: String,
    #[serde(default)]
    usage: Option<Cost>,
}

#[derive(Deserialize)]
struct Cost {
    input_tokens: u64,
    output_tokens: u64,
    usd: f64,
}

impl Spending {
    /// What a history has cost, as far as it is known.
    ///
    /// # Errors
    /// When a record in it is none.
    pub fn of(history: &History) -> Result<Self> {
        let mut spending = Self::default();
        // The name of a part stands behind that of the whole.
        for (name, record) in history.0.iter().rev().filter(|(name, _)| !name.starts_with('@')) {
            spending.left(name, record.get())?;
        }
        for (name, noted) in &history.0 {
            if let Some(step) = [History::BACKOFF, History::WAIT].iter().find_map(|kind| name.strip_prefix(kind)) {
                spending.noted(step, noted.get())?;
            }
        }
        Ok(spending)
    }

    /// What is noted of a step that is tried again later, or waits.
    ///
    /// # Errors
    /// When it is no such note.
    pub fn noted(&mut self, name: &str, noted: &str) -> Result<()> {
        if !noted.contains("\"usage\"") {
            return Ok(());
        }
        let Open { usage, before } = serde_json::from_str(noted)?;
        if let Some(usage) = usage.or(before.and_then(|before| before.usage)) {
            self.count(name, usage, false);
        }
        Ok(())
    }

    /// A step, or a part of one, has left this record.
    ///
    /// # Errors
    /// When it is none.
    pub fn left(&mut self, name: &str, record: &str) -> Result<()> {
        // Most steps cost nothing, and their results may be large.
        if !record.contains("\"usage\"") {
            return Ok(());
        }
        let Left { status, usage } = serde_json::from_str(record)?;
        // What a fork has taken over was paid by another run.
        if let Some(usage) = usage.filter(|_| status != "REUSED") {
            self.count(name, usage, matches!(status.as_str(), "COMPLETED" | "CACHED"));
        }
        Ok(())
    }

    /// What a step, or a part of one, has cost until now, and whether it has results.
    fn count(&mut self, name: &str, Cost { input_tokens, output_tokens, usd }: Cost, has_completed: bool) {
        let told = self.told(name);
        let added = Usage {
            input_tokens: input_tokens.saturating_sub(told.input_tokens),
            output_tokens: output_tokens.saturating_sub(told.output_tokens),
            usd: (usd - told.usd).max(0.0),
        };
        let (counted, is_complete) = self.counted.entry(name.to_owned()).or_default();
        *counted += added;
        *is_complete = has_completed;
    }

    /// A person has decided that a failed step is tried again: what of it did not complete is done anew.
    /// The same of these that did.
    pub fn tried_again(&mut self, step: &str, told: &[String]) {
        let is_told = |name: &str| told.iter().any(|step| History::is_of(name, step));
        self.settle(|name, is_complete| History::is_of(name, step) && (!is_complete || is_told(name)));
    }

    /// The run is tried again: what did not complete is done anew, and these steps.
    pub fn retried(&mut self, told: &[String]) {
        let is_told = |name: &str| told.iter().any(|step| History::is_of(name, step));
        self.settle(|name, is_complete| !is_complete || is_told(name) || History::is_of_gate(name));
    }

    /// What is done anew is paid anew.
    fn settle(&mut self, is_anew: impl Fn(&str, bool) -> bool) {
        let anew = self.counted.extract_if(.., |name, (_, is_complete)| is_anew(name, *is_complete));
        anew.for_each(|(_, (usage, _))| self.settled += usage);
    }

    /// All of it.
    pub fn total(&self) -> Usage {
        let mut total = self.settled;
        self.counted.values().for_each(|(usage, _)| total += *usage);
        total
    }

    /// What is counted already of what a record of this name has cost.
    fn told(&self, name: &str) -> Usage {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let round = name.rsplit_once('#').filter(|(_, number)| is_number(number));
        let whole = History::before_gates(name).or(round.map(|(whole, _)| whole)).unwrap_or(name);
        let parts = self.counted.range(whole.to_owned()..).take_while(|(part, _)| part.starts_with(whole));
        let is_part = |part: &str| part[whole.len()..].starts_with(['[', '#', '/']) || part == name;
        let mut told = Usage::default();
        parts.filter(|(part, _)| is_part(part)).for_each(|(_, (usage, _))| told += *usage);
        told
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(status: &str, tokens: u64) -> String {
        json!({ "status": status, "usage": { "input_tokens": tokens, "output_tokens": 0, "usd": 0.5 } }).to_string()
    }

    fn tokens(spending: &Spending) -> u64 {
        spending.total().input_tokens
    }

    #[test]
    fn what_parts_have_cost_is_counted_once_whatever_has_a_record() {
        let mut all = Spending::default();
        let mut left = |name: &str, tokens: u64| {
            all.left(name, &record("COMPLETED", tokens)).unwrap();
            all.total().input_tokens
        };
        // Two elements, of which one is a workflow of two steps.
        assert_eq!((left("each[0]/a", 3), left("each[0]/b", 4), left("each[0]", 7)), (3, 7, 7));
        assert_eq!((left("each[1]", 5), left("each", 12)), (12, 12));
        // Each round has what those before it had.
        assert_eq!((left("draft#1", 2), left("draft#2", 5), left("draft", 9)), (14, 17, 21));
        // And each gate what the step had before it was asked.
        assert_eq!((left("said#gate0", 4), left("said#gate1", 6), left("said", 7)), (25, 27, 28));
        // The name of another one begins alike.
        assert_eq!(left("each2", 1), 29);
    }

    #[test]
    fn what_is_done_anew_is_paid_anew_and_what_is_taken_over_is_not() {
        let mut all = Spending::default();
        for (name, status, tokens) in [("each[0]", "COMPLETED", 3), ("each[1]", "FAILED", 4), ("each", "FAILED", 7)] {
            all.left(name, &record(status, tokens)).unwrap();
        }
        all.left("undone", &record("COMPLETED", 10)).unwrap();
        all.left("taken", &record("REUSED", 100)).unwrap();
        assert_eq!(tokens(&all), 17);
        all.retried(&["undone".to_owned()]);
        all.left("each[1]", &record("COMPLETED", 5)).unwrap();
        all.left("each", &record("COMPLETED", 8)).unwrap();
        all.left("undone", &record("COMPLETED", 10)).unwrap();
        assert_eq!(tokens(&all), 17 + 5 + 10);
    }

    #[test]
    fn what_is_noted_of_a_step_counts_until_its_record_has_it_too() {
        let noted = |tokens: u64| json!({ "usage": { "input_tokens": tokens, "output_tokens": 0, "usd": 0.5 } });
        let mut all = Spending::default();
        let mut spent = |name: &str, note: serde_json::Value| {
            all.noted(name, &note.to_string()).unwrap();
            all.total().input_tokens
        };
        // Two attempts of one step, then it waits for somebody to decide; beside it a second round.
        assert_eq!((spent("a", noted(3)), spent("a", noted(5))), (3, 5));
        assert_eq!((spent("a", json!({ "before": noted(7) })), spent("a", json!({ "before": {} }))), (7, 7));
        all.left("b#1", &record("COMPLETED", 2)).unwrap();
        all.noted("b#2", &noted(4).to_string()).unwrap();
        all.left("b", &record("COMPLETED", 6)).unwrap();
        assert_eq!(tokens(&all), 7 + 6);
        // What was paid before somebody says that it is tried again is paid.
        all.tried_again("a", &[]);
        all.left("a", &record("COMPLETED", 1)).unwrap();
        assert_eq!(tokens(&all), 7 + 6 + 1);
        let raw = |value: serde_json::Value| serde_json::value::to_raw_value(&value).unwrap();
        let before = json!({ "before": noted(2) });
        let all = [
            ("@backoff:a", noted(9)),
            ("a", serde_json::from_str(&record("FAILED", 12)).unwrap()),
            ("@wait:c", before),
        ];
        let history = History(all.into_iter().map(|(name, value)| (name.to_owned(), raw(value))).collect());
        assert_eq!(Spending::of(&history).unwrap().total().input_tokens, 14);
    }
}
