//! What is told of a job while it runs: where its spans and metrics go, how many of them, what is logged, and who hears of troubles.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alerts::{self, Alert};
use super::reader::Reader;
use super::receiver::Receiver;
use crate::data::units::Interval;
use crate::diagnostic::Problem;

/// Where spans and metrics are sent, what is in them, and who is told when something is wrong. Where they are sent and what is not said of
/// it is taken from the variables of OpenTelemetry, such as `OTEL_EXPORTER_OTLP_ENDPOINT`; without any nothing is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Monitoring {
    /// A collector that takes OTLP over HTTP, `http://127.0.0.1:4318`: spans go to `/v1/traces` below it, metrics to `/v1/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
    /// The share of runs whose spans are sent, from 0 to 1, chosen by the ids of the runs; all if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub sample: Option<f64>,
    /// Whether spans have inputs, results and what models were asked and answered. They have none if not said, and never a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payloads: Option<bool>,
    /// How often metrics are sent, and the conditions of alerts are looked at; if not said, each minute, and each 10 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// What is logged on stderr, where the variable `BOURN_LOG` does not say it; `warn` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// When who is told that something is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// Who is told of alerts that do not say it themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Receiver>,
    /// Who is told, once, of each step that begins to wait for a person: for a signal, or for a decision about its failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Receiver>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// And what may.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// And everything else.
    Trace,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

impl Monitoring {
    /// The names of what can be said by one value.
    pub const NAMES: [&str; 5] = ["otlp", "sample", "payloads", "interval", "log_level"];

    /// This, with what `others` say instead.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self {
            otlp: others.otlp.or(self.otlp),
            sample: others.sample.or(self.sample),
            payloads: others.payloads.or(self.payloads),
            interval: others.interval.or(self.interval),
            log_level: others.log_level.or(self.log_level),
            // No command line says these.
            alerts: self.alerts,
            notify: self.notify,
            tasks: self.tasks,
        }
    }

    /// What is wrong with it, and of which name.
    pub fn fault(&self) -> Option<(&'static str, Problem)> {
        if self.otlp.as_deref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            let help = "it begins with `http://` or `https://`, as in `http://127.0.0.1:4318`";
            return Some(("otlp", Problem::new("this is no URL of a collector").help(help)));
        }
        if self.sample.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Some(("sample", Problem::new("this is a share from 0 to 1")));
        }
        let is_none = self.interval.is_some_and(|interval| interval.0.is_zero());
        is_none.then(|| ("interval", Problem::new("this is longer than no time")))
    }

    /// Tells what is wrong with what a spec says.
    pub(super) fn read(said: Option<&Self>, reader: &mut Reader<'_>) {
        let Some(said) = said else { return };
        let own = said.fault().map(|(name, problem)| problem.under(name));
        let alerts = alerts::faults(&said.alerts, &said.notify).into_iter().map(|problem| problem.under("alerts"));
        let receivers = [("notify", &said.notify), ("tasks", &said.tasks)];
        let receivers = receivers.into_iter().flat_map(|(name, all)| Receiver::faults(all, name));
        for problem in own.into_iter().chain(alerts).chain(receivers) {
            reader.fault(&["monitoring".into()], problem);
        }
    }
}
