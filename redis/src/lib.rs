//! Results of steps in Redis or Valkey, which processes share, and rate limits. It may lose all it has, and be gone at any time: then everybody
//! asks anew, and keeps the limits alone.
#![forbid(unsafe_code)]

mod buckets;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bourn_engine::api::Cache;
use bourn_engine::api::memo::Key;
use bourn_engine::env::Env;
use bourn_engine::time::Timestamp;
use bourn_engine::{Error, Kind, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError};

/// What the names of all entries begin with. Behind it stands a hash in hexadecimal digits, so there is nothing to read in it.
pub const PREFIX: &str = "bourn:step:";
/// How long it may take to answer, or to be connected to. Who asks waits for it, and would rather ask the step's own service.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it is left alone after a failure.
const REST: Duration = Duration::from_secs(1);

/// A server, over one connection for all. A clone is the same one.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    /// Host and port.
    address: String,
    env: Env,
    /// The monotonic time in nanoseconds before which it is not asked; 0 while it answers.
    rests_until: AtomicU64,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis at {}", self.0.address)
    }
}

impl Redis {
    /// The server of a URL: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS, or `unix:///PATH`. It is connected to when it is
    /// asked for the first time, on the runtime of whoever calls this.
    ///
    /// # Errors
    /// When this is no such URL.
    pub fn at(url: &str, env: &Env) -> Result<Self> {
        if url.starts_with("rediss:") {
            // It is an error when a provider is installed already, which is just as well.
            let _installed = rustls::crypto::ring::default_provider().install_default();
        }
        // The URL may have a password, so it is not repeated.
        let no_url = |e: RedisError| {
            let why = e.detail().map_or_else(|| e.category().to_owned(), str::to_owned);
            Error::validation(format!("this is no URL of a Redis, such as `redis://localhost:6379/0`: {why}"))
        };
        let client = Client::open(url).map_err(no_url)?;
        let address = client.get_connection_info().addr().to_string();
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(no_url)?;
        Ok(Self(Arc::new(Inner { connection, address, env: env.clone(), rests_until: AtomicU64::new(0) })))
    }

    /// Host and port, as they may be shown.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.env.monotonic().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wrong(&self, why: impl fmt::Display) -> Error {
        Error::new(Kind::Io, format!("Redis at {}: {why}", self.0.address)).transient()
    }

    /// Sends a command. A server that has just failed is left alone, so that nobody waits for it.
    async fn send<T: redis::FromRedisValue>(&self, command: redis::Cmd) -> Result<T> {
        if self.0.rests_until.load(Relaxed) > self.now() {
            return Err(self.wrong("it did not answer a moment ago"));
        }
        match command.query_async(&mut self.0.connection.clone()).await {
            Ok(answer) => {
                self.0.rests_until.store(0, Relaxed);
                Ok(answer)
            }
            Err(e) => {
                let rests = self.now().saturating_add(u64::try_from(REST.as_nanos()).unwrap_or(u64::MAX));
                self.0.rests_until.store(rests, Relaxed);
                let why = if e.is_timeout() {
                    format!("it did not answer within {} ms", PATIENCE.as_millis())
                } else if e.kind() == ErrorKind::AuthenticationFailed {
                    "it does not take the user or the password".to_owned()
                } else {
                    e.to_string()
                };
                Err(self.wrong(why))
            }
        }
    }
}

/// The name of an entry.
fn name(Key(hash): Key) -> String {
    use fmt::Write as _;
    hash.iter().fold(PREFIX.to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

impl Cache for Redis {
    fn find(&self, key: Key, _: Timestamp) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        let mut get = redis::cmd("GET");
        get.arg(name(key));
        self.send(get).boxed()
    }

    fn keep(&self, key: Key, answer: Vec<u8>, until: Timestamp) -> BoxFuture<'_, Result<()>> {
        let mut set = redis::cmd("SET");
        // Milliseconds since 1970; Redis removes it then.
        set.arg(name(key)).arg(answer).arg("PXAT").arg((until.0 / 1_000).max(1));
        self.send(set).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_without_its_password() {
        let env = Env::system();
        for url in ["http://user:hunter2@host", "redis://:hunter2@host:notaport", "hunter2"] {
            let said = Redis::at(url, &env).unwrap_err().to_string();
            assert!(said.contains("no URL of a Redis") && !said.contains("hunter2"), "{said}");
        }
        let redis = Redis::at("redis://user:hunter2@host:7000/3", &env).unwrap();
        assert_eq!((redis.address(), format!("{redis:?}")), ("host:7000", "Redis at host:7000".into()));
    }

    #[test]
    fn the_name_of_an_entry_is_a_hash() {
        let name = name(Key::of(["a secret"]));
        assert!(name.len() == PREFIX.len() + 64 && !name.contains("secret"), "{name}");
    }
}
