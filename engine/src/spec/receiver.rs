//! Who is told of something: a webhook, a channel of Slack, a program.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::secret::Secret;
use crate::diagnostic::Problem;

/// What may stand in the name of a header beside letters and digits (RFC 9110, 5.6.2).
const TOKEN: &[u8] = b"!#$%&'*+-.^_`|~";

/// One of a webhook, a channel of Slack, and a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// A URL to which JSON is posted, of alerts in the form of Alertmanager's webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Secret>,
    /// What is sent with each request: `Authorization: Bearer ${secret.TOKEN}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// An incoming webhook of Slack, or of whatever takes `{"text": …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Secret>,
    /// A program and its arguments, which reads the JSON of a webhook on its standard input. It is no shell line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
}

impl Receiver {
    /// What is wrong with a list of them that stands below this key.
    pub(super) fn faults(all: &[Self], key: &str) -> Vec<Problem> {
        let faults = all.iter().enumerate().flat_map(|(at, receiver)| {
            receiver.own_faults().into_iter().map(move |problem| problem.under(at).under(key))
        });
        faults.collect()
    }

    fn own_faults(&self) -> Vec<Problem> {
        let mut faults = Vec::new();
        let kinds = [self.webhook.is_some(), self.slack.is_some(), self.exec.is_some()];
        if kinds.into_iter().filter(|is_said| *is_said).count() != 1 {
            let problem = Problem::new("a receiver is one of `webhook`, `slack` and `exec`");
            faults.push(problem.help("for example `{ webhook: 'http://127.0.0.1:9093/hook' }`"));
        }
        for (name, url) in [("webhook", &self.webhook), ("slack", &self.slack)] {
            let is_url = |url: &Secret| ["http://", "https://"].iter().any(|scheme| url.expose().starts_with(scheme));
            if url.as_ref().is_some_and(|url| !is_url(url)) {
                let problem = Problem::new("this is no URL of a webhook");
                faults.push(problem.help("it begins with `http://` or `https://`").under(name));
            }
        }
        if self.exec.as_ref().is_some_and(|argv| argv.first().is_none_or(String::is_empty)) {
            faults.push(Problem::new("this names no program").help("for example `[notify-send, Bourn]`").under("exec"));
        }
        if !self.headers.is_empty() && self.webhook.is_none() {
            faults.push(Problem::new("headers are those of a `webhook`").under("headers"));
        }
        for (name, value) in &self.headers {
            let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || TOKEN.contains(&b));
            if !is_token || value.expose().chars().any(|c| c.is_control() && c != '\t') {
                faults.push(
                    Problem::new(format!("`{name}` can't be sent as a header")).under(name.as_str()).under("headers"),
                );
            }
        }
        faults
    }
}
