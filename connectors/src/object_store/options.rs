//! What a provider needs to know, in its own words; values are never shown.

use std::collections::BTreeMap;
use std::fmt;

use bourn_engine::diagnostic::{Problem, did_you_mean};
use bourn_engine::env::Env;
use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// Options by name.
#[derive(Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, String>);

/// Names whose values everybody may see.
const PLAIN: &[&str] = &["endpoint", "region", "bucket", "timeout", "connect_timeout", "skip_signature", "allow_http"];

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Without what may be a secret: this is printed.
impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, if PLAIN.contains(&name.as_str()) { value.as_str() } else { "***" })?;
        }
        map.end()
    }
}

impl Options {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_ascii_lowercase(), value);
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        self.0.iter().find(|(name, _)| names.contains(&name.to_ascii_lowercase().as_str())).map(|(_, v)| v.as_str())
    }
}

/// A provider: the names of its options and variables.
pub struct Provider {
    /// What people call it.
    pub name: &'static str,
    /// Names that stand in our documentation; it knows more.
    pub names: &'static [&'static str],
    /// Variables that say where and how.
    places: &'static [&'static str],
    /// Variables that say who; left alone when an option says it.
    identities: &'static [&'static str],
    /// Options that say who.
    says_who: &'static [&'static str],
}

/// Amazon S3, and what is compatible with it.
pub const S3: Provider = Provider {
    name: "S3",
    names: &[
        "access_key_id",
        "secret_access_key",
        "session_token",
        "region",
        "endpoint",
        "skip_signature",
        "allow_http",
        "virtual_hosted_style_request",
        "unsigned_payload",
        "checksum_algorithm",
        "request_payer",
        "timeout",
        "connect_timeout",
        "proxy_url",
    ],
    places: &["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"],
    identities: &[
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ],
    says_who: &["access_key_id", "aws_access_key_id", "skip_signature", "aws_skip_signature"],
};

/// Google Cloud Storage.
pub const GOOGLE: Provider = Provider {
    name: "Google Cloud Storage",
    names: &["service_account", "service_account_key", "application_credentials", "skip_signature", "timeout"],
    places: &[],
    identities: &["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"],
    says_who: &[
        "service_account",
        "google_service_account",
        "service_account_key",
        "google_service_account_key",
        "application_credentials",
        "google_application_credentials",
        "skip_signature",
    ],
};

/// Azure Blob Storage.
pub const AZURE: Provider = Provider {
    name: "Azure",
    names: &[
        "account_name",
        "account_key",
        "sas_token",
        "client_id",
        "client_secret",
        "tenant_id",
        "endpoint",
        "timeout",
    ],
    places: &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"],
    identities: &[
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CLIENT_ID",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_STORAGE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_TENANT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
    ],
    says_who: &[
        "account_key",
        "azure_storage_account_key",
        "sas_token",
        "client_id",
        "client_secret",
        "skip_signature",
    ],
};

impl Provider {
    /// Options with what the environment says where they say nothing, each read by `read`.
    ///
    /// # Errors
    /// Options that the provider does not know.
    pub fn read<K>(
        &self,
        options: &Options,
        env: &Env,
        read: impl Fn(&str) -> Option<K>,
    ) -> Result<Vec<(K, String)>, Vec<Problem>> {
        let variables = if options.get(self.says_who).is_some() { &[] } else { self.identities };
        let from_env = variables.iter().chain(self.places).filter_map(|name| {
            // The name that the crate knows for the endpoint of S3 alone.
            let key = if *name == "AWS_ENDPOINT_URL_S3" { "aws_endpoint_url_s3" } else { name };
            Some((read(&key.to_ascii_lowercase())?, env.variable(name)?))
        });
        let mut found: Vec<_> = from_env.collect();
        let mut problems = Vec::new();
        for (name, value) in &options.0 {
            match read(&name.to_ascii_lowercase()) {
                Some(key) => found.push((key, value.clone())),
                None => problems.push(self.unknown(name)),
            }
        }
        // An endpoint without TLS is meant so by whoever writes `http://`.
        if options.get(&["endpoint", "aws_endpoint", "endpoint_url"]).is_some_and(|e| e.starts_with("http://"))
            && let Some(key) = read("allow_http")
        {
            found.push((key, "true".into()));
        }
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }

    fn unknown(&self, name: &str) -> Problem {
        let problem = Problem::new(format!("`{name}` is no option of {}", self.name)).under(name).under("options");
        let help = did_you_mean(name, self.names.iter().copied());
        problem.help(help.unwrap_or_else(|| format!("there are {}", self.names.join(", "))))
    }
}
