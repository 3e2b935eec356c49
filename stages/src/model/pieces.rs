//! An answer that comes in pieces, put together to the document that it is as a whole.

use serde_json::{Map, Value, json};

use super::registry::Service;

/// The pieces of an answer so far.
#[derive(Debug)]
pub struct Pieces {
    service: Service,
    answer: Value,
    bytes: usize,
}

/// What a piece was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A part of what the model says.
    Said,
    /// Something about the answer, or nothing at all.
    Other,
    /// The last one.
    Last,
    /// The service has failed, with what it says of it.
    Failed,
    /// None that can come here.
    Wrong,
}

impl Pieces {
    /// Nothing yet.
    pub fn of(service: Service) -> Self {
        let answer = match service {
            Service::Anthropic => json!({ "content": [] }),
            Service::OpenAi => json!({ "choices": [{ "message": { "content": null } }] }),
        };
        Self { service, answer, bytes: 0 }
    }

    /// Adds the data of an event. What is not known is passed over: services add kinds of events when they like.
    pub fn add(&mut self, data: &str) -> Piece {
        if self.service == Service::OpenAi && data.trim() == "[DONE]" {
            return Piece::Last;
        }
        let Ok(Value::Object(mut event)) = serde_json::from_str(data) else { return Piece::Wrong };
        if event.get("error").is_some_and(Value::is_object) {
            return Piece::Failed;
        }
        match self.service {
            Service::Anthropic => self.anthropic(&mut event),
            Service::OpenAi => self.openai(&mut event),
        }
    }

    /// How many bytes the model has said.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The document; it is a whole one behind the last piece.
    pub fn answer(&self) -> &Value {
        &self.answer
    }

    fn anthropic(&mut self, event: &mut Map<String, Value>) -> Piece {
        let index = event.get("index").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
        let mut take = |name: &str| event.get_mut(name).map(Value::take).unwrap_or_default();
        let blocks = |answer: &Value| answer["content"].as_array().map_or(0, Vec::len);
        match take("type").as_str().unwrap_or_default() {
            "message_start" => {
                let message = take("message");
                if !message["content"].is_array() {
                    return Piece::Wrong;
                }
                self.answer = message;
            }
            "content_block_start" if index == Some(blocks(&self.answer)) => {
                let block = take("content_block");
                self.bytes += block["text"].as_str().map_or(0, str::len);
                if let Some(blocks) = self.answer["content"].as_array_mut() {
                    blocks.push(block);
                }
            }
            "content_block_delta" if index.is_some_and(|at| at < blocks(&self.answer)) => {
                let delta = take("delta");
                // What it thinks, and the arguments of tools, which it is not given, are no part of what is read.
                if let (Some(text), Some(at)) = (delta["text"].as_str(), index) {
                    self.bytes += append(&mut self.answer["content"][at]["text"], text);
                }
                return Piece::Said;
            }
            "content_block_start" | "content_block_delta" => return Piece::Wrong,
            "message_delta" => {
                merge(&mut self.answer, take("delta"));
                merge(&mut self.answer["usage"], take("usage"));
            }
            "message_stop" => return Piece::Last,
            _ => {}
        }
        Piece::Other
    }

    fn openai(&mut self, event: &mut Map<String, Value>) -> Piece {
        // Told behind the last choice; some tell with every piece what it was so far.
        if let Some(usage) = event.get_mut("usage").filter(|usage| usage.is_object()) {
            self.answer["usage"] = usage.take();
        }
        let choices = event.get_mut("choices").and_then(Value::as_array_mut);
        // One is asked for.
        let first = choices.into_iter().flatten().find(|choice| choice["index"].as_u64().unwrap_or(0) == 0);
        let Some(choice) = first else { return Piece::Other };
        let own = &mut self.answer["choices"][0];
        let mut said = Piece::Other;
        for part in ["content", "refusal"] {
            if let Some(text) = choice["delta"][part].as_str() {
                self.bytes += append(&mut own["message"][part], text);
                said = if text.is_empty() { said } else { Piece::Said };
            }
        }
        if !choice["finish_reason"].is_null() {
            own["finish_reason"] = choice["finish_reason"].take();
        }
        said
    }
}

