//! Answers that are spoiled on purpose.

use std::future::{pending, ready};
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bourn_engine::env::Env;
use futures::{StreamExt, stream};

use super::script::Spoiled;

/// How long the first half may take on its way.
const FLUSHED: Duration = Duration::from_millis(20);

/// What comes in place of the document `whole`.
pub async fn spoil(kind: Spoiled, whole: &str, env: &Env) -> Response {
    let half = || Bytes::copy_from_slice(&whole.as_bytes()[..whole.len() / 2]);
    match kind {
        Spoiled::Rubbish => json(Body::from("\u{fffd}\u{0}<|end|>{{{")),
        Spoiled::HalfJson => json(Body::from(half())),
        Spoiled::Hang => pending().await,
        Spoiled::Endless => {
            let blank = || Ok::<_, io::Error>(Bytes::from_static(&[b' '; 4_096]));
            json(Body::from_stream(stream::repeat_with(blank)))
        }
        // Half of it, and an error in place of the rest: the connection is closed before the end that was announced.
        Spoiled::Cut => {
            let env = env.clone();
            let cut = async move {
                // What is waiting to be sent would go with the connection.
                env.sleep(FLUSHED).await;
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "the script cuts the connection"))
            };
            let begun = stream::once(ready(Ok(half())));
            json(Body::from_stream(begun.chain(stream::once(cut))))
        }
    }
}

/// An answer of JSON with status 200.
pub fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}
