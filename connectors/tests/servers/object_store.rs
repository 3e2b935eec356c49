//! Objects in a real S3 server: `SeaweedFS`, which keeps them over a restart and checks who asks.
#![expect(clippy::disallowed_methods, reason = "a real server in the real world, and faults that last a while")]

mod checkpoints;
mod spread;

use std::time::Duration;

use bourn_connectors::object_store::{IfExists, ObjectStore};
use bourn_engine::api::{BoxSource, ConnectContext, Connector, Sink as _, SinkContext, Source as _, SourceContext};
use bourn_engine::data::json::row_value;
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::testing::conformance::{self, Target};
use bourn_engine::testing::harness::batch;
use bourn_engine::{Error, Kind, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::proxy::{Network, Proxy};
use crate::support::weed::{SECRET, Weed};

fn in_data(weed: &Weed, key: &str) -> ObjectStore {
    at(weed.address, key)
}

fn at(address: std::net::SocketAddr, key: &str) -> ObjectStore {
    ObjectStore::new(format!("s3://data/{key}"))
        .with_option("endpoint", format!("http://{address}"))
        .with_option("access_key_id", "writer")
        .with_option("secret_access_key", SECRET)
        .with_option("timeout", "3s")
}

fn context() -> ConnectContext {
    ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 }
}

async fn open(store: &ObjectStore) -> Result<BoxSource> {
    let schema = store.schema(&context()).await.map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
    let splits = store.splits(&context()).await?.into_iter().map(|s| (s, None)).collect();
    store.source(SourceContext { env: Env::system(), id: "it".into(), splits, schema }).await
}

async fn rows_of(source: &mut BoxSource) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    while let Some(chunk) = source.read().await? {
        for row in 0..chunk.records.num_rows() {
            rows.push(Value::Object(row_value(&chunk.records, row)?));
        }
    }
    Ok(rows)
}

async fn read(store: &ObjectStore) -> Result<Vec<Value>> {
    rows_of(&mut open(store).await?).await
}

fn some_rows(from: usize, count: usize) -> Vec<Value> {
    (from..from + count).map(|n| json!({"n": n, "text": format!("{n:0>500}")})).collect()
}

fn sink_context(schema: arrow::datatypes::SchemaRef) -> SinkContext {
    SinkContext::new(Env::system(), "it", schema)
}

/// Writes so many batches of 2,000 rows, each an epoch of its own.
async fn write(store: ObjectStore, batches: usize) -> Result<()> {
    let mut sink = store.sink(sink_context(batch(&some_rows(0, 1)).schema())).await?;
    for n in 0..batches {
        sink.write(&batch(&some_rows(n * 2_000, 2_000))).await?;
        sink.prepare(n as u64 + 1).await?;
    }
    sink.finish().await
}

