//! Compressed, rotated and partitioned objects in a real server, and what `validate --connect` asks it.

use bourn_engine::api::Side;
use bourn_engine::diagnostic::Key;

use super::*;

/// The store that a spec says, in the bucket of the server.
fn said(weed: &Weed, key: &str, more: &Value) -> ObjectStore {
    let mut config = json!({"url": format!("s3://data/{key}"), "options": {
        "endpoint": format!("http://{}", weed.address), "access_key_id": "writer", "secret_access_key": SECRET,
        "timeout": "3s",
    }});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_keeps_the_promises_with_compressed_rotated_and_partitioned_objects() {
    let weed = Weed::start().await;
    for (ending, more) in [
        ("jsonl.gz", json!({})),
        ("csv.zst", json!({})),
        ("jsonl", json!({"compression": "zstd"})),
        ("avro", json!({"compression": "zstd"})),
        ("arrow", json!({})),
    ] {
        // Large enough for several parts.
        write(said(&weed, &format!("in/a.{ending}"), &more), 12).await.unwrap();
        let lines = if ending == "jsonl" { more.clone() } else { json!({}) };
        let source = said(&weed, &format!("in/*.{ending}"), &lines);
        conformance::source(source).rows(24_000).check(&Env::system()).await;
    }
    for (name, key, more) in [
        ("rotated", "{number}.jsonl.gz", json!({"rotate": {"rows": 700}})),
        ("columns", "{number}.parquet", json!({"rotate": {"size": "64KiB"}})),
    ] {
        let target = |n: usize| {
            let back = said(&weed, &format!("{name}/{n}/*.{}", key.split_once('.').unwrap().1), &json!({}));
            let back = std::sync::Arc::new(back);
            Target::new(said(&weed, &format!("{name}/{n}/{key}"), &more)).read_back(move || {
                let back = back.clone();
                async move {
                    match read(&back).await {
                        Err(e) if e.message().starts_with("no object matches") => Ok(Vec::new()),
                        read => read,
                    }
                }
            })
        };
        conformance::sink(target).check(&Env::system()).await;
    }
    let by = json!({"format": "json", "partition_by": ["part"], "compression": "gzip"});
    let rows: Vec<_> = (0..2_000).map(|n| json!({"n": n, "part": format!("p {}", n % 7)})).collect();
    let mut sink = said(&weed, "parted", &by).sink(sink_context(batch(&rows).schema())).await.unwrap();
    sink.write(&batch(&rows)).await.unwrap();
    sink.prepare(1).await.unwrap();
    sink.finish().await.unwrap();
    let mut found = read(&said(&weed, "parted/", &json!({"format": "json"}))).await.unwrap();
    found.sort_by_key(|row| row["n"].as_i64());
    assert_eq!(found, rows);
    assert_eq!(said(&weed, "parted/**/*.jsonl.gz", &json!({})).splits(&context()).await.unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_told_a_server_that_does_not_let_it_in_and_nothing_is_changed() {
    let weed = Weed::start().await;
    let schema = batch(&some_rows(0, 1)).schema();
    let reach = |store: ObjectStore| {
        let schema = schema.clone();
        async move { store.reach(Side::Sink(&schema), &context()).await }
    };
    reach(in_data(&weed, "fresh/{lane}.jsonl")).await.unwrap();
    assert!(read(&in_data(&weed, "fresh/0.jsonl")).await.is_err());
    let stranger = in_data(&weed, "a.jsonl").with_option("secret_access_key", "not-the-secret");
    let Problems(problems) = reach(stranger).await.unwrap_err();
    assert!(problems[0].message.starts_with("s3://data/a.jsonl: "), "{problems:?}");
    assert_eq!(problems[0].path, [Key::from("url")]);
    assert!(!format!("{problems:?}").contains("not-the-secret"));
    let nowhere = b"HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\nConnection: close\r\n\r\n\
                    <Error><Code>NoSuchBucket</Code>\n   </Error>";
    let Problems(problems) = reach(at(liar(nowhere).await, "a.jsonl")).await.unwrap_err();
    assert_eq!(problems[0].message, "s3://data/a.jsonl: there is no such bucket");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_back_with_what_was_written_beside_it() {
    let weed = Weed::start().await;
    let context = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
    for (key, more) in [
        ("one/a.jsonl", json!({})),
        ("many/a-{number}.csv.gz", json!({"rotate": {"rows": 2}})),
        ("parted", json!({"format": "avro", "partition_by": ["part"]})),
        ("whole/a.parquet", json!({"if_exists": "fail"})),
    ] {
        let target = said(&weed, key, &more);
        let rows: Vec<_> = (0..6).map(|n| json!({"n": n, "part": format!("p{}", n % 2)})).collect();
        let schema = batch(&rows).schema();
        assert!(target.read_back(&schema, &context).await.unwrap().is_empty(), "{key}");
        let beside = target.beside("abc", &context).unwrap();
        // Written again with the same mark, it is there once.
        for (target, rows) in [(&target, &rows[..4]), (&beside, &rows[4..]), (&beside, &rows[4..])] {
            let mut sink = target.sink(sink_context(schema.clone())).await.unwrap();
            sink.write(&batch(rows)).await.unwrap();
            sink.prepare(1).await.unwrap();
            sink.finish().await.unwrap();
        }
        let mut found = Vec::new();
        for source in target.read_back(&schema, &context).await.unwrap() {
            found.extend(read(&source).await.unwrap());
        }
        found.sort_by_key(|row| row["n"].as_i64());
        let numbers: Vec<_> = found.iter().map(|row| row["n"].as_i64().unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "{key}");
    }
}
