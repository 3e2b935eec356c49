//! The form of an answer: one document, or the events of a stream.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::Value;

use super::fault::json;

/// What an answer is made of.
pub enum Form {
    /// One document.
    Whole(Value),
    /// Server-sent events, as text.
    Pieces(Vec<String>),
}

impl Form {
    /// All of it.
    pub fn text(&self) -> String {
        match self {
            Self::Whole(document) => document.to_string(),
            Self::Pieces(events) => events.concat(),
        }
    }

    /// The answer.
    pub fn response(&self) -> Response {
        self.with(Body::from(self.text()))
    }

    /// An answer that says to be of this form, with something else in it.
    pub fn with(&self, body: Body) -> Response {
        let mut response = json(body);
        if let Self::Pieces(_) = self {
            let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        response
    }
}
