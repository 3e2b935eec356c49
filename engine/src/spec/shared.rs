//! Resources by name: rate limits that stages keep together, and ways to try again that several of them take.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::edges::dangling;
use super::node::Node;
use super::reader::{Reader, check_id};
use crate::api::limits::{Retries, SharedLimits};
use crate::data::units::Rate;
use crate::diagnostic::{Key, Problem};

/// A rate: `100/s`, or limits as the pages of providers say them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RateKeys {
    /// `100/s`, `6000/m`.
    Rate(Rate),
    /// `{ requests_per_minute: 1000, input_tokens_per_minute: 400000, output_tokens_per_minute: 80000 }`
    Limits(MinuteKeys),
}

/// Limits in the words of providers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
#[expect(clippy::struct_field_names, reason = "they are the providers' own words")]
pub(crate) struct MinuteKeys {
    /// The most requests in a minute.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// The most tokens of a model in a minute, read and written together.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// The most tokens in a minute that a model reads.
    #[schemars(range(min = 1))]
    pub input_tokens_per_minute: Option<u64>,
    /// The most tokens in a minute that a model writes.
    #[schemars(range(min = 1))]
    pub output_tokens_per_minute: Option<u64>,
}

impl RateKeys {
    fn limits(&self) -> SharedLimits {
        match self {
            Self::Rate(rate) => (*rate).into(),
            Self::Limits(keys) => SharedLimits {
                rate: keys.requests_per_minute.map(|count| Rate { count, per: std::time::Duration::from_mins(1) }),
                tokens_per_minute: keys.tokens_per_minute,
                input_tokens_per_minute: keys.input_tokens_per_minute,
                output_tokens_per_minute: keys.output_tokens_per_minute,
            },
        }
    }
}

/// What a spec names for its stages.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub rates: BTreeMap<String, SharedLimits>,
    retries: BTreeMap<String, Value>,
    /// Names whose values are at fault, which is told where they stand.
    rate_names: Vec<String>,
    retry_names: Vec<String>,
}

impl Shared {
    /// What stands under `rate_limits` and `retries`. A name whose value can't be read is known all the same.
    pub(crate) fn read(reader: &mut Reader<'_>, spec: &Node) -> Self {
        let mut shared = Self::default();
        for member in spec.get("rate_limits").map(Node::members).unwrap_or_default() {
            check_name(reader, "rate_limits", &member.name);
            shared.rate_names.push(member.name.clone());
            if let Ok(keys) = serde_json::from_value::<RateKeys>(member.node.value()) {
                shared.rates.insert(member.name.clone(), keys.limits());
            }
        }
        for member in spec.get("retries").map(Node::members).unwrap_or_default() {
            check_name(reader, "retries", &member.name);
            shared.retry_names.push(member.name.clone());
            shared.retries.insert(member.name.clone(), member.node.value());
        }
        shared
    }

    /// The same with those that an inner spec names.
    pub(crate) fn with(mut self, inner: Self) -> Self {
        self.rates.extend(inner.rates);
        self.retries.extend(inner.retries);
        self.rate_names.extend(inner.rate_names);
        self.retry_names.extend(inner.retry_names);
        self
    }

    /// What a name of `retries` stands for.
    pub(crate) fn retry(&self, reader: &mut Reader<'_>, path: &[Key], name: &str) -> Option<&Map<String, Value>> {
        if !self.retry_names.iter().any(|known| known == name) {
            reader.fault(path, missing("retry", "retries", name, &self.retry_names));
        }
        // One that can't be read is told where it stands.
        let policy =
            self.retries.get(name).filter(|policy| serde_json::from_value::<Retries>((*policy).clone()).is_ok());
        policy?.as_object()
    }

    /// Puts what is named in the `limits` of a configuration, which stand at `path`, in its place; returns the name of its
    /// rate, which is shared.
    pub(crate) fn resolve(&self, reader: &mut Reader<'_>, path: &[Key], config: &mut Value) -> Option<String> {
        let limits = config.get_mut("limits")?.as_object_mut()?;
        let below = |key: &str| [path, &[key.into()]].concat();
        if let Some(name) = named(limits.get("retry"), |_| false) {
            if let Some(policy) = self.retries.get(&name) {
                limits.insert("retry".into(), policy.clone());
            } else {
                limits.remove("retry");
                if !self.retry_names.contains(&name) {
                    reader.fault(&below("retry"), missing("retry", "retries", &name, &self.retry_names));
                }
            }
        }
        let name = named(limits.get("rate"), |text| text.parse::<Rate>().is_ok())?;
        limits.remove("rate");
        if !self.rate_names.contains(&name) {
            reader.fault(&below("rate"), missing("rate limit", "rate_limits", &name, &self.rate_names));
        }
        let shared = self.rates.get(&name)?;
        // What is said of the stage would say nothing.
        let twice = [
            ("tokens_per_minute", shared.tokens_per_minute),
            ("input_tokens_per_minute", shared.input_tokens_per_minute),
            ("output_tokens_per_minute", shared.output_tokens_per_minute),
        ];
        for (key, _) in twice.into_iter().filter(|(key, said)| said.is_some() && limits.contains_key(*key)) {
            let problem = Problem::new(format!("`{name}` says `{key}` for all stages that share it"));
            reader.fault_at_key(&below(key), problem.help("say it in one place"));
        }
        Some(name)
    }
}

/// A text that is a name and not a value.
fn named(value: Option<&Value>, is_value: impl Fn(&str) -> bool) -> Option<String> {
    let text = value?.as_str()?;
    (!is_value(text) && check_id(text).is_none()).then(|| text.to_owned())
}

fn missing(what: &str, key: &str, name: &str, known: &[String]) -> Problem {
    let problem = dangling(what, name, known.iter().map(String::as_str).collect::<Vec<_>>());
    let example = if what == "retry" { "{ max_attempts: 5 }" } else { "100/s" };
    if known.is_empty() { problem.help(format!("add `{key}: {{ {name}: {example} }}`")) } else { problem }
}

fn check_name(reader: &mut Reader<'_>, key: &str, name: &str) {
    if let Some(problem) = check_id(name) {
        reader.fault_at_key(&[key.into(), name.into()], problem);
    }
}
