//! A model in the process that costs nothing: what `--mock` asks instead of a provider.

use std::time::Duration;

use bourn_engine::api::{CallContext, Usage};
use bourn_engine::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use super::provider::{About, Prompt, Provider, Said};

/// The most of a prompt that an answer repeats, in characters.
const REPEATED: usize = 120;

/// A mock model. The same question gets the same answer, in every process; tests make it slow or faulty.
#[derive(Clone, Debug, Default)]
pub struct Mock {
    /// How long an answer takes.
    pub latency: Duration,
    /// What goes wrong, if anything.
    pub fault: Option<(Fault, When)>,
    /// The JSON Schema that its answers fit.
    pub schema: Option<Value>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never answers.
    Hang,
    /// It fails as an overloaded service does.
    Overloaded,
    /// It asks to wait, as a service does whose rate limit was reached.
    RateLimited(Duration),
    /// It refuses for good.
    Refused,
    /// It answers something that is no document and hardly a text.
    Rubbish,
    /// It answers nothing.
    Empty,
    /// It answers twice as much as `max_tokens` allows.
    TooLong,
}

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// For one question in so many, chosen by the question; 1 for every one.
    pub one_in: u64,
    /// At each of its first attempts, up to this one; [`u32::MAX`] for all.
    pub attempts: u32,
}

impl Mock {
    /// One that answers after `latency`.
    pub fn slow(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    /// One with a fault.
    pub fn faulty(fault: Fault, when: When) -> Self {
        Self { fault: Some((fault, when)), ..Self::default() }
    }
}

/// What it is called.
pub const MOCK: &str = "mock";

impl Provider for Mock {
    async fn answer(&self, prompt: &Prompt, context: &CallContext) -> Result<Said> {
        if !self.latency.is_zero() {
            context.env.sleep(self.latency).await;
        }
        let hash = hash(prompt);
        let due = |when: &When| hash.is_multiple_of(when.one_in.max(1)) && context.attempt <= when.attempts;
        let fault = self.fault.filter(|(_, when)| due(when));
        let text = match fault.map(|(fault, _)| fault) {
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Overloaded) => return Err(Error::new(Kind::Io, "the mock model is overloaded").transient()),
            Some(Fault::RateLimited(wait)) => {
                return Err(Error::new(Kind::RateLimit, "the mock model asks to wait").retry_after(wait));
            }
            Some(Fault::Refused) => return Err(Error::validation("the mock model refuses this prompt")),
            Some(Fault::Empty) => String::new(),
            Some(Fault::TooLong) => "word ".repeat(2 * prompt.max_tokens.unwrap_or(1_024) as usize),
            Some(Fault::Rubbish) => "\u{fffd}\u{0}<|end|>{{{".to_owned(),
            None => self.schema.as_ref().map_or_else(|| echo(prompt), |schema| instance(schema).to_string()),
        };
        let overlong = matches!(fault, Some((Fault::TooLong, _)));
        let text = if overlong { text } else { cut(text, prompt.max_tokens) };
        let read = prompt.system.as_deref().map_or(0, tokens) + tokens(&prompt.text);
        let usage = Usage { input_tokens: read, output_tokens: tokens(&text), usd: 0.0 };
        let is_cut = prompt.max_tokens.is_some_and(|max| usage.output_tokens >= u64::from(max));
        let finish = Some(if is_cut { "length" } else { "stop" }.to_owned());
        Ok(Said { text, usage, limits: None, model: None, finish })
    }

    fn about(&self) -> About<'_> {
        About { provider: MOCK, ..About::default() }
    }

    fn request(&self, prompt: &Prompt) -> String {
        format!("mock {prompt:?}")
    }
}

/// What a mock says to a prompt: `mock answer HASH of MODEL to: PROMPT`, or a document with the same. It is fixed for good;
/// `bourn mock-llm` says the same.
pub fn echo(prompt: &Prompt) -> String {
    let hash = hash(prompt);
    let mut asked: String = prompt.text.chars().take(REPEATED).collect();
    if asked.len() < prompt.text.len() {
        asked.push('…');
    }
    let name = prompt.model.as_deref().unwrap_or("mock");
    if prompt.json {
        return json!({ "model": name, "id": format!("{hash:016x}"), "asked": asked }).to_string();
    }
    format!("mock answer {hash:016x} of {name} to: {asked}")
}

/// A document that fits the usual words of a JSON Schema, the same each time. A list has an element for each value that a member of
/// its elements may have.
pub fn instance(schema: &Value) -> Value {
    made(schema, schema, (0, 0))
}

/// How deep a document goes whose schema says no end.
const DEPTH_MAX: u8 = 16;

/// `at` is how deep it stands, and its place in the list around it.
fn made(schema: &Value, root: &Value, (depth, at): (u8, usize)) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    let below = |schema: &Value| made(schema, root, (depth + 1, at));
    let first = |key: &str| schema.get(key).and_then(Value::as_array).and_then(|list| list.first());
    let choices = |schema: &Value| schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(value) = schema.get("const").or_else(|| schema.get("default")) {
        return value.clone();
    }
    if let Some(value) = choices(schema).iter().cycle().nth(at) {
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
    match kind {
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten().map(|(name, schema)| (name.clone(), below(schema)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        "array" => {
            let items = schema.get("items").cloned().unwrap_or(Value::Bool(true));
            let members = items.get("properties").and_then(Value::as_object);
            let most = members.into_iter().flatten().map(|(_, member)| choices(member).len()).max().unwrap_or(0);
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(1_000);
            let count = most.max(usize::try_from(least).unwrap_or(0));
            (0..count).map(|at| made(&items, root, (depth + 1, at))).collect()
        }
        "string" if at > 0 => json!(format!("mock {}", at + 1)),
        "string" => json!("mock"),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(0)),
        "boolean" => json!(false),
        _ => Value::Null,
    }
}

/// About four characters a token, as in English.
pub fn tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(4) as u64
}

fn cut(text: String, max_tokens: Option<u32>) -> String {
    match max_tokens {
        Some(max) if tokens(&text) > u64::from(max) => text.chars().take(max as usize * 4).collect(),
        _ => text,
    }
}

/// FNV-1a (draft-eastlake-fnv): four lines, and the same in every version of everything.
fn hash(prompt: &Prompt) -> u64 {
    let parts = [prompt.model.as_deref(), prompt.system.as_deref(), Some(&prompt.text)];
    let bytes = parts.into_iter().flat_map(|p| p.unwrap_or_default().bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
