//! A rate limit that processes keep together in a Redis: their service never sees more, and when the Redis is gone each keeps it alone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::until;
use crate::valkey::Valkey;

/// Twenty in a second; two of them at once.
const SPEC: &str = "\
name: asks
rate_limits: { llm: { requests_per_minute: 1200, output_tokens_per_minute: 600000 } }
steps:
  - { id: ask, model: { prompt: 'a question about ${input.n}', model: gpt-5, max_tokens: 50, limits: { rate: llm } } }
";
const RUNS: usize = 60;

/// A model that refuses what is more than twenty in a second, and does not say so before.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command.args(["mock-llm", "--requests-per-minute", "1200", "--burst", "1s", "--hidden"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }

    /// How many it has answered, and how many it has refused because of its limit.
    async fn stats(&self) -> (u64, u64) {
        bourn_http::client::install_cryptography();
        let stats = reqwest::get(format!("{}/stats", self.address)).await.unwrap().text().await.unwrap();
        let stats: Value = serde_json::from_str(&stats).unwrap();
        (stats["answered"].as_u64().unwrap(), stats["429"].as_u64().unwrap())
    }

    /// A process with sixty runs, on another machine as far as journals go.
    fn asked_by(&self, folder: &TempDir, valkey: Option<&Valkey>) -> Child {
        std::fs::write(folder.path().join("w.yaml"), SPEC).unwrap();
        let lines: Vec<_> = (0..RUNS).map(|n| format!("{{\"n\": {n}}}\n")).collect();
        std::fs::write(folder.path().join("in.jsonl"), lines.concat()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command.args(["run", "w.yaml", "--inputs", "in.jsonl"]).current_dir(folder.path()).env_remove("BOURN_LOG");
        command.env("OPENAI_BASE_URL", format!("{}/v1", self.address)).env("OPENAI_API_KEY", "any");
        command.envs(valkey.map(|valkey| ("BOURN_CACHE", valkey.url())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What a process has said, all of whose runs have completed.
async fn completed(child: Child) -> String {
    let output: Output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), RUNS);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_keep_one_limit_together_and_without_a_redis_they_do_not() {
    let all = (RUNS * 2) as u64;
    let (valkey, folders) = (Valkey::start().await, [(); 4].map(|()| TempDir::new().unwrap()));
    let service = Service::start();
    let both = [&folders[0], &folders[1]].map(|folder| service.asked_by(folder, Some(&valkey)));
    for child in both {
        assert_eq!(completed(child).await, "");
    }
    assert_eq!(service.stats().await, (all, 0));
    // Each keeps the whole limit for itself.
    let service = Service::start();
    let both = [&folders[2], &folders[3]].map(|folder| service.asked_by(folder, None));
    for child in both {
        completed(child).await;
    }
    let (answered, refused) = service.stats().await;
    assert!(answered == all && refused > 0, "{answered} {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_redis_is_killed_each_keeps_the_limit_alone_and_says_so_once() {
    let (mut valkey, folders) = (Valkey::start().await, [(); 2].map(|()| TempDir::new().unwrap()));
    let service = Service::start();
    let both = [&folders[0], &folders[1]].map(|folder| service.asked_by(folder, Some(&valkey)));
    until("some answers", || async { service.stats().await.0 > 20 }).await;
    valkey.server.kill().await;
    assert!(service.stats().await.0 < 100, "the jobs were to be under way");
    for child in both {
        let told = completed(child).await;
        let alone = told.matches("the rate limit `llm` is that of this process alone: Redis at 127.0.0.1:").count();
        assert_eq!(alone, 1, "{told}");
    }
    assert_eq!(service.stats().await.0, (RUNS * 2) as u64);
}
