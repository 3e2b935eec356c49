//! Checkpoints in a bucket in memory: the promises of a store, requests that fail, and two jobs at one place.
#![expect(clippy::disallowed_methods, reason = "a request is held while something else happens")]

use std::sync::atomic::Ordering;

use bourn_engine::api::{Checkpointing, Lock};
use bourn_engine::graph::Graph;
use bourn_engine::testing::conformance;
use bourn_engine::{Engine, Kind};
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::file::File;
use crate::generate::Generate;
use crate::object_store::tests::faulty::{Fast, Fault, Faulty};

const MANIFEST: &str = "0000000001.json";

/// A place in a bucket in a world in which time runs fast.
struct Shelf {
    client: Arc<Faulty>,
    fast: Fast,
}

impl Shelf {
    fn new() -> Self {
        Self { client: Arc::default(), fast: Fast::start() }
    }

    fn config(&self) -> Checkpoints {
        let config = Checkpoints::new("s3://b/kept/");
        config.bucket.get_or_init(|| Arc::new(Bucket::over(self.client.clone(), "s3://b/".into())));
        config
    }

    fn store(&self) -> Arc<dyn Store> {
        self.config().open(Some("job"), &self.fast.env()).unwrap()
    }
}

/// On a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    Env::system().blocking(work).await.unwrap()
}

