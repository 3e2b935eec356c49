//! The rules of alerts, with every problem of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::receiver::Receiver;
use crate::api::jq::{Program, Way};
use crate::data::units::Interval;
use crate::diagnostic::{Problem, did_you_mean};

/// A rule: when who is told of a job. Its words are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name, the label `alertname`.
    pub alert: String,
    /// A condition in jq over the figures of the job: `.runs.failure_rate > 0.1`. It is true or false.
    pub expr: String,
    /// Over how much of the past what is counted is counted: `10m`; since the job began if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Interval>,
    /// For how long the condition must hold before it is told; it is told at once if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#for: Option<Interval>,
    /// How often it is told again while the condition holds; never if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Interval>,
    /// What it is sorted by: `severity: page`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is said of it: `summary: …`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who is told, instead of those that all rules tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Receiver>,
}

/// What a condition can read: the names below each part. Those of `stages` stand below the id of each stage.
pub const FIGURES: [(&str, &[&str]); 5] = [
    ("job", &["name", "elapsed_seconds"]),
    (
        "runs",
        &[
            "started",
            "ended",
            "completed",
            "failed",
            "canceled",
            "failure_rate",
            "running",
            "waiting",
            "paused",
            "longest_running",
            "longest_running_seconds",
        ],
    ),
    ("rows", &["read", "written", "rejected", "rejection_rate", "degraded", "dropped", "dead_letters"]),
    ("budget", &["usd", "tokens", "share"]),
    (
        "stages",
        &[
            "rows_in",
            "rows_out",
            "rows_rejected",
            "rows_late",
            "rows_filtered",
            "rows_degraded",
            "rows_fallback",
            "retries",
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "rows_held",
            "queued_rows",
            "queued_bytes",
            "spooled_rows",
            "busy",
            "backpressured",
            "waiting",
            "latency_p50_seconds",
            "latency_p99_seconds",
        ],
    ),
];

impl Alert {
    /// What a condition gives; anything but true and false is an error.
    ///
    /// # Errors
    /// When it fails, or gives something else.
    pub fn holds(program: &Program, figures: &Value) -> Result<bool, String> {
        match program.value(&figures.to_string()).map_err(|e| e.message().to_owned())? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("this is neither true nor false: {other}")),
        }
    }

    /// Its condition, which was checked when the spec was read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn program(&self) -> Result<Program, Problem> {
        let end = self.expr.len();
        Program::parse(&self.expr).map_err(|(what, at)| {
            let part = at.min(end.saturating_sub(1))..end;
            Problem::new(format!("`{}` {what}", self.expr.trim())).part(part).under("expr")
        })
    }

    /// What is wrong with it; `is_told` says whether anybody is told of all rules.
    fn faults(&self, is_told: bool) -> Vec<Problem> {
        let mut faults = match self.program() {
            Err(problem) => vec![problem],
            Ok(program) => condition(&program),
        };
        if self.alert.trim().is_empty() {
            faults.push(Problem::new("this alert has no name").under("alert"));
        }
        for (name, time) in [("window", self.window), ("repeat", self.repeat)] {
            if time.is_some_and(|time| time.0.is_zero()) {
                faults.push(Problem::new("this is longer than no time").under(name));
            }
        }
        if self.labels.contains_key("alertname") || self.labels.contains_key("job") {
            let help = "`alertname` is the name of the alert, `job` that of the workflow or pipeline";
            faults.push(Problem::new("these labels are given by themselves").help(help).under("labels"));
        }
        if self.notify.is_empty() && !is_told {
            let help = "`notify: [{ webhook: URL }]` here, or below `monitoring` for all rules";
            faults.push(Problem::new("nobody is told of this alert").help(help));
        }
        faults.extend(Receiver::faults(&self.notify, "notify"));
        faults
    }
}

/// What is wrong with rules of which all tell `notify`, each problem below its place in the list.
pub(super) fn faults(alerts: &[Alert], notify: &[Receiver]) -> Vec<Problem> {
    let mut all = Vec::new();
    for (at, alert) in alerts.iter().enumerate() {
        all.extend(alert.faults(!notify.is_empty()).into_iter().map(|problem| problem.under(at)));
        if alerts[..at].iter().any(|other| other.alert == alert.alert) {
            let problem = Problem::new(format!("there are two alerts `{}`", alert.alert));
            all.push(problem.help("each has a name of its own").under("alert").under(at));
        }
    }
    all
}

/// What is wrong with a condition that can be read: a figure that there is not, or that it is neither true nor false.
fn condition(program: &Program) -> Vec<Problem> {
    let ways = &program.reads().ways;
    let unknown: Vec<Problem> = ways.iter().filter_map(unknown).collect();
    if !unknown.is_empty() {
        return unknown;
    }
    let tried = Alert::holds(program, &sample(ways));
    tried.err().map(|what| Problem::new(what).under("expr")).into_iter().collect()
}

fn unknown(way: &Way) -> Option<Problem> {
    let ((part, place), rest) = way.split_first()?;
    let told = |what: String, name: &str, place: &std::ops::Range<usize>, known: Vec<&str>| {
        let help = did_you_mean(name, known.iter().copied());
        let help = help.unwrap_or_else(|| format!("there are {}", known.join(", ")));
        Some(Problem::new(what).part(place.clone()).help(help).under("expr"))
    };
    let Some((_, names)) = FIGURES.iter().find(|(known, _)| known == part) else {
        let known = FIGURES.iter().map(|(part, _)| *part).collect();
        return told(format!("there are no figures `{part}`"), part, place, known);
    };
    let (name, place) = if part == "stages" { rest.get(1)? } else { rest.first()? };
    if names.contains(&name.as_str()) {
        None
    } else {
        told(format!("`{part}` has no `{name}`"), name, place, names.to_vec())
    }
}

/// Figures to try a condition on, in which no number is 0, with the stages that it names.
fn sample(ways: &[Way]) -> Value {
    let text = |name: &str| ["name", "longest_running"].contains(&name);
    let one = |name: &&str| ((*name).to_owned(), if text(name) { json!("") } else { json!(1.0) });
    let mut figures: Map<String, Value> = Map::new();
    for (part, names) in FIGURES {
        let part_of = || names.iter().map(one).collect::<Map<_, _>>();
        let stages = ways.iter().filter(|way| way.first().is_some_and(|(first, _)| first == "stages"));
        let stages = stages.filter_map(|way| Some((way.get(1)?.0.clone(), part_of().into())));
        let value = if part == "stages" { stages.collect::<Map<_, _>>() } else { part_of() };
        figures.insert(part.to_owned(), value.into());
    }
    figures.into()
}
