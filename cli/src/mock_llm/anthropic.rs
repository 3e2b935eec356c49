//! Anthropic's Messages: what is asked, and what is answered.

use serde_json::{Map, Value, json};

use super::answer::{Said, Stop};
use super::ask::{Asked, content, texts, tokens, tool_tokens};
use super::refusal::Refusal;
use super::strict;

/// The fields of a request.
const FIELDS: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "service_tier",
    "stop_sequences",
    "metadata",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "container",
    "context_management",
    "mcp_servers",
];
const EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];
/// The models that `GET /v1/models` lists when the script names none, and whether each thinks as it likes (`adaptive`) only.
pub const MODELS: &[(&str, bool)] =
    &[("claude-opus-5", true), ("claude-sonnet-5", true), ("claude-opus-4-8", true), ("claude-haiku-4-5", false)];
/// A piece of a streamed answer, in characters.
const PIECE: usize = 20;

/// Reads a request.
///
/// # Errors
/// When it is none, in the service's words.
pub fn read(body: &Value, strict: bool) -> Result<Asked, Refusal> {
    let object = strict::object(body)?;
    if strict {
        strict::fields(object, FIELDS, |name| format!("{name}: Extra inputs are not permitted"))?;
        strict::number(object, "temperature", (0.0, 1.0))?;
        strict::number(object, "top_p", (0.0, 1.0))?;
    }
    let model = strict::text(object, "model")?;
    let wrong = match object.get("max_tokens") {
        None => "max_tokens: Field required",
        Some(_) => "max_tokens: Input should be a whole number greater than or equal to 1",
    };
    let max_tokens = object.get("max_tokens").and_then(Value::as_u64).filter(|n| *n > 0);
    let max_tokens = max_tokens.ok_or_else(|| Refusal::field("max_tokens", wrong))?;
    let messages = strict::messages(object, &["user", "assistant"])?;
    if strict {
        thinking(object, model, max_tokens)?;
    }
    let output = object.get("output_config");
    let effort = output.and_then(|o| o.get("effort")).and_then(Value::as_str);
    if strict && effort.is_some_and(|e| !EFFORTS.contains(&e)) {
        let told = format!("output_config.effort: Input should be one of {}", EFFORTS.join(", "));
        return Err(Refusal::field("output_config", told));
    }
    let format = output.and_then(|o| o.get("format")).filter(|f| f["type"] == "json_schema");
    let system = object.get("system").map(content);
    let last = messages.iter().rev().find(|m| m["role"] == "user");
    let read: u64 = messages.iter().map(|m| tokens(&content(&m["content"]))).sum();
    Ok(Asked {
        model: model.to_owned(),
        text: last.map(|m| content(&m["content"])).unwrap_or_default(),
        input_tokens: read + system.as_deref().map_or(0, tokens) + tool_tokens(body),
        system,
        max_tokens: Some(max_tokens),
        stop: texts(object.get("stop_sequences")),
        stream: object.get("stream").and_then(Value::as_bool).unwrap_or(false),
        stream_usage: true,
        json: format.is_some(),
        schema: format.and_then(|f| f.get("schema")).cloned(),
        effort: effort.map(str::to_owned),
    })
}

/// Models of today think as much as they find right; only older ones are given a number of tokens for it.
fn thinking(body: &Map<String, Value>, model: &str, max_tokens: u64) -> Result<(), Refusal> {
    let Some(thinking) = body.get("thinking") else { return Ok(()) };
    let refused = |message: String| Err(Refusal::field("thinking", message));
    match thinking["type"].as_str() {
        Some("adaptive" | "disabled") if thinking.get("budget_tokens").is_none() => Ok(()),
        Some("adaptive" | "disabled") => refused("thinking.budget_tokens: Extra inputs are not permitted".into()),
        Some("enabled") if is_adaptive_only(model) => refused(format!(
            "\"thinking.type.enabled\" is not supported for {model}. Use \"thinking.type.adaptive\" and \
             \"output_config.effort\" to control thinking behavior."
        )),
        Some("enabled") => match thinking["budget_tokens"].as_u64() {
            Some(1_024..) if thinking["budget_tokens"].as_u64() < Some(max_tokens) => Ok(()),
            Some(1_024..) => refused("`max_tokens` must be greater than `thinking.budget_tokens`.".into()),
            _ => refused("thinking.budget_tokens: Input should be greater than or equal to 1024".into()),
        },
        _ => refused("thinking.type: Input should be 'adaptive', 'enabled' or 'disabled'".into()),
    }
}

