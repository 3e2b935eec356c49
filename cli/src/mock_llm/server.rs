//! The server: a request is checked, counted, limited, and answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use bourn_engine::env::Env;
use serde_json::Value;

use super::answer::{Said, say};
use super::args::MockLlm;
use super::ask::Asked;
use super::fault::{json, spoil};
use super::form::Form;
use super::limits::{Limits, Need};
use super::refusal::{Dialect, Refusal};
use super::script::{Fault, Script, Spoiled};
use super::stats::Stats;
use super::{anthropic, openai};

/// The largest request, in bytes, as Anthropic has it.
const BODY_MAX: usize = 32 << 20;

/// What all requests share.
pub struct Server {
    script: Script,
    key: Option<String>,
    latency: Duration,
    strict: bool,
    env: Env,
    changing: Mutex<Changing>,
}

struct Changing {
    limits: Limits,
    stats: Stats,
    /// How many questions each rule has fitted.
    seen: Vec<u64>,
    /// How many answers there were, for their names.
    made: u64,
}

/// What a handler is given.
type Shared = State<Arc<Server>>;

impl Server {
    /// One that has answered nothing yet.
    pub fn new(args: &MockLlm, script: Script) -> Self {
        let changing = Changing { limits: Limits::new(args), stats: Stats::default(), seen: Vec::new(), made: 0 };
        Self {
            script,
            key: args.key.clone(),
            latency: args.latency,
            strict: !args.lenient,
            env: Env::system(),
            changing: Mutex::new(changing),
        }
    }

    /// Its paths.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/v1/messages", post(messages))
            .route("/v1/chat/completions", post(completions))
            .route("/v1/embeddings", post(embeddings))
            .route("/v1/models", get(models))
            .route("/stats", get(stats))
            .fallback(nowhere)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::new(self))
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request has the right key.
    fn check_key(&self, headers: &HeaderMap, dialect: Dialect) -> Result<(), Refusal> {
        let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let bearer = || text(&AUTHORIZATION).and_then(|v| v.strip_prefix("Bearer "));
        let given = match dialect {
            Dialect::Anthropic => text(&HeaderName::from_static("x-api-key")).or_else(bearer),
            Dialect::OpenAi => bearer(),
        };
        let missing = match dialect {
            Dialect::Anthropic => "x-api-key header is required",
            Dialect::OpenAi => "You didn't provide an API key.",
        };
        match given.map(str::trim) {
            None | Some("") => Err(Refusal::Key(missing)),
            Some(key) if self.key.as_deref().is_some_and(|right| right != key) => {
                Err(Refusal::Key("invalid x-api-key"))
            }
            Some(_) => Ok(()),
        }
    }

    /// The body as JSON.
    fn body(&self, headers: &HeaderMap, body: &Bytes, dialect: Dialect) -> Result<Value, Refusal> {
        self.check_key(headers, dialect)?;
        if body.len() > BODY_MAX {
            return Err(Refusal::TooLarge);
        }
        if self.strict && dialect == Dialect::Anthropic && !headers.contains_key("anthropic-version") {
            return Err(Refusal::invalid("anthropic-version: header is required"));
        }
        serde_json::from_slice(body).map_err(|e| Refusal::invalid(format!("The request body is not valid JSON: {e}")))
    }

    /// Answers a question; `finish` makes the response of what is said.
    async fn exchange(
        &self,
        call: Call<'_>,
        read: Result<Asked, Refusal>,
        finish: impl Fn(&Asked, &Said, &Made) -> Form,
    ) -> Response {
        let dialect = call.dialect;
        let key = call.headers.get("idempotency-key").and_then(|v| v.to_str().ok());
        let known = |asked: &Asked| self.script.models.is_empty() || self.script.models.contains(&asked.model);
        let asked = match read {
            Ok(asked) if known(&asked) => asked,
            Ok(asked) => return self.refuse(dialect, &Refusal::NotFound(format!("model: {}", asked.model))),
            Err(refusal) => return self.refuse(dialect, &refusal),
        };
        let (verdict, said, made, headers) = {
            let mut guard = self.changing();
            let Changing { limits, stats, seen, made } = &mut *guard;
            stats.asked(key, &asked.text, asked.effort.as_deref());
            let verdict = self.script.judge(&asked, seen);
            let said = say(&asked, verdict.answer.clone());
            let output_tokens = if call.is_written { said.output_tokens } else { 0 };
            let need = Need { input_tokens: asked.input_tokens, output_tokens };
            if let Err(exceeded) = limits.take(need, self.env.monotonic()) {
                stats.limited += 1;
                let headers = limits.headers(dialect, self.env.wall());
                return with(refused(dialect, &Refusal::Limited(exceeded)), headers);
            }
            *made += 1;
            stats.enter();
            let made = Made { id: format!("mock{made:08}"), created: self.env.wall().0 / 1_000_000 };
            (verdict, said, made, limits.headers(dialect, self.env.wall()))
        };
        // It counts as in flight until its answer is ready, also when the client goes.
        let _at_work = AtWork(self);
        let latency = verdict.latency.unwrap_or(self.latency);
        if !latency.is_zero() {
            self.env.sleep(latency).await;
        }
        let form = finish(&asked, &said, &made);
        let response = match verdict.fault {
            None => {
                let written = if call.is_written { said.output_tokens } else { 0 };
                self.changing().stats.answered(key, &asked.text, (asked.input_tokens, written));
                form.response()
            }
            Some(Fault { status: Some(status), retry_after, .. }) => {
                self.changing().stats.faults += 1;
                refused(dialect, &Refusal::Status { status, retry_after })
            }
            Some(fault) => {
                self.changing().stats.faults += 1;
                // It comes as it is, if slowly.
                if fault.kind == Some(Spoiled::Dribble) {
                    self.changing().stats.answered(key, &asked.text, (asked.input_tokens, said.output_tokens));
                }
                match fault.kind {
                    Some(kind) => spoil(kind, form, dialect, &self.env).await,
                    None => form.response(),
                }
            }
        };
        with(response, headers)
    }

    fn refuse(&self, dialect: Dialect, refusal: &Refusal) -> Response {
        self.changing().stats.refused += 1;
        refused(dialect, refusal)
    }
}

