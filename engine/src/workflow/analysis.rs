//! What a failure is and what can be done about it: a function of the error, how often it was tried, what its run has left, and how that
//! stands. It asks nobody.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::Failure;
use crate::journal::{History, RunState};

/// A class of failures.
struct Class {
    name: &'static str,
    /// In words.
    title: &'static str,
    /// Whether the same may go well another time.
    may_pass: bool,
    advice: &'static str,
}

const fn class(name: &'static str, title: &'static str, may_pass: bool, advice: &'static str) -> Class {
    Class { name, title, may_pass, advice }
}

/// All of them; the last one is for what is none of the others.
const CLASSES: [Class; 10] = [
    class(
        "transient",
        "a passing failure that did not pass",
        true,
        "see whether the service is there and well, then recover",
    ),
    class(
        "rate_limit",
        "too many requests",
        true,
        "ask less at once (`limits`, `max_concurrency`), or later, then recover",
    ),
    class("timeout", "it took longer than allowed", true, "see whether the service is there and well, then recover"),
    class(
        "validation",
        "the data does not fit",
        false,
        "mend the input or what the step before gave (`bourn runs fork --set`)",
    ),
    class(
        "budget",
        "a limit was reached",
        false,
        "raise the limit that is told (a changed spec takes up what is done by `bourn run --from-checkpoint`), or recover with a larger `--budget`",
    ),
    class(
        "guardrail",
        "refused by a rule of conduct",
        false,
        "ask otherwise, or somebody else (`fallback`), then recover",
    ),
    class("canceled", "stopped", false, "recover, if it is wanted after all"),
    class("lost_worker", "who did the work was ended", true, "see what ended it (memory, an operator), then recover"),
    class("engine", "a fault of the engine", false, "this is a fault of Bourn: tell us, with the history"),
    class("permanent", "a lasting failure", false, "mend what the message says, then recover"),
];

/// What a failure is, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureAnalysis {
    /// As in the failure.
    pub class: String,
    /// The class in words.
    pub title: String,
    /// Whether the same may go well another time.
    pub may_pass: bool,
    /// Whether it was tried as often as it may be.
    pub is_exhausted: bool,
    /// What comes next.
    pub next: Next,
    /// What somebody can do about it.
    pub advice: String,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// It is tried again by itself.
    Retry,
    /// A person decides.
    Decide,
    /// Its run goes on without it.
    GoOn,
    /// Somebody may try the run again.
    Recover,
}

/// What a failure of `step` is in a run that has left this and stands like this.
pub fn analyze(failure: &Failure, step: &str, history: &History, state: RunState) -> FailureAnalysis {
    let [.., other] = &CLASSES;
    let class = CLASSES.iter().find(|class| class.name == failure.class).unwrap_or(other);
    let next = match () {
        () if state.has_ended() && state != RunState::Completed => Next::Recover,
        () if history.0.contains_key(&History::backoff(step)) && !history.0.contains_key(step) => Next::Retry,
        () if history.0.contains_key(&History::wait(step)) && !history.0.contains_key(step) => Next::Decide,
        () => Next::GoOn,
    };
    let is_exhausted = class.may_pass && next != Next::Retry;
    let advice = match next {
        Next::Retry => "nothing for now: it is tried again by itself".to_owned(),
        Next::Decide => "decide about it: `bourn inbox`".to_owned(),
        Next::Recover if is_exhausted && failure.attempts == 1 => {
            format!("{}; it was tried once, and `retry` tries it more often", class.advice)
        }
        Next::GoOn | Next::Recover => class.advice.to_owned(),
    };
    let (class, title, may_pass) = (failure.class.clone(), class.title.to_owned(), class.may_pass);
    FailureAnalysis { class, title, may_pass, is_exhausted, next, advice }
}

/// A class in words.
pub(super) fn title(class: &str) -> &'static str {
    let [.., other] = &CLASSES;
    CLASSES.iter().find(|known| known.name == class).unwrap_or(other).title
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;

    use super::*;
    use crate::error::{Error, Kind};

    fn of(error: &Error, attempts: u32, history: &[String], state: RunState) -> (String, bool, bool, Next) {
        let failure = Failure { class: error.class().into(), message: error.to_string(), attempts, at: None };
        let entry = |name: &String| (name.clone(), RawValue::from_string("{}".into()).unwrap());
        let history = History(history.iter().map(entry).collect());
        let FailureAnalysis { class, may_pass, is_exhausted, next, .. } = analyze(&failure, "s", &history, state);
        (class, may_pass, is_exhausted, next)
    }

    #[test]
    fn each_error_is_what_the_table_says() {
        let over = RunState::Failed;
        let table = [
            (Error::new(Kind::Other, "x").transient(), "transient", true),
            (Error::new(Kind::Io, "x").retry_after(Duration::from_secs(9)), "transient", true),
            (Error::new(Kind::Overloaded, "529"), "transient", true),
            (Error::new(Kind::RateLimit, "429"), "rate_limit", true),
            (Error::new(Kind::Timeout, "late"), "timeout", true),
            (std::io::Error::new(std::io::ErrorKind::TimedOut, "x").into(), "timeout", true),
            (std::io::Error::new(std::io::ErrorKind::ConnectionReset, "x").into(), "transient", true),
            (Error::validation("ended with status 1"), "validation", false),
            (Error::new(Kind::LostWorker, "signal 9"), "lost_worker", true),
            (Error::new(Kind::Budget, "x"), "budget", false),
            (Error::new(Kind::Guardrail, "x"), "guardrail", false),
            (Error::new(Kind::Canceled, "x"), "canceled", false),
            (Error::engine("x"), "engine", false),
            (Error::new(Kind::NotFound, "404"), "permanent", false),
            (Error::new(Kind::Permission, "403"), "permanent", false),
            (Error::unsupported("x"), "permanent", false),
        ];
        for (error, class, may_pass) in table {
            let wanted = (class.to_owned(), may_pass, may_pass, Next::Recover);
            assert_eq!(of(&error, 3, &[], over), wanted, "{error:?}");
        }
        // Each class has words of its own.
        let titles: std::collections::BTreeSet<_> = CLASSES.iter().map(|class| title(class.name)).collect();
        assert_eq!((titles.len(), title("what?")), (CLASSES.len(), "a lasting failure"));
    }

    #[test]
    fn what_comes_next_follows_the_history_and_how_the_run_stands() {
        let error = Error::new(Kind::RateLimit, "429");
        let next = |history: &[String], state| of(&error, 1, history, state).3;
        assert_eq!(next(&[History::backoff("s")], RunState::Waiting), Next::Retry);
        assert_eq!(next(&[History::backoff("s"), "s".into()], RunState::Running), Next::GoOn);
        assert_eq!(next(&[History::wait("s")], RunState::Waiting), Next::Decide);
        assert_eq!(next(&["s".into()], RunState::Completed), Next::GoOn);
        assert_eq!(next(&["s".into()], RunState::TimedOut), Next::Recover);
        let failure = |attempts| Failure { class: "timeout".into(), message: "late".into(), attempts, at: None };
        let advice = |attempts| analyze(&failure(attempts), "s", &History::default(), RunState::Failed).advice;
        assert!(advice(1).ends_with("`retry` tries it more often") && !advice(2).contains("more often"));
    }
}
