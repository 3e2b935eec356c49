//! `sse`: events, what connects anew, and servers that break the rules.
#![expect(clippy::format_collect, reason = "a test")]

use std::time::Duration;

use bourn_connectors::{Memory, Sse};
use bourn_engine::api::Source;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::testing::conformance;
use serde_json::{Value, json};

use crate::support::drive::{config, engine, failure, faults, numbers, open, pass, read_all, rows, rows_of, until};
use crate::support::proxy::{Network, Proxy};
use crate::support::web::{Asked, Say, Web, answer, head};

const EVENTS: (&str, &str) = ("Content-Type", "text/event-stream; charset=utf-8");

fn events(text: impl AsRef<[u8]>) -> Vec<Say> {
    vec![head(200, &[EVENTS]), Say::Bytes(text.as_ref().to_vec())]
}

fn sse(url: &str, more: &Value) -> Sse {
    let mut told = json!({"url": url, "timeout": "100ms", "retry": {"initial_interval": "1ms", "max_attempts": 3}});
    told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config(told)
}

/// The number of the last event that a client has.
fn last(asked: &Asked) -> Option<usize> {
    asked.headers.get("last-event-id").map(|id| id.parse().unwrap())
}

#[tokio::test]
async fn events_are_rows_and_204_is_the_end() {
    let web = Web::start(|_, before| match before {
        0 => events(
            ": hello\nid: a\nevent: more\ndata: one\ndata: two\n\nretry: 2\n\nid: b\n\ndata: three\n\ndata: half",
        ),
        _ => answer(204, &[], ""),
    })
    .await;
    let read = read_all(&sse(&web.url("/"), &json!({}))).await.unwrap();
    let expected =
        [json!({"id": "a", "event": "more", "data": "one\ntwo"}), json!({"id": "b", "event": null, "data": "three"})];
    assert_eq!(rows_of(&read), expected);
    let asked = web.asked();
    assert_eq!(asked[0].headers["accept"], "text/event-stream");
    assert_eq!((asked[0].headers.get("last-event-id"), &*asked[1].headers["last-event-id"]), (None, "b"));
}

#[tokio::test]
async fn data_is_read_into_columns_and_what_does_not_fit_is_rejected_alone() {
    let web = Web::start(|_, before| match before {
        0 => events(
            "data: {\"n\":1}\n\nid: 7\ndata: [{\"n\":2},{\"n\":\"x\"}]\n\ndata: hello\n\ndata: {\ndata: \"n\": 3}\n\n",
        ),
        _ => answer(204, &[], ""),
    })
    .await;
    let read = read_all(&sse(&web.url("/?SECRET"), &json!({"schema": {"n": "bigint"}}))).await.unwrap();
    assert_eq!(numbers(&rows_of(&read)), [1, 2, 3]);
    let said = faults(&read);
    assert_eq!(said.len(), 2);
    assert!(said.iter().all(|s| s.starts_with(&format!("{}, event 7", web.url("/")))), "{said:?}");
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    let text: String = (0..500).map(|n| format!("id: {n}\ndata: {{\"n\":{n}}}\n\n")).collect();
    let web = Web::start(move |_, _| {
        let mut all = events(&text);
        all.push(Say::Hang);
        all
    })
    .await;
    let told = json!({"schema": {"n": "bigint"}, "timeout": "1m"});
    conformance::source(sse(&web.url("/"), &told)).rows(500).check(&Env::system()).await;
}

#[tokio::test]
async fn a_silent_connection_is_made_anew_and_a_comment_is_a_sign_of_life() {
    let web = Web::start(|_, before| {
        let mut all = events(format!("id: {before}\ndata: {{\"n\":{before}}}\n\n"));
        all.push(Say::Hang);
        all
    })
    .await;
    let mut source = open(&sse(&web.url("/"), &json!({"schema": {"n": "bigint"}})), None).await.unwrap();
    for n in 0..3 {
        assert_eq!(numbers(&rows(&source.read().await.unwrap().unwrap())), [n]);
    }
    assert_eq!(last(&web.asked()[2]), Some(1));
    let web = Web::start(|_, _| vec![head(200, &[EVENTS]), Say::Endless(b": still here\n\n".to_vec())]).await;
    let mut source = open(&sse(&web.url("/"), &json!({})), None).await.unwrap();
    let read = source.read();
    tokio::select! {
        chunk = read => panic!("{chunk:?}"),
        () = pass(Duration::from_millis(300)) => {}
    }
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test]
async fn a_source_that_starts_behind_a_position_says_so() {
    let web = Web::start(|_, _| {
        let mut all = events("id: 5\ndata: x\n\n");
        all.push(Say::Hang);
        all
    })
    .await;
    let sse = sse(&web.url("/"), &json!({}));
    let first = open(&sse, None).await.unwrap().read().await.unwrap().unwrap();
    open(&sse, Some(&first.position)).await.unwrap().read().await.unwrap();
    assert_eq!(last(&web.asked()[1]), Some(5));
}

