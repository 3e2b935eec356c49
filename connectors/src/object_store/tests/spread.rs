//! Objects that are compressed, rotated and in folders, out and in again; what is known of them before anyone asks.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::Sink as _;
use futures::TryStreamExt as _;

use super::*;

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    batch_of(&range.map(|n| json!({"n": n, "kind": format!("k{}", n % 3)})).collect::<Vec<_>>())
}

fn of_spec(config: Value) -> ObjectStore {
    serde_json::from_value(config).unwrap()
}

/// The keys of all objects with their sizes.
async fn keys(store: &Arc<InMemory>) -> BTreeMap<String, u64> {
    let listed: Vec<_> = object_store::ObjectStore::list(&**store, None).try_collect().await.unwrap();
    listed.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect()
}

async fn count(store: &Arc<InMemory>, config: Value) -> usize {
    rows(&read_all(&on(store, of_spec(config))).await.unwrap()).len()
}

#[tokio::test]
async fn lines_are_compressed_as_the_ending_or_the_spec_says_in_and_out() {
    for (key, compression) in [("a.jsonl.gz", None), ("a.csv.zst", None), ("a.jsonl", Some("gzip"))] {
        let store = Arc::new(InMemory::new());
        let config = match compression {
            Some(how) => json!({"url": format!("s3://b/{key}"), "compression": how}),
            None => json!({"url": format!("s3://b/{key}")}),
        };
        write_all(&on(&store, of_spec(config.clone())), &[numbers(0..5_000), numbers(5_000..9_000)]).await.unwrap();
        assert!(keys(&store).await[key] < 80_000, "{key} is not compressed");
        assert_eq!(count(&store, config.clone()).await, 9_000, "{key}");
        conformance::source(on(&store, of_spec(config))).rows(9_000).check(&Env::system()).await;
    }
}

#[tokio::test]
async fn a_small_object_does_not_fill_the_world() {
    let store = Arc::new(InMemory::new());
    let row = json!({"text": "x".repeat(100_000)});
    write_all(&over(&store, "s3://b/a.jsonl.zst"), &[batch_of(&vec![row; 400])]).await.unwrap();
    let error = read_all(&over(&store, "s3://b/a.jsonl.zst")).await.unwrap_err();
    assert!(error.message().contains("s3://b/a.jsonl.zst"), "{error}");
    let config = json!({"url": "s3://b/a.jsonl.zst", "decompress": {"ratio": 1_000_000}});
    assert_eq!(count(&store, config).await, 400);
}

#[tokio::test]
async fn an_object_that_is_full_appears_and_the_next_one_begins() {
    let store = Arc::new(InMemory::new());
    for ending in ["jsonl", "csv.gz", "parquet", "avro", "arrow"] {
        let config = json!({"url": format!("s3://b/out/{{lane}}-{{number}}.{ending}"), "rotate": {"rows": 400}});
        let target = on(&store, of_spec(config));
        let mut sink = sink_for(&target, numbers(0..1).schema()).await.unwrap();
        sink.write(&numbers(0..1_000)).await.unwrap();
        let names = || async {
            let all = keys(&store).await.into_keys();
            all.filter(|k| k.ends_with(&format!(".{ending}"))).collect::<Vec<_>>()
        };
        assert_eq!(names().await, [0, 1].map(|i| format!("out/0-0000{i}.{ending}")), "a part can be seen");
        sink.prepare(1).await.unwrap();
        assert_eq!(names().await.len(), 3);
        sink.finish().await.unwrap();
        assert_eq!(count(&store, json!({"url": format!("s3://b/out/*.{ending}")})).await, 1_000, "{ending}");
    }
}

#[tokio::test]
async fn values_make_folders_that_say_them_again() {
    let store = Arc::new(InMemory::new());
    for format in ["json", "parquet"] {
        let config = json!({"url": format!("s3://b/{format}"), "format": format, "partition_by": ["kind"]});
        let rows_written =
            [json!({"n": 1, "kind": "a b/c"}), json!({"n": 2, "kind": null}), json!({"n": 3, "kind": "z"})];
        write_all(&on(&store, of_spec(config)), &[batch_of(&rows_written)]).await.unwrap();
        let source = on(&store, of_spec(json!({"url": format!("s3://b/{format}/"), "format": format})));
        let mut found = rows(&read_all(&source).await.unwrap());
        found.sort_by_key(|row| row["n"].as_i64());
        assert_eq!(found, rows_written, "{format}");
    }
    let all = keys(&store).await;
    assert!(all.contains_key("json/kind=a%20b%2Fc/part-0-00000.jsonl"), "{all:?}");
    // What is declared is all there is, whatever folders say.
    let source = json!({"url": "s3://b/json/**/*.jsonl", "schema": {"n": "int"}});
    let read = read_all(&on(&store, of_spec(source))).await.unwrap();
    assert!(rows(&read).iter().all(|row| row.get("kind").is_none()));
    let source = json!({"url": "s3://b/json/**/*.jsonl", "schema": {"kind": "text", "n": "int"}});
    let read = read_all(&on(&store, of_spec(source))).await.unwrap();
    assert!(rows(&read).iter().any(|row| row["kind"] == "a b/c"));
}

