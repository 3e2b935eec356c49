//! The body of an answer, read up to a limit.

use bourn_engine::{Error, Kind, Result};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use super::errors;

/// Reads a body.
///
/// # Errors
/// When it has more than `max` bytes, or breaks off.
pub async fn read(mut response: Response, max: usize) -> Result<Vec<u8>> {
    let too_large = || Error::new(Kind::Budget, format!("the answer has more than {max} bytes (`response_max`)"));
    if response.content_length().is_some_and(|n| n > max as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| errors::transport("reading the answer", e))? {
        if body.len() + chunk.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

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
