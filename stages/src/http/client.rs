//! The HTTP client: one for all requests of a lane, so that connections are used again.

use std::time::Duration;

use bourn_engine::Result;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// A client. It has no timeout of its own: the engine ends what takes too long.
pub fn client() -> Result<Client> {
    // It is an error when a provider is installed already, by another stage or by the program around: just as well.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::builder()
        .user_agent(concat!("bourn/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .redirect(Policy::custom(|attempt| {
            let scheme = |url: &Url| url.scheme().to_owned();
            let changed = attempt.previous().last().is_some_and(|from| scheme(from) != scheme(attempt.url()));
            if changed {
                attempt.error("a redirect to another scheme is not followed")
            } else if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error("too many redirects")
            } else {
                attempt.follow()
            }
        }))
        .build()?)
}
