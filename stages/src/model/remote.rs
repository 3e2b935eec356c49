//! A model behind an API: Anthropic's, or one that is compatible with OpenAI.

use bourn_engine::api::CallContext;
use bourn_engine::{Error, Kind, Result};
use bourn_http::errors;
use reqwest::Client;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::answering::Answering;
use super::messages::{self, Manner};
use super::pieces::Pieces;
use super::provider::{About, Prompt, Provider, Said};
use super::registry::Service;
use super::settings::Address;
use super::told_limits::limits;

/// The version of Anthropic's API.
const VERSION: &str = "2023-06-01";
/// A client of a service.
pub struct Remote {
    client: Client,
    link: Link,
    manner: Manner,
}

/// How a service is reached.
#[derive(Clone)]
pub struct Link {
    service: Service,
    address: Address,
    headers: HeaderMap,
}

impl Link {
    /// The headers of every request.
    ///
    /// # Errors
    /// When the key is none that a header can carry.
    pub fn new(service: Service, address: Address) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if service == Service::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        }
        if let Some(key) = &address.key {
            let bearer = format!("Bearer {}", key.expose());
            let (name, value) = match service {
                Service::Anthropic => (HeaderName::from_static("x-api-key"), key.expose()),
                Service::OpenAi => (AUTHORIZATION, bearer.as_str()),
            };
            let value = HeaderValue::try_from(value).map_err(|_| {
                Error::new(Kind::Permission, "the key has characters that no key has, perhaps a line break")
            });
            let mut value = value?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { service, address, headers })
    }

    /// What is not to be repeated.
    pub fn key(&self) -> &str {
        self.address.key.as_ref().map_or("", |key| key.expose())
    }

    /// Where it is asked.
    pub fn base(&self) -> &str {
        &self.address.base
    }

    /// Who it is, with this model.
    pub fn about<'a>(&'a self, model: &'a str, temperature: Option<f32>) -> About<'a> {
        About { provider: self.service.name(), model: Some(model), address: Some(self.base()), temperature }
    }

    /// Sends a document; the one that comes back, and the headers with it.
    ///
    /// # Errors
    /// What [`classify`] makes of the service's error, or of a connection that fails. What is no JSON may be otherwise the
    /// next time.
    pub async fn post(
        &self,
        client: &Client,
        path: &str,
        body: &Value,
        context: &CallContext,
    ) -> Result<(Value, HeaderMap)> {
        let answering = self.send(client, path, body, context).await?;
        let headers = answering.response.headers().clone();
        Ok((answering.whole(context).await?, headers))
    }

    /// The same of an answer in `pieces`, if the service gives it so: they have what has come of it, also when it fails.
    ///
    /// # Errors
    /// As for [`post`](Self::post), and when the pieces end before the last one.
    pub async fn stream(
        &self,
        client: &Client,
        path: &str,
        body: &Value,
        context: &CallContext,
        pieces: &mut Pieces,
    ) -> Result<(Value, HeaderMap)> {
        let since = context.env.monotonic();
        let answering = self.send(client, path, body, context).await?;
        let headers = answering.response.headers().clone();
        if answering.is_whole() {
            return Ok((answering.whole(context).await?, headers));
        }
        answering.gather(context, since, pieces).await?;
        Ok((pieces.answer().clone(), headers))
    }

    async fn send(&self, client: &Client, path: &str, body: &Value, context: &CallContext) -> Result<Answering<'_>> {
        let url = format!("{}/{path}", self.address.base);
        let url = reqwest::Url::parse(&url).map_err(|e| Error::validation(format!("`base_url`: {e}")))?;
        let asked = format!("POST {}", errors::shown(&url));
        let mut headers = self.headers.clone();
        headers.insert("idempotency-key", HeaderValue::try_from(&*context.idempotency_key)?);
        let request = client.post(url).headers(headers).body(body.to_string());
        let response = request.send().await.map_err(|e| errors::transport(&asked, e))?;
        Ok(Answering { link: self, asked, response })
    }
}

impl Remote {
    /// Asks over `client`.
    pub fn new(client: Client, link: Link, manner: Manner) -> Self {
        Self { client, link, manner }
    }
}

impl Provider for Remote {
    async fn answer(&self, prompt: &Prompt, context: &CallContext) -> Result<Said> {
        let service = self.link.service;
        let (mut body, path) = (messages::body(service, &self.manner, prompt), messages::path(service));
        let (answer, headers) = if self.manner.stream {
            messages::in_pieces(service, &mut body);
            let mut pieces = Pieces::of(service);
            let told = self.link.stream(&self.client, path, &body, context, &mut pieces).await;
            // What breaks off has its price too, as far as it was told.
            let lost = || context.bill.lost(messages::usage(service, self.manner.price, &pieces.answer()["usage"]));
            told.inspect_err(|_| lost())?
        } else {
            self.link.post(&self.client, path, &body, context).await?
        };
        let (text, usage) = messages::read(service, &self.manner, &answer)?;
        let (model, finish) = (answer["model"].as_str().map(str::to_owned), messages::finish(service, &answer));
        Ok(Said { text, usage, limits: limits(service, &headers, context.env.wall()), model, finish })
    }

    fn about(&self) -> About<'_> {
        let Manner { model, temperature, .. } = &self.manner;
        self.link.about(model, *temperature)
    }

    fn request(&self, prompt: &Prompt) -> String {
        let service = self.link.service;
        let (base, path) = (self.link.base(), messages::path(service));
        format!("{base}/{path} {}", messages::body(service, &self.manner, prompt))
    }
}
