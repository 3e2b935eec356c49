//! Rules of alerts: who is told of a job's troubles, how often, and that it can't harm the job.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::hook::{came, hook, until};
use crate::support::{Folder, ended};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_fires_once_to_a_webhook_and_is_resolved_once_while_the_job_goes_on() {
    for persistence in [true, false] {
        let hook = hook(ResponseTemplate::new(200)).await;
        let spec = format!(
            "name: orders\noptimization: {{ state_persistence: {persistence} }}\nsteps:\n  \
             - {{ id: check, process: {{ command: [sh, -c, 'test \"$0\" = good', '${{input.word}}'] }}, retry: {{ max_attempts: 1 }} }}\n\
             monitoring:\n  interval: 10ms\n  notify: [{{ webhook: '{}/hook', headers: {{ x-tenant: a }} }}]\n  alerts:\n    \
             - {{ alert: MostFail, expr: .runs.failure_rate > 0.5, labels: {{ severity: page }}, annotations: {{ summary: most runs fail }} }}\n",
            hook.uri()
        );
        let folder = Folder::with(&[("w.yaml", &spec)]);
        let mut job = folder.command(&["run", "w.yaml", "--inputs", "-", "-q"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut inputs = job.stdin.take().unwrap();
        writeln!(inputs, r#"{{"word": "bad"}}"#).unwrap();
        let fired = until(&hook, 1).await;
        assert_eq!((&fired[0]["status"], &fired[0]["version"]), (&json!("firing"), &json!("4")));
        let one = &fired[0]["alerts"][0];
        assert_eq!(one["labels"], json!({ "alertname": "MostFail", "job": "orders", "severity": "page" }));
        assert_eq!(
            (&one["annotations"]["summary"], &one["endsAt"]),
            (&json!("most runs fail"), &json!("0001-01-01T00:00:00Z"))
        );
        assert_eq!(one["figures"]["runs"]["failed"], 1);
        writeln!(inputs, r#"{{"word": "good"}}"#).unwrap();
        let both = until(&hook, 2).await;
        assert_eq!(
            (&both[1]["status"], &both[1]["alerts"][0]["fingerprint"]),
            (&json!("resolved"), &one["fingerprint"])
        );
        writeln!(inputs, r#"{{"word": "good"}}"#).unwrap();
        drop(inputs);
        let ended = ended(job.wait_with_output().unwrap());
        assert_eq!((ended.code, came(&hook).await.len()), (Some(1), 2), "{}", ended.err);
        let requests = hook.received_requests().await.unwrap();
        assert_eq!((requests[0].url.path(), &requests[0].headers["x-tenant"]), ("/hook", &"a".parse().unwrap()));
        assert_eq!(requests[0].headers["content-type"], "application/json");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stuck_is_told_by_its_id_and_resolved_when_it_goes_on() {
    let hook = hook(ResponseTemplate::new(200)).await;
    let spec = format!(
        "name: slow\nsteps:\n  - {{ id: hold, process: {{ command: [sh, -c, 'while ! test -e go; do sleep 0.01; done'] }} }}\n\
         monitoring: {{ interval: 10ms, alerts: [{{ alert: Stuck, expr: .runs.longest_running_seconds > 0.05, notify: [{{ webhook: '{}' }}] }}] }}\n",
        hook.uri()
    );
    let folder = Folder::with(&[("w.yaml", &spec)]);
    let job = folder.command(&["run", "w.yaml", "--id", "the-one", "--input", "{}"]).spawn().unwrap();
    let fired = until(&hook, 1).await;
    let runs = &fired[0]["alerts"][0]["figures"]["runs"];
    assert_eq!((&runs["longest_running"], &runs["running"]), (&json!("the-one"), &json!(1)));
    std::fs::write(folder.path("go"), "").unwrap();
    assert_eq!(ended(job.wait_with_output().unwrap()).code, Some(0));
    let came = came(&hook).await;
    assert_eq!((came.len(), &came[1]["status"]), (2, &json!("resolved")));
}

/// Signs that every encoding writes differently.
const CANARY: &str = "c4nary/\"sec+ret&=é";

/// A pipeline that rejects rows, with these receivers of its rule.
fn rejects(receivers: &str) -> String {
    format!(
        "name: rejects\nsecrets: {{ TOKEN: {{ env: MY_TOKEN }} }}\nsource: {{ generate: {{ rows: 10, columns: {{ id: n }} }} }}\n\
         stages:\n  - {{ id: half, process: {{ command: [sh, -c, 'test \"$0\" -lt 5', '${{id}}'] }}, on_error: dead_letter }}\n\
         sink: {{ blackhole: {{}} }}\ndead_letters: {{ file: {{ path: rejected.jsonl }} }}\n\
         monitoring:\n  alerts:\n    - alert: Rejects\n      expr: .rows.dead_letters >= 5 and .rows.rejection_rate >= 0.5 and .stages.half.rows_in == 10\n      \
         annotations: {{ summary: 'with ${{secret.TOKEN}}' }}\n      notify: [{receivers}]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_tells_webhooks_slack_and_programs_at_its_end_and_no_secret_is_in_it() {
    let hook = hook(ResponseTemplate::new(200)).await;
    let url = hook.uri();
    let spec = rejects(&format!(
        "{{ webhook: '{url}/hook', headers: {{ authorization: 'Bearer ${{secret.TOKEN}}' }} }}, {{ slack: '{url}/slack?${{secret.TOKEN}}' }}, \
         {{ exec: [sh, -c, 'cat >> told.jsonl; echo >> told.jsonl; echo \"$0\" >&2', '$HOME; x'] }}"
    ));
    let folder = Folder::with(&[("p.yaml", &spec)]);
    // A header takes no such signs.
    let token = "c4nary-sec+ret&=";
    let ended = ended(folder.command(&["run", "p.yaml", "-q"]).env("MY_TOKEN", token).output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let requests = hook.received_requests().await.unwrap();
    let bodies = |path: &str| -> Vec<Value> {
        let of = requests.iter().filter(|request| request.url.path() == path);
        of.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    };
    let (told, slack) = (bodies("/hook"), bodies("/slack"));
    let statuses: Vec<_> = told.iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["firing", "resolved"]);
    assert_eq!(told[0]["alerts"][0]["annotations"]["summary"], "with ${secret.TOKEN}");
    assert_eq!(told[1]["alerts"][0]["annotations"]["resolved"], "the job has ended");
    assert_eq!(slack[0], json!({ "text": "[FIRING] Rejects of rejects: with ${secret.TOKEN}" }));
    let by_program: Vec<Value> =
        folder.read("told.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(by_program, told);
    let authorized = requests.iter().find(|request| request.url.path() == "/hook").unwrap();
    assert_eq!(authorized.headers["authorization"], format!("Bearer {token}"));
    assert!(requests.iter().all(|request| !String::from_utf8_lossy(&request.body).contains("c4nary")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_gone_refuses_or_hangs_costs_the_job_a_warning_and_others_nothing() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (good, refuses) = (hook(ResponseTemplate::new(200)).await, hook(ResponseTemplate::new(403)).await);
    let hangs = hook(ResponseTemplate::new(200).set_delay(Duration::from_hours(1))).await;
    let receiver = |url: &str| format!("{{ webhook: '{url}/${{secret.TOKEN}}' }}");
    let urls = [format!("http://{gone}"), refuses.uri(), hangs.uri(), good.uri()];
    let spec = rejects(&urls.each_ref().map(|url| receiver(url)).join(", "));
    let folder = Folder::with(&[("p.yaml", &spec)]);
    let ended = ended(folder.command(&["run", "p.yaml"]).env("MY_TOKEN", CANARY).output().unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let told: Vec<_> = ended.err.lines().filter(|line| line.starts_with("warning: monitoring: ")).collect();
    for (url, why) in urls.iter().zip(["error sending", "403 Forbidden", "there was no time left"]) {
        let expected = format!("warning: monitoring: 2 of 2 notices did not arrive at webhook {url}: ");
        assert!(told.iter().any(|line| line.starts_with(&expected) && line.contains(why)), "{url} {why}: {told:?}");
    }
    assert_eq!((told.len(), came(&good).await.len()), (3, 2), "{}", ended.err);
    assert!(!ended.err.contains("c4nary"), "{}", ended.err);
}

#[tokio::test]
async fn a_rule_with_a_mistake_is_told_with_its_place() {
    let spec = rejects("{ webhook: 'ftp://x' }").replace(".rows.dead_letters", ".rows.dead_leters");
    let folder = Folder::with(&[("p.yaml", &spec)]);
    let mut command = folder.command(&["validate", "p.yaml", "-o", "json"]);
    let told = ended(command.env("MY_TOKEN", CANARY).output().unwrap());
    assert_eq!(told.code, Some(2), "{}", told.out);
    let all = format!("{}{}", told.out, told.err);
    assert!(all.contains("`rows` has no `dead_leters`") && all.contains("did you mean `dead_letters`?"), "{all}");
    assert!(all.contains("this is no URL of a webhook"), "{all}");
}
