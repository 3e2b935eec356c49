//! `http` as a sink: requests, keys, refusals, and a network that breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bourn_connectors::{Http, Memory};
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::testing::conformance::{Target, sink};
use bourn_engine::testing::harness::rows::batch;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::drive::{config, engine, numbers, pass, until, write};
use crate::support::proxy::{Network, Proxy};
use crate::support::web::{Asked, Say, Web, answer, head, ok};

/// The rows of a request.
fn sent(asked: &Asked) -> Vec<Value> {
    let mut body = asked.body.clone();
    if asked.headers.get("content-encoding").is_some_and(|e| e == "gzip") {
        body.clear();
        GzDecoder::new(asked.body.as_slice()).read_to_end(&mut body).unwrap();
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Array(rows)) => rows,
        Ok(row) => vec![row],
        Err(_) => std::str::from_utf8(&body).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect(),
    }
}

fn all_sent(web: &Web) -> Vec<Value> {
    web.asked().iter().flat_map(sent).collect()
}

fn some(rows: i64) -> Vec<Value> {
    (0..rows).map(|n| json!({"n": n})).collect()
}

fn http(web: &Web, more: &Value) -> Http {
    let mut told = json!({
        "url": web.url("/in?token=SECRET"), "headers": {"X-Key": "SECRET"}, "timeout": "100ms",
        "retry": {"initial_interval": "1ms", "max_attempts": 3},
    });
    told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config(told)
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_sink() {
    let jobs: Arc<Mutex<BTreeMap<String, Vec<Value>>>> = Arc::default();
    let stored = jobs.clone();
    let web = Web::start(move |asked, _| {
        stored.lock().unwrap().entry(asked.path.clone()).or_default().extend(sent(asked));
        ok("")
    })
    .await;
    for format in ["json", "json_lines", "object"] {
        let target = |n: usize| {
            let path = format!("/{format}/{n}");
            let jobs = jobs.clone();
            let told = json!({"url": web.url(&path), "format": format, "compression": "gzip"});
            Target::new(config::<Http>(told)).read_back(move || {
                let rows = jobs.lock().unwrap().get(&path).cloned().unwrap_or_default();
                async { Ok(rows) }
            })
        };
        sink(target).check(&Env::system()).await;
    }
}

#[tokio::test]
async fn rows_go_in_requests_of_the_size_that_is_said() {
    let web = Web::start(|_, _| ok("{}")).await;
    assert_eq!(write(&http(&web, &json!({"batch": {"rows": 4}})), &some(10)).await.unwrap(), []);
    let mut sizes: Vec<_> = web.asked().iter().map(|a| sent(a).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 4, 4]);
    let first = &web.asked()[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/in?token=SECRET"));
    assert_eq!(
        (first.headers["content-type"].as_str(), first.headers["x-key"].as_str()),
        ("application/json", "SECRET")
    );
    let web = Web::start(|_, _| ok("{}")).await;
    write(&http(&web, &json!({"format": "object", "method": "PUT"})), &some(3)).await.unwrap();
    assert!(web.asked().iter().all(|a| a.method == "PUT" && a.body.starts_with(b"{\"n\":") && a.body.len() == 7));
    assert_eq!(web.asked().len(), 3);
}

#[tokio::test]
async fn a_request_that_is_tried_again_has_its_key_again_and_no_other_has_it() {
    let web = Web::start(|asked, before| match (before, &asked.body[..]) {
        (0..2, _) => answer(503, &[("Retry-After", "0")], "busy"),
        (2, _) => Vec::new(),
        _ => ok(""),
    })
    .await;
    let told = json!({"batch": {"rows": 5}, "retry": {"initial_interval": "1ms", "max_attempts": 9}});
    write(&http(&web, &told), &some(20)).await.unwrap();
    let mut keys: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for asked in web.asked() {
        keys.entry(asked.headers["idempotency-key"].clone()).or_default().insert(asked.body);
    }
    assert_eq!((keys.len(), web.asked().len()), (4, 7));
    assert!(keys.values().all(|bodies| bodies.len() == 1));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_halved_and_a_row_that_is_alone_is_rejected() {
    let web = Web::start(|asked, _| {
        let rows = sent(asked);
        if rows.len() > 3 || rows.contains(&json!({"n": 7})) && rows.len() > 1 || rows == [json!({"n": 7})] {
            return answer(413, &[], "large");
        }
        ok("")
    })
    .await;
    let refused = write(&http(&web, &json!({})), &some(20)).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].0 == 1 && refused[0].1.contains("413") && refused[0].1.contains("large"), "{refused:?}");
    let taken: BTreeSet<_> = web
        .asked()
        .iter()
        .map(sent)
        .filter(|r| r.len() <= 3 && !r.contains(&json!({"n": 7})))
        .flat_map(|r| numbers(&r))
        .collect();
    assert!(taken.into_iter().eq((0..20).filter(|n| *n != 7)));
}

#[tokio::test]
async fn a_refusal_rejects_the_rows_of_its_request_alone_and_shows_no_secret() {
    let web =
        Web::start(
            |asked, _| {
                if sent(asked).contains(&json!({"n": 7})) { answer(422, &[], "seven is bad") } else { ok("") }
            },
        )
        .await;
    let refused = write(&http(&web, &json!({"batch": {"rows": 5}})), &some(20)).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].0, refused[0].1.contains("SECRET")), (5, false));
    assert!(refused[0].1.contains(&format!("POST {}: 422", web.url("/in"))) && refused[0].1.contains("seven is bad"));
    assert_eq!(web.asked().len(), 4);
}

