//! Tests of objects without a server: a store in memory, and what is wrong with configurations.

use bourn_engine::api::{Sink as _, Source as _};
use bourn_engine::testing::conformance::{self, Target};
use bourn_engine::testing::simulation::Simulation;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};

use super::*;
use crate::testing::{batch_of, connect, faults, read_all, rows, sink_for, write_all};

/// A connector over a store in memory.
fn over(store: &Arc<InMemory>, url: &str) -> ObjectStore {
    on(store, ObjectStore::new(url))
}

/// The same for what a spec says.
fn on(store: &Arc<InMemory>, config: ObjectStore) -> ObjectStore {
    let bucket = Arc::new(Bucket::over(store.clone(), "s3://b/".into()));
    let file = Arc::new(config.file());
    ObjectStore { opened: OnceLock::from(Opened { bucket, file }), ..config }
}

async fn put(store: &Arc<InMemory>, key: &str, text: &str) {
    store.put(&key.into(), PutPayload::from(text.to_owned())).await.unwrap();
}

async fn object(store: &Arc<InMemory>, key: &str) -> Option<String> {
    let bytes = store.get(&key.into()).await.ok()?.bytes().await.unwrap();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn told(config: Value) -> Vec<String> {
    let config: ObjectStore = serde_json::from_value(config).unwrap();
    let Err(Problems(problems)) = config.opened(&Env::system()) else { return Vec::new() };
    let key = |key: &Key| match key {
        Key::Name(name) => name.clone(),
        Key::Index(index) => index.to_string(),
    };
    let path = |p: &Problem| p.path.iter().map(key).collect::<Vec<_>>().join(".");
    problems.iter().map(|p| format!("{}: {} ({})", path(p), p.message, p.help.as_deref().unwrap_or("-"))).collect()
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_source() {
    let store = Arc::new(InMemory::new());
    for i in 0..3 {
        let lines = (0..3_000).map(|n| format!("{{\"n\":{n},\"file\":{i}}}\n")).collect::<Vec<_>>().concat();
        put(&store, &format!("in/{i}.jsonl"), &format!("{lines}not a row\n")).await;
        let lines = (0..3_000).map(|n| format!("{n},{i}\n")).collect::<Vec<_>>().concat();
        put(&store, &format!("in/{i}.csv"), &format!("n,file\n{lines}")).await;
    }
    conformance::source(over(&store, "s3://b/in/*.jsonl")).rows(9_003).check(&Env::system()).await;
    conformance::source(over(&store, "s3://b/in/*.csv")).rows(9_000).check(&Env::system()).await;
    let rows: Vec<_> = (0..8_000).map(|n| json!({"n": n, "text": format!("row {n}")})).collect();
    write_all(&over(&store, "s3://b/in/a.parquet"), &[batch_of(&rows), batch_of(&rows)]).await.unwrap();
    conformance::source(over(&store, "s3://b/in/*.parquet")).rows(16_000).check(&Env::system()).await;
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_sink() {
    for ending in ["jsonl", "csv", "parquet"] {
        let store = Arc::new(InMemory::new());
        let target = |n: usize| {
            let (store, url) = (store.clone(), format!("s3://b/out/{n}.{ending}"));
            Target::new(over(&store, &url)).read_back(move || {
                let (store, url) = (store.clone(), url.clone());
                async move {
                    let found = object(&store, url.trim_start_matches("s3://b/")).await.unwrap_or_default();
                    if found.is_empty() { Ok(Vec::new()) } else { Ok(rows(&read_all(&over(&store, &url)).await?)) }
                }
            })
        };
        conformance::sink(target).check(&Env::system()).await;
    }
}

#[tokio::test]
async fn a_folder_is_all_that_is_below_it_but_what_writers_leave_beside_the_data() {
    let store = Arc::new(InMemory::new());
    for key in ["in/a.jsonl", "in/x/b.jsonl", "in/_SUCCESS", "in/x/.b.crc", "input.jsonl"] {
        put(&store, key, "{\"n\":1}\n").await;
    }
    let all = on(&store, ObjectStore { format: Some(Format::Json), ..ObjectStore::new("s3://b/in/") });
    let names: Vec<_> = all.splits(&connect()).await.unwrap().iter().map(|s| s.name().to_owned()).collect();
    assert_eq!(names, ["s3://b/in/a.jsonl", "s3://b/in/x/b.jsonl"]);
    let deep = over(&store, "s3://b/**/*.jsonl").splits(&connect()).await.unwrap();
    assert_eq!(deep.len(), 3);
    assert_eq!(over(&store, "s3://b/in/*.jsonl").splits(&connect()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_object_that_changes_or_vanishes_while_it_is_read_is_an_error_and_no_mixture() {
    let text = |n: u32| (0..400_000).map(|i| format!("{{\"n\":{n},\"i\":{i}}}\n")).collect::<Vec<_>>().concat();
    for (change, said) in [(true, "was changed while it was read"), (false, "was there when the job was planned")] {
        let store = Arc::new(InMemory::new());
        put(&store, "a.jsonl", &text(1)).await;
        put(&store, "b.jsonl", &text(1)).await;
        let mut source = crate::testing::open(&over(&store, "s3://b/*.jsonl"), None).await.unwrap();
        source.read().await.unwrap().unwrap();
        if change {
            put(&store, "b.jsonl", &text(2)).await;
        } else {
            store.delete(&"b.jsonl".into()).await.unwrap();
        }
        let error = loop {
            match source.read().await {
                Ok(Some(chunk)) => assert!(rows(&[chunk]).iter().all(|row| row["n"] == 1)),
                Ok(None) => panic!("it was read to its end"),
                Err(error) => break error,
            }
        };
        assert!(error.message().contains("s3://b/b.jsonl") && error.message().contains(said), "{error}");
    }
}

#[tokio::test]
async fn an_object_appears_whole_at_the_end_and_a_failed_job_leaves_nothing() {
    let store = Arc::new(InMemory::new());
    let row = json!({"text": "x".repeat(1_000)});
    let batch = batch_of(&vec![row; 4_000]);
    let target = over(&store, "s3://b/out.jsonl");
    let mut sink = sink_for(&target, batch.schema()).await.unwrap();
    for epoch in 1..=4 {
        sink.write(&batch).await.unwrap();
        assert_eq!(sink.prepare(epoch).await.unwrap(), None);
        assert_eq!(object(&store, "out.jsonl").await, None, "a part of it can be seen");
    }
    drop(sink);
    let mut sink = sink_for(&target, batch.schema()).await.unwrap();
    for _ in 0..4 {
        sink.write(&batch).await.unwrap();
    }
    sink.finish().await.unwrap();
    assert_eq!(object(&store, "out.jsonl").await.unwrap().lines().count(), 16_000);
}

#[tokio::test]
async fn what_is_there_is_kept_when_that_is_asked_for() {
    let store = Arc::new(InMemory::new());
    put(&store, "out.jsonl", "kept\n").await;
    let fails = || ObjectStore { if_exists: IfExists::Fail, ..over(&store, "s3://b/out.jsonl") };
    let batch = batch_of(&[json!({"n": 1})]);
    let error = write_all(&fails(), std::slice::from_ref(&batch)).await.unwrap_err();
    let said = "s3://b/out.jsonl: is there already, and `if_exists: fail` keeps it";
    assert_eq!(error.message(), said);
    store.delete(&"out.jsonl".into()).await.unwrap();
    // It comes while the job runs.
    let mut sink = sink_for(&fails(), batch.schema()).await.unwrap();
    sink.write(&batch).await.unwrap();
    put(&store, "out.jsonl", "kept\n").await;
    assert_eq!(sink.finish().await.unwrap_err().message(), said);
    assert_eq!(object(&store, "out.jsonl").await.unwrap(), "kept\n");
    write_all(&over(&store, "s3://b/out.jsonl"), &[batch]).await.unwrap();
    assert_eq!(object(&store, "out.jsonl").await.unwrap(), "{\"n\":1}\n");
}

#[tokio::test]
async fn a_broken_line_is_rejected_with_its_object_and_line() {
    let store = Arc::new(InMemory::new());
    put(&store, "in.jsonl", "{\"n\":1}\n{\"n\":\n{\"n\":3}\n").await;
    let chunks = read_all(&over(&store, "s3://b/in.jsonl")).await.unwrap();
    assert_eq!(rows(&chunks), [json!({"n": 1}), json!({"n": 3})]);
    assert!(faults(&chunks)[0].starts_with("s3://b/in.jsonl:2: not JSON"), "{:?}", faults(&chunks));
}

#[tokio::test]
async fn an_object_that_is_not_there_is_named_at_planning() {
    let store = Arc::new(InMemory::new());
    for (url, said) in
        [("s3://b/a.jsonl", "there is no object `s3://b/a.jsonl`"), ("s3://b/*.csv", "no object matches")]
    {
        let Problems(problems) = over(&store, url).schema(&connect()).await.unwrap_err();
        assert!(problems[0].message.starts_with(said), "{problems:?}");
        assert_eq!((problems[0].path.clone(), problems[0].help.clone()), (vec!["url".into()], None));
    }
}

#[test]
fn every_provider_can_be_configured() {
    let google = json!({"service_account_key": json!({"private_key": "k", "private_key_id": "i", "client_email": "e@x",
        "disable_oauth": true}).to_string()});
    for (url, options) in [
        ("s3://b/k.csv", json!({"access_key_id": "a", "secret_access_key": "s", "endpoint": "http://127.0.0.1:1"})),
        ("s3a://b/k.csv", json!({"aws_access_key_id": "a", "aws_secret_access_key": "s", "region": "eu-1"})),
        ("gs://b/k.csv", google),
        ("gs://b/k.csv", json!({"skip_signature": "true"})),
        ("az://c/k.csv", json!({"account_name": "n", "account_key": "bGF0ZXI=", "timeout": "5s"})),
        ("abfss://c@n.dfs.core.windows.net/k.csv", json!({"sas_token": "sv=1&sig=x"})),
    ] {
        assert_eq!(told(json!({"url": url, "options": options})), [""; 0], "{url}");
    }
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_with_the_way_out() {
    let known = "URLs are `s3://bucket/key`, `gs://bucket/key`, `az://container/key`, `abfss://container@account…/key`";
    assert_eq!(told(json!({"url": "bucket/key"})), [format!("url: `bucket/key` is no URL ({known})")]);
    assert_eq!(told(json!({"url": "s3://bucket"})), [format!("url: `s3://bucket` names no bucket and key ({known})")]);
    assert_eq!(told(json!({"url": "ftp://b/k"})), [format!("url: `ftp://` is no store that is known ({known})")]);
    let options = json!({"acces_key_id": "canary"});
    let said = "options.acces_key_id: `acces_key_id` is no option of S3 (did you mean `access_key_id`?)";
    assert_eq!(told(json!({"url": "s3://b/k.csv", "options": options})), [said]);
    let small = json!({"url": "s3://b/k.csv", "part_size": "1MiB"});
    assert_eq!(told(small), ["part_size: a part has at least 5 MiB (-)"]);
}

#[test]
fn keys_are_never_shown_and_come_from_the_variables_of_the_provider() {
    let store = ObjectStore::new("s3://b/k").with_option("secret_access_key", "canary").with_option("region", "eu-1");
    let shown = format!("{store:?} {}", serde_json::to_string(&store).unwrap());
    assert!(!shown.contains("canary") && shown.contains("eu-1"), "{shown}");
    let variables = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S"), ("AWS_REGION", "eu-2")];
    let world = variables.into_iter().fold(Simulation::new(1), |world, (name, value)| world.variable(name, value));
    let read = |options: &Options| options::S3.read(options, &world.env(), |key| Some(key.to_owned())).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        read(&Options::default()),
        [pair("aws_access_key_id", "A"), pair("aws_secret_access_key", "S"), pair("aws_region", "eu-2")]
    );
    // Half of one identity and half of another would be neither.
    let mut options = Options::default();
    options.set("access_key_id", "B".into());
    assert_eq!(read(&options), [pair("aws_region", "eu-2"), pair("access_key_id", "B")]);
}

mod epochs;
pub(super) mod faulty;
mod spread;