#[tokio::test]
async fn no_more_is_held_than_parts_of_so_many_objects() {
    let store = Arc::new(InMemory::new());
    let config = json!({"url": "s3://b/out", "format": "json", "partition_by": ["n"], "part_size": "32MiB"});
    let mut sink = sink_for(&on(&store, of_spec(config)), numbers(0..1).schema()).await.unwrap();
    sink.write(&numbers(0..100)).await.unwrap();
    // Eight parts of 32 MiB are 256 MiB: the others have ended.
    assert_eq!(keys(&store).await.len(), 92);
    sink.finish().await.unwrap();
    assert_eq!(keys(&store).await.len(), 100);
}

#[tokio::test]
async fn a_rotated_object_is_kept_when_that_is_asked_for_and_a_failed_job_leaves_none_of_its_own() {
    let store = Arc::new(InMemory::new());
    put(&store, "out/00001.jsonl", "kept\n").await;
    let config = json!({"url": "s3://b/out/{number}.jsonl", "rotate": {"rows": 10}, "if_exists": "fail"});
    let mut sink = sink_for(&on(&store, of_spec(config)), numbers(0..1).schema()).await.unwrap();
    let error = sink.write(&numbers(0..15)).await.unwrap_err();
    assert!(error.message().contains("s3://b/out/00001.jsonl: is there already"), "{error}");
    drop(sink);
    assert_eq!(keys(&store).await.len(), 2);
    assert_eq!(object(&store, "out/00001.jsonl").await.unwrap(), "kept\n");
}

#[tokio::test]
async fn what_is_known_without_asking_is_what_is_found() {
    let store = Arc::new(InMemory::new());
    put(&store, "a/k=1/x.jsonl", "{\"n\":1}\n").await;
    put(&store, "a/k=1/x.csv", "n,m\n1,2\n").await;
    put(&store, "a/k=1/x.txt", "line\n").await;
    put(&store, "x.csv", "").await;
    let asks = |url: &str| Known::Asks(url.to_owned());
    for (config, open) in [
        (json!({"url": "s3://b/a/**/*.jsonl", "schema": {"n": "bigint"}}), false),
        (json!({"url": "s3://b/a/k=1/x.csv", "schema": {"m": "bigint", "k": "int"}}), false),
        (json!({"url": "s3://b/x.csv", "schema": {"n": "bigint"}}), false),
        (json!({"url": "s3://b/a/k=1/x.csv", "schema": {"n": "bigint", "m": "bigint"}, "columns": ["m"]}), false),
        (json!({"url": "s3://b/a/**/*.txt", "partitions": false}), false),
        (json!({"url": "s3://b/a/**/*.txt", "columns": ["text"]}), false),
        (json!({"url": "s3://b/a/**/*.txt"}), true),
        (json!({"url": "s3://b/a/k=1/x.txt"}), true),
        (json!({"url": "s3://b/a/**/*.jsonl", "schema": {"n": "bigint"}, "columns": ["n", "k"]}), true),
        (json!({"url": "s3://b/a/**/*.jsonl"}), true),
    ] {
        let store = on(&store, of_spec(config.clone()));
        let (known, found) = (store.known(&connect()).await.unwrap(), store.schema(&connect()).await.unwrap());
        assert_eq!(known, if open { asks(&store.url) } else { Known::Schema(found) }, "{config}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anyone_is_asked() {
    let store = Arc::new(InMemory::new());
    let said = async |config: Value| {
        let Problems(found) = on(&store, of_spec(config)).known(&connect()).await.unwrap_err();
        found.into_iter().map(|p| p.message).collect::<Vec<_>>()
    };
    let declared = json!({"url": "s3://b/a.csv", "schema": {"n": "bigint"}, "columns": ["m"]});
    assert_eq!(said(declared).await, ["there is no column `m`"]);
    assert_eq!(
        said(json!({"url": "s3://b/a.parquet", "schema": {"n": "bigint"}})).await,
        ["a Parquet file brings its own schema"]
    );
    let lists = json!({"url": "s3://b/a.csv", "schema": {"n": "bigint[]"}});
    assert_eq!(said(lists).await, ["CSV can't be read into a column of bigint[]"]);
    assert_eq!(
        told(json!({"url": "s3://b/a.jsonl", "follow": true})),
        [
            "follow: objects are replaced and never grow, so there is nothing to follow (read what is there now; `nats` or \
          `http` bring what comes)"
        ]
    );
}

#[tokio::test]
async fn a_sink_is_told_what_is_for_a_source_once() {
    let store = Arc::new(InMemory::new());
    let said = async |config: Value| {
        let checked = on(&store, of_spec(config)).check_sink(&numbers(0..1).schema(), &connect()).await;
        checked.err().map(|Problems(p)| p.into_iter().map(|p| p.message).collect::<Vec<_>>()).unwrap_or_default()
    };
    assert_eq!(said(json!({"url": "s3://b/a.csv", "schema": {"n": "int"}})).await, ["`schema` is for a source"]);
    assert_eq!(
        said(json!({"url": "s3://b/a.csv", "rotate": {"rows": 1}})).await,
        ["`rotate` makes many files, and the URL names one"]
    );
    assert_eq!(said(json!({"url": "s3://b/out/", "format": "json"})).await, ["a sink needs the name of an object"]);
    assert!(said(json!({"url": "s3://b/out/", "format": "json", "partition_by": ["n"]})).await.is_empty());
}
