//! What is refused in a request: fields that the service does not know, and values that it does not take.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// The longest name of a field that is repeated, in characters.
const SHOWN: usize = 80;

/// The members of a body.
///
/// # Errors
/// When it is no JSON object.
pub fn object(body: &Value) -> Result<&Map<String, Value>, Refusal> {
    body.as_object().ok_or_else(|| Refusal::invalid("The body of the request is no JSON object."))
}

/// Refuses members that are not among `known`.
///
/// # Errors
/// The first of them, in the words that `told` makes.
pub fn fields(body: &Map<String, Value>, known: &[&str], told: impl Fn(&str) -> String) -> Result<(), Refusal> {
    match body.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let shown: String = name.chars().take(SHOWN).collect();
            Err(Refusal::field(&shown, told(&shown)))
        }
        None => Ok(()),
    }
}

/// A text that must be there.
///
/// # Errors
/// When it is not, or is none.
pub fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    let text = body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| Refusal::field(name, format!("{name}: Field required")))
}

/// The messages, of which there must be one, each with a role that is among `roles`.
///
/// # Errors
/// When they are not there, or one is none.
pub fn messages<'a>(body: &'a Map<String, Value>, roles: &[&str]) -> Result<&'a [Value], Refusal> {
    let Some(Value::Array(messages)) = body.get("messages") else {
        return Err(Refusal::field("messages", "messages: Field required"));
    };
    if messages.is_empty() {
        return Err(Refusal::field("messages", "messages: at least one message is required"));
    }
    for (n, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if !roles.contains(&role) {
            let told = format!("messages.{n}.role: Input should be {}", roles.join(" or "));
            return Err(Refusal::field("messages", told));
        }
        let has_content = message.get("content").is_some_and(|c| c.is_string() || c.is_array());
        if !has_content && message.get("tool_calls").is_none() {
            return Err(Refusal::field("messages", format!("messages.{n}.content: Field required")));
        }
    }
    Ok(messages)
}

/// A number within bounds, if it is there.
///
/// # Errors
/// When it is none.
pub fn number(body: &Map<String, Value>, name: &str, bounds: (f64, f64)) -> Result<(), Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64().is_some_and(|n| (bounds.0..=bounds.1).contains(&n)) => Ok(()),
        Some(_) => {
            Err(Refusal::field(name, format!("{name}: Input should be a number from {} to {}", bounds.0, bounds.1)))
        }
    }
}
