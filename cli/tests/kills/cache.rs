//! Steps that look into a cache which processes share: what one has asked costs the others nothing, and when it is gone they ask.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::until;
use crate::valkey::Valkey;

const TOKEN: &str = "a-token-that-nobody-sees";

/// Counts requests, and takes a while for each.
#[derive(Clone, Default)]
struct Service {
    asked: Arc<AtomicUsize>,
}

async fn answer(State(service): State<Service>, headers: HeaderMap, body: String) -> String {
    assert_eq!(headers["authorization"], TOKEN);
    tokio::time::sleep(Duration::from_millis(20)).await;
    service.asked.fetch_add(1, SeqCst);
    format!("\"answer to {body}\"")
}

struct Bench {
    service: Service,
    valkey: Valkey,
    url: String,
}

impl Bench {
    async fn start() -> Self {
        let (service, valkey) = (Service::default(), Valkey::start().await);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/", post(answer)).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { service, valkey, url }
    }

    /// A folder, which is another machine as far as journals go.
    fn folder(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        let spec = format!(
            "name: asks\nsecrets: {{ TOKEN: {{ env: ASKS_TOKEN }} }}\nsteps:\n\
             \x20 - {{ id: ask, http: {{ url: '{}', method: POST, response: json, headers: {{ Authorization: '${{secret.TOKEN}}' }}, body: '${{input.n}}' }}, cache: {{ ttl: 1h }} }}\n\
             \x20 - {{ id: said, set: '${{ask.results}}' }}\n",
            self.url
        );
        std::fs::write(folder.path().join("w.yaml"), spec).unwrap();
        folder
    }

    fn asked(&self) -> usize {
        self.service.asked.load(SeqCst)
    }

    fn command(&self, folder: &TempDir, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command.args(args).current_dir(folder.path()).env_remove("BOURN_LOG");
        command.env("ASKS_TOKEN", TOKEN).env("BOURN_CACHE", self.valkey.url());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn ends(&self, folder: &TempDir, args: &[&str]) -> (Value, Output) {
        let mut command = self.command(folder, args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (serde_json::from_slice(&output.stdout).unwrap_or_default(), output)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const ONCE: [&str; 8] = ["run", "w.yaml", "--id", "r", "--input", "{\"n\": 7}", "-o", "json"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_has_asked_another_one_with_another_journal_has_for_nothing() {
    let bench = Bench::start().await;
    let (here, there) = (bench.folder(), bench.folder());
    let (first, output) = bench.ends(&here, &ONCE).await;
    assert_eq!((&first["final_output"], bench.asked()), (&"answer to 7".into(), 1), "{output:?}");
    let (second, output) = bench.ends(&there, &ONCE).await;
    let step = &second["execution_metrics"]["steps"]["ask"];
    assert_eq!((&step["status"], &step["attempts"], bench.asked()), (&"CACHED".into(), &0.into(), 1), "{output:?}");
    assert_eq!(second["final_output"], "answer to 7");
    let told = async |args: &[&str]| text(&bench.ends(&there, args).await.1.stdout);
    assert!(told(&["runs", "show", "r"]).await.contains("CACHED"));
    let history = told(&["runs", "show", "r", "--history"]).await;
    assert!(history.lines().any(|line| line.contains("StepCached ") && line.ends_with(" ask")), "{history}");
    // Its own flag says it over the environment, and another mode or another input asks.
    let (third, output) = bench
        .ends(&here, &["run", "w.yaml", "--input", "{\"n\": 8}", "--cache", &bench.valkey.url(), "-o", "json"])
        .await;
    assert_eq!(
        (&third["execution_metrics"]["steps"]["ask"]["status"], bench.asked()),
        (&"COMPLETED".into(), 2),
        "{output:?}"
    );

    let entries = bench.valkey.entries().await;
    assert_eq!(entries.len(), 2);
    for (name, value, seconds) in entries {
        let hash = name.strip_prefix("bourn:step:").unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
        assert!(value.starts_with("\"answer to ") && !value.contains(TOKEN), "{value}");
        assert!((3_500..=3_600).contains(&seconds), "{seconds}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_killed_in_the_middle_is_told_and_every_run_completes() {
    let mut bench = Bench::start().await;
    let folder = bench.folder();
    let lines: Vec<_> = (0..300).map(|n| format!("{{\"n\": {n}}}")).collect();
    std::fs::write(folder.path().join("in.jsonl"), lines.join("\n")).unwrap();
    let job =
        bench.command(&folder, &["run", "w.yaml", "--inputs", "in.jsonl", "--stats", "-o", "json"]).spawn().unwrap();
    until("some requests", || async { bench.asked() > 20 }).await;
    bench.valkey.server.kill().await;
    assert!(bench.asked() < 300, "the job was to be under way");
    let output = tokio::task::spawn_blocking(move || job.wait_with_output().unwrap()).await.unwrap();
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), bench.asked()), (Some(0), 300), "{told}");
    let outputs: Vec<Value> =
        said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["final_output"].clone()).collect();
    assert_eq!(outputs, (0..300).map(|n| Value::from(format!("answer to {n}"))).collect::<Vec<_>>());
    assert!(
        told.contains("`ask`: the cache is not there, so it is asked as without one: Redis at 127.0.0.1:"),
        "{told}"
    );
    let stats =
        told.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_else(|| panic!("{told}"));
    let ask = stats["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "ask").unwrap().clone();
    assert!(ask["cache_errors"].as_u64() > Some(0) && ask["cache_misses"] == 300 && ask["rows_cached"] == 0, "{ask}");

    // It is back, with nothing in it: the next job fills it, and the one after that asks nobody.
    bench.valkey.server.start_again().await;
    let all = ["run", "w.yaml", "--inputs", "in.jsonl", "--fresh", "-q"];
    bench.ends(&folder, &all).await;
    assert_eq!(bench.asked(), 600);
    let (_, output) = bench.ends(&folder, &all).await;
    assert_eq!((output.status.code(), bench.asked()), (Some(0), 600), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_there_from_the_start_costs_a_warning_and_a_url_that_is_none_is_refused() {
    let mut bench = Bench::start().await;
    bench.valkey.server.kill().await;
    let folder = bench.folder();
    let (document, output) = bench.ends(&folder, &ONCE).await;
    assert_eq!((&document["status"], bench.asked()), (&"COMPLETED".into(), 1));
    assert!(text(&output.stderr).contains("the cache is not there"), "{output:?}");
    let (_, output) =
        bench.ends(&folder, &["run", "w.yaml", "--input", "{}", "--cache", "redis://:hunter2@host:x"]).await;
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("--cache: this is no URL of a Redis"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}
