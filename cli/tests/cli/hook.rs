//! Whoever is told something: a webhook on this machine.

use std::time::Duration;

use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A receiver that answers so.
pub async fn hook(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// What it was told.
pub async fn came(hook: &MockServer) -> Vec<Value> {
    let requests = hook.received_requests().await.unwrap();
    requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

/// Waits until so many have come.
pub async fn until(hook: &MockServer, count: usize) -> Vec<Value> {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let found = async {
        while came(hook).await.len() < count {
            tick.tick().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, found).await;
    let came = came(hook).await;
    assert!(in_time.is_ok(), "{came:?}");
    came
}