/// Appends to a text; how many bytes.
fn append(to: &mut Value, text: &str) -> usize {
    match to {
        Value::String(whole) => whole.push_str(text),
        other => *other = text.into(),
    }
    text.len()
}

/// Puts members over those that are there. One that is null says nothing.
fn merge(into: &mut Value, members: Value) {
    let Value::Object(members) = members else { return };
    if !into.is_object() {
        *into = json!({});
    }
    if let Some(into) = into.as_object_mut() {
        into.extend(members.into_iter().filter(|(_, value)| !value.is_null()));
    }
}

#[cfg(test)]
mod tests {
    use super::Piece::{Last, Other, Said};
    use super::*;

    fn told(service: Service, events: &[Value]) -> (Vec<Piece>, Pieces) {
        let mut pieces = Pieces::of(service);
        (events.iter().map(|event| pieces.add(&event.to_string())).collect(), pieces)
    }

    #[test]
    fn what_anthropic_says_in_pieces_is_what_it_says_at_once() {
        let (kinds, pieces) = told(
            Service::Anthropic,
            &[
                json!({ "type": "message_start", "message": { "content": [], "usage": { "input_tokens": 7, "output_tokens": 1 } } }),
                json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking", "thinking": "" } }),
                json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "thinking_delta", "thinking": "hm" } }),
                json!({ "type": "ping" }),
                json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "text", "text": "" } }),
                json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": "a\u{e9}" } }),
                json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "text_delta", "text": "b" } }),
                json!({ "type": "something_new", "index": 9 }),
                json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "input_tokens": null, "output_tokens": 3 } }),
                json!({ "type": "message_stop" }),
            ],
        );
        assert_eq!(kinds, [Other, Other, Said, Other, Other, Said, Said, Other, Other, Last]);
        assert_eq!(pieces.answer()["content"][1]["text"], "a\u{e9}b");
        assert_eq!(pieces.answer()["usage"], json!({ "input_tokens": 7, "output_tokens": 3 }));
        assert_eq!((pieces.answer()["stop_reason"].as_str(), pieces.bytes()), (Some("end_turn"), 4));
    }

    #[test]
    fn what_openai_says_in_pieces_is_what_it_says_at_once() {
        let choice =
            |delta: Value, why: Value| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": why }] });
        let (kinds, mut pieces) = told(
            Service::OpenAi,
            &[
                choice(json!({ "role": "assistant" }), Value::Null),
                choice(json!({ "content": "a" }), Value::Null),
                json!({ "choices": [{ "index": 1, "delta": { "content": "another" } }] }),
                choice(json!({ "content": "b" }), json!("stop")),
                json!({ "choices": [], "usage": { "prompt_tokens": 2, "completion_tokens": 1 } }),
            ],
        );
        assert_eq!(kinds, [Other, Said, Other, Said, Other]);
        assert_eq!(pieces.add(" [DONE]"), Last);
        let whole = json!({
            "choices": [{ "message": { "content": "ab" }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 2, "completion_tokens": 1 },
        });
        assert_eq!(pieces.answer(), &whole);
    }

    #[test]
    fn what_can_come_nowhere_is_wrong_and_a_failure_is_one() {
        let wrong = [
            json!({ "type": "content_block_delta", "index": 0, "delta": { "text": "x" } }),
            json!({ "type": "content_block_start", "index": 4_000_000_000_u64, "content_block": {} }),
            json!({ "type": "message_start" }),
            json!([1]),
        ];
        assert_eq!(told(Service::Anthropic, &wrong).0, [Piece::Wrong; 4]);
        let failed = [json!({ "type": "error", "error": { "type": "overloaded_error" } })];
        assert_eq!(told(Service::Anthropic, &failed).0, [Piece::Failed]);
        assert_eq!(told(Service::OpenAi, &[json!({ "error": { "message": "no" } })]).0, [Piece::Failed]);
        assert_eq!(Pieces::of(Service::Anthropic).add("[DONE]"), Piece::Wrong);
    }
}