/// What is said of a server that answers so.
async fn told_of(script: impl Fn() -> Vec<Say> + Send + Sync + 'static) -> String {
    let web = Web::start(move |_, _| script()).await;
    let url = web.url("/a?token=SECRET").replace("http://", "http://SECRET:SECRET@");
    let more = json!({"headers": {"X-Key": "SECRET"}, "event_max": "100KB", "timeout": "2s"});
    let said = failure(&sse(&url, &more)).await;
    assert!(!said.contains("SECRET") && said.contains(&format!("GET {}", web.url("/a"))), "{said}");
    said
}

#[tokio::test]
async fn a_server_that_breaks_the_rules_ends_the_job_and_fills_no_memory() {
    let one = |piece: &'static [u8]| move || vec![head(200, &[EVENTS]), Say::Endless(piece.repeat(1_000))];
    assert!(told_of(one(b"x")).await.contains("an event has more than 100000 bytes (`event_max`)"));
    assert!(told_of(one(b"data: x\n")).await.contains("`event_max`"));
    assert!(told_of(|| events(b"data: \xff\n\n")).await.contains("utf8"));
    assert!(told_of(|| answer(200, &[("Content-Type", "text/html")], "<p>")).await.contains("no `text/event-stream`"));
    assert!(told_of(|| answer(401, &[], "who?")).await.contains("401"));
    assert!(told_of(|| answer(500, &[], "")).await.contains("after 3 attempts"));
    assert!(told_of(|| answer(302, &[("Location", "/a")], "")).await.contains("a redirect"));
    assert!(told_of(|| answer(200, &[EVENTS, ("Content-Encoding", "br")], "")).await.contains("encoding"));
    told_of(|| vec![Say::Bytes(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec()), Say::Endless(b"x".repeat(1_000))]).await;
}

#[tokio::test]
async fn events_are_taken_no_faster_than_they_are_read() {
    let web = Web::start(|_, _| vec![head(200, &[EVENTS]), Say::Endless(b"data: {\"n\":1}\n\n".repeat(4_096))]).await;
    let mut source = open(&sse(&web.url("/"), &json!({"schema": {"n": "bigint"}})), None).await.unwrap();
    for _ in 0..3 {
        let rows = source.read().await.unwrap().unwrap().records.num_rows();
        assert!((1..=1_024).contains(&rows));
    }
    let (mut before, mut quiet) = (0, 0);
    while quiet < 4 {
        pass(Duration::from_millis(30)).await;
        quiet = if web.written() == before { quiet + 1 } else { 0 };
        before = web.written();
        assert!(before < 64 << 20, "the source swallowed {before} bytes");
    }
}

#[tokio::test]
async fn with_a_server_that_keeps_its_events_nothing_is_lost_or_read_twice_when_the_network_breaks() {
    let mut web = Web::start(|asked, _| {
        let from = last(asked).map_or(0, |n| n + 1);
        let text: String = (from..5_000).map(|n| format!("id: {n}\ndata: {{\"n\":{n}}}\n\n")).collect();
        if text.is_empty() { answer(204, &[], "") } else { events(text) }
    })
    .await;
    let proxy = Proxy::before(web.address()).await;
    let retry = json!({"max_attempts": 100, "initial_interval": "2ms", "max_interval": "20ms"});
    let told = json!({"schema": {"n": "bigint"}, "retry": retry});
    let mut graph = Graph::new("broken");
    graph.source("sse", sse(&format!("http://{}/", proxy.address()), &told));
    let (memory, collected) = Memory::collect();
    graph.sink("memory", memory);
    proxy.set(Network::Trickles);
    let engine = engine();
    let breaking = async {
        until("events arrive", || collected.count() > 10).await;
        proxy.set(Network::Cut);
        pass(Duration::from_millis(20)).await;
        proxy.set(Network::Trickles);
        let had = collected.count();
        until("more arrive", || collected.count() > had + 10).await;
        proxy.set(Network::Stalls);
        pass(Duration::from_millis(150)).await;
        proxy.set(Network::Trickles);
        let had = collected.count();
        until("more arrive", || collected.count() > had + 10).await;
        web.kill().await;
        web.start_again().await;
        proxy.set(Network::Open);
    };
    let (ended, ()) = tokio::join!(engine.run(graph), breaking);
    ended.unwrap();
    let found: Vec<_> = collected.rows().unwrap().into_iter().map(Value::Object).collect();
    assert!(numbers(&found).into_iter().eq(0..5_000));
}
