//! Where steps look that say `cache`, when that is not the journal.

use std::sync::Arc;

use bourn_engine::api::Cache;
use bourn_engine::env::Env;

use crate::failure::Failure;

/// What says it for commands that are not told.
const VARIABLE: &str = "BOURN_CACHE";

/// The server that the command line names, or else the environment.
///
/// # Errors
/// When this is no URL of one, or this binary has none.
pub fn of(said: Option<&str>, env: &Env) -> Result<Option<Arc<dyn Cache>>, Failure> {
    let of_world = env.variable(VARIABLE).filter(|url| !url.is_empty());
    let (url, by) = match (said, &of_world) {
        (Some(url), _) => (url, "--cache"),
        (None, Some(url)) => (url.as_str(), VARIABLE),
        (None, None) => return Ok(None),
    };
    open(url, env).map(Some).map_err(|why| Failure::invalid(format!("{by}: {why}")))
}

#[cfg(feature = "redis")]
fn open(url: &str, env: &Env) -> Result<Arc<dyn Cache>, String> {
    Ok(Arc::new(bourn_redis::Redis::at(url, env).map_err(|e| e.message().to_owned())?))
}

#[cfg(not(feature = "redis"))]
fn open(_: &str, _: &Env) -> Result<Arc<dyn Cache>, String> {
    Err("this binary has no cache in Redis: build it with `--features redis`".to_owned())
}
