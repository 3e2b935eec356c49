//! The HTTP client: one for all lanes of a stage or connector, so that connections are used again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bourn_engine::{Error, Result};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, ClientBuilder};

use super::errors::innermost;

/// What a client is told of its use.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Where it goes; a template will do.
    pub url: &'a str,
    /// The most redirects that are followed for one request, never to another scheme.
    pub redirects: usize,
    /// Whether requests carry what no other host may see.
    pub same_host: bool,
    /// How many connections stay open.
    pub idle_max: usize,
}

/// The client of a stage, made when its first lane is built. Clones share it, and with it its open connections.
#[derive(Clone, Debug, Default)]
pub struct SharedClient(Arc<OnceLock<Client>>);

/// It is no part of what a spec says, so configurations that differ in it alone are the same.
impl PartialEq for SharedClient {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl SharedClient {
    /// The client; made for `options` if there is none yet. It has no timeout of its own: the engine ends what takes too
    /// long.
    ///
    /// # Errors
    /// When secure connections can't be made, and the stage may need them.
    pub fn get(&self, options: &Options<'_>) -> Result<Client> {
        if let Some(client) = self.0.get() {
            return Ok(client.clone());
        }
        install_cryptography();
        let client = builder(options).build().or_else(|e| {
            // A small container has no certificates, and plain HTTP, which no redirect leaves, needs none.
            let plain = options.url.to_ascii_lowercase().starts_with("http://");
            if plain { builder(options).tls_certs_only([]).build() } else { Err(e) }
        });
        let client = client.map_err(|e| {
            let why = innermost(&e);
            Error::from(e).context(format!("no secure connection can be made ({why}); are certificates installed?"))
        })?;
        Ok(self.0.get_or_init(|| client).clone())
    }
}

/// Makes ring what secure connections of this process are made with, if nothing else is yet.
pub fn install_cryptography() {
    // It is an error when a provider is installed already, by another stage or by the program around: just as well.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

fn builder(options: &Options<'_>) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("bourn/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        // A spec says where its data goes; a proxy in the environment is not in it.
        .no_proxy()
        // It would tell the next server the address before, query included.
        .referer(false)
        // Trying again is the engine's.
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(options.idle_max)
        .redirect(policy(options.redirects, options.same_host))
}

/// Follows so many redirects, within a scheme; a request with headers of its own (a key, perhaps) stays on its host.
fn policy(redirects: usize, same_host: bool) -> Policy {
    let follows = move |attempt: &Attempt<'_>| {
        let Some(first) = attempt.previous().first() else { return false };
        let next = attempt.url();
        attempt.previous().len() <= redirects
            && next.scheme() == first.scheme()
            && (!same_host || next.origin() == first.origin())
    };
    Policy::custom(move |attempt| -> Action {
        if follows(&attempt) { attempt.follow() } else { attempt.stop() }
    })
}
