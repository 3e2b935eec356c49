//! `http_server`: answers after the commit, and clients of every kind.
#![expect(clippy::disallowed_methods, reason = "clients stand outside of the engine")]
#![expect(clippy::format_collect, reason = "a test")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bourn_connectors::memory::Collected;
use bourn_connectors::{HttpServer, Memory};
use bourn_engine::api::Source;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::runtime::job::Job;
use bourn_engine::testing::conformance;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::drive::{config, engine, failure, faults, numbers, open, pass, rows, until};
use crate::support::program::free_port;
use crate::support::proxy::{Network, Proxy};

/// A server on a port of its own.
async fn server(more: Value) -> (HttpServer, String) {
    let address = format!("127.0.0.1:{}", free_port().await);
    let mut told = json!({"listen": address, "path": "/in", "schema": {"n": "bigint"}});
    told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (config(told), format!("http://{address}/in"))
}

fn client() -> Client {
    bourn_http::client::install_cryptography();
    Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(20)).build().unwrap()
}

/// Sends a body: the status, and what was said.
async fn post(url: &str, body: impl Into<reqwest::Body>) -> Result<(u16, Value), reqwest::Error> {
    let answer = client().post(url).body(body).send().await?;
    Ok((answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await?).unwrap()))
}

/// A job that collects what is sent.
async fn job(server: HttpServer, epochs: Option<Duration>) -> (Job, Collected) {
    let mut graph = Graph::new("server");
    graph.options.epoch_every = epochs;
    graph.source("http", server);
    let (memory, collected) = Memory::collect();
    graph.sink("memory", memory);
    let engine = engine();
    let plan = engine.plan(graph).await.unwrap_or_else(|p| panic!("{p:?}"));
    (engine.start(plan).await.unwrap(), collected)
}

