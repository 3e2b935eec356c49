//! Answers that are spoiled on purpose.

use std::future::{pending, ready};
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bourn_engine::env::Env;
use futures::{StreamExt, stream};

use super::form::Form;
use super::refusal::{Dialect, Refusal};
use super::script::Spoiled;

/// How long the first half may take on its way.
const FLUSHED: Duration = Duration::from_millis(20);

/// What comes in place of the answer `whole`.
pub async fn spoil(kind: Spoiled, whole: Form, dialect: Dialect, env: &Env) -> Response {
    let text = whole.text();
    let half = |kept: usize| Bytes::copy_from_slice(&text.as_bytes()[..kept]);
    let begun = |kept: usize| stream::once(ready(Ok::<_, io::Error>(half(kept))));
    let body = match kind {
        Spoiled::Rubbish => Body::from("\u{fffd}\u{0}<|end|>{{{"),
        Spoiled::HalfJson => Body::from(half(text.len() / 2)),
        Spoiled::Hang => pending().await,
        Spoiled::Endless => {
            let blank = || Ok::<_, io::Error>(Bytes::from_static(&[b' '; 4_096]));
            Body::from_stream(stream::repeat_with(blank))
        }
        // Half of it, and an error in place of the rest: the connection is closed before the end that was announced.
        Spoiled::Cut => {
            let env = env.clone();
            let cut = async move {
                // What is waiting to be sent would go with the connection.
                env.sleep(FLUSHED).await;
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "the script cuts the connection"))
            };
            Body::from_stream(begun(text.len() / 2).chain(stream::once(cut)))
        }
        Spoiled::Stall => Body::from_stream(begun(text.len() / 2).chain(stream::pending())),
        Spoiled::Error => {
            let error = Refusal::Status { status: 529, retry_after: None }.body(dialect);
            Body::from(match &whole {
                Form::Whole(_) => error.to_string(),
                Form::Pieces(events) => {
                    let kept = events.len() / 2;
                    let name = if dialect == Dialect::Anthropic { "event: error\n" } else { "" };
                    format!("{}{name}data: {error}\n\n", events[..kept].concat())
                }
            })
        }
        Spoiled::Dribble => {
            let bytes = text.clone().into_bytes().into_iter().map(|byte| Ok::<_, io::Error>(Bytes::from(vec![byte])));
            Body::from_stream(stream::iter(bytes))
        }
    };
    whole.with(body)
}

/// An answer of JSON with status 200.
pub fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}
