//! Answers, and word of their leaving.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::channel::oneshot;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// Who waits for the answers of one connection to leave: they are told when all that it has taken over was handed to the
/// system, or when it ends.
#[derive(Clone, Default)]
pub struct Leaving(Arc<Mutex<Vec<oneshot::Sender<()>>>>);

impl Leaving {
    /// All that the connection had taken over has left.
    pub fn left(&self) {
        for waits in std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            // The commit does not wait for ever.
            let _ = waits.send(());
        }
    }

    fn add(&self, waits: oneshot::Sender<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(waits);
    }
}

/// The text of an answer. When it is dropped, the connection has taken it over, and has still to send it.
pub struct Text {
    text: Option<Bytes>,
    waits: Option<(oneshot::Sender<()>, Leaving)>,
}

impl Drop for Text {
    fn drop(&mut self) {
        if let Some((waits, leaving)) = self.waits.take() {
            leaving.add(waits);
        }
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.text.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.as_ref().map_or(0, |text| text.len() as u64))
    }
}

/// Why a request is not taken.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    pub said: Value,
}

impl Refusal {
    /// With a reason in words.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, said: json!({ "error": why.into() }) }
    }

    /// For now.
    pub fn busy(why: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// The answer.
    pub fn answer(self) -> Response<Text> {
        let mut answer = of(self.status, &self.said, None);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

/// So many rows were taken.
pub fn taken(rows: usize, waits: Option<(oneshot::Sender<()>, Leaving)>) -> Response<Text> {
    of(StatusCode::OK, &json!({ "rows": rows }), waits)
}

fn of(status: StatusCode, said: &Value, waits: Option<(oneshot::Sender<()>, Leaving)>) -> Response<Text> {
    let mut response = Response::new(Text { text: Some(format!("{said}\n").into()), waits });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