/// Opus 4.7 and what came after it.
fn is_adaptive_only(model: &str) -> bool {
    let listed = MODELS.iter().find(|(name, _)| *name == model);
    listed.map_or_else(
        || ["claude-opus-4-7", "claude-opus-5", "claude-sonnet-5"].iter().any(|m| model.starts_with(m)),
        |m| m.1,
    )
}

/// The answer as one document.
pub fn answer(asked: &Asked, said: &Said, id: &str) -> Value {
    let mut blocks = Vec::new();
    if !said.text.is_empty() || said.tool_calls.is_empty() {
        blocks.push(json!({ "type": "text", "text": said.text }));
    }
    let tool = |(n, call): (usize, &super::script::ToolCall)| json!({ "type": "tool_use", "id": format!("toolu_{id}_{n}"), "name": call.name, "input": input(&call.input) });
    blocks.extend(said.tool_calls.iter().enumerate().map(tool));
    let mut message = head(asked, id, said.output_tokens);
    message["content"] = Value::Array(blocks);
    message["stop_reason"] = reason(&said.stop);
    message["stop_sequence"] = sequence(&said.stop);
    message
}

/// The answer in pieces: names of events and their data.
pub fn events(asked: &Asked, said: &Said, id: &str) -> Vec<(&'static str, Value)> {
    let whole = answer(asked, said, id);
    let mut events = vec![
        ("message_start", json!({ "type": "message_start", "message": head(asked, id, 1) })),
        ("ping", json!({ "type": "ping" })),
    ];
    for (n, block) in whole["content"].as_array().into_iter().flatten().enumerate() {
        let (mut start, deltas): (Value, Vec<Value>) = (block.clone(), deltas(block));
        if block["type"] == "tool_use" {
            start["input"] = json!({});
        } else {
            start["text"] = json!("");
        }
        events.push((
            "content_block_start",
            json!({ "type": "content_block_start", "index": n, "content_block": start }),
        ));
        let delta =
            |delta| ("content_block_delta", json!({ "type": "content_block_delta", "index": n, "delta": delta }));
        events.extend(deltas.into_iter().map(delta));
        events.push(("content_block_stop", json!({ "type": "content_block_stop", "index": n })));
    }
    let delta = json!({ "stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"] });
    let usage = json!({ "output_tokens": said.output_tokens });
    events.push(("message_delta", json!({ "type": "message_delta", "delta": delta, "usage": usage })));
    events.push(("message_stop", json!({ "type": "message_stop" })));
    events
}

fn deltas(block: &Value) -> Vec<Value> {
    if block["type"] == "tool_use" {
        let json = block["input"].to_string();
        return pieces(&json).map(|part| json!({ "type": "input_json_delta", "partial_json": part })).collect();
    }
    let text = block["text"].as_str().unwrap_or_default();
    pieces(text).map(|part| json!({ "type": "text_delta", "text": part })).collect()
}

/// A text in pieces of some characters.
pub fn pieces(text: &str) -> impl Iterator<Item = String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(PIECE).map(|part| part.iter().collect()).collect::<Vec<String>>().into_iter()
}

fn head(asked: &Asked, id: &str, output_tokens: u64) -> Value {
    json!({
        "id": format!("msg_{id}"),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": asked.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    })
}

fn input(input: &Value) -> Value {
    if input.is_null() { json!({}) } else { input.clone() }
}

fn reason(stop: &Stop) -> Value {
    json!(match stop {
        Stop::End => "end_turn",
        Stop::Length => "max_tokens",
        Stop::Text(_) => "stop_sequence",
        Stop::Tools => "tool_use",
    })
}

fn sequence(stop: &Stop) -> Value {
    if let Stop::Text(text) = stop { json!(text) } else { Value::Null }
}

/// What `GET /v1/models` lists.
pub fn models(listed: &[String]) -> Value {
    let known = MODELS.iter().map(|(name, _)| (*name).to_owned());
    let names: Vec<String> = if listed.is_empty() { known.collect() } else { listed.to_vec() };
    let supported = |is: bool| json!({ "supported": is });
    let one = |name: &String| {
        let adaptive = is_adaptive_only(name);
        json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
            "capabilities": {
                "batch": supported(false),
                "effort": supported(true),
                "structured_outputs": supported(true),
                "thinking": {
                    "supported": true,
                    "types": { "adaptive": supported(adaptive), "enabled": supported(!adaptive) },
                },
            },
        })
    };
    let (first, last) = (names.first(), names.last());
    json!({ "data": names.iter().map(one).collect::<Vec<_>>(), "has_more": false, "first_id": first, "last_id": last })
}
