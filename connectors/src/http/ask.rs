//! One request of a source or sink, and the status of its answer.

use std::pin::pin;
use std::time::Duration;

use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use bourn_http::body::read;
use bourn_http::errors::{Redirects, Refusal};
use bourn_http::{Method, Options, errors};
use bytes::Bytes;
use futures::future::{Either, select};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Http, config, told};

/// The most that is read of an answer that refuses, in bytes.
const REFUSAL_MAX: usize = 64 << 10;

/// How long somebody may take to take a connection, when that is all that is asked.
const SOON: Duration = Duration::from_secs(10);

/// What a source asks for.
pub struct Asking {
    pub env: Env,
    pub url: Url,
    client: Client,
    method: reqwest::Method,
    headers: HeaderMap,
    body: Option<Bytes>,
    pub timeout: Duration,
}

impl Asking {
    /// Of a configuration that was checked.
    pub fn new(config: &Http, env: &Env) -> Result<Self> {
        let url = told(config::url(&config.url, &["http", "https"]).map_err(Into::into))?;
        let mut headers = told(config::headers(&config.headers))?;
        headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
        let body = config.body.as_ref().map(|body| match body {
            Value::String(text) => text.clone().into(),
            other => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                other.to_string().into()
            }
        });
        let usual = if body.is_some() { Method::Post } else { Method::Get };
        let client = client(config, &url, config.redirects, 1)?;
        let method = config.method.unwrap_or(usual).into();
        Ok(Self { env: env.clone(), url, client, method, headers, body, timeout: config.timeout.0 })
    }

    /// What is asked, as it may be shown.
    pub fn shown(&self, url: &Url) -> String {
        format!("{} {}", self.method, errors::shown(url))
    }

    /// Asks at `url`, with some more headers. Another answer than 2xx, or 304 where that was asked for, is an error.
    pub async fn ask(&self, url: &Url, more: &HeaderMap) -> Result<Response> {
        let asked = self.shown(url);
        let mut headers = self.headers.clone();
        headers.extend(more.clone());
        let mut request = self.client.request(self.method.clone(), url.clone()).headers(headers);
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let response = within(&self.env, self.timeout, &asked, request.send()).await?;
        let response = response.map_err(|e| errors::transport(&asked, e))?;
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED && !more.is_empty() {
            return Ok(response);
        }
        Err(refusal(&self.env, self.timeout, (&asked, Redirects::Said), response).await)
    }
}

/// The client of a configuration.
pub fn client(config: &Http, url: &Url, redirects: usize, idle_max: usize) -> Result<Client> {
    let same_host = !config.headers.is_empty() || !url.username().is_empty() || url.password().is_some();
    config.client.get(&Options { url: url.as_str(), redirects, same_host, idle_max })
}

/// What an answer that is not 2xx means. What it says is part of the reason, as far as it can be read.
pub async fn refusal(env: &Env, timeout: Duration, (asked, redirects): (&str, Redirects), response: Response) -> Error {
    let (status, headers) = (response.status(), response.headers().clone());
    let said = within(env, timeout, asked, read(response, REFUSAL_MAX, "")).await;
    let said = said.and_then(|read| read).unwrap_or_default();
    errors::status(Refusal { asked, status, headers: &headers, body: &said, redirects }, env.wall())
}

/// What `work` gives, if it gives it in time.
pub async fn within<T>(env: &Env, timeout: Duration, asked: &str, work: impl Future<Output = T>) -> Result<T> {
    match select(pin!(work), env.sleep(timeout)).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(_) => {
            let waited = bourn_engine::data::units::Interval(timeout);
            Err(Error::new(Kind::Timeout, format!("{asked}: nothing came for {waited} (`timeout`)")))
        }
    }
}

/// Whether somebody takes connections where a URL points, soon. Nothing is asked: a request may change something there.
pub async fn reach(url: &str, timeout: Duration, env: &Env) -> Result<(), Problems> {
    let url = config::url(url, &["http", "https", "ws", "wss"])?;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let address = (host.trim_matches(['[', ']']), port);
    let shown = errors::shown(&url);
    let connected = within(env, timeout.min(SOON), &shown, TcpStream::connect(address)).await;
    let connected = connected.and_then(|c| c.map_err(|e| Error::from(e).context(&shown)));
    connected.map(drop).map_err(|e| Problem::new(e.message().to_owned()).under("url").into())
}
