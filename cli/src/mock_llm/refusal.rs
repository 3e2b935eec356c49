//! Errors in the form of the service that is spoken.

use serde_json::{Value, json};

use super::limits::{Exceeded, What};

/// Whose words are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's Messages.
    Anthropic,
    /// What is compatible with OpenAI.
    OpenAi,
}

/// Why a request gets no answer.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// It is not what the service takes.
    Invalid { message: String, param: Option<String> },
    /// It has no key, or a wrong one.
    Key(&'static str),
    /// There is no such model, or no such path.
    NotFound(String),
    /// It is too large.
    TooLarge,
    /// A limit is reached.
    Limited(Exceeded),
    /// The script says so.
    Status { status: u16, retry_after: Option<u64> },
}

impl Refusal {
    /// Something is wrong with the whole request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: None }
    }

    /// Something is wrong with a field.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: Some(name.into()) }
    }

    /// The status of HTTP.
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid { .. } => 400,
            Self::Key(_) => 401,
            Self::NotFound(_) => 404,
            Self::TooLarge => 413,
            Self::Limited(_) => 429,
            Self::Status { status, .. } => *status,
        }
    }

    /// The header `retry-after`, in whole seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limited(exceeded) => Some(whole(exceeded.wait.as_secs_f64().ceil().max(1.0))),
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The body.
    pub fn body(&self, dialect: Dialect) -> Value {
        let message = match self {
            Self::Invalid { message, .. } => message.clone(),
            Self::Key(message) => (*message).to_owned(),
            Self::NotFound(what) => what.clone(),
            Self::TooLarge => "Request exceeds the maximum allowed number of bytes.".into(),
            Self::Limited(Exceeded { what, per_minute, .. }) => {
                format!(
                    "This request would exceed the rate limit of {per_minute} {} per minute.",
                    what.name().replace('-', " ")
                )
            }
            Self::Status { status: 529, .. } => "Overloaded".into(),
            Self::Status { status, .. } => format!("The script of mock-llm says status {status}."),
        };
        match dialect {
            Dialect::Anthropic => json!({ "type": "error", "error": { "type": self.kind(), "message": message } }),
            Dialect::OpenAi => {
                let (kind, code) = self.kind_and_code();
                let param = if let Self::Invalid { param, .. } = self { param.as_deref() } else { None };
                json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
            }
        }
    }

    /// Anthropic's `error.type`.
    fn kind(&self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            500..=599 => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// OpenAI's `error.type` and `error.code`.
    fn kind_and_code(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Key(_) => ("invalid_request_error", Some("invalid_api_key")),
            Self::NotFound(_) => ("invalid_request_error", Some("model_not_found")),
            Self::Limited(Exceeded { what: What::Requests, .. }) | Self::Status { status: 429, .. } => {
                ("requests", Some("rate_limit_exceeded"))
            }
            Self::Limited(_) => ("tokens", Some("rate_limit_exceeded")),
            Self::Status { status: 500.., .. } => ("server_error", None),
            _ => ("invalid_request_error", None),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is at least 1, and a wait in a minute or so"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}
