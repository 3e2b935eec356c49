//! Answers that are kept, and budgets, as a user meets them.

use serde_json::{Value, json};

use crate::mock_llm::Served;
use crate::support::{Ended, Folder, ended};

/// Twenty questions; a question has 3 tokens, an answer 13 or 14.
const SPEC: &str = "name: ask
source:
  generate: { rows: 20, columns: { n: n } }
stages:
  - id: ask
    model:
      prompt: \"question ${n}\"
      model: gpt-5
      max_tokens: 20
      price: { input: 1000000, output: 2000000 }
      usage: cost
      limits: { in_flight: 4, BUDGET }
    journal: true
sink:
  file: { path: out.jsonl }
";

fn run(server: &Served, folder: &Folder, spec: &str, more: &[&str]) -> Ended {
    std::fs::write(folder.path("s.yaml"), spec).unwrap();
    let mut command = folder.command(&[&["run", "s.yaml"], more].concat());
    command.env("OPENAI_BASE_URL", format!("{}/v1", server.address)).env("OPENAI_API_KEY", "any");
    ended(command.output().unwrap())
}

fn rows(folder: &Folder) -> Vec<Value> {
    folder.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn answered(server: &Served) -> u64 {
    server.stats().await["answered"].as_u64().unwrap()
}

#[tokio::test]
async fn each_answer_says_what_it_cost_and_says_the_same_when_it_comes_from_the_journal() {
    let (server, folder) = (Served::with("rules: []", &[]), Folder::with(&[]));
    let spec = SPEC.replace(", BUDGET", "");
    run(&server, &folder, &spec, &[]).quietly();
    let first = rows(&folder);
    let text = first[0]["result"].as_str().unwrap();
    let written = text.len().div_ceil(4);
    assert_eq!(
        first[0]["cost"],
        json!({ "input_tokens": 3, "output_tokens": written, "usd": 3.0 + 2.0 * written as f64 })
    );
    let told = run(&server, &folder, &spec, &["--stats"]);
    assert_eq!((rows(&folder), answered(&server).await), (first, 20));
    assert!(told.err.contains("`ask`: 0 tokens read, 0 written; 20 rows answered from the journal"), "{}", told.err);
    // What is asked otherwise is another question; who does not keep answers asks again.
    run(&server, &folder, &spec.replace("max_tokens: 20", "max_tokens: 21"), &[]).quietly();
    assert_eq!(answered(&server).await, 40);
    run(&server, &folder, &spec.replace("    journal: true\n", ""), &[]).quietly();
    assert_eq!(answered(&server).await, 60);
}

#[tokio::test]
async fn a_budget_is_never_exceeded_and_counts_over_restarts() {
    let (server, folder) = (Served::with("rules: []", &[]), Folder::with(&[]));
    let spec = SPEC.replace("BUDGET", "budget: { tokens: 100 }");
    let told = run(&server, &folder, &spec, &[]);
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("the budget of `ask` is spent: ") && told.err.contains(" of 100 tokens"), "{}", told.err);
    let stats = server.stats().await;
    let spent = stats["input_tokens"].as_u64().unwrap() + stats["output_tokens"].as_u64().unwrap();
    assert!((75..=100).contains(&spent), "{stats}");
    // What was spent is spent.
    assert_eq!(run(&server, &folder, &spec, &[]).code, Some(1));
    assert_eq!(server.stats().await, stats);
    run(&server, &folder, &spec.replace("tokens: 100", "tokens: 500"), &[]).quietly();
    assert_eq!((rows(&folder).len(), answered(&server).await), (20, 20));
    // It has ended well: the next one has its budget to itself, and needs nothing of it.
    run(&server, &folder, &spec, &[]).quietly();
    assert_eq!(answered(&server).await, 20);
}

#[tokio::test]
async fn when_the_budget_is_spent_rows_pass_without_an_answer_if_that_is_said() {
    let (server, folder) = (Served::with("rules: []", &[]), Folder::with(&[]));
    let spec = SPEC.replace(", BUDGET", "") + "budget: { usd: 150, on_exceeded: degrade }\n";
    let told = run(&server, &folder, &spec, &["--fail-on-degraded"]);
    let rows = rows(&folder);
    let without = rows.iter().filter(|row| row["result"].is_null() && row["cost"].is_null()).count();
    assert_eq!((told.code, rows.len(), 20 - without), (Some(4), 20, usize::try_from(answered(&server).await).unwrap()));
    assert!(without > 14 && without < 20, "{rows:?}");
    assert!(told.err.contains(&format!("{without} rows passed `ask` without an answer")), "{}", told.err);
}

