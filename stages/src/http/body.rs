//! What is made of the body of an answer.

use bourn_engine::{Error, Result};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// The JSON document when the headers say that it is one, otherwise the text.
pub fn auto(headers: &HeaderMap, body: Vec<u8>) -> Result<Value> {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if (kind == "application/json" || kind.ends_with("+json")) && !body.is_empty() { json(&body) } else { text(body) }
}

/// The body as text.
pub fn text(body: Vec<u8>) -> Result<Value> {
    let text = String::from_utf8(body);
    text.map(Value::String).map_err(|e| Error::validation(format!("the answer is no UTF-8: {}", e.utf8_error())))
}

/// The body as a JSON document.
pub fn json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|e| {
        let start: String = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        Error::validation(format!("the answer is no JSON document: {e}; it begins with `{start}`"))
    })
}
