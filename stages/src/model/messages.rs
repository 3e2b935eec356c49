//! Requests and answers in either service's words.

use bourn_engine::api::Usage;
use bourn_engine::{Error, Kind, Result};
use serde_json::{Map, Value, json};

use super::complexity::{Complexity, effort};
use super::provider::Prompt;
use super::registry::Service;
use super::settings::{Effort, Price};

/// What Anthropic is told when the spec does not bound an answer: it must be told something.
const MAX_TOKENS: u32 = 4_096;

/// What each request says beside its prompt.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// The id of the model.
    pub model: String,
    /// How hard it thinks.
    pub effort: Option<Effort>,
    /// How much chance there is in the answer.
    pub temperature: Option<f32>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// The schema of a document.
    pub json_schema: Option<Value>,
    /// What tokens cost.
    pub price: Price,
    /// Whether OpenAI itself is asked.
    pub is_original: bool,
    /// Whether the answer comes in pieces.
    pub stream: bool,
}

impl Manner {
    /// How hard it thinks about this prompt.
    fn effort(&self, prompt: &Prompt) -> Option<Effort> {
        let Some(Effort::Auto) = self.effort else { return self.effort };
        let complexity = Complexity::of(prompt, self.json_schema.as_ref());
        let (points, effort) = (complexity.total(), effort(complexity.total()));
        tracing::debug!(points, ?complexity, ?effort, "how hard this task looks");
        Some(effort)
    }
}

/// The path below the version.
pub fn path(service: Service) -> &'static str {
    match service {
        Service::Anthropic => "messages",
        Service::OpenAi => "chat/completions",
    }
}

/// The body of a request.
pub fn body(service: Service, manner: &Manner, prompt: &Prompt) -> Value {
    let mut body = match service {
        Service::Anthropic => anthropic(manner, prompt),
        Service::OpenAi => openai(manner, prompt),
    };
    if let Some(temperature) = manner.temperature {
        // As people write it: 0.7, not the nearest number of 32 bits with all of its digits.
        body.insert("temperature".into(), json!(temperature.to_string().parse::<f64>().unwrap_or_default()));
    }
    Value::Object(body)
}

/// Asks for the answer in pieces. It is the same one, so this is no part of what it depends on.
pub fn in_pieces(service: Service, body: &mut Value) {
    body["stream"] = json!(true);
    if service == Service::OpenAi {
        body["stream_options"] = json!({ "include_usage": true });
    }
}

fn anthropic(manner: &Manner, prompt: &Prompt) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".into(), json!(manner.model));
    body.insert("max_tokens".into(), json!(prompt.max_tokens.unwrap_or(MAX_TOKENS)));
    if let Some(system) = &prompt.system {
        body.insert("system".into(), json!(system));
    }
    body.insert("messages".into(), json!([{ "role": "user", "content": prompt.text }]));
    if !manner.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(manner.stop));
    }
    let mut output = Map::new();
    if let Some(effort) = manner.effort(prompt) {
        output.insert("effort".into(), json!(effort));
    }
    if let Some(schema) = &manner.json_schema {
        output.insert("format".into(), json!({ "type": "json_schema", "schema": schema }));
    }
    if !output.is_empty() {
        body.insert("output_config".into(), Value::Object(output));
    }
    body
}

fn openai(manner: &Manner, prompt: &Prompt) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".into(), json!(manner.model));
    let mut messages = Vec::new();
    messages.extend(prompt.system.as_ref().map(|system| json!({ "role": "system", "content": system })));
    messages.push(json!({ "role": "user", "content": prompt.text }));
    body.insert("messages".into(), Value::Array(messages));
    if let Some(max) = prompt.max_tokens {
        // OpenAI's newer models refuse the word that everybody else knows.
        let name = if manner.is_original { "max_completion_tokens" } else { "max_tokens" };
        body.insert(name.into(), json!(max));
    }
    if !manner.stop.is_empty() {
        body.insert("stop".into(), json!(manner.stop));
    }
    if let Some(effort) = manner.effort(prompt) {
        body.insert("reasoning_effort".into(), json!(effort));
    }
    if let Some(schema) = &manner.json_schema {
        let schema = json!({ "name": "answer", "strict": true, "schema": schema });
        body.insert("response_format".into(), json!({ "type": "json_schema", "json_schema": schema }));
    } else if prompt.json {
        body.insert("response_format".into(), json!({ "type": "json_object" }));
    }
    body
}

/// The text of an answer, and what it cost.
///
/// # Errors
/// When it is none, which may be otherwise the next time, or the model refuses.
pub fn read(service: Service, manner: &Manner, answer: &Value) -> Result<(String, Usage)> {
    let (text, refused) = match service {
        Service::Anthropic => {
            let blocks = answer["content"].as_array();
            let texts = blocks.map(|b| b.iter().filter_map(|block| block["text"].as_str()).collect::<String>());
            let refused = (answer["stop_reason"] == "refusal").then(|| "it refuses this prompt".to_owned());
            (texts, refused)
        }
        Service::OpenAi => {
            let choice = &answer["choices"][0];
            let refusal = choice["message"]["refusal"].as_str().map(|why| format!("it refuses this prompt: {why}"));
            let filtered = choice["finish_reason"] == "content_filter";
            let refused = refusal.or_else(|| filtered.then(|| "its answer was filtered".to_owned()));
            let text = choice["message"]["content"].as_str().map(str::to_owned);
            (text, refused)
        }
    };
    if let Some(why) = refused {
        return Err(Error::new(Kind::Guardrail, format!("model `{}`: {why}", manner.model)));
    }
    let Some(text) = text else {
        return Err(Error::validation(format!("model `{}` gave an answer without a text", manner.model)).transient());
    };
    Ok((text, usage(service, manner.price, &answer["usage"])))
}

