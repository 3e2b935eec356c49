//! Steps whose service asks for time: what was tried before a process was killed counts in the next one, and so does when it may be asked again.

use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// When requests came.
type Asked = Arc<Mutex<Vec<Instant>>>;

/// Refuses so many requests, and asks for so many seconds each time.
async fn refuse(
    State(asked): State<Asked>,
    Path((status, seconds, times)): Path<(u16, u64, usize)>,
) -> (StatusCode, HeaderMap, &'static str) {
    let count = {
        let mut asked = asked.lock().unwrap();
        asked.push(Instant::now());
        asked.len()
    };
    let mut headers = HeaderMap::new();
    if count > times {
        return (StatusCode::OK, headers, "\"done\"");
    }
    headers.insert("retry-after", seconds.into());
    (StatusCode::from_u16(status).unwrap(), headers, "busy")
}

struct Service {
    asked: Asked,
    url: String,
}

impl Service {
    async fn start() -> Self {
        let asked = Asked::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/{status}/{seconds}/{times}", post(refuse)).with_state(asked.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { asked, url }
    }

    fn spec(&self, way: &str, attempts: u32) -> String {
        format!(
            "name: asks\nsteps:\n  - {{ id: ask, http: {{ url: '{}/{way}', method: POST, response: json }}, \
             retry: {{ max_attempts: {attempts}, initial_interval: 1ms }} }}\n",
            self.url
        )
    }

    fn asked(&self) -> Vec<Instant> {
        self.asked.lock().unwrap().clone()
    }
}

fn bourn(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
    command.args(args).current_dir(folder.path()).env_remove("BOURN_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ends(mut command: Command) -> (Value, Output) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), output)
}

/// Starts a run, and kills it behind so many requests.
async fn killed(folder: &TempDir, service: &Service, requests: usize, args: &[&str]) {
    let mut child = bourn(folder, args).spawn().unwrap();
    let noted = |db: &Connection| {
        let query = "SELECT count(*) FROM events WHERE kind = 'backoff'";
        db.query_row(query, (), |row| row.get::<_, usize>(0)).unwrap_or_default() >= requests
    };
    let begin = Instant::now();
    let is_there = || Connection::open(folder.path().join(".bourn/journal.db")).is_ok_and(|db| noted(&db));
    while service.asked().len() < requests || !is_there() {
        assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", child.try_wait());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

const RUN: [&str; 8] = ["run", "w.yaml", "--id", "r", "--input", "{}", "-o", "json"];
const RESUME: [&str; 5] = ["runs", "resume", "r", "-o", "json"];

/// 503 for what is busy, 429 for a limit.
async fn asks_in_time(status: u16) {
    let (folder, service) = (TempDir::new().unwrap(), Service::start().await);
    std::fs::write(folder.path().join("w.yaml"), service.spec(&format!("{status}/7/1"), 2)).unwrap();
    killed(&folder, &service, 1, &RUN).await;
    let (document, output) = ends(bourn(&folder, &RESUME)).await;
    assert_eq!(document["status"], "COMPLETED", "{output:?}");
    assert_eq!(document["execution_metrics"]["steps"]["ask"]["attempts"], 2, "{document}");
    let asked = service.asked();
    let between = asked[1].duration_since(asked[0]);
    assert!(between >= Duration::from_secs(7) && between < Duration::from_secs(20), "{between:?}");
    assert_eq!(asked.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_asked_again_no_sooner_than_it_said_by_a_process_that_never_heard_it() {
    futures::join!(asks_in_time(503), asks_in_time(429));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_as_many_as_were_allowed_however_often_the_process_is_killed() {
    let (folder, service) = (TempDir::new().unwrap(), Service::start().await);
    std::fs::write(folder.path().join("w.yaml"), service.spec("503/2/99", 4)).unwrap();
    killed(&folder, &service, 1, &RUN).await;
    killed(&folder, &service, 2, &RESUME).await;
    killed(&folder, &service, 3, &RESUME).await;
    let (document, output) = ends(bourn(&folder, &RESUME)).await;
    assert_eq!(document["status"], "FAILED", "{output:?}");
    assert_eq!((&document["error_analysis"]["attempts"], service.asked().len()), (&4.into(), 4));
    let asked = service.asked();
    assert!(asked.windows(2).all(|two| two[1].duration_since(two[0]) >= Duration::from_secs(2)), "{asked:?}");
    // Tried again by hand, it has all of them once more.
    killed(&folder, &service, 5, &["runs", "recover", "r"]).await;
    let (_, history) = ends(bourn(&folder, &["runs", "show", "r", "--history"])).await;
    let history = String::from_utf8(history.stdout).unwrap();
    assert_eq!(history.matches("RetryScheduled").count(), 5, "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_to_wait_for_an_hour_waits_in_no_process_and_says_until_when() {
    let (folder, service) = (TempDir::new().unwrap(), Service::start().await);
    std::fs::write(folder.path().join("w.yaml"), service.spec("503/3600/1", 2)).unwrap();
    let (document, output) = ends(bourn(&folder, &RUN)).await;
    assert_eq!(document["status"], "WAITING", "{output:?}");
    assert_eq!(document["execution_metrics"]["steps"]["ask"]["status"], "BACKING_OFF", "{document}");
    let told = async |args: &[&str]| String::from_utf8(ends(bourn(&folder, args)).await.1.stdout).unwrap();
    let shown = told(&["runs", "show", "r"]).await;
    assert!(shown.contains("BACKING_OFF") && shown.contains("attempt 2 comes at "), "{shown}");
    let inbox = told(&["inbox"]).await;
    assert!(inbox.contains("r/ask") && inbox.contains("attempt 2"), "{inbox}");
    let diagnosed = told(&["runs", "diagnose", "r"]).await;
    assert!(diagnosed.contains("ask is tried again at ") && diagnosed.contains("503"), "{diagnosed}");
    assert!(diagnosed.contains("next: bourn runs resume r"), "{diagnosed}");
    assert_eq!(ends(bourn(&folder, &RESUME)).await.0["status"], "WAITING");
    assert_eq!(service.asked().len(), 1);
    // The hour has passed.
    let db = Connection::open(folder.path().join(".bourn/journal.db")).unwrap();
    let passed = "UPDATE events SET data = json_set(data, '$.due', data ->> 'since') WHERE kind = 'backoff'";
    assert_eq!(db.execute(passed, ()).unwrap(), 1);
    let (document, output) = ends(bourn(&folder, &RESUME)).await;
    assert_eq!((&document["status"], service.asked().len()), (&"COMPLETED".into(), 2), "{output:?}");
}
