//! What is compatible with OpenAI: chat completions and embeddings.

use bourn_stages::embed::mock::vector;
use serde_json::{Value, json};

use super::answer::{Said, Stop};
use super::anthropic::pieces;
use super::ask::{Asked, content, texts, tokens, tool_tokens};
use super::refusal::Refusal;
use super::strict;

/// The fields of a request for a completion.
const CHAT: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "seed",
    "user",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "store",
    "metadata",
    "service_tier",
    "modalities",
    "prediction",
    "verbosity",
    "safety_identifier",
    "prompt_cache_key",
];
/// The fields of a request for embeddings.
const EMBEDDINGS: &[&str] = &["model", "input", "dimensions", "encoding_format", "user"];
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
/// The models that `GET /v1/models` lists when the script names none.
const MODELS: &[&str] = &["gpt-mock", "embed-mock"];
/// The most texts of a request for embeddings, and the most tokens of one of them and of all, as OpenAI has them.
const TEXTS_MAX: usize = 2_048;
const TEXT_TOKENS_MAX: u64 = 8_192;
const TOKENS_MAX: u64 = 300_000;
/// How many numbers a vector has if it is not said, and at most.
const DIMENSIONS: u64 = 64;
const DIMENSIONS_MAX: u64 = 4_096;

fn unknown(name: &str) -> String {
    format!("Unrecognized request argument supplied: {name}")
}

/// Reads a request for a completion.
///
/// # Errors
/// When it is none, in the service's words.
pub fn read(body: &Value, strict: bool) -> Result<Asked, Refusal> {
    let object = strict::object(body)?;
    if strict {
        strict::fields(object, CHAT, unknown)?;
        strict::number(object, "temperature", (0.0, 2.0))?;
        strict::number(object, "top_p", (0.0, 1.0))?;
    }
    let effort = object.get("reasoning_effort").and_then(Value::as_str);
    if strict && effort.is_some_and(|e| !EFFORTS.contains(&e)) {
        let told = format!("Invalid value: supported values are {}", EFFORTS.join(", "));
        return Err(Refusal::field("reasoning_effort", told));
    }
    if object.get("n").is_some_and(|n| *n != 1) {
        return Err(Refusal::field("n", "Invalid value: this server gives one choice, so `n` is 1."));
    }
    let messages = strict::messages(object, &["system", "developer", "user", "assistant", "tool"])?;
    let is_role = |m: &Value, roles: &[&str]| m["role"].as_str().is_some_and(|role| roles.contains(&role));
    let system: Vec<String> =
        messages.iter().filter(|m| is_role(m, &["system", "developer"])).map(|m| content(&m["content"])).collect();
    let last = messages.iter().rev().find(|m| is_role(m, &["user", "tool"]));
    let format = object.get("response_format");
    let is_schema = format.is_some_and(|f| f["type"] == "json_schema");
    let most = object.get("max_completion_tokens").or_else(|| object.get("max_tokens"));
    Ok(Asked {
        model: strict::text(object, "model")?.to_owned(),
        system: (!system.is_empty()).then(|| system.join("\n")),
        text: last.map(|m| content(&m["content"])).unwrap_or_default(),
        input_tokens: messages.iter().map(|m| tokens(&content(&m["content"]))).sum::<u64>() + tool_tokens(body),
        max_tokens: most.and_then(Value::as_u64),
        stop: texts(object.get("stop")),
        stream: object.get("stream").and_then(Value::as_bool).unwrap_or(false),
        stream_usage: object.get("stream_options").is_some_and(|o| o["include_usage"] == true),
        json: is_schema || format.is_some_and(|f| f["type"] == "json_object"),
        schema: format.filter(|_| is_schema).and_then(|f| f["json_schema"].get("schema")).cloned(),
        effort: effort.map(str::to_owned),
    })
}

/// The answer as one document. `created` is in seconds.
pub fn answer(asked: &Asked, said: &Said, id: &str, created: i64) -> Value {
    let mut message = json!({ "role": "assistant", "content": said.text, "refusal": null });
    if !said.tool_calls.is_empty() {
        message["tool_calls"] = calls(said, id).into();
        if said.text.is_empty() {
            message["content"] = Value::Null;
        }
    }
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": reason(&said.stop) });
    let mut whole = head(asked, id, created, "chat.completion");
    whole["choices"] = json!([choice]);
    whole["usage"] = usage(asked, said);
    whole
}

