//! Where a model is asked, and how: the address, the key, and what each request says beside its prompt.

use bourn_engine::data::secret::Secret;
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::registry::Service;

/// How hard a model thinks. Not every model knows every word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are the services' own words")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
    /// By the request: `low`, `medium` or `high`, as hard as the task looks.
    Auto,
}

/// What tokens cost, in US dollars for a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Those that are read.
    #[schemars(range(min = 0))]
    pub input: f64,
    /// Those that are written.
    #[schemars(range(min = 0))]
    pub output: f64,
}

impl Price {
    /// What so many cost.
    pub fn of(self, input_tokens: u64, output_tokens: u64) -> f64 {
        (self.input * input_tokens as f64 + self.output * output_tokens as f64) / 1e6
    }
}

/// Where a service is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Without a `/` at its end, and with the version: `https://api.anthropic.com/v1`.
    pub base: String,
    /// The key; none for a server of one's own that asks for none.
    pub key: Option<Secret>,
    /// Whether it is OpenAI itself, which knows more than those that are compatible with it.
    pub is_original: bool,
}

impl Address {
    /// What is said, or else what the environment says, as the services' own clients do.
    ///
    /// # Errors
    /// When the service itself is asked, and there is no key.
    pub fn of(service: Service, base_url: Option<&str>, key: Option<&Secret>, env: &Env) -> Result<Self> {
        let (original, base_variable, key_variable) = match service {
            Service::Anthropic => ("https://api.anthropic.com", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
            Service::OpenAi => ("https://api.openai.com", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
        };
        let variable = |name: &str| env.variable(name).filter(|value| !value.trim().is_empty());
        let said = base_url.map(str::to_owned).or_else(|| variable(base_variable));
        let key = key.cloned().or_else(|| variable(key_variable).map(|value| Secret::new(value.trim())));
        if said.is_none() && key.is_none() {
            let message = format!(
                "there is no key for `{}`: set {key_variable}, or say `api_key: ${{secret.NAME}}`; `--mock` needs none",
                service.name()
            );
            return Err(Error::new(Kind::Permission, message));
        }
        let base = said.as_deref().unwrap_or(original).trim().trim_end_matches('/');
        let is_original = base.starts_with(original);
        let base = if base.ends_with("/v1") || has_path(base) { base.to_owned() } else { format!("{base}/v1") };
        Ok(Self { base, key, is_original })
    }
}

/// Whether there is more than a host: then it says where the version is.
fn has_path(base: &str) -> bool {
    base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'))
}

#[cfg(test)]
mod tests {
    use bourn_engine::testing::simulation::Simulation;

    use super::*;

    #[test]
    fn an_address_has_its_version_once() {
        let env = Simulation::new(1).env();
        let base = |service, url| Address::of(service, Some(url), None, &env).unwrap().base;
        assert_eq!(base(Service::Anthropic, "http://127.0.0.1:80/"), "http://127.0.0.1:80/v1");
        assert_eq!(base(Service::OpenAi, "http://127.0.0.1:80/v1/"), "http://127.0.0.1:80/v1");
        assert_eq!(base(Service::OpenAi, "https://gateway/openai/v2"), "https://gateway/openai/v2");
    }

    #[test]
    fn without_a_key_the_ways_to_one_are_named() {
        let env = Simulation::new(1).env();
        let error = Address::of(Service::Anthropic, None, None, &env).unwrap_err();
        assert!(error.message().contains("ANTHROPIC_API_KEY") && error.kind() == Kind::Permission, "{error}");
        let said = Address::of(Service::OpenAi, None, Some(&Secret::new("k")), &env).unwrap();
        assert_eq!((said.base.as_str(), said.is_original), ("https://api.openai.com/v1", true));
    }

    #[test]
    fn tokens_cost_what_a_million_costs() {
        assert_eq!(Price { input: 5.0, output: 25.0 }.of(1_000_000, 200_000), 10.0);
    }
}
