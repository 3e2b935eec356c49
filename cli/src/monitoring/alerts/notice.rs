//! What receivers are told: of an alert the JSON of Alertmanager's webhooks, of a task what the inbox shows, and a line for people.

use std::collections::BTreeMap;
use std::path::Path;

use bourn_engine::data::secret::Secrets;
use bourn_engine::spec::alerts::Alert;
use bourn_engine::time::Timestamp;
use serde_json::{Value, json};

use super::rule::Change;
use crate::runs::task::Wait;

/// When something ends that has not: Go's zero time, as Alertmanager writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// What an alert says of itself that is resolved only because there is nothing more to look at.
const ENDED: &str = "the job has ended";

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// For programs.
    pub document: Value,
    /// For people.
    pub text: String,
}

impl Notice {
    /// The same without what nobody may see.
    pub fn concealed(self, secrets: &Secrets) -> Self {
        Self { document: concealed(self.document, secrets), text: secrets.conceal_in_data(&self.text).into_owned() }
    }
}

/// How a job stands that something is told of.
pub struct Moment<'a> {
    /// Its name.
    pub job: &'a str,
    /// Its figures; those of its stages are left out of what is told.
    pub figures: &'a Value,
    /// Now.
    pub now: Timestamp,
    /// Whether it is over.
    pub is_over: bool,
}

/// What is told of a rule.
pub fn alert(alert: &Alert, change: Change, moment: &Moment<'_>) -> Notice {
    let own = [("alertname", alert.alert.as_str()), ("job", moment.job)];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let labels: BTreeMap<_, _> = alert.labels.clone().into_iter().chain(own).collect();
    let mut annotations = alert.annotations.clone();
    let (status, since, until) = match change {
        Change::Fires(since) => ("firing", since, NEVER.to_owned()),
        Change::Resolved(since) => ("resolved", since, moment.now.to_string()),
    };
    if moment.is_over && status == "resolved" {
        annotations.insert("resolved".into(), ENDED.into());
    }
    let mut figures = moment.figures.clone();
    if let Some(parts) = figures.as_object_mut() {
        parts.remove("stages");
    }
    let summary = annotations.get("summary").or_else(|| annotations.get("description"));
    let said = summary.map_or_else(|| alert.expr.clone(), Clone::clone);
    let over = if moment.is_over && status == "resolved" { format!(" ({ENDED})") } else { String::new() };
    let text = format!("[{}] {} of {}: {said}{over}", status.to_uppercase(), alert.alert, moment.job);
    let one = json!({
        "status": status, "labels": labels, "annotations": annotations, "startsAt": since.to_string(), "endsAt": until,
        "generatorURL": "", "fingerprint": fingerprint(&labels), "figures": figures,
    });
    let document = json!({
        "version": "4", "groupKey": format!("{{}}:{{alertname={:?}}}", alert.alert), "truncatedAlerts": 0, "status": status,
        "receiver": "bourn", "groupLabels": { "alertname": alert.alert }, "commonLabels": labels, "commonAnnotations": annotations,
        "externalURL": "", "alerts": [one],
    });
    Notice { document, text }
}

/// What is told of a step that waits for somebody: what `bourn inbox` shows, and the commands that answer it.
pub fn task(task: &str, workflow: &str, wait: &Wait, journal: &Path) -> Notice {
    let mut document = wait.document(task, workflow);
    let answers = wait.answers(task, journal);
    let said = format!("[WAITING] {task} of {workflow}: {}", wait.what());
    let text =
        [said.as_str()].into_iter().chain(answers.values().filter_map(Value::as_str)).collect::<Vec<_>>().join("\n");
    document["answers"] = answers.into();
    Notice { document, text }
}

/// What tells one alert from all others, the same in every process.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for word in labels.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&word.len().to_le_bytes()).update(word.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn concealed(value: Value, secrets: &Secrets) -> Value {
    match value {
        Value::String(text) => secrets.conceal_in_data(&text).into(),
        Value::Array(all) => all.into_iter().map(|value| concealed(value, secrets)).collect(),
        Value::Object(all) => all.into_iter().map(|(name, value)| (name, concealed(value, secrets))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_as_alertmanager_tells_it() {
        let rule: Alert = serde_json::from_value(json!({
            "alert": "Fails", "expr": ".runs.failed > 0", "labels": { "severity": "page" }, "annotations": { "summary": "runs fail" },
        }))
        .unwrap();
        let figures = json!({ "runs": { "failed": 2 }, "stages": { "a": {} } });
        let at = |is_over, now| Moment { job: "orders", figures: &figures, now: Timestamp(now), is_over };
        let fires = alert(&rule, Change::Fires(Timestamp(1_000_000)), &at(false, 1_000_000));
        assert_eq!(fires.text, "[FIRING] Fails of orders: runs fail");
        insta::assert_snapshot!(format!("{:#}", fires.document), @r#"
        {
          "version": "4",
          "groupKey": "{}:{alertname=\"Fails\"}",
          "truncatedAlerts": 0,
          "status": "firing",
          "receiver": "bourn",
          "groupLabels": {
            "alertname": "Fails"
          },
          "commonLabels": {
            "alertname": "Fails",
            "job": "orders",
            "severity": "page"
          },
          "commonAnnotations": {
            "summary": "runs fail"
          },
          "externalURL": "",
          "alerts": [
            {
              "status": "firing",
              "labels": {
                "alertname": "Fails",
                "job": "orders",
                "severity": "page"
              },
              "annotations": {
                "summary": "runs fail"
              },
              "startsAt": "1970-01-01T00:00:01.000000Z",
              "endsAt": "0001-01-01T00:00:00Z",
              "generatorURL": "",
              "fingerprint": "2722922b3ff3d855",
              "figures": {
                "runs": {
                  "failed": 2
                }
              }
            }
          ]
        }
        "#);
        let resolved = alert(&rule, Change::Resolved(Timestamp(1_000_000)), &at(true, 5_000_000));
        assert_eq!(resolved.text, "[RESOLVED] Fails of orders: runs fail (the job has ended)");
        let (before, after) = (&fires.document["alerts"][0], &resolved.document["alerts"][0]);
        assert_eq!((&before["fingerprint"], &before["startsAt"]), (&after["fingerprint"], &after["startsAt"]));
        assert_eq!((&after["endsAt"], &after["status"]), (&json!("1970-01-01T00:00:05.000000Z"), &json!("resolved")));
        assert_eq!(after["annotations"]["resolved"], ENDED);
    }
}
