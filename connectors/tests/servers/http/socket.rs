//! `websocket`: messages in and out, and servers that flood, hang, or go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bourn_connectors::{Memory, Websocket};
use bourn_engine::api::{Sink, Source};
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::testing::conformance::{self, Target};
use bourn_engine::testing::harness::rows::batch;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::support::drive::{
    config, engine, failure, faults, numbers, open, pass, read_all, rows, rows_of, sink, until, write,
};
use crate::support::proxy::{Network, Proxy};
use crate::support::served::Served;

fn websocket(url: &str, more: &Value) -> Websocket {
    let mut told = json!({"url": url, "timeout": "200ms", "ping": "50ms", "retry": {"initial_interval": "1ms", "max_attempts": 3}});
    told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config(told)
}

fn row(n: usize) -> Message {
    Message::text(json!({"n": n}).to_string())
}

/// Reads until the other side goes, so that pings are answered.
async fn linger(mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn messages_are_rows_until_the_server_closes_and_what_does_not_fit_is_rejected_alone() {
    let server = Served::start(|mut socket, _| async move {
        let asked = socket.next().await.unwrap().unwrap();
        for message in [
            asked,
            Message::text("[{\"n\":2},{\"n\":\"x\"}]"),
            Message::binary(b"{\"n\":3}".to_vec()),
            Message::binary(vec![0xff]),
            Message::text("hello"),
            row(4),
        ] {
            socket.send(message).await.unwrap();
        }
        socket.close(None).await.unwrap();
        linger(socket).await;
    })
    .await;
    let told = json!({"subscribe": ["{\"n\":1}"], "schema": {"n": "bigint"}, "until_closed": true});
    let read = read_all(&websocket(&server.url(), &told)).await.unwrap();
    assert_eq!(numbers(&rows_of(&read)), [1, 2, 3, 4]);
    let mut said = faults(&read);
    said.sort();
    assert_eq!(said.len(), 3);
    assert!(said[0].starts_with(&format!("ws://{}/a, message 2, field `n`", server.address)), "{said:?}");
    let texts = json!({"subscribe": ["a\nb"], "until_closed": true});
    let read = read_all(&websocket(&server.url(), &texts)).await.unwrap();
    assert_eq!((rows_of(&read).len(), &rows_of(&read)[0], faults(&read).len()), (5, &json!({"data": "a\nb"}), 1));
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source_and_of_a_sink() {
    let server = Served::start(|mut socket, _| async move {
        for n in 0..3_000 {
            if socket.send(row(n)).await.is_err() {
                return;
            }
        }
        let _gone = socket.close(None).await;
        linger(socket).await;
    })
    .await;
    let told = json!({"schema": {"n": "bigint"}, "until_closed": true});
    conformance::source(websocket(&server.url(), &told)).rows(3_000).check(&Env::system()).await;
    let servers = Arc::new(Mutex::new(Vec::new()));
    let target = |_| {
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (listener, taken) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), seen.clone());
        listener.set_nonblocking(true).unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Text(text) = message {
                        taken.lock().unwrap().push(serde_json::from_str(&text).unwrap());
                    }
                }
            }
        });
        servers.lock().unwrap().push(tasks);
        Target::new(websocket(&url, &json!({}))).read_back(move || {
            let rows = seen.lock().unwrap().clone();
            async { Ok(rows) }
        })
    };
    conformance::sink(target).check(&Env::system()).await;
}

