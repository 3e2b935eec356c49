//! Tests of answers in pieces, against a server on this machine that says what it is told to.

use bourn_engine::api::{Bill, CallContext};
use bourn_engine::data::secret::Secret;
use bourn_engine::env::Env;
use bourn_engine::error::Retry;
use serde_json::json;
use wiremock::matchers::body_partial_json;
use wiremock::{Mock as Answer, MockServer, ResponseTemplate};

use super::*;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n";
const BLOCK: &str =
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
const TEXT: &str =
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n";
const USED: &str =
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n";
const STOP: &str = "data: {\"type\":\"message_stop\"}\n\n";

/// What is made of a response to a request that asks for a stream, and what was noted beside it.
async fn told(service: &str, template: ResponseTemplate) -> (Result<Said>, Bill) {
    let server = MockServer::start().await;
    Answer::given(body_partial_json(json!({ "stream": true }))).respond_with(template).mount(&server).await;
    let config = json!({ "prompt": "x", "model": "m", "provider": service, "base_url": server.uri(), "stream": true,
        "price": { "input": 1e6, "output": 1e6 } });
    let config = Model { api_key: Some(Secret::new("k")), ..serde_json::from_value(config).unwrap() };
    let env = Env::system();
    let remote = config.remote("m", &env).unwrap();
    let prompt = Prompt { model: Some("m".into()), system: None, text: "x".into(), max_tokens: None, json: false };
    let context = CallContext { idempotency_key: "k".into(), ..CallContext::of(env, "m") };
    (remote.answer(&prompt, &context).await, context.bill)
}

fn stream(parts: &[&str]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(parts.concat(), "text/event-stream")
}

#[tokio::test]
async fn pieces_are_signs_of_life_and_comments_and_pings_are_no_part_of_the_answer() {
    let quiet = ": alive\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nid: 7\n\n";
    let (said, bill) = told("anthropic", stream(&[quiet, START, quiet, BLOCK, TEXT, quiet, TEXT, USED, STOP])).await;
    let said = said.unwrap();
    assert_eq!((said.text.as_str(), said.usage.input_tokens, said.usage.output_tokens), ("hellohello", 3, 2));
    let billed = bill.total();
    assert!(billed.alive.is_some() && billed.first_piece.is_some(), "{billed:?}");
    assert_eq!(billed.lost.usd, 0.0);
}

#[tokio::test]
async fn a_stream_without_its_last_event_is_no_answer_and_what_it_cost_is_paid() {
    let (said, bill) = told("anthropic", stream(&[START, BLOCK, TEXT, USED])).await;
    let e = said.unwrap_err();
    assert_eq!((e.class(), e.retry()), ("transient", Retry::Soon));
    assert!(e.message().ends_with("the answer broke off: its end did not come"), "{e}");
    assert_eq!((bill.total().lost.input_tokens, bill.total().lost.usd), (3, 5.0));
    let half = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    let (said, _) = told("openai", stream(&[half])).await;
    assert_eq!(said.unwrap_err().class(), "transient");
    let (said, _) = told("openai", stream(&[half, "data: [DONE]\n\n"])).await;
    assert_eq!(said.unwrap().text, "hi");
}

#[tokio::test]
async fn the_event_of_an_error_has_the_class_of_its_words() {
    for (kind, class, retry) in [
        ("overloaded_error", "transient", Retry::Soon),
        ("rate_limit_error", "rate_limit", Retry::Soon),
        ("api_error", "transient", Retry::Soon),
        ("what_nobody_knows", "transient", Retry::Soon),
        ("invalid_request_error", "validation", Retry::Never),
        ("authentication_error", "permanent", Retry::Never),
    ] {
        let event = format!(
            "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"no\"}}}}\n\n"
        );
        let (streamed, _) = told("anthropic", stream(&[START, BLOCK, TEXT, &event])).await;
        let e = streamed.unwrap_err();
        assert_eq!((e.class(), e.retry()), (class, retry), "{kind}: {e}");
        // As without pieces, where gateways tell it with 200.
        let whole = json!({ "type": "error", "error": { "type": kind, "message": "no" } });
        let (whole, _) = told("anthropic", ResponseTemplate::new(200).set_body_json(whole)).await;
        let e = whole.unwrap_err();
        assert_eq!((e.class(), e.retry()), (class, retry), "{kind}: {e}");
    }
}

#[tokio::test]
async fn one_document_in_place_of_a_stream_is_understood_and_rubbish_in_one_is_not() {
    let whole =
        json!({ "content": [{ "type": "text", "text": "hi" }], "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let (said, _) = told("anthropic", ResponseTemplate::new(200).set_body_json(whole)).await;
    assert_eq!(said.unwrap().text, "hi");
    let (said, _) = told("anthropic", stream(&[START, "data: {{{\n\n", STOP])).await;
    let e = said.unwrap_err();
    assert!(e.message().contains("a piece of the answer is none: it begins with `{{{`"), "{e}");
    assert_eq!(e.class(), "transient");
}
