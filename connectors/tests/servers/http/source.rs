//! `http` as a source: pages, polls, positions, and a network that breaks.
#![expect(clippy::format_collect, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bourn_connectors::{Http, Memory};
use bourn_engine::api::Source;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::testing::conformance;
use serde_json::{Value, json};

use crate::support::drive::{config, engine, failure, faults, numbers, open, pass, read_all, rows, rows_of, until};
use crate::support::proxy::{Network, Proxy};
use crate::support::web::{Asked, Say, Web, answer, ok};

/// A parameter of the request.
fn parameter(asked: &Asked, name: &str) -> Option<usize> {
    let (_, query) = asked.path.split_once('?')?;
    let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
    pair.parse().ok()
}

/// Numbers, ten to a page.
fn page(page: usize, pages: usize) -> Vec<Value> {
    let end = if page < pages { 10 } else { 0 };
    (page * 10..page * 10 + end).map(|n| json!({"n": n})).collect()
}

/// Three pages, found by number, by a cursor or by a link, as the path says.
async fn paged() -> Web {
    Web::start(|asked, _| {
        if asked.path.starts_with("/number") {
            return ok(json!(page(parameter(asked, "page").unwrap() - 1, 3)).to_string());
        }
        let n = parameter(asked, "at").unwrap_or(0);
        let next = (n < 2).then_some(n + 1);
        if asked.path.starts_with("/cursor") {
            return ok(json!({"data": {"items": page(n, 3)}, "next": next}).to_string());
        }
        let link = next.map(|n| format!("</link?at={n}>; rel=\"next\"")).unwrap_or_default();
        answer(200, &[("Link", &link)], json!(page(n, 3)).to_string())
    })
    .await
}

fn by_number(web: &Web) -> Value {
    json!({"url": web.url("/number?x=1"), "pagination": {"page": {"parameter": "page"}}})
}

fn by_cursor(web: &Web) -> Value {
    json!({"url": web.url("/cursor"), "rows": "/data/items", "pagination": {"cursor": {"from": "/next", "parameter": "at"}}})
}

fn by_link(web: &Web) -> Value {
    json!({"url": web.url("/link"), "pagination": "next_link"})
}

