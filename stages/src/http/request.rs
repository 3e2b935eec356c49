//! One request and its answer.

use arrow::record_batch::RecordBatch;
use bourn_engine::api::memo::Key;
use bourn_engine::api::template::Template;
use bourn_engine::api::{Accounts, CallContext};
use bourn_engine::data::columns::RESERVED_PREFIX;
use bourn_engine::data::json::row_value;
use bourn_engine::{Error, Result};
use bourn_http::errors::{Redirects, Refusal};
use bourn_http::{Method, body::read, errors};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Request, StatusCode};
use serde_json::{Value, json};

use super::{Http, Per, Response, body, url};
use crate::answer::{Answer, Ask};
use crate::places::{Document, template};

/// What a service tells repeated requests by.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request with places.
pub struct Send {
    client: Client,
    url: Template,
    method: reqwest::Method,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Document>,
    response: Response,
    response_max: usize,
}

impl Send {
    /// Reads the templates.
    pub fn new(config: &Http, client: Client) -> Result<Self> {
        let has_body = config.body.is_some() || config.per == Per::Batch;
        let method = config.method.unwrap_or(if has_body { Method::Post } else { Method::Get });
        let parameter = |(name, text): (&String, &String)| Ok((name.clone(), template(text)?));
        let header = |(name, text): (&String, &String)| Ok((HeaderName::try_from(name)?, template(text)?));
        Ok(Self {
            client,
            url: template(&config.url)?,
            method: method.into(),
            query: config.query.iter().map(parameter).collect::<Result<_>>()?,
            headers: config.headers.iter().map(header).collect::<Result<_>>()?,
            body: config.body.as_ref().map(Document::read).transpose()?,
            response: config.response,
            response_max: usize::try_from(config.response_max.0).unwrap_or(usize::MAX),
        })
    }

    /// What a row sends in an array: the body with its places filled, or the row itself.
    pub fn element(&self, rows: &RecordBatch, row: usize) -> Result<Value> {
        if let Some(body) = &self.body {
            return body.value(rows, row);
        }
        let mut object = row_value(rows, row)?;
        object.retain(|name, _| !name.starts_with(RESERVED_PREFIX));
        Ok(Value::Object(object))
    }

    /// A request for all `rows`; nothing but its body depends on them.
    pub fn array(&self, rows: &RecordBatch, array: &Value, key: &str) -> Result<Request> {
        let mut request = self.head(rows, 0, key)?;
        request.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(array.to_string().into());
        Ok(request)
    }

    fn request(&self, rows: &RecordBatch, row: usize, key: &str) -> Result<Request> {
        let mut request = self.head(rows, row, key)?;
        if let Some(body) = &self.body {
            if !matches!(body, Document::Text(_)) {
                request.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            }
            *request.body_mut() = Some(body.text(rows, row)?.into());
        }
        Ok(request)
    }

    /// All of a request but its body.
    fn head(&self, rows: &RecordBatch, row: usize, key: &str) -> Result<Request> {
        let mut url = url::fill(&self.url, rows, row)?;
        for (name, value) in &self.query {
            url::no_null(value, rows, row)?;
            url.query_pairs_mut().append_pair(name, &value.render(rows, row)?);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            url::no_null(value, rows, row)?;
            let value = HeaderValue::try_from(value.render(rows, row)?)
                .map_err(|_| Error::validation(format!("the header `{name}` would have a line break or the like")))?;
            headers.append(name, value);
        }
        if !self.method.is_safe() && !headers.contains_key(IDEMPOTENCY_KEY) {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(key)?);
        }
        let mut request = Request::new(self.method.clone(), url);
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends a request, and reads an answer of 2xx.
    pub async fn exchange(&self, request: Request, context: &CallContext) -> Result<Exchanged> {
        let asked = format!("{} {}", request.method(), errors::shown(request.url()));
        let response = self.client.execute(request).await.map_err(|e| errors::transport(&asked, e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, self.response_max, "response_max").await;
        if !status.is_success() {
            // What it says is part of the reason, as far as it could be read.
            let body = body.unwrap_or_default();
            let redirects = Redirects::Said;
            let answer = Refusal { asked: &asked, status, headers: &headers, body: &body, redirects };
            return Err(errors::status(answer, context.env.wall()));
        }
        let body = body.map_err(|e| e.context(&asked))?;
        Ok(Exchanged { asked, status, headers, body })
    }
}

/// An answer.
pub struct Exchanged {
    /// What was asked, as it may be shown.
    pub asked: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Ask for Send {
    async fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext) -> Result<Answer> {
        let request = self.request(rows, row, &context.idempotency_key)?;
        let Exchanged { asked, status, headers, body: bytes } = self.exchange(request, context).await?;
        let refuse = |e: Error| e.context(&asked);
        let value = match self.response {
            Response::Auto => body::auto(&headers, bytes).map_err(refuse)?,
            Response::Text => body::text(bytes).map_err(refuse)?,
            Response::Json => body::json(&bytes).map_err(refuse)?,
            Response::Full => {
                let body = body::auto(&headers, bytes).map_err(refuse)?;
                json!({ "status": status.as_u16(), "headers": shown_headers(&headers), "body": body })
            }
        };
        Ok(value.into())
    }

    fn key(&self, rows: &RecordBatch, row: usize) -> Result<Option<Key>> {
        let request = self.request(rows, row, "")?;
        let mut hash =
            vec![b"http".as_slice(), request.method().as_str().as_bytes(), request.url().as_str().as_bytes()];
        for (name, value) in request.headers() {
            hash.extend([name.as_str().as_bytes(), value.as_bytes()]);
        }
        let read_as = format!("{:?}", self.response);
        hash.extend([request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default(), read_as.as_bytes()]);
        Ok(Some(Key::of_bytes(hash)))
    }

    fn accounts(&self) -> Accounts {
        Accounts { keeps: true, ..Accounts::default() }
    }
}

/// Headers by name in lower case; several values of one are joined as HTTP allows.
fn shown_headers(headers: &HeaderMap) -> Value {
    let one = |name: &HeaderName| {
        let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        (name.to_string(), Value::String(values.join(", ")))
    };
    Value::Object(headers.keys().map(one).collect())
}