/// That the rows of [`write`] are there, each once and in order.
async fn is_whole(store: &ObjectStore, batches: usize) {
    let rows = read(store).await.unwrap();
    let numbers: Vec<_> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..batches as u64 * 2_000), "{} rows", numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_keeps_the_promises_of_a_source_and_a_sink() {
    let weed = Weed::start().await;
    for ending in ["jsonl", "csv", "parquet"] {
        // Large enough for several parts and ranges.
        write(in_data(&weed, &format!("in/a.{ending}")), 12).await.unwrap();
        write(in_data(&weed, &format!("in/b.{ending}")), 1).await.unwrap();
        conformance::source(in_data(&weed, &format!("in/*.{ending}"))).rows(26_000).check(&Env::system()).await;
        let address = weed.address;
        let target = |n: usize| {
            let key = format!("out/{n}.{ending}");
            Target::new(at(address, &key)).read_back(move || {
                let store = at(address, &key);
                async move {
                    match read(&store).await {
                        Err(e) if e.message().starts_with("there is no object") => Ok(Vec::new()),
                        read => read,
                    }
                }
            })
        };
        conformance::sink(target).check(&Env::system()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_is_killed_and_started_again() {
    let mut weed = Weed::start().await;
    let store = in_data(&weed, "restart.jsonl");
    let mut sink = store.sink(sink_context(batch(&some_rows(0, 1)).schema())).await.unwrap();
    let (half, half_written) = tokio::sync::oneshot::channel();
    let (killed, is_killed) = tokio::sync::oneshot::channel();
    let writing = tokio::task::spawn(async move {
        for n in 0..20 {
            sink.write(&batch(&some_rows(n * 2_000, 2_000))).await?;
            sink.prepare(n as u64 + 1).await?;
        }
        half.send(()).unwrap();
        is_killed.await.unwrap();
        for n in 20..40 {
            sink.write(&batch(&some_rows(n * 2_000, 2_000))).await?;
            sink.prepare(n as u64 + 1).await?;
        }
        sink.finish().await
    });
    half_written.await.unwrap();
    weed.server.kill().await;
    killed.send(()).unwrap();
    weed.server.start_again().await;
    writing.await.unwrap().unwrap();
    is_whole(&store, 40).await;

    let mut source = open(&store).await.unwrap();
    source.read().await.unwrap().unwrap();
    weed.server.kill().await;
    let reading = tokio::task::spawn(async move { rows_of(&mut source).await });
    weed.server.start_again().await;
    let rows = reading.await.unwrap().unwrap();
    assert_eq!(rows.last().unwrap()["n"], 79_999);
}

/// An outage has a length: of a network that stalls there is nothing to see that one could wait for.
async fn outage(proxy: &Proxy) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.set(Network::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_network_is_cut_or_stalls() {
    let weed = Weed::start().await;
    let proxy = Proxy::before(weed.address).await;
    for (network, ending) in [(Network::Cut, "jsonl"), (Network::Stalls, "parquet")] {
        let key = format!("network.{ending}");
        let store = at(proxy.address(), &key);
        let mut sink = store.sink(sink_context(batch(&some_rows(0, 1)).schema())).await.unwrap();
        for n in 0..20 {
            if n == 10 {
                proxy.set(network);
            }
            let rows = batch(&some_rows(n * 2_000, 2_000));
            let (written, ()) = tokio::join!(sink.write(&rows), outage(&proxy));
            written.unwrap();
        }
        proxy.set(network);
        let (finished, ()) = tokio::join!(sink.finish(), outage(&proxy));
        finished.unwrap();
        is_whole(&in_data(&weed, &key), 20).await;

        let mut source = open(&store).await.unwrap();
        let first = source.read().await.unwrap().unwrap().records.num_rows();
        proxy.set(network);
        let (rest, ()) = tokio::join!(rows_of(&mut source), outage(&proxy));
        assert_eq!(first + rest.unwrap().len(), 40_000, "{network:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_told_at_once_and_without_a_key() {
    let weed = Weed::start().await;
    let told = |store: ObjectStore| async move {
        let Problems(problems) = store.schema(&context()).await.unwrap_err();
        let sink = store.sink(sink_context(batch(&some_rows(0, 1)).schema())).await;
        let written = async {
            let mut sink = sink?;
            sink.write(&batch(&some_rows(0, 1))).await?;
            sink.prepare(1).await?;
            sink.finish().await
        };
        let Err(error) = written.await else { panic!("{store:?} was written") };
        for text in [format!("{problems:?}"), format!("{error:?}")] {
            assert!(!text.contains(SECRET) && !text.contains("not-the-secret"), "{text}");
        }
        (problems[0].message.clone(), error)
    };
    let (planned, error) = told(in_data(&weed, "a.jsonl").with_option("secret_access_key", "not-the-secret")).await;
    assert_eq!(error.kind(), Kind::Permission, "{error}");
    assert!(planned.contains("s3://data/a.jsonl"), "{planned}");
    let guest =
        in_data(&weed, "a.jsonl").with_option("access_key_id", "guest").with_option("secret_access_key", "guest");
    assert_eq!(told(guest).await.1.kind(), Kind::Permission);
    let nobody = in_data(&weed, "a.jsonl").with_option("access_key_id", "nobody");
    assert_eq!(told(nobody).await.1.kind(), Kind::Permission);
    let mut elsewhere = in_data(&weed, "a.jsonl");
    elsewhere.url = "s3://nowhere/a.jsonl".into();
    let (planned, error) = told(elsewhere).await;
    // Who may not create buckets is not told which there are.
    assert!(planned.contains("nowhere") && error.kind() == Kind::Permission, "{planned}; {error}");
    let body = b"HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\nConnection: close\r\n\r\n\
                 <Error><Code>NoSuchBucket</Code>\n   </Error>";
    let error = at(liar(body).await, "*.jsonl").splits(&context()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::NotFound, "s3://data/*.jsonl: there is no such bucket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_that_create_an_object_do_not_both_succeed() {
    let weed = Weed::start().await;
    let fails = || {
        let mut store = in_data(&weed, "once.jsonl");
        store.if_exists = IfExists::Fail;
        store
    };
    let schema = batch(&some_rows(0, 1)).schema();
    let (mut a, mut b) =
        (fails().sink(sink_context(schema.clone())).await.unwrap(), fails().sink(sink_context(schema)).await.unwrap());
    a.write(&batch(&some_rows(1, 1))).await.unwrap();
    b.write(&batch(&some_rows(2, 1))).await.unwrap();
    a.prepare(1).await.unwrap();
    b.prepare(1).await.unwrap();
    a.finish().await.unwrap();
    let error = b.finish().await.unwrap_err();
    assert!(error.message().ends_with("is there already, and `if_exists: fail` keeps it"), "{error}");
    assert_eq!(read(&in_data(&weed, "once.jsonl")).await.unwrap(), some_rows(1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_job_that_fails_are_thrown_away() {
    let weed = Weed::start().await;
    let mut store = in_data(&weed, "failed.jsonl");
    store.part_size = Size(5 << 20);
    let mut sink = store.sink(sink_context(batch(&some_rows(0, 1)).schema())).await.unwrap();
    for n in 0..20 {
        sink.write(&batch(&some_rows(n * 2_000, 2_000))).await.unwrap();
    }
    let uploads = || weed.uploads();
    assert_eq!(uploads().await, 1);
    drop(sink);
    let start = tokio::time::Instant::now();
    while uploads().await > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the upload is still there");
    }
    assert!(read(&store).await.unwrap_err().message().starts_with("there is no object"));
}

/// A server whose answers are what `answer` says of the path, whatever is asked.
async fn liar(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn(async move {
                let mut request = vec![0; 16 << 10];
                while let Ok(1..) = stream.read(&mut request).await {
                    if request.starts_with(b"HEAD") {
                        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\
                                     Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n\r\n";
                        let _ = stream.write_all(head).await;
                    } else {
                        let _ = stream.write_all(answer).await;
                        break;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn half_answers_and_lies_are_errors_and_never_rows() {
    let head = "HTTP/1.1 206 Partial Content\r\nETag: \"x\"\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n";
    let lines = "{\"n\":123}\n".repeat(100);
    let told = [
        // Less than it says, in good order.
        format!("{head}Content-Length: 8\r\nContent-Range: bytes 0-999/1000\r\n\r\n{{\"n\":1}}\n").leak().as_bytes(),
        // All of it, of an object that has become larger.
        format!("{head}Content-Length: 1000\r\nContent-Range: bytes 0-999/2000\r\n\r\n{lines}").leak().as_bytes(),
        // The connection ends in the middle of the body.
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\nETag: \"x\"\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n\r\n{\"n\":1}\n".as_slice(),
        // The whole object, whatever range was asked for.
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nETag: \"x\"\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n\r\n{\"n\":1}\n",
        // Another range.
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 8\r\nContent-Range: bytes 8-15/1000\r\nETag: \"x\"\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n\r\n{\"n\":1}\n",
        // Another size than a moment ago.
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 8\r\nContent-Range: bytes 0-7/8\r\nETag: \"x\"\r\nLast-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\n\r\n{\"n\":1}\n",
        b"nothing of HTTP\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ]
    .map(|answer| async move {
        let store = at(liar(answer).await, "a.jsonl");
        let Problems(problems) = store.schema(&context()).await.unwrap_err();
        assert!(problems[0].message.contains("s3://data/a.jsonl"), "{problems:?}");
    });
    // At once, since each is asked several times.
    futures::future::join_all(told).await;
}