/// Why an answer ended, in the words of its service.
pub fn finish(service: Service, answer: &Value) -> Option<String> {
    let said = match service {
        Service::Anthropic => &answer["stop_reason"],
        Service::OpenAi => &answer["choices"][0]["finish_reason"],
    };
    said.as_str().map(str::to_owned)
}

/// What an answer cost.
pub fn usage(service: Service, price: Price, told: &Value) -> Usage {
    let count = |name: &str| told[name].as_u64().unwrap_or(0);
    let (input_tokens, output_tokens) = match service {
        Service::Anthropic => {
            let read = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map(count);
            (read.iter().sum(), count("output_tokens"))
        }
        Service::OpenAi => (count("prompt_tokens"), count("completion_tokens")),
    };
    Usage { input_tokens, output_tokens, usd: price.of(input_tokens, output_tokens) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner() -> Manner {
        Manner {
            model: "m".into(),
            effort: Some(Effort::Low),
            temperature: Some(0.7),
            stop: vec!["END".into()],
            json_schema: Some(json!({ "type": "object" })),
            price: Price { input: 1.0, output: 2.0 },
            is_original: false,
            stream: true,
        }
    }

    fn prompt() -> Prompt {
        Prompt { model: None, system: Some("be short".into()), text: "hi".into(), max_tokens: Some(9), json: true }
    }

    #[test]
    fn a_request_is_in_the_words_of_its_service() {
        let schema = json!({ "type": "object" });
        assert_eq!(
            body(Service::Anthropic, &manner(), &prompt()),
            json!({
                "model": "m", "max_tokens": 9, "system": "be short", "messages": [{ "role": "user", "content": "hi" }],
                "stop_sequences": ["END"], "temperature": 0.7,
                "output_config": { "effort": "low", "format": { "type": "json_schema", "schema": schema } },
            })
        );
        assert_eq!(
            body(Service::OpenAi, &manner(), &prompt()),
            json!({
                "model": "m", "max_tokens": 9, "stop": ["END"], "temperature": 0.7, "reasoning_effort": "low",
                "messages": [{ "role": "system", "content": "be short" }, { "role": "user", "content": "hi" }],
                "response_format": {
                    "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": schema },
                },
            })
        );
        let auto = Manner { effort: Some(Effort::Auto), ..Manner::default() };
        let of = |text: String| Prompt { text, ..prompt() };
        let efforts = ["hi".to_owned(), "x\n```\n".repeat(900), "- do?\n```\n".repeat(3_000)].map(|text| {
            let body = body(Service::Anthropic, &auto, &of(text));
            body["output_config"]["effort"].clone()
        });
        assert_eq!(efforts, [json!("low"), json!("medium"), json!("high")]);
        let original = body(Service::OpenAi, &Manner { is_original: true, ..Manner::default() }, &prompt());
        assert_eq!((&original["max_completion_tokens"], &original["max_tokens"]), (&json!(9), &Value::Null));
        assert_eq!(original["response_format"], json!({ "type": "json_object" }));
    }

    #[test]
    fn an_answer_is_read_with_all_that_it_cost() {
        let told = json!({
            "content": [{ "type": "thinking", "thinking": "…" }, { "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
            "stop_reason": "end_turn",
            "usage": { "input_tokens": 1, "cache_read_input_tokens": 999_999, "output_tokens": 500_000 },
        });
        let (text, usage) = read(Service::Anthropic, &manner(), &told).unwrap();
        assert_eq!((text.as_str(), usage.input_tokens, usage.usd), ("ab", 1_000_000, 2.0));
        let openai = json!({ "choices": [{ "finish_reason": "length" }] });
        let finishes =
            [finish(Service::Anthropic, &told), finish(Service::OpenAi, &openai), finish(Service::OpenAi, &told)];
        assert_eq!(finishes, [Some("end_turn".into()), Some("length".into()), None]);
        let refused = |service, answer: Value| read(service, &manner(), &answer).unwrap_err();
        let anthropic = refused(Service::Anthropic, json!({ "content": [], "stop_reason": "refusal" }));
        assert_eq!((anthropic.message(), anthropic.class()), ("model `m`: it refuses this prompt", "guardrail"));
        let filtered = json!({ "choices": [{ "message": { "content": "x" }, "finish_reason": "content_filter" }] });
        assert_eq!(refused(Service::OpenAi, filtered).message(), "model `m`: its answer was filtered");
        assert_eq!(refused(Service::OpenAi, json!({})).retry(), bourn_engine::error::Retry::Soon);
    }
}