#[tokio::test]
async fn a_flood_waits_outside() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let server = Served::start(move |mut socket, _| {
        let counted = counted.clone();
        async move {
            while socket.send(Message::text(format!("{{\"n\":1}}{}", " ".repeat(60_000)))).await.is_ok() {
                counted.fetch_add(60_000, Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut source = open(&websocket(&server.url(), &json!({"schema": {"n": "bigint"}})), None).await.unwrap();
    for _ in 0..3 {
        assert!((1..=1_024).contains(&source.read().await.unwrap().unwrap().records.num_rows()));
    }
    let (mut before, mut quiet) = (0, 0);
    while quiet < 4 {
        pass(Duration::from_millis(30)).await;
        let now = sent.load(Ordering::Relaxed);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        assert!(before < 64 << 20, "the source swallowed {before} bytes");
    }
    assert_eq!(source.read().await.unwrap().unwrap().records.num_columns(), 1);
}

#[tokio::test]
async fn a_connection_that_ends_breaks_or_falls_silent_is_made_anew() {
    let server = Served::start(|mut socket, n| async move {
        socket.send(row(n)).await.unwrap();
        match n {
            0 => drop(socket),
            1 => {
                socket.close(None).await.unwrap();
                linger(socket).await;
            }
            // It answers no ping, since it does not read.
            2 => std::future::pending().await,
            _ => linger(socket).await,
        }
    })
    .await;
    let mut source = open(&websocket(&server.url(), &json!({"schema": {"n": "bigint"}})), None).await.unwrap();
    for n in 0..4 {
        assert_eq!(numbers(&rows(&source.read().await.unwrap().unwrap())), [n]);
    }
    // One that answers pings stays.
    let quiet = source.read();
    tokio::select! {
        chunk = quiet => panic!("{chunk:?}"),
        () = pass(Duration::from_millis(500)) => {}
    }
    assert_eq!(server.count.load(Ordering::SeqCst), 4);
}

/// What is said of a server that answers so.
async fn told_of(answer: &'static [u8], endless: bool) -> String {
    let server = Served::plain(None, move |mut stream, _| async move {
        let _request = stream.read(&mut [0; 4096]).await;
        while stream.write_all(answer).await.is_ok() && endless {}
        if !answer.is_empty() && !endless {
            let _closed = stream.shutdown().await;
        }
        let _until_it_goes = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let said = failure(&websocket(&server.url(), &json!({"headers": {"X-Key": "SECRET"}}))).await;
    assert!(!said.contains("SECRET") && said.contains(&format!("ws://{}/a", server.address)), "{said}");
    said
}

#[tokio::test]
async fn a_server_that_does_not_open_is_told() {
    assert!(told_of(b"", false).await.contains("after 3 attempts: "));
    assert!(told_of(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nwho?", false).await.contains("403"));
    assert!(told_of(b"HTTP/1.1 302 Go\r\nLocation: /SECRET\r\n\r\n", false).await.contains("a redirect"));
    told_of(b"HTTP/1.1 500 No\r\n\r\n", false).await;
    told_of(b"HTTP/1.1 101 Yes\r\n\r\n", false).await;
    told_of(b"SSH-2.0-OpenSSH\r\n", false).await;
    told_of(b"HTTP/1.1 101 Yes\r\nX", true).await;
    let gone = Served::plain(None, |_, _| async {}).await;
    let url = gone.url();
    drop(gone);
    assert!(failure(&websocket(&url, &json!({}))).await.contains("after 3 attempts"));
}

#[tokio::test]
async fn messages_that_are_too_large_or_no_text_end_the_job_behind_those_before_them() {
    let large = Served::start(|mut socket, _| async move {
        socket.send(row(1)).await.unwrap();
        let _gone = socket.send(Message::text("x".repeat(200_000))).await;
        linger(socket).await;
    })
    .await;
    let told = json!({"schema": {"n": "bigint"}, "message_max": "100KB"});
    let mut source = open(&websocket(&large.url(), &told), None).await.unwrap();
    assert_eq!(numbers(&rows(&source.read().await.unwrap().unwrap())), [1]);
    let said = source.read().await.unwrap_err();
    assert!(said.message().contains("a message has more than 100000 bytes (`message_max`)"), "{said}");
    // A text frame that is no UTF-8, and a frame with a reserved bit.
    for frame in [&b"\x81\x01\xff"[..], b"\xf1\x00"] {
        let broken = Served::plain(None, move |stream, _| async move {
            let mut socket = accept_async(stream).await.unwrap();
            let _gone = socket.get_mut().write_all(frame).await;
            linger(socket).await;
        })
        .await;
        assert!(failure(&websocket(&broken.url(), &json!({}))).await.contains("after 3 attempts"));
    }
}

#[tokio::test]
async fn a_batch_is_done_when_the_server_has_read_it_and_is_sent_again_if_it_went_before() {
    let seen: Arc<Mutex<Vec<Vec<Value>>>> = Arc::new(Mutex::new(vec![Vec::new(); 3]));
    let taken = seen.clone();
    let server = Served::start(move |mut socket, n| {
        let taken = taken.clone();
        async move {
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    let mut taken = taken.lock().unwrap();
                    taken[n].push(serde_json::from_str(&text).unwrap());
                    // It goes in the middle of the batch.
                    if n < 2 && taken[n].len() == 5 * (n + 1) {
                        return;
                    }
                }
            }
        }
    })
    .await;
    let some: Vec<_> = (0..20).map(|n| json!({"n": n})).collect();
    let websocket = websocket(&server.url(), &json!({}));
    let mut open = sink(&websocket, &some).await.unwrap();
    open.write(&batch(&some)).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!((seen[0].len(), seen[1].len()), (5, 10));
    assert!(numbers(&seen[2]).into_iter().eq(0..20));
}

#[tokio::test]
async fn a_server_that_never_confirms_or_only_talks_does_not_hold_the_job() {
    let some: Vec<_> = (0..2_000).map(|n| json!({"n": n, "text": "x".repeat(1_000)})).collect();
    let mute = Served::start(|socket, _| async move {
        let _held = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let said = format!("{:?}", write(&websocket(&mute.url(), &json!({})), &some).await.unwrap_err());
    assert!(said.contains("nothing came for 200ms") && !said.contains("SECRET"), "{said}");
    // An echo that says everything back: both sides would wait for each other if nobody read.
    let echo = Served::start(|mut socket, _| async move {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    assert_eq!(write(&websocket(&echo.url(), &json!({"timeout": "20s"})), &some).await.unwrap(), []);
}

#[tokio::test]
async fn with_rows_confirmed_by_batch_nothing_is_lost_when_network_and_server_break() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let serve = {
        let seen = seen.clone();
        move |mut socket: WebSocketStream<TcpStream>, _: usize| {
            let seen = seen.clone();
            async move {
                while let Some(Ok(message)) = socket.next().await {
                    if let Message::Text(text) = message {
                        seen.lock().unwrap().push(serde_json::from_str(&text).unwrap());
                    }
                }
            }
        }
    };
    let mut server = Served::start(serve.clone()).await;
    let address = server.address;
    let proxy = Proxy::before(address).await;
    let retry = json!({"max_attempts": 100, "initial_interval": "2ms", "max_interval": "20ms"});
    let batches: Vec<_> =
        (0..300).map(|b| batch(&(b * 50..b * 50 + 50).map(|n| json!({"n": n})).collect::<Vec<_>>())).collect();
    let mut graph = Graph::new("broken");
    graph.source("memory", Memory::rows(batches));
    graph.sink("websocket", websocket(&format!("ws://{}/", proxy.address()), &json!({"retry": retry})));
    let engine = engine();
    let count = || seen.lock().unwrap().len();
    let breaking = async {
        until("rows arrive", || count() > 500).await;
        proxy.set(Network::Cut);
        pass(Duration::from_millis(20)).await;
        let had = count();
        proxy.set(Network::Open);
        until("more arrive", || count() > had + 500).await;
        proxy.set(Network::Stalls);
        pass(Duration::from_millis(300)).await;
        proxy.set(Network::Open);
        let had = count();
        until("more arrive", || count() > had + 500).await;
        server.tasks.shutdown().await;
        server = Served::start_at(Some(address), serve).await;
    };
    let (ended, ()) = tokio::join!(engine.run(graph), breaking);
    ended.unwrap();
    let all: BTreeSet<_> = numbers(&seen.lock().unwrap()).into_iter().collect();
    assert!(all.into_iter().eq(0..15_000));
}

#[tokio::test]
async fn a_source_comes_back_when_the_network_and_the_server_break() {
    let next = Arc::new(AtomicUsize::new(0));
    let serve = {
        let next = next.clone();
        move |mut socket: WebSocketStream<TcpStream>, _: usize| {
            let next = next.clone();
            async move {
                while socket.send(row(next.fetch_add(1, Ordering::SeqCst))).await.is_ok() {
                    pass(Duration::from_millis(1)).await;
                }
            }
        }
    };
    let mut server = Served::start(serve.clone()).await;
    let address = server.address;
    let proxy = Proxy::before(address).await;
    let retry = json!({"max_attempts": 100, "initial_interval": "2ms", "max_interval": "20ms"});
    let told = json!({"schema": {"n": "bigint"}, "retry": retry});
    let mut source = open(&websocket(&format!("ws://{}/", proxy.address()), &told), None).await.unwrap();
    let mut seen = Vec::new();
    for fault in 0..4 {
        let had = seen.len();
        while seen.len() < had + 20 {
            seen.extend(numbers(&rows(&source.read().await.unwrap().unwrap())));
        }
        match fault {
            0 => proxy.set(Network::Cut),
            1 => proxy.set(Network::Stalls),
            2 => {
                server.tasks.shutdown().await;
                server = Served::start_at(Some(address), serve.clone()).await;
            }
            _ => {}
        }
        if fault == 0 {
            pass(Duration::from_millis(20)).await;
        }
        if fault == 1 {
            // Silent for longer than a ping and its answer may take.
            tokio::select! {
                chunk = source.read() => seen.extend(numbers(&rows(&chunk.unwrap().unwrap()))),
                () = pass(Duration::from_millis(400)) => {}
            }
        }
        proxy.set(Network::Open);
    }
    // No row comes twice, and their order stays.
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

#[tokio::test]
async fn what_a_spec_can_not_open_is_told_before_the_job() {
    let problem = async |url: &str, more: Value| failure(&websocket(url, &more)).await;
    assert!(problem("http://h/", json!({})).await.contains("begins with `ws://` or `wss://`"));
    let said = problem("ws://SECRET:SECRET@h/", json!({})).await;
    assert!(said.contains("Authorization") && !said.contains("SECRET"), "{said}");
    let some = [json!({"n": 1})];
    let told = write(&websocket("ws://h/", &json!({"until_closed": true})), &some).await.unwrap_err();
    assert!(told.message().contains("`until_closed` is for a source"));
}
