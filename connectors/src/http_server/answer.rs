//! Answers, and word of their leaving.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::channel::oneshot;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// The text of an answer. When it is dropped, the connection has taken it over: then whoever waits for that is told.
pub struct Text {
    text: Option<Bytes>,
    _taken: Option<oneshot::Sender<()>>,
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
pub fn taken(rows: usize, told: Option<oneshot::Sender<()>>) -> Response<Text> {
    of(StatusCode::OK, &json!({ "rows": rows }), told)
}

fn of(status: StatusCode, said: &Value, told: Option<oneshot::Sender<()>>) -> Response<Text> {
    let mut response = Response::new(Text { text: Some(format!("{said}\n").into()), _taken: told });
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
