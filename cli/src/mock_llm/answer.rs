//! What is answered: what the script says, or an echo that is the same each time.

use bourn_stages::model::{Prompt, mock};
use serde_json::{Map, Value, json};

use super::ask::{Asked, tokens};
use super::script::{Answer, ToolCall};

/// How deep a document made for a schema goes.
const DEPTH_MAX: u8 = 16;

/// An answer.
#[derive(Clone, Debug)]
pub struct Said {
    /// The text; it may be empty when tools are called.
    pub text: String,
    /// Calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ends.
    pub stop: Stop,
    /// What is written in all.
    pub output_tokens: u64,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All is said.
    End,
    /// `max_tokens` is reached.
    Length,
    /// This text came, at which it was to end.
    Text(String),
    /// Tools are called.
    Tools,
}

/// Answers a question as the script says, or with the echo.
pub fn say(asked: &Asked, answer: Option<Answer>) -> Said {
    let scripted = answer.is_some();
    let Answer { text, json, tool_calls } = answer.unwrap_or_default();
    let text = match (text, json) {
        (Some(text), _) => text,
        (None, Some(document)) => document.to_string(),
        (None, None) if scripted && !tool_calls.is_empty() => String::new(),
        (None, None) => echo(asked),
    };
    let mut said = cut(text, asked);
    said.output_tokens += tool_calls.iter().map(|c| tokens(&c.name) + tokens(&c.input.to_string())).sum::<u64>();
    if !tool_calls.is_empty() {
        said.stop = Stop::Tools;
        said.tool_calls = tool_calls;
    }
    said
}

/// The same as the mock model in the process says to the same question.
fn echo(asked: &Asked) -> String {
    if let Some(schema) = &asked.schema {
        return instance(schema, schema, 0).to_string();
    }
    mock::echo(&Prompt {
        model: Some(asked.model.clone()),
        system: asked.system.clone(),
        text: asked.text.clone(),
        max_tokens: None,
        json: asked.json,
    })
}

fn cut(text: String, asked: &Asked) -> Said {
    let found = asked.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|s| Some((text.find(s.as_str())?, s)));
    let (text, stop) = match found.min_by_key(|(at, _)| *at) {
        Some((at, stop)) => (text[..at].to_owned(), Stop::Text(stop.clone())),
        None => (text, Stop::End),
    };
    let output_tokens = tokens(&text);
    match asked.max_tokens {
        Some(max) if output_tokens > max => {
            let kept = usize::try_from(max).unwrap_or(usize::MAX).saturating_mul(4);
            let text = text.chars().take(kept).collect();
            Said { text, tool_calls: Vec::new(), stop: Stop::Length, output_tokens: max }
        }
        _ => Said { text, tool_calls: Vec::new(), stop, output_tokens },
    }
}

/// The smallest document that fits the usual words of a schema.
fn instance(schema: &Value, root: &Value, depth: u8) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    let below = |schema: &Value| instance(schema, root, depth + 1);
    let first = |key: &str| schema.get(key).and_then(Value::as_array).and_then(|list| list.first());
    if let Some(value) = schema.get("const").or_else(|| schema.get("default")).or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(target) =
        schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')))
    {
        return below(target);
    }
    if let Some(choice) = ["anyOf", "oneOf", "allOf"].into_iter().find_map(first) {
        return below(choice);
    }
    let kind = schema.get("type").map_or("object", |kind| match kind {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        kind => kind.as_str().unwrap_or("null"),
    });
    let least = |key: &str| schema.get(key).cloned();
    match kind {
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten().map(|(name, schema)| (name.clone(), below(schema)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        "array" => {
            let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(1_000);
            (0..count).map(|_| schema.get("items").map_or(Value::Null, below)).collect()
        }
        "string" => json!("mock"),
        "integer" | "number" => least("minimum").unwrap_or(json!(0)),
        "boolean" => json!(false),
        _ => Value::Null,
    }
}
