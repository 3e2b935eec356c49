//! Checkpoints in a bucket: what a spec says of it.

mod lease;
mod store;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bourn_engine::api::{Store, StoreAt, StoreConfig};
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Key, Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};

use super::bucket::Bucket;
use super::options::Options;
use store::BucketStore;

/// What the URLs of buckets begin with.
pub const SCHEMES: &[&str] = &["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];

/// For how long a job that was cut off keeps others out, if nobody says it.
pub const LEASE: Duration = Duration::from_secs(20);
/// The shortest such time: renewing takes a request, and the network has its moods.
const LEASE_MIN: Duration = Duration::from_secs(2);

/// Checkpoints in S3 and what is compatible with it, Google Cloud Storage or Azure Blob Storage.
///
/// Two jobs are kept apart by an object named `lock`, a lease that is renewed while a job runs, and by conditional writes: the
/// bucket must heed `If-Match` and `If-None-Match`, which is tried out when a job begins.
#[derive(Clone)]
pub struct Checkpoints {
    url: String,
    options: Options,
    lease: Duration,
    bucket: OnceLock<Arc<Bucket>>,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints")
            .field("url", &self.url)
            .field("options", &self.options)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Below this URL: `s3://bucket/prefix`.
    pub fn new(url: impl Into<String>) -> Self {
        let url: String = url.into();
        Self {
            url: url.trim_end_matches('/').to_owned(),
            options: Options::default(),
            lease: LEASE,
            bucket: OnceLock::new(),
        }
    }

    /// The same with this option.
    #[must_use]
    pub fn with_option(mut self, key: &str, value: impl Into<String>) -> Self {
        self.options.set(key, value.into());
        self.bucket = OnceLock::new();
        self
    }

    /// The same with another time for which a job that was cut off keeps others out.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    fn bucket(&self, env: &Env) -> Result<Arc<Bucket>, Problems> {
        if let Some(bucket) = self.bucket.get() {
            return Ok(bucket.clone());
        }
        let bucket = Arc::new(Bucket::of(&self.url, &self.options, env).map_err(at_path)?);
        Ok(self.bucket.get_or_init(|| bucket).clone())
    }
}

/// What a spec says.
pub fn read(at: StoreAt) -> Arc<dyn StoreConfig> {
    let StoreAt { url, options, lease } = at;
    let mut checkpoints = Checkpoints::new(url).with_lease(lease.unwrap_or(LEASE));
    for (key, value) in options {
        checkpoints.options.set(&key, value);
    }
    Arc::new(checkpoints)
}

/// Problems of a URL, as problems of the path.
fn at_path(Problems(found): Problems) -> Problems {
    let place = |mut problem: Problem| {
        if problem.path.first() == Some(&Key::from("url")) {
            problem.path[0] = "path".into();
        }
        problem
    };
    Problems(found.into_iter().map(place).collect())
}

impl StoreConfig for Checkpoints {
    fn place(&self, job: Option<&str>) -> String {
        job.map_or_else(|| self.url.clone(), |job| format!("{}/{job}", self.url))
    }

    fn check(&self, env: &Env) -> Result<(), Problems> {
        if self.lease < LEASE_MIN {
            let message = format!("a lease of less than {} can't be renewed in time", Interval(LEASE_MIN));
            return Err(Problem::new(message).under("lease").into());
        }
        self.bucket(env).map(drop)
    }

    fn open(&self, job: Option<&str>, env: &Env) -> Result<Arc<dyn Store>> {
        let bucket = self.bucket(env).map_err(Error::from)?;
        Ok(Arc::new(BucketStore::new(bucket, self.place(job), self.lease, env)?))
    }
}
