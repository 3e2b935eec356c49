//! An answer of a service on its way: one document, or events of server-sent events.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bourn_engine::api::CallContext;
use bourn_engine::data::secret::shortened;
use bourn_engine::{Error, Kind, Result};
use bourn_http::{Body, body};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use sse_stream::SseByteStream;

use super::classify::{self, Failed, classify};
use super::pieces::{Piece, Pieces};
use super::remote::Link;

/// The most bytes of an answer.
const ANSWER_MAX: usize = 10 << 20;
/// What an answer that is too long is told by.
const NAMED: &str = "answers of models";

/// An answer that has begun.
pub struct Answering<'a> {
    /// Who answers.
    pub link: &'a Link,
    /// What was asked, as it may be shown.
    pub asked: String,
    /// What comes.
    pub response: Response,
}

impl Answering<'_> {
    /// Whether it is one document: an error is, and so is the answer of a service that knows no other.
    pub fn is_whole(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        !self.response.status().is_success() || !kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
    }

    /// The document.
    pub async fn whole(self, context: &CallContext) -> Result<Value> {
        let Self { link, asked, response } = self;
        let (status, headers) = (response.status(), response.headers().clone());
        let read = body::read(response, ANSWER_MAX, NAMED).await;
        let failed = |status: u16, body: &[u8]| {
            classify(Failed { asked: &asked, status, headers: &headers, body, key: link.key() }, context.env.wall())
        };
        if !status.is_success() {
            return Err(failed(status.as_u16(), &read.unwrap_or_default()));
        }
        // An answer that is too long, broken off or rubbish is the service's fault, and may be right the next time.
        let bytes = read.map_err(|e| e.context(&asked).transient())?;
        let document: Value = serde_json::from_slice(&bytes).map_err(|e| {
            let message = format!("{asked}: the answer is no JSON: {e}; it begins with `{}`", start(&bytes));
            Error::new(Kind::Io, message).transient()
        })?;
        match document.get("error").filter(|error| error.is_object()) {
            Some(error) => Err(failed(classify::status(error), &bytes)),
            None => Ok(document),
        }
    }

    /// Gathers what comes into `pieces`, up to the last one. `since` is when it was asked.
    pub async fn gather(self, context: &CallContext, since: Duration, pieces: &mut Pieces) -> Result<()> {
        let Self { link, asked, response } = self;
        let headers = response.headers().clone();
        let broken = |what: String| Error::new(Kind::Io, format!("{asked}: {what}")).transient();
        let unfinished = Arc::new(AtomicUsize::new(0));
        let body = Body::of(response).map_err(|e| e.context(&asked))?;
        let mut events = SseByteStream::new(bytes_of(body, context, &unfinished).boxed());
        while let Some(event) = events.next().await {
            let event = event.map_err(|e| match e {
                sse_stream::Error::Body(e) => match e.downcast::<Broken>() {
                    Ok(e) => e.0.context(&asked).transient(),
                    Err(e) => broken(e.to_string()),
                },
                other => broken(other.to_string()),
            })?;
            unfinished.store(0, Relaxed);
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            match pieces.add(&data) {
                Piece::Said => context.bill.first_piece(context.env.monotonic().saturating_sub(since)),
                Piece::Other => {}
                Piece::Last => return Ok(()),
                Piece::Failed => {
                    let document: Value = serde_json::from_str(&data).unwrap_or_default();
                    let (status, key) = (classify::status(&document["error"]), link.key());
                    let failed = Failed { asked: &asked, status, headers: &headers, body: data.as_bytes(), key };
                    return Err(classify(failed, context.env.wall()));
                }
                Piece::Wrong => {
                    let what = format!("a piece of the answer is none: it begins with `{}`", start(data.as_bytes()));
                    return Err(broken(what));
                }
            }
            if pieces.bytes() > ANSWER_MAX {
                return Err(body::too_large(ANSWER_MAX, NAMED).context(&asked).transient());
            }
        }
        Err(broken("the answer broke off: its end did not come".to_owned()))
    }
}

/// The bytes of a body as they come, each piece a sign of life. `unfinished` counts those that no event has ended yet.
fn bytes_of<'a>(
    body: Body,
    context: &'a CallContext,
    unfinished: &'a Arc<AtomicUsize>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'a {
    stream::try_unfold(body, move |mut body| async move {
        let Some(piece) = body.piece().await.map_err(Broken)? else { return Ok(None) };
        context.bill.alive(context.env.monotonic());
        if unfinished.fetch_add(piece.len(), Relaxed) + piece.len() > ANSWER_MAX {
            return Err(Broken(body::too_large(ANSWER_MAX, NAMED)));
        }
        Ok(Some((piece, body)))
    })
}

/// What an answer begins with, as it may be shown.
fn start(bytes: &[u8]) -> String {
    shortened(&String::from_utf8_lossy(bytes), 60).escape_debug().to_string()
}

/// An error of ours on its way through a stream of somebody else's.
#[derive(Debug)]
struct Broken(Error);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}