#[tokio::test]
async fn a_job_that_pauses_goes_on_with_a_larger_budget() {
    // With an input that was read to its end no barrier can pass; with a slow one a last checkpoint has what was answered.
    for slow in [false, true] {
        let (server, folder) = (Served::with("rules: []", &[]), Folder::with(&[]));
        let mut spec = SPEC.replace(", BUDGET", "") + "budget: { usd: 150, on_exceeded: pause }\n";
        if slow {
            spec = spec.replace("rows: 20,", "rows: 20, rate: 100/s,");
        }
        let told = run(&server, &folder, &spec, &[]);
        assert!(told.code == Some(1) && told.err.contains("the job is paused, and goes on"), "{}", told.err);
        let before = answered(&server).await;
        assert!(before > 0 && before < 20);
        let told = run(&server, &folder, &spec.replace("usd: 150", "usd: 5000"), &[]);
        assert!(told.code == Some(0) && (!slow || told.err.contains("goes on behind checkpoint")), "{}", told.err);
        let mut numbers: Vec<_> = rows(&folder).iter().map(|row| row["n"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!((numbers, answered(&server).await), ((0..20).collect(), 20));
    }
}

#[tokio::test]
async fn a_job_that_pauses_ends_though_rows_wait_for_their_requests() {
    let (server, folder) = (Served::with("rules: []", &[]), Folder::with(&[]));
    let spec = SPEC.replace(", BUDGET", "").replace("rows: 20,", "rows: 3000000, rate: 50000/s,");
    let told = run(&server, &folder, &(spec + "budget: { usd: 150, on_exceeded: pause }\n"), &[]);
    assert!(told.code == Some(1) && told.err.contains("the job is paused, and goes on"), "{}", told.err);
    // Its last checkpoint was written: the requests that are to be made, and how far the input was read.
    assert!(folder.bourn(&["checkpoints", "list", "s.yaml"]).quietly().lines().count() > 1);
}

#[tokio::test]
async fn an_answer_that_is_no_good_is_paid_for_and_not_kept() {
    let script = "rules: [ { match: { text: question }, answer: { text: no document }, times: 3 } ]";
    let (server, folder) = (Served::with(script, &[]), Folder::with(&[]));
    let spec = SPEC.replace("usage: cost", "parse: json").replace("BUDGET", "retry: { max_attempts: 1 }");
    let spec = spec + "on_error: drop\nbudget: { tokens: 1000 }\n";
    let told = run(&server, &folder, &spec, &["-o", "json", "--stats"]);
    assert_eq!((told.code, rows(&folder).len()), (Some(0), 17), "{}", told.err);
    let stats = server.stats().await;
    let table = told.err.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).unwrap();
    let stage = table["stages"].as_array().unwrap().iter().find(|s| s["stage"] == "ask").unwrap();
    assert_eq!((&stage["input_tokens"], &stage["output_tokens"]), (&stats["input_tokens"], &stats["output_tokens"]));
    run(&server, &folder, &spec, &[]).quietly();
    assert_eq!((rows(&folder).len(), answered(&server).await), (20, 23));
}

#[test]
fn what_can_not_be_kept_or_counted_is_a_problem_of_the_spec() {
    let told = |spec: &str| Folder::with(&[("s.yaml", spec)]).bourn(&["validate", "s.yaml"]).refused(2);
    let filter =
        "source: { generate: { rows: 1 } }\nstages:\n  - filter: n > 0\n    journal: true\nsink: { blackhole: {} }\n";
    assert!(told(filter).contains("`filter` asks nobody, so it has no answers to keep"));
    let process = filter.replace("filter: n > 0", "process: { command: [cat] }");
    assert!(told(&process).contains("`process` can't keep its answers"), "{}", told(&process));
    let spec = SPEC.replace("      price: { input: 1000000, output: 2000000 }\n", "");
    let spec = spec.replace("model: gpt-5", "model: gpt-5\n      api_key: any");
    let money = told(&spec.replace("BUDGET", "budget: { usd: 1 }"));
    assert!(money.contains("a budget in money is kept, and `ask` has no `price`"), "{money}");
    let paused =
        told(&(spec.replace(", BUDGET", "") + "budget: { tokens: 1, on_exceeded: pause }\ncheckpoint: false\n"));
    assert!(paused.contains("a job that pauses goes on from its checkpoint"), "{paused}");
}

#[test]
fn runs_that_paused_for_want_of_money_go_on_with_more_and_pay_for_nothing_twice() {
    let spec = "name: asks\nbudget: { tokens: 1100, on_exceeded: pause }\nsteps:\n\
                \x20 - { id: first, command: /query, args: \"what is ${input.term}\" }\n\
                \x20 - { id: second, command: /query, args: \"in short: ${first.results}\" }\n";
    let inputs = "{\"term\": \"a\"}\n{\"term\": \"b\"}\n{\"term\": \"c\"}\n";
    let folder = Folder::with(&[("asks.yaml", spec), ("in.jsonl", inputs)]);
    let run = |more: &[&str]| folder.bourn(&[&["run", "asks.yaml", "--mock", "--inputs", "in.jsonl"], more].concat());
    let paused = |ended: Ended| {
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains("is spent: ") && ended.err.contains("with a larger `budget`"), "{}", ended.err);
        ended.out.lines().filter(|line| line.contains("\"status\":\"PAUSED\"")).count()
    };
    assert_eq!(paused(run(&[])), 2);
    let listed = folder.bourn(&["runs", "list"]).quietly();
    assert!(listed.contains("PAUSED"), "{listed}");
    assert_eq!(paused(run(&[])), 2, "the same budget is spent");
    let Ended { code, out, err } = run(&["--budget", "tokens=100000"]);
    assert_eq!(code, Some(0), "{err}");
    let documents: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents.len(), 3);
    for document in &documents {
        assert_eq!(document["status"], "COMPLETED", "{document}");
        // What was answered before the pause was asked once.
        assert_eq!(document["execution_metrics"]["attempts"], 2, "{document}");
    }
    assert!(run(&["--budget", "euro=1"]).refused(2).contains("a budget has no `euro`"));
}

