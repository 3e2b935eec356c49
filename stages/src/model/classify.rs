//! What an error of a model's service means: a table over the status, Anthropic's `error.type` and OpenAI's `error.code`.

use std::time::Duration;

use bourn_engine::data::secret::shortened;
use bourn_engine::time::Timestamp;
use bourn_engine::{Error, Kind};
use bourn_http::errors::retry_after;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// The most of a message that is shown, in characters.
const SHOWN: usize = 300;

/// An answer that is an error.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// What was asked, as it may be shown.
    pub asked: &'a str,
    /// The status of HTTP.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, as far as it was read.
    pub body: &'a [u8],
    /// The key, which is not to be repeated.
    pub key: &'a str,
}

/// Which errors a row of the table is for; the first that fits counts.
struct Row {
    /// The statuses, from and to.
    statuses: (u16, u16),
    /// `error.type` or `error.code`, one of them; any if there is none.
    words: &'static [&'static str],
    /// A part of the message in lower case, one of them; any if there is none.
    parts: &'static [&'static str],
    kind: Kind,
    again: bool,
}

const fn row(statuses: (u16, u16), words: &'static [&'static str], kind: Kind, again: bool) -> Row {
    Row { statuses, words, parts: &[], kind, again }
}

const fn says(statuses: (u16, u16), parts: &'static [&'static str], kind: Kind, again: bool) -> Row {
    Row { statuses, words: &[], parts, kind, again }
}

/// Sources: Anthropic, "Errors"; OpenAI, "Error codes".
const TABLE: &[Row] = &[
    // Money first: it comes as 400, 402, 403 and 429, and waiting does not bring it.
    row(
        (400, 429),
        &["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"],
        Kind::Budget,
        false,
    ),
    says(
        (400, 429),
        &["credit balance is too low", "api usage limits", "exceeded your current quota"],
        Kind::Budget,
        false,
    ),
    row((402, 402), &[], Kind::Budget, false),
    row((400, 499), &["content_filter", "content_policy_violation"], Kind::Guardrail, false),
    says((400, 499), &["content filtering policy", "content management policy"], Kind::Guardrail, false),
    // Larger than the limit itself: it never fits.
    says((429, 429), &["request too large"], Kind::Validation, false),
    row((429, 429), &[], Kind::RateLimit, true),
    row((400, 599), &["rate_limit_exceeded", "rate_limit_error"], Kind::RateLimit, true),
    row(
        (400, 599),
        &["overloaded_error", "slow_down", "engine_overloaded", "server_overloaded"],
        Kind::Overloaded,
        true,
    ),
    says((500, 599), &["overloaded", "over capacity"], Kind::Overloaded, true),
    row((503, 503), &[], Kind::Overloaded, true),
    row((529, 529), &[], Kind::Overloaded, true),
    row((401, 401), &[], Kind::Permission, false),
    row((403, 403), &[], Kind::Permission, false),
    row((400, 400), &["invalid_api_key", "authentication_error", "permission_error"], Kind::Permission, false),
    row((404, 404), &[], Kind::NotFound, false),
    row((400, 400), &["model_not_found", "not_found_error"], Kind::NotFound, false),
    row((408, 408), &[], Kind::Timeout, true),
    row((400, 599), &["timeout_error"], Kind::Timeout, true),
    row((504, 504), &[], Kind::Timeout, true),
    // Somebody else changes the same thing at the moment, or it is too early.
    row((409, 409), &[], Kind::Io, true),
    row((425, 425), &[], Kind::Io, true),
    row((501, 501), &[], Kind::Unsupported, false),
    row((500, 599), &[], Kind::Io, true),
];

/// What it means.
pub fn classify(failed: Failed<'_>, now: Timestamp) -> Error {
    let Failed { asked, status, headers, body, key } = failed;
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let inner = if document["error"].is_object() { &document["error"] } else { &document };
    let word = |name: &str| inner[name].as_str().unwrap_or_default();
    let text = match document["error"].as_str().or_else(|| inner["message"].as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).trim().to_owned(),
    };
    let words = [word("type"), word("code")];
    let found = TABLE.iter().find(|row| row.fits(status, words, &text.to_lowercase()));
    let (kind, again) = found.map_or((Kind::Validation, false), |row| (row.kind, row.again));
    let named = words.iter().rev().find(|word| !word.is_empty()).map(|word| format!(" {word}")).unwrap_or_default();
    let error = Error::new(kind, format!("{asked}: {status}{named}{}", shown(&text, key)));
    // The clients of both services heed it.
    let again = match headers.get("x-should-retry").and_then(|v| v.to_str().ok()) {
        Some("true") => true,
        Some("false") => false,
        _ => again,
    };
    match wait(headers, now) {
        _ if !again => error.permanent(),
        Some(wait) => error.retry_after(wait),
        None => error.transient(),
    }
}

/// The status that an error stands for which came with 200: a gateway tells so of the service behind it, and a service when it fails in the
/// middle of its answer. What says nothing of itself is a fault of the service.
pub fn status(error: &Value) -> u16 {
    let number = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    let word = |name: &str| error[name].as_str().and_then(|word| STATUSES.iter().find(|(known, _)| *known == word));
    number.or_else(|| word("code").or_else(|| word("type")).map(|(_, status)| *status)).unwrap_or(500)
}

/// `error.type` and `error.code` of either service, and the status that they come with elsewhere.
const STATUSES: &[(&str, u16)] = &[
    ("invalid_api_key", 401),
    ("model_not_found", 404),
    ("insufficient_quota", 429),
    ("rate_limit_exceeded", 429),
    ("invalid_request_error", 400),
    ("authentication_error", 401),
    ("billing_error", 402),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("request_too_large", 413),
    ("rate_limit_error", 429),
    ("timeout_error", 504),
    ("overloaded_error", 529),
];

impl Row {
    fn fits(&self, status: u16, words: [&str; 2], text: &str) -> bool {
        (self.statuses.0..=self.statuses.1).contains(&status)
            && (self.words.is_empty() || self.words.iter().any(|word| words.contains(word)))
            && (self.parts.is_empty() || self.parts.iter().any(|part| text.contains(part)))
    }
}

fn shown(text: &str, key: &str) -> String {
    let text = if key.is_empty() { text.to_owned() } else { text.replace(key, "…") };
    let text = shortened(&text, SHOWN).replace(char::is_control, " ");
    if text.is_empty() { text } else { format!(": {text}") }
}

/// How long the service asks to wait; OpenAI says it in milliseconds too.
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let millis = headers.get("retry-after-ms").and_then(|v| v.to_str().ok()?.parse::<f64>().ok());
    let millis = millis.filter(|ms| ms.is_finite() && (0.0..=86_400_000.0).contains(ms));
    millis.map(|ms| Duration::from_secs_f64(ms / 1_000.0)).or_else(|| retry_after(headers, now))
}

#[cfg(test)]
mod tests;