fn collected_numbers(collected: &Collected) -> Vec<i64> {
    numbers(&collected.rows().unwrap().into_iter().map(Value::Object).collect::<Vec<_>>())
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source_with_a_client_that_sends_again_what_was_not_answered() {
    let (server, url) = server(json!({})).await;
    let mut clients = JoinSet::new();
    for n in 0..20 {
        let url = url.clone();
        clients.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                if post(&url, json!({"n": n}).to_string()).await.is_ok_and(|(status, _)| status == 200) {
                    return;
                }
            }
        });
    }
    conformance::source(server).rows(20).check(&Env::system()).await;
    while clients.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_when_its_rows_are_committed_and_soon_enough() {
    let (server, url) = server(json!({})).await;
    let (job, collected) = job(server, None).await;
    let start = tokio::time::Instant::now();
    for (body, rows) in
        [("{\"n\":\n1}", 1), ("[{\"n\":2},{\"n\":3}]", 2), ("{\"n\":4}\n{\"n\":5}\n", 2), ("", 0), ("[]", 0)]
    {
        assert_eq!(post(&url, body).await.unwrap(), (200, json!({"rows": rows})), "{body}");
    }
    assert_eq!(collected_numbers(&collected), [1, 2, 3, 4, 5]);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(job.stats().epochs.load(Relaxed) >= 3);
    job.stop();
    job.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_comes_before_the_commit_unless_none_is_asked_for() {
    // Epochs that never end.
    let day = Some(Duration::from_hours(24));
    let (waiting, url) = server(json!({})).await;
    let (job_of, collected) = job(waiting, day).await;
    let asked = tokio::spawn(async move { post(&url, "{\"n\":1}").await });
    until("the row is there", || collected.count() == 1).await;
    pass(Duration::from_millis(100)).await;
    assert!(!asked.is_finished());
    // A clean stop commits, and answers.
    job_of.stop();
    job_of.wait().await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), (200, json!({"rows": 1})));
    let (hasty, url) = server(json!({"ack": "none"})).await;
    let (job, _) = job(hasty, day).await;
    assert_eq!(post(&url, "{\"n\":1}").await.unwrap(), (200, json!({"rows": 1})));
    job.stop();
    job.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_answers_everyone_and_loses_no_row_that_was_taken() {
    for round in 0..5 {
        let (server, url) = server(json!({})).await;
        let (job, collected) = job(server, None).await;
        let mut clients = JoinSet::new();
        for n in 0..100 {
            let url = url.clone();
            clients.spawn(async move { (n, post(&url, json!({"n": n}).to_string()).await) });
        }
        until("some rows are there", || collected.count() > 10 * round).await;
        job.stop();
        job.wait().await.unwrap();
        let (mut taken, mut refused) = (BTreeSet::new(), 0);
        while let Some(answer) = clients.join_next().await {
            match answer.unwrap() {
                (n, Ok((200, _))) => assert!(taken.insert(n)),
                (_, Ok((status, said))) => {
                    assert_eq!(status, 503, "{said}");
                    refused += 1;
                }
                // The listener is gone.
                (_, Err(_)) => {}
            }
        }
        let kept: BTreeSet<_> = collected_numbers(&collected).into_iter().collect();
        assert!(taken.is_subset(&kept), "round {round}: {taken:?} {kept:?}");
        assert!(taken.len() + refused <= 100);
        assert_eq!(kept, taken, "what was committed was answered so");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_dies_has_acknowledged_nothing_that_it_lost() {
    let (server, url) = server(json!({})).await;
    let mut source = open(&server, None).await.unwrap();
    let asked = tokio::spawn({
        let url = url.clone();
        async move { post(&url, "{\"n\":1}").await }
    });
    let chunk = source.read().await.unwrap().unwrap();
    assert_eq!(numbers(&rows(&chunk)), [1]);
    drop((chunk, source));
    // 503, or the connection is cut: in no case 200.
    assert!(asked.await.unwrap().map_or(true, |(status, _)| status == 503));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_refuse_their_request_with_lines_and_reasons_or_are_rejected_alone() {
    let body = "{\"n\":1}\n{\"n\":\"x\"}\n\n{\"n\":3\n{\"n\":4}\n";
    let (refusing, url) = server(json!({})).await;
    let (job, collected) = job(refusing, None).await;
    let (status, said) = post(&url, body).await.unwrap();
    assert_eq!((status, said["error"].as_str().unwrap()), (400, "2 of 4 rows can't be read, and none was taken"));
    assert_eq!(said["lines"][0], json!({"line": 2, "error": "field `n`: `\"x\"` does not fit bigint"}));
    assert_eq!(said["lines"][1]["line"], 4);
    assert_eq!(post(&url, "[{\"n\":1},{\"n\":[]}]").await.unwrap().1["lines"][0]["line"], 2);
    for rubbish in ["<html>", "[{\"n\":1}", "\"x", "7"] {
        let (status, said) = post(&url, rubbish).await.unwrap();
        assert_eq!(status, 400, "{rubbish}: {said}");
    }
    assert_eq!(post(&url, vec![b'{', 0xff, b'}']).await.unwrap().0, 400);
    let deep = "[".repeat(200_000);
    assert_eq!(post(&url, deep.clone()).await.unwrap().0, 400);
    assert_eq!(post(&url, format!("{{\"n\":1,\"x\":{deep}}}")).await.unwrap().0, 400);
    assert_eq!(post(&url, "{\"n\":5}").await.unwrap().0, 200);
    assert_eq!(collected_numbers(&collected), [5]);
    job.stop();
    job.wait().await.unwrap();
    let (rejecting, url) = server(json!({"bad_rows": "reject"})).await;
    let mut source = open(&rejecting, None).await.unwrap();
    let asked = tokio::spawn(async move { post(&url, body).await });
    let chunk = source.read().await.unwrap().unwrap();
    assert_eq!(numbers(&rows(&chunk)), [1, 4]);
    assert!(faults(&[chunk])[0].starts_with("a request, line 2"));
    asked.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_or_sends_something_else_is_told() {
    let (server, url) = server(json!({"token": "SECRET", "max_body": "1000B", "buffer": "1000B"})).await;
    let (job, collected) = job(server, None).await;
    let client = client();
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status();
    assert_eq!(status(client.post(&url).body("{\"n\":1}")).await, StatusCode::UNAUTHORIZED);
    for wrong in ["SECRE", "SECRETS", "secret", ""] {
        assert_eq!(status(client.post(&url).bearer_auth(wrong).body("{\"n\":1}")).await, StatusCode::UNAUTHORIZED);
    }
    let post = |url: &str| client.post(url).bearer_auth("SECRET");
    assert_eq!(status(post(&format!("{url}x"))).await, StatusCode::NOT_FOUND);
    assert_eq!(status(client.get(&url).bearer_auth("SECRET")).await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(status(post(&url).body(" ".repeat(1_001))).await, StatusCode::PAYLOAD_TOO_LARGE);
    let endless = post(&url).body(reqwest::Body::wrap(Endless)).send().await.map(|answer| answer.status());
    assert!(endless.is_err() || endless.unwrap() == StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status(post(&url).header("Content-Encoding", "br").body("x")).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let zipped = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        post(&url).header("Content-Encoding", "gzip").body(encoder.finish().unwrap())
    };
    assert_eq!(status(zipped(b"{\"n\":1}")).await, StatusCode::OK);
    assert_eq!(status(zipped(&b" ".repeat(500_000))).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status(post(&url).header("Content-Encoding", "gzip").body("x")).await, StatusCode::BAD_REQUEST);
    assert_eq!(collected_numbers(&collected), [1]);
    job.stop();
    job.wait().await.unwrap();
}

/// A body of spaces, for as long as anybody listens.
struct Endless;

impl hyper::body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes::Bytes::from_static(&[b' '; 4_096])))))
    }
}

