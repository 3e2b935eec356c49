//! A bucket and the client that talks to it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bourn_engine::Result;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::MultipartStore;
use object_store::{BackoffConfig, ObjectMeta, RetryConfig};

use super::options::{AZURE, GOOGLE, Options, S3};

/// What every provider's client can do.
pub trait Client: object_store::ObjectStore + MultipartStore {}
impl<T: object_store::ObjectStore + MultipartStore> Client for T {}

/// A bucket.
pub struct Bucket {
    /// The client.
    pub client: Arc<dyn Client>,
    /// What its URLs begin with: `s3://bucket/`.
    pub base: String,
    /// What listing and planning told of objects: none is asked for again, and one that is another by then is noticed.
    pub known: Mutex<BTreeMap<String, ObjectMeta>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl Bucket {
    /// The bucket of a URL.
    ///
    /// # Errors
    /// When the URL names none, or an option is wrong.
    pub fn of(url: &str, options: &Options, env: &Env) -> Result<Self, Problems> {
        let at_url = |message: String| Problem::new(message).under("url");
        let known =
            "URLs are `s3://bucket/key`, `gs://bucket/key`, `az://container/key`, `abfss://container@account…/key`";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| at_url(format!("`{url}` is no URL")).help(known))?;
        let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() || key.is_empty() {
            return Err(at_url(format!("`{url}` names no bucket and key")).help(known).into());
        }
        let root = format!("{scheme}://{name}");
        let wrong = |e: object_store::Error| Problem::new(e.to_string()).under("options");
        let client: Arc<dyn Client> = match scheme {
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::new().with_url(&root).with_retry(retries());
                for (key, value) in
                    S3.read(options, env, |key| AmazonS3ConfigKey::from_str(key).ok()).map_err(Problems)?
                {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build().map_err(wrong)?)
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::new().with_url(&root).with_retry(retries());
                for (key, value) in
                    GOOGLE.read(options, env, |key| GoogleConfigKey::from_str(key).ok()).map_err(Problems)?
                {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build().map_err(wrong)?)
            }
            "az" | "azure" | "adl" | "abfs" | "abfss" => {
                let mut builder = MicrosoftAzureBuilder::new().with_url(&root).with_retry(retries());
                for (key, value) in
                    AZURE.read(options, env, |key| AzureConfigKey::from_str(key).ok()).map_err(Problems)?
                {
                    builder = builder.with_config(key, value);
                }
                Arc::new(builder.build().map_err(wrong)?)
            }
            other => return Err(at_url(format!("`{other}://` is no store that is known")).help(known).into()),
        };
        Ok(Self::over(client, format!("{root}/")))
    }

    /// A bucket whose URLs begin with `base`.
    pub fn over(client: Arc<dyn Client>, base: String) -> Self {
        Self { client, base, known: Mutex::default() }
    }
}

/// Short ones of the client; [`super::files`] has the patience.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.,
        },
        max_retries: 2,
        retry_timeout: Duration::from_mins(1),
    }
}
