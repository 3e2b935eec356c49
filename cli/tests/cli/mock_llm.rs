//! `bourn mock-llm` as programs meet it: over HTTP, in both dialects.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::support::Folder;

/// A server that ends with the test.
pub struct Served {
    child: Child,
    pub address: String,
    _folder: Folder,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Served {
    /// One with this script and these arguments, which is ready.
    pub fn with(script: &str, args: &[&str]) -> Self {
        bourn_http::client::install_cryptography();
        let folder = Folder::with(&[("script.yaml", script)]);
        let args = [&["mock-llm", "--script", "script.yaml"], args].concat();
        let mut child = folder.command(&args).stderr(Stdio::inherit()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned(), _folder: folder }
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        let request = Client::new().post(format!("{}{path}", self.address)).body(body.to_string());
        let request = request.header("x-api-key", key).header("anthropic-version", "2023-06-01");
        request.bearer_auth(key).header("idempotency-key", "k1").send().await.unwrap()
    }

    async fn message(&self, text: &str) -> Response {
        self.post("/v1/messages", "any", &message(text)).await
    }

    /// What `GET /stats` tells.
    pub async fn stats(&self) -> Value {
        read(Client::new().get(format!("{}/stats", self.address)).send().await.unwrap()).await
    }
}

fn message(text: &str) -> Value {
    json!({ "model": "claude-opus-5", "max_tokens": 500, "messages": [{ "role": "user", "content": text }] })
}

fn chat(text: &str) -> Value {
    json!({ "model": "gpt-mock", "messages": [{ "role": "user", "content": text }] })
}

async fn read(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The data of server-sent events.
fn data(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
}

const TOOLS: &str = "rules:
  - match: { text: weather }
    answer: { text: I look, tool_calls: [ { name: get_weather, input: { city: Oslo } } ] }
";

#[tokio::test]
async fn both_dialects_answer_the_same_question_alike() {
    let server = Served::with("rules: []", &[]);
    let ours = read(server.message("hello there").await).await;
    let text = ours["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("mock answer ") && text.ends_with(" of claude-opus-5 to: hello there"), "{text}");
    assert_eq!((&ours["stop_reason"], &ours["usage"]["input_tokens"]), (&json!("end_turn"), &json!(3)));
    assert_eq!(ours["usage"]["output_tokens"], text.len().div_ceil(4));
    let theirs = read(
        server
            .post(
                "/v1/chat/completions",
                "any",
                &json!({ "model": "claude-opus-5", "messages": message("hello there")["messages"] }),
            )
            .await,
    )
    .await;
    assert_eq!(theirs["choices"][0]["message"]["content"], text);
    assert_eq!(theirs["usage"]["completion_tokens"], ours["usage"]["output_tokens"]);
    let stats = server.stats().await;
    assert_eq!((&stats["requests"], &stats["answered"], &stats["input_tokens"]), (&json!(2), &json!(2), &json!(6)));
    assert_eq!(
        stats["idempotency_keys"],
        json!({ "distinct": 1, "answered_again": 1, "most": { "k1": { "requests": 2, "answered": 2 } } })
    );
    assert_eq!(stats["prompts"]["most"]["hello there"]["answered"], 2);
}

#[tokio::test]
async fn a_streamed_answer_is_the_whole_one_in_pieces() {
    let server = Served::with(TOOLS, &[]);
    let streamed = |mut body: Value| {
        body["stream"] = json!(true);
        body
    };
    let response = server.post("/v1/messages", "any", &streamed(message("weather?"))).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.starts_with("event: message_start\ndata: {"), "{text}");
    let events = data(&text);
    let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    assert_eq!(
        kinds,
        [&["message_start", "ping"], &block[..], &block[..], &["message_delta", "message_stop"]].concat()
    );
    assert_eq!(events[6]["delta"], json!({ "type": "input_json_delta", "partial_json": "{\"city\":\"Oslo\"}" }));
    assert_eq!(events[8]["delta"]["stop_reason"], "tool_use");

    let mut body = streamed(chat("weather?"));
    body["stream_options"] = json!({ "include_usage": true });
    let text = server.post("/v1/chat/completions", "any", &body).await.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let chunks = data(&text);
    let calls: Vec<_> = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(calls.concat(), "{\"city\":\"Oslo\"}");
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(chunks.last().unwrap()["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn limits_are_kept_told_and_can_be_hidden() {
    let server = Served::with("rules: []", &["--requests-per-minute", "60", "--burst", "1s"]);
    let first = server.message("a").await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["anthropic-ratelimit-requests-remaining"]),
        (200, &"0".parse().unwrap())
    );
    let second = server.post("/v1/chat/completions", "any", &chat("a")).await;
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(second.headers()["x-ratelimit-limit-requests"], "60");
    assert_eq!(read(second).await["error"]["code"], "rate_limit_exceeded");
    assert_eq!(server.stats().await["429"], 1);

    let hiding = Served::with("rules: []", &["--requests-per-minute", "60", "--burst", "1s", "--hidden"]);
    hiding.message("a").await;
    let refused = hiding.message("a").await;
    assert!(refused.headers().keys().all(|name| !name.as_str().contains("ratelimit")), "{:?}", refused.headers());
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(read(refused).await["error"]["type"], "rate_limit_error");
}

#[tokio::test]
async fn keys_fields_models_and_paths_are_checked_as_the_services_do() {
    let server = Served::with("models: [claude-opus-5, gpt-mock]", &["--key", "right"]);
    let told = async |path: &str, key: &str, body: Value| {
        let response = server.post(path, key, &body).await;
        (response.status().as_u16(), read(response).await["error"]["type"].as_str().unwrap().to_owned())
    };
    let ask = |more: Value| {
        let mut body = message("a");
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(told("/v1/messages", "wrong", message("a")).await, (401, "authentication_error".into()));
    assert_eq!(told("/v1/messages", "right", ask(json!({ "n": 2 }))).await, (400, "invalid_request_error".into()));
    assert_eq!(
        told("/v1/messages", "right", ask(json!({ "model": "claude-4-opus" }))).await,
        (404, "not_found_error".into())
    );
    assert_eq!(told("/v1/nothing", "right", message("a")).await, (404, "not_found_error".into()));
    assert_eq!(told("/v1/chat/completions", "wrong", chat("a")).await, (401, "invalid_request_error".into()));
    assert_eq!(server.message("a").await.status(), 401);
    assert_eq!(server.post("/v1/messages", "right", &message("a")).await.status(), 200);
    let models = Client::new().get(format!("{}/v1/models", server.address)).bearer_auth("right");
    assert_eq!(read(models.send().await.unwrap()).await["data"][1]["id"], "gpt-mock");
}

#[tokio::test]
async fn what_the_script_spoils_is_spoiled() {
    let kinds = ["rubbish", "half_json", "cut", "hang"]
        .map(|kind| format!("  - match: {{ text: {kind} }}\n    fault: {{ kind: {kind} }}\n"));
    let script = format!(
        "rules:\n{}  - match: {{ text: busy }}\n    fault: {{ status: 529, retry_after: 3 }}\n",
        kinds.concat()
    );
    let server = Served::with(&script, &[]);
    let half = server.message("half_json").await.text().await.unwrap();
    assert!(half.starts_with("{\"id\"") && serde_json::from_str::<Value>(&half).is_err(), "{half}");
    assert!(server.message("rubbish").await.text().await.unwrap().ends_with("<|end|>{{{"));
    assert!(server.message("cut").await.text().await.is_err());
    let busy = server.message("busy").await;
    assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (529, &"3".parse().unwrap()));
    assert_eq!(read(busy).await["error"]["type"], "overloaded_error");
    let hanging = tokio::time::timeout(std::time::Duration::from_millis(200), server.message("hang")).await;
    assert!(hanging.is_err());
    let stats = server.stats().await;
    assert_eq!((&stats["answered"], &stats["faults"]), (&json!(0), &json!(5)));
}

#[tokio::test]
async fn embeddings_are_vectors_of_length_one() {
    let server = Served::with("rules: []", &[]);
    let body = json!({ "model": "embed-mock", "input": ["a b", "b a", "c"], "dimensions": 8 });
    let answer = read(server.post("/v1/embeddings", "any", &body).await).await;
    let vector = |n: usize| answer["data"][n]["embedding"].as_array().unwrap();
    assert_eq!((vector(0).len(), vector(0), answer["usage"]["prompt_tokens"].as_u64()), (8, vector(1), Some(3)));
}

#[test]
fn a_script_that_is_none_is_refused_before_anything_is_served() {
    let folder = Folder::with(&[("s.yaml", "rules: [ { answr: {} } ]")]);
    let told = folder.bourn(&["mock-llm", "--script", "s.yaml"]).refused(2);
    assert!(told.contains("s.yaml") && told.contains("answr"), "{told}");
}
