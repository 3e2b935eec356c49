//! Steps that wait for a person: who is told of them, and all that can be decided.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wiremock::{MockServer, ResponseTemplate};

use crate::hook::{came, hook, until};
use crate::support::{BOURN, Ended, Folder, ended, json_of};

/// A command as somebody is told it, in a folder of their own.
fn shell(command: &str) -> Ended {
    let elsewhere = Folder::with(&[]);
    let path = format!("{}:{}", Path::new(BOURN).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    ended(shell.args(["-c", command]).current_dir(elsewhere.path("")).env("PATH", path).output().unwrap())
}

fn told(hook: &MockServer) -> String {
    format!("monitoring: {{ tasks: [ {{ webhook: '{}/task' }}, {{ slack: '{}/slack' }} ] }}\n", hook.uri(), hook.uri())
}

/// What was told as tasks, and what on Slack.
async fn tasks(hook: &MockServer) -> (Vec<Value>, Vec<String>) {
    let (slack, tasks): (Vec<_>, Vec<_>) = came(hook).await.into_iter().partition(|body| body.get("text").is_some());
    (tasks, slack.iter().map(|body| body["text"].as_str().unwrap().to_owned()).collect())
}

const WAITS: &str = "\
name: orders
steps:
  - { id: draft, process: [sh, -c, 'echo draft >> calls; echo order'] }
  - { id: agreed, needs: draft, wait: { signal: agreement, timeout: 2d } }
  - { id: rest, wait: { duration: 1d } }
  - { id: said, set: '${agreed.results}' }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_is_told_once_of_each_step_that_waits_for_them_and_how_to_answer() {
    let hook = hook(ResponseTemplate::new(200)).await;
    let spec = WAITS.replace("  - { id: rest, wait: { duration: 1d } }\n", "") + &told(&hook);
    let folder = Folder::with(&[("w.yaml", &spec)]);
    let waits = folder.bourn(&["run", "w.yaml", "--id", "the order", "--input", "{}"]);
    assert_eq!((waits.code, waits.err.as_str()), (Some(0), "1 run waits: `bourn inbox` says for what\n"));
    let (mut all, slack) = tasks(&hook).await;
    assert_eq!((all.len(), slack.len()), (1, 1));
    let answers = all[0].as_object_mut().unwrap().remove("answers").unwrap();
    assert_eq!(json!([all[0]]), json_of(&folder.bourn(&["inbox", "-o", "json"]).quietly()));
    let approve = answers["approve"].as_str().unwrap();
    assert!(
        slack[0].starts_with("[WAITING] the order/agreed of orders: signal agreement\n") && slack[0].contains(approve)
    );
    // Whoever goes on with it says nothing twice.
    assert_eq!(folder.bourn(&["runs", "resume", "the order"]).code, Some(0));
    let edit = answers["edit"].as_str().unwrap().replace("JSON", r#"'{"approved": true, "total": 7}'"#);
    let done = shell(&format!("{edit} --by ada -o json"));
    let document = json_of(&done.out);
    assert_eq!(
        (&document["status"], &document["final_output"]),
        (&json!("COMPLETED"), &json!({ "approved": true, "total": 7 }))
    );
    assert_eq!((tasks(&hook).await.0.len(), folder.read("calls").lines().count()), (1, 1));
    // Each of the others is one, too.
    for (id, answer, said) in [("b", approve, true), ("c", answers["reject"].as_str().unwrap(), false)] {
        folder.bourn(&["run", "w.yaml", "--id", id, "--input", "{}"]);
        let answer = answer.replace("'the order/agreed'", &format!("{id}/agreed")).replace("REASON", "'too dear'");
        let document = json_of(&shell(&format!("{answer} -o json")).out);
        assert_eq!(document["final_output"]["approved"], said, "{document}");
    }
    assert_eq!(tasks(&hook).await.0.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_a_time_and_a_receiver_that_is_gone_costs_a_warning() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let spec = format!("{WAITS}monitoring: {{ tasks: [ {{ webhook: 'http://{gone}' }} ] }}\n");
    let folder = Folder::with(&[("w.yaml", &spec)]);
    let waits = folder.bourn(&["run", "w.yaml", "--id", "a", "--input", "{}"]);
    let lost = format!("warning: monitoring: 1 of 1 notices did not arrive at webhook http://{gone}: ");
    assert!(waits.code == Some(0) && waits.err.contains(&lost), "{}", waits.err);
}

/// It fails for as long as there is no money.
const ESCALATES: &str = "\
name: orders
secrets: { TOKEN: { env: MY_TOKEN } }
steps:
  - { id: first, process: [sh, -c, 'echo first >> calls; echo 1'] }
  - id: pay
    for_each: { in: '${input.list}', as: x }
    process: { command: [sh, -c, 'echo pay >> calls; test -e money && echo paid $1 || { echo \"no money for $1 $0\" >&2; exit 3; }', '${secret.TOKEN}', '${x}'] }
    needs: first
    on_failure: [retry, escalate]
  - { id: said, set: '${.pay.results | join(\", \")}' }
";

fn bourn(folder: &Folder, args: &[&str]) -> Ended {
    ended(folder.command(args).env("MY_TOKEN", "c4nary-sec+ret").output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_has_failed_is_tried_again_when_somebody_says_so_and_told_again_when_that_fails() {
    let hook = hook(ResponseTemplate::new(200)).await;
    let folder = Folder::with(&[("w.yaml", &(ESCALATES.to_owned() + &told(&hook)))]);
    let calls = |of: &str| folder.read("calls").lines().filter(|line| *line == of).count();
    let input = r#"{"list": ["a", "b"]}"#;
    let waits = bourn(&folder, &["run", "w.yaml", "--id", "r", "--input", input]);
    assert_eq!((waits.code, calls("pay")), (Some(0), 2), "{}", waits.err);
    let (mut first, _) = tasks(&hook).await;
    first.sort_by_key(|task| task["task"].to_string());
    let names: Vec<_> = first.iter().map(|task| task["task"].as_str().unwrap()).collect();
    assert_eq!(names, ["r/pay[0]", "r/pay[1]"]);
    assert_eq!(first[0]["decide"], "`sh` ended with status 3: no money for a ${secret.TOKEN}");
    let answers: Vec<_> = first[0]["answers"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(answers, ["edit", "retry", "reject"]);
    // It fails again, and is a task again; the other one still is one.
    let retry = ["approve", "r/pay[0]", "--retry", "--by", "ada"];
    let again = bourn(&folder, &retry);
    assert_eq!((again.code, calls("pay"), tasks(&hook).await.0.len()), (Some(0), 3, 3), "{}", again.err);
    std::fs::write(folder.path("money"), "").unwrap();
    bourn(&folder, &retry);
    assert_eq!((calls("pay"), tasks(&hook).await.0.len()), (4, 3));
    let done = bourn(&folder, &["approve", "r/pay[1]", "--data", r#""gift""#, "--by", "grace", "-o", "json"]);
    let document = json_of(&done.out);
    assert_eq!(
        (&document["status"], &document["final_output"]),
        (&json!("COMPLETED"), &json!("paid a, gift")),
        "{}",
        done.err
    );
    assert_eq!((calls("pay"), calls("first")), (4, 1));
    let history = json_of(&folder.bourn(&["runs", "show", "r", "--history", "-o", "json"]).quietly());
    let signals = history.as_array().unwrap().iter().filter(|event| event["event"] == "Signaled");
    let told: Vec<_> = signals.map(|event| json!([event["step"], event["by"], event["record"]])).collect();
    let retried = json!(["pay[0]", "ada", { "retry": true }]);
    assert_eq!(told, [retried.clone(), retried, json!(["pay[1]", "grace", "gift"])]);
    assert!(
        !String::from_utf8_lossy(
            &hook.received_requests().await.unwrap().iter().flat_map(|r| r.body.clone()).collect::<Vec<_>>()
        )
        .contains("c4nary")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_has_the_run_hears_that_it_is_tried_again() {
    let hook = hook(ResponseTemplate::new(200)).await;
    let folder = Folder::with(&[("w.yaml", &(ESCALATES.to_owned() + &told(&hook)))]);
    let input = r#"{"list": ["a"]}"#;
    let mut command = folder.command(&["run", "w.yaml", "--id", "r", "--input", input, "--wait", "-o", "json"]);
    let job = command.env("MY_TOKEN", "c4nary-sec+ret").spawn().unwrap();
    until(&hook, 2).await;
    let retried = bourn(&folder, &["approve", "r/pay[0]", "--retry"]);
    assert!(retried.err.contains("the process that runs its job goes on with it"), "{}", retried.err);
    until(&hook, 4).await;
    std::fs::write(folder.path("money"), "").unwrap();
    bourn(&folder, &["approve", "r/pay[0]", "--retry"]);
    let ended = ended(job.wait_with_output().unwrap());
    assert_eq!(json_of(&ended.out)["final_output"], "paid a", "{}", ended.err);
    assert_eq!(folder.read("calls").lines().filter(|line| *line == "pay").count(), 3);
}

#[test]
fn what_has_not_failed_is_not_tried_again_and_one_decision_is_one() {
    let spec = WAITS.replace("  - { id: rest, wait: { duration: 1d } }\n", "");
    let folder = Folder::with(&[("w.yaml", &spec)]);
    folder.bourn(&["run", "w.yaml", "--id", "r", "--input", "{}"]);
    let told = folder.bourn(&["approve", "r/agreed", "--retry"]).refused(2);
    assert!(told.contains("step `agreed` of run `r` has not failed, so there is nothing to try again"), "{told}");
    let told = folder.bourn(&["approve", "r/agreed", "--retry", "--reject", "no"]).refused(2);
    assert!(told.contains("cannot be used with"), "{told}");
}

#[test]
fn tasks_are_those_of_workflows() {
    let spec = "source: { generate: { rows: 1, columns: { id: n } } }\nsink: { blackhole: {} }\nmonitoring: { tasks: [ { exec: [a] } ] }\n";
    let folder = Folder::with(&[("p.yaml", spec)]);
    let told = folder.bourn(&["validate", "p.yaml"]).refused(2);
    assert!(told.contains("p.yaml:3:15 no stage of a pipeline waits for a person"), "{told}");
}