/// A request, beside its body.
struct Call<'a> {
    dialect: Dialect,
    headers: &'a HeaderMap,
    /// Whether what is answered are tokens.
    is_written: bool,
}

/// What names an answer.
struct Made {
    id: String,
    created: i64,
}

struct AtWork<'a>(&'a Server);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.changing().stats.in_flight -= 1;
    }
}

async fn messages(State(server): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::Anthropic;
    let read = server.body(&headers, &body, dialect).and_then(|body| anthropic::read(&body, server.strict));
    let finish = |asked: &Asked, said: &Said, made: &Made| {
        if !asked.stream {
            return Form::Whole(anthropic::answer(asked, said, &made.id));
        }
        let events = anthropic::events(asked, said, &made.id);
        let pieces: Vec<String> =
            events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
        Form::Pieces(pieces)
    };
    server.exchange(Call { dialect, headers: &headers, is_written: true }, read, finish).await
}

async fn completions(State(server): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::OpenAi;
    let read = server.body(&headers, &body, dialect).and_then(|body| openai::read(&body, server.strict));
    let finish = |asked: &Asked, said: &Said, made: &Made| {
        if !asked.stream {
            return Form::Whole(openai::answer(asked, said, &made.id, made.created));
        }
        let chunks = openai::chunks(asked, said, &made.id, made.created);
        let pieces = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
        Form::Pieces(pieces.chain(["data: [DONE]\n\n".to_owned()]).collect())
    };
    server.exchange(Call { dialect, headers: &headers, is_written: true }, read, finish).await
}

async fn embeddings(State(server): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let dialect = Dialect::OpenAi;
    let read = server.body(&headers, &body, dialect).and_then(|body| openai::read_embeddings(&body, server.strict));
    let (read, texts, dimensions) = match read {
        Ok((asked, texts, dimensions)) => (Ok(asked), texts, dimensions),
        Err(refusal) => (Err(refusal), Vec::new(), 1),
    };
    let finish = |asked: &Asked, _: &Said, _: &Made| Form::Whole(openai::embeddings(asked, &texts, dimensions));
    server.exchange(Call { dialect, headers: &headers, is_written: false }, read, finish).await
}

async fn models(State(server): Shared, headers: HeaderMap) -> Response {
    let is_anthropic = headers.contains_key("anthropic-version") || headers.contains_key("x-api-key");
    let dialect = if is_anthropic { Dialect::Anthropic } else { Dialect::OpenAi };
    if let Err(refusal) = server.check_key(&headers, dialect) {
        return refused(dialect, &refusal);
    }
    let named = &server.script.models;
    let list = if is_anthropic { anthropic::models(named) } else { openai::models(named) };
    json(Body::from(list.to_string()))
}

async fn stats(State(server): Shared) -> Response {
    let document = server.changing().stats.document();
    json(Body::from(format!("{document:#}\n")))
}

async fn nowhere(headers: HeaderMap) -> Response {
    let is_anthropic = headers.contains_key("anthropic-version") || headers.contains_key("x-api-key");
    let dialect = if is_anthropic { Dialect::Anthropic } else { Dialect::OpenAi };
    refused(dialect, &Refusal::NotFound("Not Found".into()))
}

fn refused(dialect: Dialect, refusal: &Refusal) -> Response {
    let mut response = json(Body::from(refusal.body(dialect).to_string()));
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = refusal.retry_after().map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
    with(response, headers)
}

fn with(mut response: Response, headers: impl IntoIterator<Item = (String, String)>) -> Response {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