#[test]
fn a_run_that_paused_for_want_of_money_is_resumed_with_more() {
    let spec = "name: asks\nbudget: { tokens: 1040, on_exceeded: pause }\nsteps:\n\
                \x20 - { id: first, command: /query, args: \"what is ${input.term}\" }\n\
                \x20 - { id: second, command: /query, args: \"in short: ${first.results}\" }\n";
    let folder = Folder::with(&[("asks.yaml", spec)]);
    let paused = folder.bourn(&["run", "asks.yaml", "--mock", "--id", "a", "--input", "{\"term\": \"a\"}"]);
    assert!(paused.code == Some(1) && paused.err.contains("the job is paused"), "{}", paused.err);
    let why = folder.bourn(&["runs", "diagnose", "a"]).quietly();
    assert!(why.contains("what its job may spend is spent.") && why.contains("runs resume a --budget"), "{why}");
    assert_eq!(folder.bourn(&["runs", "resume", "a"]).code, Some(1), "the same budget is spent");
    assert!(folder.bourn(&["runs", "resume", "a", "--budget", "usd=much"]).refused(2).contains("--budget"));
    let document = folder.bourn(&["runs", "resume", "a", "--budget", "tokens=100000", "-o", "json"]).quietly();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((&document["status"], &document["execution_metrics"]["attempts"]), (&json!("COMPLETED"), &json!(2)));
    // One that failed for it is recovered with more.
    std::fs::write(folder.path("asks.yaml"), spec.replace("pause", "fail")).unwrap();
    assert_eq!(
        folder.bourn(&["run", "asks.yaml", "--mock", "--id", "b", "--input", "{\"term\": \"b\"}"]).code,
        Some(1)
    );
    let document = folder.bourn(&["runs", "recover", "b", "--budget", "tokens=100000", "-o", "json"]).quietly();
    assert!(document.contains("\"status\": \"COMPLETED\""), "{document}");
}