fn locked(store: &Arc<dyn Store>) -> Option<Box<dyn Lock>> {
    store.lock().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_promises_of_a_store() {
    let shelf = Shelf::new();
    blocking(move || conformance::store(move || shelf.store()).check()).await;
}

/// What a job does with a store, from its beginning to its end.
fn a_job(store: &Arc<dyn Store>) {
    let lock = locked(store).unwrap();
    store.put("0000000001-w.arrow", b"state").unwrap();
    store.complete(MANIFEST, b"manifest").unwrap();
    assert_eq!(store.names().unwrap(), ["0000000001-w.arrow", MANIFEST]);
    assert_eq!(store.get(MANIFEST).unwrap(), b"manifest");
    store.complete(MANIFEST, b"another").unwrap();
    store.remove("0000000001-w.arrow").unwrap();
    lock.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_request_fails_or_is_not_answered_all_is_done_once() {
    let calls = {
        let shelf = Shelf::new();
        blocking(move || {
            a_job(&shelf.store());
            shelf.client.calls()
        })
        .await
    };
    assert!(calls > 10);
    for call in 1..=calls {
        for fault in [Fault::Refused, Fault::Unheard] {
            let shelf = Shelf::new();
            shelf.client.fail(call, fault);
            blocking(move || {
                a_job(&shelf.store());
                let store = shelf.store();
                // It was given back.
                let lock = locked(&store).unwrap();
                assert_eq!(store.names().unwrap(), [MANIFEST], "{call} {fault:?}");
                assert_eq!(store.get(MANIFEST).unwrap(), b"another", "{call} {fault:?}");
                lock.release();
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lives_keeps_others_out_for_as_long_as_it_takes() {
    let shelf = Shelf::new();
    blocking(move || {
        let (one, other) = (shelf.store(), shelf.store());
        let lock = locked(&one).unwrap();
        let began = shelf.fast.env().monotonic();
        while shelf.fast.env().monotonic() < began + LEASE * 5 {
            assert!(locked(&other).is_none());
        }
        one.complete(MANIFEST, b"mine").unwrap();
        lock.release();
        let began = shelf.fast.env().monotonic();
        assert!(locked(&other).is_some());
        assert!(shelf.fast.env().monotonic() < began + LEASE / 2, "what was given back is waited for");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_not_renewed_runs_out_and_who_had_it_writes_nothing_more() {
    let shelf = Shelf::new();
    blocking(move || {
        let (one, other) = (shelf.store(), shelf.store());
        let lock = locked(&one).unwrap();
        one.complete(MANIFEST, b"one").unwrap();
        // As when its process is stopped: nothing is renewed, nothing given back.
        drop(lock);
        let began = shelf.fast.env().monotonic();
        let lock = locked(&other).unwrap();
        let waited = shelf.fast.env().monotonic().saturating_sub(began);
        assert!(waited >= LEASE && waited < LEASE * 2, "{waited:?}");
        assert_eq!(other.get(MANIFEST).unwrap(), b"one");
        other.complete("0000000002.json", b"other").unwrap();
        for failed in [one.complete("0000000002.json", b"one"), one.put("p", b"x"), one.remove(MANIFEST)] {
            let error = failed.unwrap_err();
            let said = "s3://b/kept/job: another run of the job has taken over, because this one did not renew its lease of 20s";
            assert!(error.message().starts_with(said), "{error}");
        }
        assert_eq!(other.names().unwrap(), [MANIFEST, "0000000002.json"]);
        assert_eq!(other.get("0000000002.json").unwrap(), b"other");
        lock.release();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_comes_too_late_completes_nothing_and_is_written_over() {
    let shelf = Shelf::new();
    let (one, other) = (shelf.store(), shelf.store());
    let (first, held) = blocking({
        let (one, client) = (one.clone(), shelf.client.clone());
        move || (locked(&one).unwrap(), client.hold(".json"))
    })
    .await;
    let late = tokio::task::spawn(blocking(move || one.complete(MANIFEST, b"late")));
    // Its request is on its way for longer than its lease lasts.
    drop(first);
    let lock = blocking({
        let other = other.clone();
        move || locked(&other).unwrap()
    })
    .await;
    drop(held);
    let error = late.await.unwrap().unwrap_err();
    assert!(error.message().contains("another run of the job has taken over"), "{error}");
    shelf.client.inner.put(&format!("kept/job/{MANIFEST}").into(), PutPayload::from_static(b"late")).await.unwrap();
    blocking(move || {
        other.complete(MANIFEST, b"other").unwrap();
        assert_eq!(other.get(MANIFEST).unwrap(), b"other");
        lock.release();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_counts_only_if_the_lease_is_found_to_be_ours_behind_it() {
    let shelf = Shelf::new();
    let store = shelf.store();
    let (lock, held) = blocking({
        let (store, client) = (store.clone(), shelf.client.clone());
        move || (locked(&store).unwrap(), client.hold(".json"))
    })
    .await;
    let writing = tokio::task::spawn(blocking(move || store.complete(MANIFEST, b"mine")));
    while shelf.client.waits_for_one_to_hold() {
        tokio::task::yield_now().await;
    }
    // By a machine whose clock is far ahead, while the request is on its way and this job sure of its lease.
    let taken = r#"{"owner":"other","until":0,"lasts":20.0,"renewed":0}"#;
    shelf.client.inner.put(&"kept/job/lock".into(), PutPayload::from_static(taken.as_bytes())).await.unwrap();
    held.send(()).unwrap();
    let error = writing.await.unwrap().unwrap_err();
    assert!(error.message().contains("another run of the job has taken over"), "{error}");
    drop(lock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_heeds_no_conditions_is_refused() {
    let shelf = Shelf::new();
    shelf.client.heedless.store(true, Ordering::SeqCst);
    let error = blocking(move || shelf.store().lock().err().unwrap()).await;
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("does not heed `If-Match`"), "{error}");
}

#[test]
fn what_is_wrong_is_told_before_anyone_is_asked_and_keys_are_never_shown() {
    let said = |config: &Checkpoints| {
        let Err(Problems(problems)) = config.check(&Env::system()) else { return String::new() };
        let path = problems[0].path.iter().map(|k| format!("{k:?}")).collect::<Vec<_>>().join(".");
        format!("{path}: {}", problems[0].message)
    };
    let good =
        Checkpoints::new("s3://b/kept").with_option("access_key_id", "a").with_option("secret_access_key", "canary");
    assert_eq!(said(&good), "");
    assert!(!format!("{good:?}").contains("canary"));
    assert_eq!(good.place(Some("job")), "s3://b/kept/job");
    assert!(said(&good.clone().with_option("regoin", "x")).contains("`regoin` is no option of S3"));
    assert!(said(&good.with_lease(Duration::from_millis(10))).contains("a lease of less than 2s"));
    assert!(said(&Checkpoints::new("s3://b")).contains("names no bucket and key"));
}

/// A job that numbers rows by key, into a file, with its checkpoints in the bucket.
fn counted(shelf: &Shelf, out: &std::path::Path) -> Graph {
    let mut graph = Graph::new("job");
    let rate = serde_json::from_value(serde_json::json!("20000/s")).unwrap();
    graph.source("rows", Generate { rate: Some(rate), ..Generate::rows(20_000) });
    graph.sink("out", File::new(out.to_string_lossy()));
    graph.options.epoch_every = Some(Duration::from_millis(20));
    graph.options.checkpoints = Checkpointing::On(bourn_engine::api::Checkpoints::in_store(shelf.config()));
    graph
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_from_a_bucket_and_from_an_older_checkpoint_when_a_bit_of_the_newest_is_flipped() {
    let (shelf, folder) = (Shelf::new(), tempfile::TempDir::new().unwrap());
    let out = folder.path().join("out.jsonl");
    let engine = Engine::new(bourn_engine::api::Registry::new());
    let job = engine.start(engine.plan(counted(&shelf, &out)).await.unwrap()).await.unwrap();
    let stats = job.stats().clone();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while stats.checkpoints.load(Ordering::Relaxed) < 5 {
        tick.tick().await;
    }
    job.stop();
    job.wait().await.unwrap();
    let kept = blocking({
        let store = shelf.store();
        move || store.names().unwrap()
    })
    .await;
    let manifests: Vec<_> = kept.into_iter().filter(|n| n.split('.').nth(1) == Some("json")).collect();
    assert_eq!(manifests.len(), 3);
    let key = format!("kept/job/{}", manifests[2]).into();
    let mut bytes = shelf.client.inner.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[40] ^= 1;
    shelf.client.inner.put(&key, bytes.into()).await.unwrap();
    let job = engine.start(engine.plan(counted(&shelf, &out)).await.unwrap()).await.unwrap();
    let resumed = job.resumed().unwrap();
    assert_eq!(manifests[1], format!("{:010}.json", resumed.epoch));
    assert_eq!(resumed.unreadable.len(), 1);
    job.wait().await.unwrap();
    let text = String::from_utf8(crate::testing::read_file(&out)).unwrap();
    let numbers = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["n"].as_u64().unwrap());
    assert!(numbers.eq(0..20_000), "{} rows", text.lines().count());
}
