//! Pipelines that ask models, killed and started again: what is in the journal is never asked, or paid for, a second time.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use bourn_engine::env::points::{JOURNAL_COMMIT, JOURNAL_COMMITTED};
use reqwest::Client;
use serde_json::Value;

use crate::support::Folder;

/// A model that costs nothing; it ends with the test.
struct Model {
    child: Child,
    address: String,
}

impl Drop for Model {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Model {
    fn start() -> Self {
        bourn_http::client::install_cryptography();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command.args(["mock-llm", "--latency", "3ms"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }

    async fn stats(&self) -> Value {
        let response = Client::new().get(format!("{}/stats", self.address)).send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    /// 60 questions through a stage, in 60 or in fewer requests.
    fn spec(&self, stage: &str) -> String {
        let stage = stage.replace("ADDRESS", &format!("base_url: '{}/v1', api_key: any", self.address));
        format!(
            "name: paid\nsource: {{ generate: {{ rows: 60, columns: {{ n: n, text: \"'question ' || n\" }} }} }}\n\
             stages:\n  - {stage}\n    journal: true\nsink: {{ file: {{ path: out.jsonl }} }}\n"
        )
    }
}

const ASK: &str = "model: { prompt: '${text}', model: gpt-5, ADDRESS, limits: { in_flight: N } }";

/// Kills a job behind its commits, one after the other, and runs it to its end. Nothing that a commit holds is asked again.
fn killed_behind_each_commit(stage: &str, commits: usize) -> (Model, Folder) {
    let (model, folder) = (Model::start(), Folder::new());
    let spec = model.spec(stage);
    for kill in 0..commits {
        folder.start_to(&spec, Some(&format!("{JOURNAL_COMMITTED}:{}", 1 + kill % 4))).wait_for_its_kill();
    }
    folder.start(&spec).wait();
    assert_eq!(folder.numbers("out.jsonl"), (0..60).collect::<BTreeSet<_>>());
    (model, folder)
}

#[tokio::test]
async fn a_pipeline_that_was_killed_asks_for_nothing_twice() {
    let (model, folder) = killed_behind_each_commit(&ASK.replace('N', "1"), 12);
    let stats = model.stats().await;
    // One request for each row, over thirteen processes.
    assert_eq!((&stats["requests"], &stats["prompts"]["distinct"]), (&60.into(), &60.into()), "{stats}");
    // When the job has ended and begins anew, everything is there.
    folder.start(&model.spec(&ASK.replace('N', "1"))).wait();
    assert_eq!(model.stats().await["requests"], 60);
}

#[tokio::test]
async fn vectors_that_were_paid_for_are_kept_whatever_requests_their_texts_are_in() {
    let embed = "embed: { text: '${text}', model: m, dimensions: 4, shorten: true, rows_max: N, ADDRESS, limits: { in_flight: 1 } }";
    let (model, folder) = killed_behind_each_commit(&embed.replace('N', "7"), 5);
    let stats = model.stats().await;
    assert_eq!(
        (&stats["prompts"]["answered_again"], &stats["input_tokens"]),
        (&0.into(), &(50 * 3 + 10 * 3).into()),
        "{stats}"
    );
    let before = std::fs::read_to_string(folder.path("out.jsonl")).unwrap();
    // In other requests than before.
    let asked = stats["requests"].clone();
    folder.start(&model.spec(&embed.replace('N', "13"))).wait();
    assert_eq!(model.stats().await["requests"], asked);
    assert_eq!(std::fs::read_to_string(folder.path("out.jsonl")).unwrap(), before);
}

#[tokio::test]
async fn with_many_in_flight_a_kill_costs_at_most_those_that_were_under_way() {
    let (model, folder) = (Model::start(), Folder::new());
    let spec = model.spec(&ASK.replace('N', "8"));
    let kills = 10;
    for kill in 0..kills {
        let point = [JOURNAL_COMMIT, JOURNAL_COMMITTED][kill % 2];
        folder.start_to(&spec, Some(&format!("{point}:{}", 1 + kill % 3))).wait_for_its_kill();
    }
    folder.start(&spec).wait();
    let stats = model.stats().await;
    let again = stats["requests"].as_u64().unwrap() - 60;
    assert!(again <= 8 * kills as u64, "{stats}");
    assert_eq!((&stats["prompts"]["distinct"], folder.numbers("out.jsonl").len()), (&60.into(), 60));
}

#[tokio::test]
async fn a_folder_of_documents_becomes_vectors_in_parquet_and_none_is_paid_for_twice() {
    let (model, folder) = (Model::start(), Folder::new());
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    std::os::unix::fs::symlink(examples, folder.path("examples")).unwrap();
    let spec = std::fs::read_to_string(folder.path("examples/12-documents-to-vectors.yaml")).unwrap();
    // One piece in a request, and one after the other, so that there is something to cut off.
    let server = format!(
        "rows_max: 1\n      limits: {{ in_flight: 1 }}\n      base_url: '{}/v1'\n      api_key: any",
        model.address
    );
    let spec = spec.replace("rows_max: 100", &server);
    let kill =
        |commits: usize| folder.start_to(&spec, Some(&format!("{JOURNAL_COMMITTED}:{commits}"))).wait_for_its_kill();
    kill(1);
    kill(3);
    assert!(!folder.path("out/vectors.parquet").exists());
    folder.start(&spec).wait();
    let stats = model.stats().await;
    assert_eq!((&stats["requests"], &stats["prompts"]["distinct"]), (&8.into(), &8.into()), "{stats}");
    assert!(folder.path("out/vectors.parquet").exists());
    // Run again it asks for nothing.
    folder.start(&spec).wait();
    assert_eq!(model.stats().await["requests"], 8);
}
