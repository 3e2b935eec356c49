//! `http`: one request for each row, or for many.

mod batch;
mod body;
mod request;
mod url;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::template::Template;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use bourn_http::{Method, Options, SharedClient};
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, PerRow};
use crate::places::Check;
use batch::Together;
use request::Send;

/// Sends one HTTP request for each row, or for `limits.rows` of them, and adds a column with the answer.
///
/// `http: { url: "https://api.example.com/users/${id}", query: { full: "true" } }`. Values are encoded where they are
/// filled into the URL, so that a `/`, `?` or `&` in them changes nothing else of it; only one at its very beginning is
/// taken as it is, so a URL that is data, or made by a `map`, is `url: "${link}"`. What comes from `${secret.…}` and `${env.…}` stands in the
/// URL as it is said there, since it may be a part of one: a key with a `+` or `&` belongs into `query` or a header. 429, 408, 5xx and failing connections
/// are tried again as `limits.retry` says, not before an asked `Retry-After`; other answers than 2xx reject the row, and so does a null where the URL, a parameter or a header has a place. Requests that may change something carry the header `Idempotency-Key`, the same at each attempt.
///
/// With `per: batch` a request carries an array, an element for each of up to `limits.rows` rows: `body` with its places filled, or the row
/// itself. The answer is an array of as many elements in the same order; one that is an object with an `error` rejects its row.
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
    /// What one request is made for.
    #[serde(default)]
    pub per: Per,
    /// With `per: batch`, where the array is in the answer, as a JSON pointer: `/results`; the answer is the array if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
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

/// What one request is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One row.
    #[default]
    Row,
    /// Up to `limits.rows` rows.
    Batch,
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
        self.check_batch(&mut check);
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn is_stateless(&self) -> bool {
        let is_get = self.method.map_or(self.body.is_none(), |method| matches!(method, Method::Get | Method::Head));
        is_get && self.body.is_none()
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let client = self.client.get(&Options {
            url: &self.url,
            redirects: self.redirects,
            same_host: !self.headers.is_empty(),
            idle_max: self.limits.in_flight,
        })?;
        let send = Send::new(self, client)?;
        if self.per == Per::Batch {
            let schema = answer::schema(&context.inputs[0], &self.output).map_err(|p| Error::validation(p.message))?;
            let answers = self.answers.as_deref().unwrap_or_default();
            return Ok(Operator::call(Together::new(send, answers, &self.output, schema), self.limits.clone()));
        }
        let call = PerRow::new(send, &context.inputs[0], &self.output)?;
        Ok(Operator::call(call, self.limits.clone()))
    }
}

impl Http {
    /// What goes with requests for one row only, or for many only.
    fn check_batch(&self, check: &mut Check<'_>) {
        if self.per == Per::Row {
            if self.answers.is_some() {
                check.add(Problem::new("one row has one answer").help("say `per: batch`").under("answers"));
            }
            return;
        }
        let of_one = |text: &str| Template::parse(text).is_ok_and(|t| t.references().next().is_some());
        let told = || {
            let problem = Problem::new("a request for many rows can't have the value of one of them here");
            problem.help("put it into `body`, of which every row has its own")
        };
        if of_one(&self.url) {
            check.add(told().under("url"));
        }
        for (key, texts) in [("query", &self.query), ("headers", &self.headers)] {
            for (name, _) in texts.iter().filter(|(_, text)| of_one(text)) {
                check.add(told().under(name.as_str()).under(key));
            }
        }
        if !matches!(self.response, Response::Auto | Response::Json) {
            let problem = Problem::new("the answer to many rows is a JSON array").under("response");
            check.add(problem.help("leave `response` out"));
        }
        if self.answers.as_deref().is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            let problem = Problem::new("this is no JSON pointer").under("answers");
            check.add(problem.help("it begins with `/`, as `/results` does"));
        }
        if matches!(self.method, Some(Method::Get | Method::Head)) && self.body.is_none() {
            check.add(Problem::new("a GET or HEAD request carries no rows").help("remove `method`").under("method"));
        }
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
