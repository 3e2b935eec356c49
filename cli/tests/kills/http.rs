//! Rows that clients send: one that was answered is in the file, whatever became of the job.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{Folder, until};

const ROWS: i64 = 400;
const CLIENTS: i64 = 8;

type Answered = Arc<Mutex<BTreeSet<i64>>>;

/// Sends rows one after the other until the server is gone, and notes which were answered by 200.
async fn send(client: Client, url: String, numbers: Vec<i64>, answered: Answered) {
    for n in numbers {
        let Ok(answer) = client.post(&url).body(json!({ "n": n }).to_string()).send().await else { return };
        assert_eq!(answer.status(), 200);
        answered.lock().unwrap().insert(n);
    }
}

async fn listens(address: &str) {
    until("a server that listens", || async { tokio::net::TcpStream::connect(address).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_that_was_answered_is_in_the_file_of_the_job_that_was_killed() {
    bourn_http::client::install_cryptography();
    let client = Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(30)).build().unwrap();
    let (folder, answered) = (Folder::new(), Answered::default());
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let url = format!("http://{address}/in");
    let mut found = BTreeSet::new();
    // What is compressed reaches the file at the end of an epoch, so a row that is too early answered is lost.
    for (file, until_answered) in [("a.jsonl.gz", 40), ("b.jsonl.gz", 80), ("c.jsonl.gz", 400)] {
        let spec = format!(
            "source: {{ http_server: {{ listen: '{address}', path: /in, schema: {{ n: bigint }} }} }}\n\
             sink: {{ file: {{ path: {file} }} }}\ncheckpoint: {{ every: 20ms }}\n"
        );
        let job = folder.start(&spec);
        listens(&address).await;
        let missing: Vec<i64> = (0..ROWS).filter(|n| !answered.lock().unwrap().contains(n)).collect();
        let mut clients = JoinSet::new();
        for lane in 0..CLIENTS {
            let numbers = missing.iter().copied().filter(|n| n % CLIENTS == lane).collect();
            clients.spawn(send(client.clone(), url.clone(), numbers, answered.clone()));
        }
        until("answers", || async { answered.lock().unwrap().len() >= until_answered }).await;
        job.kill();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        found.extend(folder.numbers(file));
        let lost: Vec<_> = answered.lock().unwrap().difference(&found).copied().collect();
        assert!(lost.is_empty(), "answered and lost: {lost:?}");
    }
    assert_eq!(found, (0..ROWS).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_answered_outlive_the_next_run_though_the_spec_says_nothing_of_checkpoints() {
    bourn_http::client::install_cryptography();
    let client = Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(30)).build().unwrap();
    let (folder, answered) = (Folder::new(), Answered::default());
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let spec = format!(
        "source: {{ http_server: {{ listen: '{address}', path: /in, schema: {{ n: bigint }} }} }}\n\
         sink: {{ file: {{ path: all.jsonl }} }}\n"
    );
    for first in [0, 5, 10] {
        let job = folder.start(&spec);
        listens(&address).await;
        send(client.clone(), format!("http://{address}/in"), (first..first + 5).collect(), answered.clone()).await;
        job.kill();
    }
    // Nobody sends again what was answered.
    assert_eq!((answered.lock().unwrap().len(), folder.numbers("all.jsonl")), (15, (0..15).collect()));
}
