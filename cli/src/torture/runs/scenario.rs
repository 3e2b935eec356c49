//! The workflow that is tortured when the command line names none, and the service that its steps ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};

/// Elements of the list that each run is given.
const LIST: [u64; 3] = [1, 2, 3];
/// Rounds of the step that is done in rounds.
const ROUNDS: u64 = 3;
/// Different requests of a run: a diamond of three, one for each element, the rounds, and two for each element.
pub const REQUESTS: u64 = 3 + LIST.len() as u64 + ROUNDS + 2 * LIST.len() as u64;
/// One key of so many is refused the first time, so that there is something to try again.
const REFUSED: u64 = 9;

/// What the service has seen. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Service(Arc<Mutex<Asked>>);

/// Requests by idempotency key, `RUN/STEP`.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How often each came.
    pub counts: HashMap<String, u64>,
    /// How many were refused on purpose.
    pub refused: u64,
}

impl Service {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came so far.
    pub fn seen(&self) -> Asked {
        self.asked().clone()
    }

    /// What came so far, to begin anew.
    pub fn take(&self) -> Asked {
        std::mem::take(&mut *self.asked())
    }

    /// What it answers.
    pub fn routes(&self) -> Router {
        Router::new().route("/do", post(answer)).with_state(self.clone())
    }
}

async fn answer(State(service): State<Service>, headers: HeaderMap, body: String) -> Result<String, StatusCode> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let mut asked = service.asked();
    let count = asked.counts.entry(key.to_owned()).or_default();
    *count += 1;
    if *count == 1 && key.bytes().map(u64::from).sum::<u64>().is_multiple_of(REFUSED) {
        asked.refused += 1;
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(format!("{{\"did\": {body}}}"))
}

/// A diamond of requests between steps that ask nobody, a request for each element of a list, one in rounds, a workflow of two for
/// each element, and a wait.
pub fn spec(url: &str) -> Value {
    let ask = |body: &str| json!({ "url": url, "method": "POST", "response": "json", "body": body });
    json!({
        "name": "effects",
        "steps": [
            { "id": "first", "command": "set", "args": "${input.n}" },
            { "id": "left", "http": ask("${first.results}") },
            { "id": "right", "http": ask("${first.results}") },
            { "id": "last", "http": ask("${left.results.did}"), "needs": ["left", "right"] },
            { "id": "each", "for_each": { "in": "${input.list}" }, "http": ask("${item}") },
            { "id": "rounds", "http": ask("${.rounds.rounds}"),
                "repeat": { "until": format!("${{.rounds.rounds >= {ROUNDS}}}"), "max_iterations": ROUNDS + 2 } },
            { "id": "within", "for_each": { "in": "${input.list}" }, "workflow": { "spec": { "steps": [
                { "id": "a", "http": ask("${input}") },
                { "id": "b", "http": ask("${a.results.did}") },
            ] } } },
            { "id": "pause", "wait": { "duration": "20ms" }, "needs": "first" },
            { "id": "said", "command": "set", "args": "${last.results.did}",
                "needs": ["last", "each", "rounds", "within", "pause"] },
        ],
        "defaults": { "retry": { "initial_interval": "5ms", "max_attempts": 4 } },
        "optimization": { "max_concurrency": 32 },
    })
}

/// The inputs of so many runs, a line for each. The output of each is its number.
pub fn inputs(runs: u64) -> String {
    let mut lines = String::new();
    for n in 0..runs {
        lines += &json!({ "n": n, "list": LIST }).to_string();
        lines.push('\n');
    }
    lines
}

/// The key under which the service was asked last for a step, by the name that the journal keeps it under: the last of its rounds is the
/// step itself.
pub fn key_of(step: &str) -> String {
    if step == "rounds" { format!("rounds#{ROUNDS}") } else { step.to_owned() }
}

/// What must have ended before the service is asked for a step, by the names of the journal.
pub fn needs(step: &str) -> Vec<String> {
    let round = step.strip_prefix("rounds#").and_then(|round| round.parse::<u64>().ok());
    match (step, round) {
        ("left" | "right", _) => vec!["first".to_owned()],
        ("last", _) => vec!["left".to_owned(), "right".to_owned()],
        (_, Some(round)) if round > 1 => vec![format!("rounds#{}", round - 1)],
        _ => step.strip_suffix("/b").map(|element| format!("{element}/a")).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_needs_what_the_spec_says() {
        let spec = spec("http://localhost/do");
        let said =
            |id: &str| spec["steps"].as_array().unwrap().iter().find(|step| step["id"] == id).unwrap()["needs"].clone();
        assert_eq!(json!(needs("last")), said("last"));
        assert_eq!(needs("within[2]/b"), ["within[2]/a"]);
        assert_eq!(needs("rounds#3"), ["rounds#2"]);
        assert!(needs("rounds#1").is_empty() && needs("each[0]").is_empty() && needs("within[0]/a").is_empty());
    }
}
