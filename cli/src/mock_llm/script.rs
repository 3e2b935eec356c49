//! The script of `mock-llm`: rules, of which the first that fits a question says what becomes of it.

use std::path::Path;
use std::time::Duration;

use bourn_engine::data::units::Interval;
use bourn_engine::{Error, Result};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::ask::Asked;

/// The longest script, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// What is answered to what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// The models that there are; any if none is named.
    pub models: Vec<String>,
    /// The rules, the first that fits first.
    pub rules: Vec<Rule>,
}

/// What becomes of the questions that it fits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which questions; all if it is not said.
    #[serde(default, rename = "match")]
    pub fits: Match,
    /// What is answered; an echo of the question if neither this nor a fault is said.
    #[serde(default)]
    pub answer: Option<Answer>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Only for so many of the questions that it fits, the first ones.
    #[serde(default)]
    pub times: Option<u64>,
    /// Only for every so-manieth of the questions that it fits.
    #[serde(default)]
    pub one_in: Option<u64>,
    /// How long it takes, in place of `--latency`.
    #[serde(default)]
    pub latency: Option<Interval>,
}

/// Which questions a rule is for: all that is said must fit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// A regular expression, found in the last text of the user.
    pub text: Option<Pattern>,
    /// A regular expression, found in the name of the model.
    pub model: Option<Pattern>,
}

/// A regular expression.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// A text.
    pub text: Option<String>,
    /// A JSON document, as text.
    pub json: Option<Value>,
    /// Calls of tools, behind the text if there is one.
    pub tool_calls: Vec<ToolCall>,
}

/// A call of a tool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The name of the tool.
    pub name: String,
    /// What it is given.
    #[serde(default)]
    pub input: Value,
}

/// What goes wrong; a status is an error of the service, with `retry_after` in seconds if it is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// An error with this status.
    pub status: Option<u16>,
    /// What its header `retry-after` says, in seconds.
    pub retry_after: Option<u64>,
    /// Something that spoils an answer with status 200.
    pub kind: Option<Spoiled>,
}

/// How an answer is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoiled {
    /// It is no JSON at all.
    Rubbish,
    /// The document breaks off in the middle, and the answer says that this was all.
    HalfJson,
    /// No answer comes.
    Hang,
    /// The answer begins and never ends.
    Endless,
    /// The connection is cut in the middle.
    Cut,
    /// Half of the answer comes, and then nothing.
    Stall,
    /// The service fails in the middle of a streamed answer, with the event of an error; otherwise before it, with status 200.
    Error,
    /// All of the answer comes, byte by byte.
    Dribble,
}

/// What becomes of one question.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is answered; none for the echo.
    pub answer: Option<Answer>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// How long it takes.
    pub latency: Option<Duration>,
}

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is no script; the message says the line and column.
    pub fn read(path: &Path) -> Result<Self, crate::failure::Failure> {
        let at = |e: Error| crate::failure::Failure::Invalid(e.context(path.display()));
        #[expect(clippy::disallowed_methods, reason = "the server stands outside of the engine")]
        let text = std::fs::read_to_string(path).map_err(|e| at(e.into()))?;
        if text.len() as u64 > BYTES_MAX {
            return Err(at(Error::validation(format!("a script has at most {BYTES_MAX} bytes"))));
        }
        Self::parse(&text).map_err(at)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When it is no script.
    pub fn parse(text: &str) -> Result<Self> {
        let script: Self = serde_saphyr::from_str(text).map_err(|e| Error::validation(e.to_string()))?;
        for (n, rule) in script.rules.iter().enumerate() {
            if let Some(what) = rule.wrong() {
                return Err(Error::validation(format!("rule {} {what}", n + 1)));
            }
        }
        Ok(script)
    }

    /// What becomes of a question. `seen` counts the questions that each rule has fitted.
    pub fn judge(&self, asked: &Asked, seen: &mut Vec<u64>) -> Verdict {
        seen.resize(self.rules.len(), 0);
        for (rule, seen) in self.rules.iter().zip(seen) {
            if !rule.fits.fits(asked) {
                continue;
            }
            *seen += 1;
            let is_due = rule.times.is_none_or(|times| *seen <= times)
                && rule.one_in.is_none_or(|one_in| seen.is_multiple_of(one_in));
            if is_due {
                let latency = rule.latency.map(|Interval(time)| time);
                return Verdict { answer: rule.answer.clone(), fault: rule.fault.clone(), latency };
            }
        }
        Verdict::default()
    }
}

impl Rule {
    fn wrong(&self) -> Option<&'static str> {
        if self.answer.is_some() && self.fault.is_some() {
            return Some("has an `answer` and a `fault`: say one of them");
        }
        if self.one_in == Some(0) || self.times == Some(0) {
            return Some("has a zero: `times` and `one_in` begin at 1");
        }
        let fault = self.fault.as_ref()?;
        match (fault.status, fault.kind) {
            (Some(_), Some(_)) => Some("has a fault with a `status` and a `kind`: say one of them"),
            (None, None) => Some("has a fault without a `status` or a `kind`"),
            (Some(400..=599), None) | (None, Some(_)) => None,
            _ => Some("has a fault whose `status` is none from 400 to 599"),
        }
    }
}

impl Match {
    fn fits(&self, asked: &Asked) -> bool {
        let found = |pattern: &Option<Pattern>, text: &str| pattern.as_ref().is_none_or(|p| p.0.is_match(text));
        found(&self.text, &asked.text) && found(&self.model, &asked.model)
    }
}