#[tokio::test]
async fn a_plan_says_what_it_may_cost_by_what_its_steps_cost_before() {
    let spec = "name: costs\nsteps:\n\
                \x20 - { id: first, command: set, args: 1 }\n\
                \x20 - { id: ask, command: /query, args: 'what is ${input.term}', with: { model: gpt-5, price: { input: 1000000, output: 2000000 } }, needs: first }\n\
                \x20 - { id: gate, process: { command: [test, -e, open] }, retry: { max_attempts: 1 }, needs: first }\n\
                \x20 - { id: end, command: /query, args: '${ask.results} ${gate.status}', with: { model: gpt-5, price: { input: 1000000, output: 2000000 } } }\n\
                \x20 - { id: never, command: set, args: 2, if: '${.end.results == 0}', needs: end }\n";
    let (server, folder) = (Served::with("rules: []", &[]), Folder::with(&[("costs.yaml", spec)]));
    let run = |id: &str, term: &str| {
        let input = json!({ "term": term }).to_string();
        let mut command = folder.command(&["run", "costs.yaml", "--id", id, "--input", &input, "-o", "json"]);
        command.env("OPENAI_BASE_URL", format!("{}/v1", server.address)).env("OPENAI_API_KEY", "any");
        ended(command.output().unwrap())
    };
    assert_eq!(run("bad", "one").code, Some(1));
    let nothing = folder.bourn(&["runs", "recover", "bad", "--dry-run"]).quietly();
    assert_eq!(nothing, "would reuse first, ask\nwould run gate, end, never\n", "nothing is known of what they cost");
    std::fs::write(folder.path("open"), "").unwrap();
    let mut all = Vec::new();
    for (id, term) in [("good", "one"), ("better", "something much longer than that")] {
        let document: Value = serde_json::from_str(&run(id, term).quietly()).unwrap();
        all.push(document["execution_metrics"]["steps"]["end"]["usage"].clone());
    }
    let plan = folder.bourn(&["runs", "recover", "bad", "--dry-run", "-o", "json"]).quietly();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let estimate = &plan["actions"][0]["estimate"];
    assert_eq!(plan["actions"][0]["reruns"], json!(["gate", "end", "never"]));
    assert_eq!(estimate["completed"], json!({ "gate": 2, "end": 2 }));
    assert_eq!(estimate["unknown"], json!(["never"]));
    assert_eq!(estimate["source"], "the mean of each step in the newest 3 runs of `costs`");
    let sum = |what: &str| all.iter().map(|usage| usage[what].as_f64().unwrap()).sum::<f64>();
    assert!(sum("usd") > 0.0, "{all:?}");
    assert_eq!(estimate["cost"]["usd"].as_f64(), Some(sum("usd") / 2.0));
    assert_eq!(estimate["cost"]["input_tokens"].as_f64(), Some((sum("input_tokens") / 2.0).ceil()));
    let text = folder.bourn(&["runs", "recover", "bad", "--dry-run"]).quietly();
    assert!(text.contains("would run gate, end, never\nestimate: ") && text.contains(" usd, "), "{text}");
    assert!(text.ends_with("; without never, of which there is no record\n"), "{text}");
}

#[test]
fn what_elements_of_a_list_have_given_is_told_and_used_again() {
    let spec = "name: list\nsteps:\n\
                \x20 - { id: first, set: [1, 2, 3, 4, 5] }\n\
                \x20 - { id: each, for_each: { in: '${first.results}', as: n }, retry: { max_attempts: 1 }, process: { command: [sh, -c, 'echo call >> calls; test -e open || test $0 != 3; echo of $0', '${n}'] } }\n\
                \x20 - { id: end, set: '${each.results}' }\n";
    let folder = Folder::with(&[("list.yaml", &spec.replace("|| test $0 != 3;", "|| test $0 != 3 || exit 1;"))]);
    let run = folder.bourn(&["run", "list.yaml", "--id", "a", "-o", "json"]);
    let document: Value = serde_json::from_str(&run.out).unwrap();
    let given = json!(["of 1", "of 2", null, "of 4", "of 5"]);
    assert_eq!((run.code, &document["partial_results"]["each"]), (Some(1), &given));
    let action = &document["recovery_plan"]["actions"][0];
    assert_eq!((&action["reuses"], &action["reruns"]), (&json!(["first"]), &json!(["each", "end"])));
    assert_eq!(action["items"], json!({ "each": { "reused": 4, "rerun": 1 } }));
    let partial = folder.bourn(&["runs", "result", "a", "--partial", "-o", "json"]).quietly();
    let partial: Value = serde_json::from_str(&partial).unwrap();
    assert_eq!(
        (&partial["partial_results"], &partial["recovery_plan"]),
        (&document["partial_results"], &document["recovery_plan"])
    );
    let plan = folder.bourn(&["runs", "recover", "a", "--dry-run"]).quietly();
    assert_eq!(plan, "would reuse first\nwould run each, end\nof each only 1 of 5 elements\n");
    std::fs::write(folder.path("open"), "").unwrap();
    let recovered: Value =
        serde_json::from_str(&folder.bourn(&["runs", "recover", "a", "-o", "json"]).quietly()).unwrap();
    assert_eq!(recovered["final_output"], json!(["of 1", "of 2", "of 3", "of 4", "of 5"]));
    assert_eq!(folder.read("calls").lines().count(), 6, "one of them was asked again");
}
