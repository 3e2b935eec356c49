//! Where steps look that say `cache`, when that is not the journal, and where rate limits are kept together with other processes.

use std::sync::Arc;

use bourn_engine::Engine;
use bourn_engine::api::{Cache, Meter};
use bourn_engine::env::Env;

use crate::failure::Failure;

/// What says it for commands that are not told.
const VARIABLE: &str = "BOURN_CACHE";

/// A server that processes share; or none.
#[derive(Clone, Default)]
pub struct Shared {
    /// Where steps look.
    pub cache: Option<Arc<dyn Cache>>,
    meter: Option<Arc<dyn Meter>>,
}

impl Shared {
    /// The engine, whose limits that have a name are kept there.
    pub fn engine(&self, engine: &Engine) -> Engine {
        match &self.meter {
            Some(meter) => engine.clone().with_meter(meter.clone()),
            None => engine.clone(),
        }
    }
}

/// The server that the command line names, or else the environment.
///
/// # Errors
/// When this is no URL of one, or this binary has none.
pub fn of(said: Option<&str>, env: &Env) -> Result<Shared, Failure> {
    let of_world = env.variable(VARIABLE).filter(|url| !url.is_empty());
    let (url, by) = match (said, &of_world) {
        (Some(url), _) => (url, "--cache"),
        (None, Some(url)) => (url.as_str(), VARIABLE),
        (None, None) => return Ok(Shared::default()),
    };
    open(url, env).map_err(|why| Failure::invalid(format!("{by}: {why}")))
}

#[cfg(feature = "redis")]
fn open(url: &str, env: &Env) -> Result<Shared, String> {
    let redis = Arc::new(bourn_redis::Redis::at(url, env).map_err(|e| e.message().to_owned())?);
    Ok(Shared { cache: Some(redis.clone()), meter: Some(redis) })
}

#[cfg(not(feature = "redis"))]
fn open(_: &str, _: &Env) -> Result<Shared, String> {
    Err("this binary has no cache in Redis: build it with `--features redis`".to_owned())
}
