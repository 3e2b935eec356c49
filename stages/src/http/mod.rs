//! `http`: one request for each row.

mod body;
mod client;
mod errors;
mod request;
mod url;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use bourn_engine::Result;
use bourn_engine::api::template::Template;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::{Problem, Problems};
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, PerRow};
use crate::places::Check;
use client::SharedClient;
use request::Send;

/// Sends one HTTP request for each row, and adds a column with the answer.
///
/// `http: { url: "https://api.example.com/users/${id}", query: { full: "true" } }`. Values are encoded where they are
/// filled into the URL, so that a `/`, `?` or `&` in them changes nothing else of it; only one at its very beginning is
/// taken as it is, so a URL that is data, or made by a `map`, is `url: "${link}"`. 429, 408, 5xx and failing connections
/// are tried again as `limits.retry` says, not before an asked `Retry-After`; other answers than 2xx reject the row. Requests that may change something carry the header `Idempotency-Key`, the same at each attempt.
/// Proxies are not taken from the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The URL, with places such as `${column}`, whose values are encoded unless they begin it.
    pub url: String,
    /// The method; `POST` when there is a body, otherwise `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Parameters that are added to the URL, encoded; with places.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Headers, with places.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body: a text, or any JSON, which is sent as such; with places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// What of the answer goes into the column.
    #[serde(default)]
    pub response: Response,
    /// The most that an answer may have.
    #[serde(default = "response_max")]
    pub response_max: Size,
    /// The most redirects that are followed for one request; none if it is not said. Never to another scheme, and with
    /// `headers` never to another host, which is not to see them.
    #[serde(default)]
    pub redirects: usize,
    /// The column that gets the answer.
    #[serde(default = "answer::default_output")]
    pub output: String,
    /// What bounds the calls.
    #[serde(default)]
    pub limits: Limits,
    #[serde(skip)]
    #[schemars(skip)]
    client: SharedClient,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are HTTP's own names")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// What of an answer is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The JSON document when the answer says that it is one, otherwise the text.
    #[default]
    Auto,
    /// The body as text.
    #[serde(alias = "body")]
    Text,
    /// The body, which must be a JSON document.
    Json,
    /// `{status, headers, body}`, with the body as for `auto`.
    Full,
}

fn response_max() -> Size {
    Size(10 << 20)
}

impl StageConfig for Http {
    const NAME: &'static str = "http";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        check.text(&["url".into()], &self.url);
        if let Some(problem) = wrong_url(&self.url) {
            check.add(problem.under("url"));
        }
        for (name, value) in &self.query {
            check.text(&["query".into(), name.as_str().into()], value);
        }
        for (name, value) in &self.headers {
            check.text(&["headers".into(), name.as_str().into()], value);
            // Characters that no header has are not made by filling in places either, so the template may be looked at.
            if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.as_str()).is_err() {
                check.add(Problem::new(format!("`{name}` is no HTTP header")).under(name.as_str()).under("headers"));
            }
        }
        if let Some(body) = &self.body {
            check.document(&["body".into()], body);
            if matches!(self.method, Some(Method::Get | Method::Head)) {
                check.add(Problem::new("a GET or HEAD request has no body").help("remove `method`").under("body"));
            }
        }
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let call = PerRow::new(Send::new(self, self.client.get(self)?)?, &context.inputs[0], &self.output)?;
        Ok(Operator::call(call, self.limits.clone()))
    }
}

/// What is wrong with a URL before its places are filled.
fn wrong_url(url: &str) -> Option<Problem> {
    let scheme = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    let starts_with_place = Template::parse(url).is_ok_and(|t| t.references().any(|r| r.span.start == 0));
    if starts_with_place || scheme(&url.to_ascii_lowercase()) {
        return None;
    }
    Some(Problem::new("this is no URL").help("it begins with `http://` or `https://`, or with a place that does"))
}

#[cfg(test)]
mod tests;