#[tokio::test]
async fn every_page_is_read_once_however_it_is_found() {
    let web = paged().await;
    for told in [by_number(&web), by_cursor(&web), by_link(&web)] {
        let read = read_all(&config::<Http>(told.clone())).await.unwrap();
        assert!(numbers(&rows_of(&read)).into_iter().eq(0..30), "{told}");
    }
    assert!(web.asked().iter().any(|a| a.path == "/number?x=1&page=4"));
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    let web = paged().await;
    for told in [by_number(&web), by_cursor(&web), by_link(&web)] {
        conformance::source(config::<Http>(told)).rows(30).check(&Env::system()).await;
    }
    let web = Web::start(|asked, _| {
        if asked.path == "/csv" {
            let lines: String = (0..20_000).map(|n| format!("{n},\"a\nb\"\n")).collect();
            return ok(format!("n,text\n{lines}x\n"));
        }
        let lines: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        ok(format!("{lines}{{\n"))
    })
    .await;
    let csv = json!({"url": web.url("/csv"), "format": "csv"});
    conformance::source(config::<Http>(csv)).rows(20_001).check(&Env::system()).await;
    for format in ["json_lines", "json", "lines"] {
        let lines = json!({"url": web.url("/lines"), "format": format});
        conformance::source(config::<Http>(lines)).rows(20_001).check(&Env::system()).await;
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_read_again() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let web = Web::start(move |asked, _| {
        let now = now.load(Ordering::SeqCst);
        let tag = format!("\"{now}\"");
        if asked.headers.get("if-none-match") == Some(&tag) {
            return answer(304, &[("ETag", &tag)], "");
        }
        answer(200, &[("ETag", &tag)], json!([{"n": now}]).to_string())
    })
    .await;
    let http: Http = config(json!({"url": web.url("/"), "every": "5ms", "schema": {"n": "bigint"}}));
    let mut source = open(&http, None).await.unwrap();
    assert_eq!(rows(&source.read().await.unwrap().unwrap()), [json!({"n": 1})]);
    let reading = tokio::join!(source.read(), async {
        until("it asks again and again", || web.asked().len() > 5).await;
        version.store(2, Ordering::SeqCst);
    });
    assert_eq!(rows(&reading.0.unwrap().unwrap()), [json!({"n": 2})]);
}

#[tokio::test]
async fn a_poll_with_a_cursor_goes_on_behind_the_one_before_also_after_a_restart() {
    // A log of numbers that grows: what stands behind `at`, and how far that is.
    let web = Web::start(|asked, before| {
        let (at, now) = (parameter(asked, "at").unwrap_or(0), [3, 5, 5, 7][before.min(3)]);
        let items: Vec<_> = (at..now).map(|n| json!({"n": n})).collect();
        ok(json!({"items": items, "last": now}).to_string())
    })
    .await;
    let told = json!({
        "url": web.url("/"), "rows": "/items", "every": "5ms", "schema": {"n": "bigint"},
        "pagination": {"cursor": {"from": "/last", "parameter": "at"}},
    });
    let http: Http = config(told);
    let mut source = open(&http, None).await.unwrap();
    let first = source.read().await.unwrap().unwrap();
    assert_eq!(numbers(&rows(&first)), [0, 1, 2]);
    assert_eq!(numbers(&rows(&source.read().await.unwrap().unwrap())), [3, 4]);
    // Nothing is new then, and with it the round is over; the next one begins where it was.
    assert_eq!(numbers(&rows(&source.read().await.unwrap().unwrap())), [5, 6]);
    let mut again = open(&http, Some(&first.position)).await.unwrap();
    assert_eq!(numbers(&rows(&again.read().await.unwrap().unwrap())), [3, 4, 5, 6]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_gone_on_with_where_it_broke() {
    let lines: Vec<String> = (0..30_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let text = lines.concat();
    let web = Web::start(move |_, before| {
        let cut = text.len() * (before + 1) / 5 + 7;
        let mut whole = ok(&text);
        if let Some(Say::Bytes(body)) = whole.last_mut() {
            body.truncate(cut);
        }
        whole
    })
    .await;
    let told = json!({
        "url": web.url("/"), "format": "json_lines", "schema": {"n": "bigint"}, "retry": {"initial_interval": "1ms"},
    });
    let read = read_all(&config::<Http>(told)).await.unwrap();
    assert!(numbers(&rows_of(&read)).into_iter().eq(0..30_000));
    assert_eq!((faults(&read), web.asked().len()), (Vec::new(), 5));
}

#[tokio::test]
async fn what_changes_while_it_is_read_ends_the_job_and_is_no_mixture() {
    let text: String = (0..30_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let web = Web::start(move |_, before| {
        let mut whole = answer(200, &[("ETag", if before == 0 { "\"a\"" } else { "\"b\"" })], &text);
        if let Some(Say::Bytes(body)) = whole.last_mut().filter(|_| before == 0) {
            body.truncate(text.len() / 2);
        }
        whole
    })
    .await;
    let told = json!({
        "url": web.url("/"), "format": "json_lines", "schema": {"n": "bigint"}, "retry": {"initial_interval": "1ms"},
    });
    let told = failure(&config::<Http>(told)).await;
    assert!(told.contains("has changed while it was read"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_and_not_before_it_says() {
    let web = Web::start(|_, before| match before {
        0 => answer(503, &[("Retry-After", "1")], "busy"),
        1 => answer(429, &[("Retry-After", "0")], ""),
        _ => ok("[{\"n\":1}]"),
    })
    .await;
    let told = json!({"url": web.url("/"), "schema": {"n": "bigint"}, "retry": {"initial_interval": "1ms"}});
    let start = tokio::time::Instant::now();
    assert_eq!(rows_of(&read_all(&config::<Http>(told)).await.unwrap()).len(), 1);
    assert!(start.elapsed().as_millis() >= 1_000);
}

#[tokio::test]
async fn nothing_is_lost_or_read_twice_when_the_network_and_the_server_break() {
    let mut web = Web::start(|asked, _| {
        let at = parameter(asked, "at").unwrap_or(0);
        let rows: Vec<_> = (at * 100..at * 100 + 100).map(|n| json!({"n": n, "text": "x".repeat(500)})).collect();
        let next = (at < 49).then_some(at + 1);
        ok(json!({"rows": rows, "next": next}).to_string())
    })
    .await;
    let proxy = Proxy::before(web.address()).await;
    let told = json!({
        "url": format!("http://{}/", proxy.address()), "rows": "/rows", "schema": {"n": "bigint", "text": "text"},
        "pagination": {"cursor": {"from": "/next", "parameter": "at"}}, "timeout": "200ms",
        "retry": {"max_attempts": 100, "initial_interval": "2ms", "max_interval": "20ms"},
    });
    let mut graph = Graph::new("broken");
    graph.source("http", config::<Http>(told));
    let (memory, collected) = Memory::collect();
    graph.sink("memory", memory);
    let engine = engine();
    let job = engine.run(graph);
    let breaking = async {
        let more = |rows: usize| {
            let collected = collected.clone();
            async move { until("rows arrive", || collected.count() >= rows).await }
        };
        more(300).await;
        proxy.set(Network::Cut);
        pass(Duration::from_millis(20)).await;
        let asked = web.asked().len();
        proxy.set(Network::Open);
        until("it asks again", || web.asked().len() > asked).await;
        more(900).await;
        proxy.set(Network::Stalls);
        pass(Duration::from_millis(250)).await;
        proxy.set(Network::Open);
        more(1_500).await;
        web.kill().await;
        web.start_again().await;
    };
    let (ended, ()) = tokio::join!(job, breaking);
    ended.unwrap();
    let found: Vec<_> = collected.rows().unwrap().into_iter().map(Value::Object).collect();
    assert!(numbers(&found).into_iter().eq(0..5_000));
}