/// Sends bytes over a connection of its own; what comes back until the other side closes it.
async fn raw(url: &str, bytes: &[u8]) -> String {
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _refused_in_the_middle = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_or_send_half_or_headers_without_end_are_let_go() {
    let (server, url) = server(json!({"timeout": "200ms"})).await;
    let (job, collected) = job(server, None).await;
    let head = "POST /in HTTP/1.1\r\nHost: h\r\n";
    // A slow loris: in the head, and in the body.
    raw(&url, head.as_bytes()).await;
    raw(&url, b"").await;
    let slow = raw(&url, format!("{head}Content-Length: 100\r\n\r\n{{\"n\":1}}").as_bytes()).await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    let many: String = (0..100).map(|n| format!("X-{n}: x\r\n")).collect();
    assert!(raw(&url, format!("{head}{many}\r\n").as_bytes()).await.starts_with("HTTP/1.1 431"));
    let long = format!("{head}X: {}\r\n\r\n", "x".repeat(100 << 10));
    // What was sent behind the answer may have cost it.
    let refused = raw(&url, long.as_bytes()).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
    assert!(raw(&url, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.starts_with("HTTP/1.1 400"));
    assert!(raw(&url, format!("{head}Content-Length: -1\r\n\r\n").as_bytes()).await.starts_with("HTTP/1.1 400"));
    let chunks = raw(&url, format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n").as_bytes()).await;
    assert!(chunks.starts_with("HTTP/1.1 400"), "{chunks}");
    // Half a body, and gone.
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}Content-Length: 16\r\n\r\n{{\"n\":1}}").as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(post(&url, "{\"n\":2}").await.unwrap().0, 200);
    assert_eq!(collected_numbers(&collected), [2]);
    job.stop();
    job.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_behind_refuses_what_it_can_not_hold() {
    let (server, url) = server(json!({"max_body": "10KB", "buffer": "20KB"})).await;
    let mut source = open(&server, None).await.unwrap();
    let body = format!("{{\"n\":1}}{}", " ".repeat(8_000));
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        let (url, body) = (url.clone(), body.clone());
        clients.spawn(async move { client().post(url).body(body).send().await.unwrap() });
    }
    for _ in 0..8 {
        let refused = clients.join_next().await.unwrap().unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    }
    // The two that found room are read, and there is room again.
    let mut read = 0;
    while read < 2 {
        read += rows(&source.read().await.unwrap().unwrap()).len();
    }
    let again = tokio::spawn({
        let url = url.clone();
        async move { post(&url, body).await }
    });
    assert_eq!(rows(&source.read().await.unwrap().unwrap()).len(), 1);
    again.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_request_comes_in_pieces_and_is_answered_as_a_whole() {
    let (server, url) = server(json!({})).await;
    let (job, collected) = job(server, None).await;
    let body: String = (0..100_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    assert_eq!(post(&url, body).await.unwrap(), (200, json!({"rows": 100_000})));
    assert!(collected_numbers(&collected).into_iter().eq(0..100_000));
    job.stop();
    job.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ack_of_a_large_request_comes_with_the_last_of_its_rows() {
    let (server, url) = server(json!({})).await;
    let mut source = open(&server, None).await.unwrap();
    let body: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let asked = tokio::spawn(async move { post(&url, body).await });
    let (mut read, mut acks) = (0, Vec::new());
    while read < 20_000 {
        let chunk = source.read().await.unwrap().unwrap();
        read += chunk.records.num_rows();
        acks.push((read, chunk.ack));
    }
    let with_ack: Vec<_> = acks.iter().filter(|(_, ack)| ack.is_some()).map(|(read, _)| *read).collect();
    assert_eq!((with_ack, acks.len() > 1, asked.is_finished()), (vec![20_000], true, false));
    // Who never hears that its rows are safe is told to send them again.
    drop(acks);
    assert_eq!(asked.await.unwrap().unwrap().0, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_client_that_sends_again_nothing_is_lost_when_network_and_job_break() {
    let (server, url) = server(json!({"timeout": "200ms"})).await;
    let listens = url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::before(listens).await;
    let to = format!("http://{}/in", proxy.address());
    let (first, first_rows) = job(server.clone(), None).await;
    let client = Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_millis(700)).build().unwrap();
    let mut clients = JoinSet::new();
    for worker in 0..10_i64 {
        let (to, client) = (to.clone(), client.clone());
        clients.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            let mut n = worker * 10;
            while n < worker * 10 + 10 {
                tick.tick().await;
                let sent = client.post(&to).body(json!({"n": n}).to_string()).send().await;
                n += i64::from(sent.is_ok_and(|answer| answer.status() == 200));
            }
        });
    }
    until("rows arrive", || first_rows.count() > 10).await;
    proxy.set(Network::Cut);
    pass(Duration::from_millis(50)).await;
    proxy.set(Network::Stalls);
    pass(Duration::from_millis(300)).await;
    proxy.set(Network::Open);
    until("more rows arrive", || first_rows.count() > 30).await;
    first.stop();
    first.wait().await.unwrap();
    let (second, second_rows) = job(server, None).await;
    while clients.join_next().await.is_some() {}
    second.stop();
    second.wait().await.unwrap();
    let mut all: BTreeSet<_> = collected_numbers(&first_rows).into_iter().collect();
    all.extend(collected_numbers(&second_rows));
    assert!(all.into_iter().eq(0..100));
}

#[tokio::test]
async fn what_a_spec_can_not_open_is_told_before_the_job() {
    let problem = async |more: Value| failure(&server(more).await.0).await;
    let open = problem(json!({"listen": "0.0.0.0:8080"})).await;
    assert!(open.contains("whoever reaches 0.0.0.0:8080 may send rows") && open.contains("set `token:"), "{open}");
    assert!(problem(json!({"listen": "[::]:8080", "token": ""})).await.contains("may send rows"));
    assert!(problem(json!({"listen": "here"})).await.contains("`here` is no address with a port"));
    assert!(problem(json!({"path": "in"})).await.contains("a path begins with `/`"));
    assert!(problem(json!({"schema": null})).await.contains("declare them"));
    assert!(problem(json!({"max_body": "1GiB"})).await.contains("at most `buffer`"));
    let (taken, _) = server(json!({})).await;
    let _open = crate::support::drive::open(&taken, None).await.unwrap();
    let told = crate::support::drive::open(&taken, None).await.err().unwrap();
    assert!(told.message().starts_with("listening on 127.0.0.1:"), "{told}");
}
