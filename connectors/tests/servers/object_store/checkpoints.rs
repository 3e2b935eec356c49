//! Checkpoints in a real bucket.

use std::sync::Arc;

use bourn_connectors::object_store::checkpoints::Checkpoints;
use bourn_engine::api::{Store, StoreConfig as _};

use super::*;

fn kept(weed: &Weed, url: &str) -> Checkpoints {
    Checkpoints::new(url)
        .with_option("endpoint", format!("http://{}", weed.address))
        .with_option("access_key_id", "writer")
        .with_option("secret_access_key", SECRET)
        .with_lease(Duration::from_secs(4))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_bucket_keeps_the_promises_of_a_store() {
    let weed = Weed::start().await;
    let config = kept(&weed, "s3://data/kept");
    let open = move || -> Arc<dyn Store> { config.open(Some("job"), &Env::system()).unwrap() };
    Env::system().blocking(move || conformance::store(open).check()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cut_off_keeps_the_next_one_out_for_its_lease_and_can_write_nothing_more() {
    let weed = Weed::start().await;
    let config = kept(&weed, "s3://data/kept");
    let open = move || config.open(Some("job"), &Env::system()).unwrap();
    Env::system()
        .blocking(move || {
            let (one, other) = (open(), open());
            let lock = one.lock().unwrap().unwrap();
            one.complete("0000000001.json", b"one").unwrap();
            assert!(other.lock().unwrap().is_none());
            // Nothing is renewed any more, and nothing given back.
            drop(lock);
            let lock = other.lock().unwrap().unwrap();
            assert_eq!(other.get("0000000001.json").unwrap(), b"one");
            let error = one.complete("0000000001.json", b"late").unwrap_err();
            assert!(error.message().contains("another run of the job has taken over"), "{error}");
            other.complete("0000000001.json", b"other").unwrap();
            assert_eq!(other.get("0000000001.json").unwrap(), b"other");
            lock.release();
            open().lock().unwrap().unwrap().release();
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_told_without_a_key() {
    let weed = Weed::start().await;
    let config = kept(&weed, "s3://data/kept").with_option("secret_access_key", "not-the-secret");
    let error = Env::system()
        .blocking(move || {
            let store = config.open(Some("job"), &Env::system()).unwrap();
            store.lock().err().unwrap()
        })
        .await
        .unwrap();
    assert_eq!(error.kind(), Kind::Permission, "{error}");
    assert!(error.message().starts_with("s3://data/kept/job/lock: "), "{error}");
    assert!(!format!("{error:?}").contains("not-the-secret"));
}
