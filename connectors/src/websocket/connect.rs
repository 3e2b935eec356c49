//! A connection: opened, subscribed, and what its failures mean.

use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use bourn_http::client::install_cryptography;
use bourn_http::errors::{self, Redirects, Refusal};
use futures::{FutureExt, SinkExt};
use reqwest::header::HeaderMap;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error as Fault, ProtocolError, UrlError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::Websocket;
use crate::http::ask::within;
use crate::http::config;

/// An open connection.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How to get in.
pub struct Door {
    pub env: Env,
    url: String,
    headers: HeaderMap,
    subscribe: Vec<Utf8Bytes>,
    message_max: usize,
    pub timeout: Duration,
    pub shown: String,
}

impl Door {
    /// Of a configuration that was checked.
    pub fn new(config: &Websocket, env: &Env) -> Result<Self> {
        let url = config::url(&config.url, &["ws", "wss"]).map_err(|p| Error::validation(p.message))?;
        let headers = config::headers(&config.headers).map_err(|p| Error::validation(p.0[0].message.clone()))?;
        install_cryptography();
        Ok(Self {
            env: env.clone(),
            shown: errors::shown(&url),
            url: url.into(),
            headers,
            subscribe: config.subscribe.iter().map(|text| text.as_str().into()).collect(),
            message_max: usize::try_from(config.message_max.0).unwrap_or(usize::MAX),
            timeout: config.timeout.0,
        })
    }

    /// A new connection, subscribed.
    pub async fn open(&self) -> Result<Socket> {
        let opening = async {
            let mut request = self.url.as_str().into_client_request()?;
            request.headers_mut().extend(self.headers.clone());
            let config = WebSocketConfig::default()
                .max_message_size(Some(self.message_max))
                .max_frame_size(Some(self.message_max));
            let (mut socket, _) = connect_async_tls_with_config(request, Some(config), true, None).await?;
            for text in &self.subscribe {
                socket.send(Message::Text(text.clone())).await?;
            }
            Ok::<_, Fault>(socket)
        };
        // A secure connection is large, and is opened seldom.
        within(&self.env, self.timeout, &self.shown, opening.boxed()).await?.map_err(|fault| self.error(fault))
    }

    /// What a failure means: whether a new connection may help.
    pub fn error(&self, fault: Fault) -> Error {
        let told = |kind, what: String| Error::new(kind, format!("{}: {what}", self.shown));
        match fault {
            Fault::Http(answer) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let (asked, status, headers) = (&*self.shown, answer.status(), answer.headers());
                let redirects = Redirects::Never;
                errors::status(Refusal { asked, status, headers, body, redirects }, self.env.wall())
            }
            Fault::Capacity(_) => {
                let most = self.message_max;
                told(Kind::Budget, format!("a message has more than {most} bytes (`message_max`)"))
            }
            // It may hold the URL.
            Fault::Url(UrlError::UnableToConnect(_)) => told(Kind::Io, "no connection can be made".into()).transient(),
            Fault::Url(_) => Error::validation(format!("{}: this URL can't be connected to", self.shown)),
            Fault::HttpFormat(_) => Error::validation(format!("{}: no request can be made of this", self.shown)),
            Fault::ConnectionClosed | Fault::AlreadyClosed => {
                told(Kind::Io, "the connection is closed".into()).transient()
            }
            Fault::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                told(Kind::Io, "the connection broke off".into()).transient()
            }
            Fault::Protocol(_) | Fault::Utf8(_) => told(Kind::Validation, fault.to_string()).transient(),
            other => told(Kind::Io, other.to_string()).transient(),
        }
    }
}