#[tokio::test]
async fn no_more_requests_than_said_are_under_way() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let under_way = (now.clone(), most.clone());
    // Each connection is answered with its last byte only when the others have come, or when all is over.
    let web = Web::start(move |_, _| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        vec![head(500, &[("Content-Length", "1")]), Say::Hang]
    })
    .await;
    let told = json!({"batch": {"rows": 1}, "in_flight": 3, "retry": {"max_attempts": 1}});
    let failed = write(&http(&web, &told), &some(50)).await.unwrap_err();
    assert!(failed.message().contains("500"), "{failed}");
    assert_eq!(under_way.1.load(Ordering::SeqCst), 3);
}

/// What is said when a server answers so.
async fn told_of(script: impl Fn() -> Vec<Say> + Send + Sync + 'static) -> String {
    let web = Web::start(move |_, _| script()).await;
    let said = format!("{:?}", write(&http(&web, &json!({})), &some(3)).await.unwrap_err());
    assert!(!said.contains("SECRET") && said.contains(&format!("POST {}", web.url("/in"))), "{said}");
    said
}

#[tokio::test]
async fn a_server_that_takes_nothing_ends_the_job_and_no_row_counts_as_written() {
    let hangs = told_of(|| vec![Say::Hang]).await;
    assert!(hangs.contains("after 3 attempts") && hangs.contains("nothing came for 100ms"), "{hangs}");
    let fails = told_of(|| answer(500, &[], "broken")).await;
    assert!(fails.contains("after 3 attempts") && fails.contains("500") && fails.contains("broken"), "{fails}");
    let moved = told_of(|| answer(307, &[("Location", "/in?SECRET")], "")).await;
    assert!(moved.contains("a redirect"), "{moved}");
    told_of(|| vec![Say::Bytes(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec()), Say::Endless(b"x".repeat(1_000))]).await;
    told_of(|| vec![Say::Bytes(b"HTTP/1.1 2".to_vec())]).await;
    let endless = told_of(|| vec![head(500, &[]), Say::Endless(b"no ".repeat(1_000))]).await;
    assert!(endless.contains("500"), "{endless}");
}

#[tokio::test]
async fn what_stands_behind_a_yes_does_not_matter() {
    for body in 0..3 {
        let web = Web::start(move |_, _| match body {
            0 => vec![head(200, &[("Content-Length", "99")]), Say::Bytes(b"half".to_vec())],
            1 => vec![head(200, &[]), Say::Endless(b"x".repeat(1_000))],
            _ => answer(204, &[("Content-Encoding", "br")], ""),
        })
        .await;
        assert_eq!(write(&http(&web, &json!({})), &some(3)).await.unwrap(), []);
        assert_eq!(web.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_a_spec_can_not_send_is_told_before_the_job() {
    let web = Web::start(|_, _| ok("")).await;
    let problem = async |more: Value| write(&http(&web, &more), &some(1)).await.unwrap_err().to_string();
    assert!(problem(json!({"every": "1s"})).await.contains("`every` is for a source"));
    assert!(problem(json!({"format": "csv"})).await.contains("say `format: json`"));
    assert!(problem(json!({"method": "GET"})).await.contains("carries no rows"));
    assert!(problem(json!({"in_flight": 0})).await.contains("at least 1"));
    assert!(web.asked().is_empty());
}

#[tokio::test]
async fn nothing_is_lost_when_the_network_and_the_server_break_and_a_key_tells_what_came_twice() {
    let mut web = Web::start(|_, _| ok("")).await;
    let proxy = Proxy::before(web.address()).await;
    let told = json!({
        "url": format!("http://{}/", proxy.address()), "batch": {"rows": 50}, "in_flight": 2, "timeout": "100ms",
        "retry": {"max_attempts": 100, "initial_interval": "2ms", "max_interval": "20ms"},
    });
    let batches: Vec<_> =
        (0..40).map(|b| batch(&(b * 500..b * 500 + 500).map(|n| json!({"n": n})).collect::<Vec<_>>())).collect();
    let mut graph = Graph::new("broken");
    graph.source("memory", Memory::rows(batches));
    graph.sink("http", config::<Http>(told));
    let engine = engine();
    let job = engine.run(graph);
    let breaking = async {
        until("requests arrive", || web.asked().len() > 30).await;
        proxy.set(Network::Cut);
        pass(Duration::from_millis(20)).await;
        let asked = web.asked().len();
        proxy.set(Network::Open);
        until("they arrive again", || web.asked().len() > asked + 30).await;
        proxy.set(Network::Stalls);
        pass(Duration::from_millis(150)).await;
        proxy.set(Network::Open);
        let asked = web.asked().len();
        until("they arrive again", || web.asked().len() > asked + 30).await;
        web.kill().await;
        web.start_again().await;
    };
    let (ended, ()) = tokio::join!(job, breaking);
    ended.unwrap();
    let all: BTreeSet<_> = numbers(&all_sent(&web)).into_iter().collect();
    assert!(all.into_iter().eq(0..20_000));
    let once: BTreeMap<_, _> = web.asked().iter().map(|a| (a.headers["idempotency-key"].clone(), sent(a))).collect();
    let mut rows = numbers(&once.into_values().flatten().collect::<Vec<_>>());
    rows.sort_unstable();
    assert!(rows.into_iter().eq(0..20_000));
}