/// The answer in pieces, without `[DONE]`.
pub fn chunks(asked: &Asked, said: &Said, id: &str, created: i64) -> Vec<Value> {
    let chunk = |delta: Value, reason: Value| {
        let mut chunk = head(asked, id, created, "chat.completion.chunk");
        chunk["choices"] = json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason }]);
        chunk
    };
    let mut chunks = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    chunks.extend(pieces(&said.text).map(|part| chunk(json!({ "content": part }), Value::Null)));
    for (n, mut call) in calls(said, id).into_iter().enumerate() {
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default().to_owned();
        call["index"] = json!(n);
        call["function"]["arguments"] = json!("");
        chunks.push(chunk(json!({ "tool_calls": [call] }), Value::Null));
        let part = |part| json!({ "tool_calls": [{ "index": n, "function": { "arguments": part } }] });
        chunks.extend(pieces(&arguments).map(|text| chunk(part(text), Value::Null)));
    }
    chunks.push(chunk(json!({}), json!(reason(&said.stop))));
    if asked.stream_usage {
        let mut last = head(asked, id, created, "chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = usage(asked, said);
        chunks.push(last);
    }
    chunks
}

fn head(asked: &Asked, id: &str, created: i64, object: &str) -> Value {
    json!({ "id": format!("chatcmpl-{id}"), "object": object, "created": created, "model": asked.model })
}

fn usage(asked: &Asked, said: &Said) -> Value {
    json!({
        "prompt_tokens": asked.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": asked.input_tokens + said.output_tokens,
        "prompt_tokens_details": { "cached_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}

fn calls(said: &Said, id: &str) -> Vec<Value> {
    let one = |(n, call): (usize, &super::script::ToolCall)| {
        let arguments = if call.input.is_null() { "{}".to_owned() } else { call.input.to_string() };
        let function = json!({ "name": call.name, "arguments": arguments });
        json!({ "id": format!("call_{id}_{n}"), "type": "function", "function": function })
    };
    said.tool_calls.iter().enumerate().map(one).collect()
}

fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Text(_) => "stop",
        Stop::Length => "length",
        Stop::Tools => "tool_calls",
    }
}

/// Reads a request for embeddings: what is asked, as if it were one question, the texts, and how long a vector is.
///
/// # Errors
/// When it is none, in the service's words.
pub fn read_embeddings(body: &Value, strict: bool) -> Result<(Asked, Vec<String>, u64), Refusal> {
    let object = strict::object(body)?;
    if strict {
        strict::fields(object, EMBEDDINGS, unknown)?;
    }
    let model = strict::text(object, "model")?.to_owned();
    let texts = texts(object.get("input"));
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(Refusal::field("input", "'$.input' is invalid: texts that are not empty are expected."));
    }
    if texts.len() > TEXTS_MAX {
        return Err(Refusal::field("input", format!("'$.input' has more than {TEXTS_MAX} texts.")));
    }
    if texts.iter().any(|text| tokens(text) > TEXT_TOKENS_MAX) {
        return Err(Refusal::field(
            "input",
            format!("This model's maximum context length is {TEXT_TOKENS_MAX} tokens."),
        ));
    }
    let input_tokens: u64 = texts.iter().map(|text| tokens(text)).sum();
    if input_tokens > TOKENS_MAX {
        return Err(Refusal::field("input", format!("A request has at most {TOKENS_MAX} tokens.")));
    }
    if object.get("encoding_format").is_some_and(|f| f != "float") {
        return Err(Refusal::field("encoding_format", "mock-llm knows `float` alone."));
    }
    let dimensions = object.get("dimensions").and_then(Value::as_u64).unwrap_or(DIMENSIONS);
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        return Err(Refusal::field("dimensions", format!("dimensions: a number from 1 to {DIMENSIONS_MAX}")));
    }
    let text = texts.join("\n");
    Ok((Asked { model, text, input_tokens, ..Asked::default() }, texts, dimensions))
}

/// The vectors of texts.
pub fn embeddings(asked: &Asked, texts: &[String], dimensions: u64) -> Value {
    let one = |(n, text): (usize, &String)| json!({ "object": "embedding", "index": n, "embedding": vector(text, usize::try_from(dimensions).unwrap_or(1)) });
    json!({
        "object": "list",
        "data": texts.iter().enumerate().map(one).collect::<Vec<_>>(),
        "model": asked.model,
        "usage": { "prompt_tokens": asked.input_tokens, "total_tokens": asked.input_tokens },
    })
}

/// What `GET /v1/models` lists.
pub fn models(listed: &[String]) -> Value {
    let known = MODELS.iter().map(|name| (*name).to_owned());
    let names: Vec<String> = if listed.is_empty() { known.collect() } else { listed.to_vec() };
    let one = |name: &String| json!({ "id": name, "object": "model", "created": 1_767_225_600, "owned_by": "bourn" });
    json!({ "object": "list", "data": names.iter().map(one).collect::<Vec<_>>() })
}
