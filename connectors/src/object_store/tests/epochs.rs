//! What a job that keeps checkpoints is promised: wherever it is cut off, its objects end as those of a calm run, and nothing else is
//! left in the bucket.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Epochs, Outcome, Receipt};
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::faulty::{Fast, Fault, Faulty};
use super::*;

/// Where the job is cut off, in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Written,
    Prepared,
    /// The manifest is there, no sink has committed.
    Kept,
    Committed,
    Finished,
}

const STEPS: [Step; 5] = [Step::Written, Step::Prepared, Step::Kept, Step::Committed, Step::Finished];
const EPOCHS: u64 = 4;

fn rows_of(epoch: u64) -> RecordBatch {
    let n = i64::try_from(epoch).unwrap() * 100;
    let all: Vec<_> = (n..n + 7).map(|n| json!({"n": n, "kind": format!("k{}", n % 2)})).collect();
    // The third epoch has no rows.
    if epoch == 3 { batch_of(&all).slice(0, 0) } else { batch_of(&all) }
}

/// What a manifest would know.
#[derive(Clone, Default)]
struct Kept {
    behind: u64,
    receipts: Vec<(usize, Receipt)>,
}

/// A bucket with what a job writes into it.
struct Job {
    client: Arc<Faulty>,
    config: Value,
    env: Env,
    kept: Kept,
}

impl Job {
    fn new(config: &Value, env: Env) -> Self {
        Self { client: Arc::default(), config: config.clone(), env, kept: Kept::default() }
    }

    fn store(&self) -> ObjectStore {
        let config: ObjectStore = serde_json::from_value(self.config.clone()).unwrap();
        let bucket = Arc::new(Bucket::over(self.client.clone(), "s3://b/".into()));
        let file = Arc::new(config.file());
        ObjectStore { opened: OnceLock::from(Opened { bucket, file }), ..config }
    }

    async fn begin(&self) -> Result<BoxSink> {
        let Kept { behind, receipts } = self.kept.clone();
        let epochs = Epochs { run: "r".into(), behind, receipts: receipts.clone(), folder: "nowhere".into() };
        let context = SinkContext::new(self.env.clone(), "out-of", rows_of(1).schema());
        let mut sink = self.store().sink(SinkContext { epochs: Some(epochs), ..context }).await?;
        for (_, receipt) in &receipts {
            assert_eq!(sink.commit(receipt).await?, Outcome::Committed);
        }
        Ok(sink)
    }

    /// Runs until it is cut off at a step, or to the end. Returns whether it came to the end.
    async fn run(&mut self, down: Option<(u64, Step)>) -> Result<bool> {
        let mut sink = self.begin().await?;
        for epoch in self.kept.behind + 1..=EPOCHS {
            let at = |step| down == Some((epoch, step));
            let rows = rows_of(epoch);
            if rows.num_rows() > 0 {
                sink.write(&rows.slice(0, 4)).await?;
                sink.write(&rows.slice(4, 3)).await?;
            }
            if at(Step::Written) {
                return Ok(cut_off(sink));
            }
            let receipt = sink.prepare(epoch).await?;
            if at(Step::Prepared) {
                return Ok(cut_off(sink));
            }
            self.kept = Kept { behind: epoch, receipts: receipt.iter().map(|r| (0, r.clone())).collect() };
            if at(Step::Kept) {
                return Ok(cut_off(sink));
            }
            if let Some(receipt) = &receipt {
                assert_eq!(sink.commit(receipt).await?, Outcome::Committed);
            }
            if at(Step::Committed) {
                return Ok(cut_off(sink));
            }
        }
        sink.finish().await?;
        Ok(down.is_none_or(|(_, step)| step != Step::Finished))
    }

    /// Everything in the bucket.
    async fn objects(&self) -> BTreeMap<String, Bytes> {
        let mut found = BTreeMap::new();
        let listed: Vec<_> = object_store::ObjectStore::list(&self.client.inner, None)
            .map_ok(|m| m.location)
            .try_collect()
            .await
            .unwrap();
        for key in listed {
            let content = self.client.inner.get(&key).await.unwrap().bytes().await.unwrap();
            found.insert(key.to_string(), content);
        }
        found
    }
}

/// A process that is killed throws nothing away.
fn cut_off(sink: BoxSink) -> bool {
    std::mem::forget(sink);
    false
}

async fn calm(config: &Value) -> BTreeMap<String, Bytes> {
    let mut job = Job::new(config, Env::system());
    assert!(job.run(None).await.unwrap());
    let calm = job.objects().await;
    assert!(calm.values().map(Bytes::len).sum::<usize>() > 20, "{:?}", calm.keys());
    assert!(!calm.keys().any(|k| k.contains("/_")), "{:?}", calm.keys());
    calm
}

/// Every format, as one object and as many.
fn configs() -> Vec<Value> {
    let mut all = Vec::new();
    for ending in ["jsonl", "csv", "jsonl.gz", "csv.zst", "parquet", "arrow", "arrows"] {
        all.push(json!({"url": format!("s3://b/out/rows.{ending}")}));
        all.push(json!({"url": format!("s3://b/out/{{number}}.{ending}"), "rotate": {"rows": 3}}));
    }
    all.push(json!({"url": "s3://b/out", "format": "json", "partition_by": ["kind"], "rotate": {"rows": 3}}));
    all.push(json!({"url": "s3://b/rows.jsonl", "if_exists": "fail"}));
    all.push(json!({"url": "s3://b/{number}.parquet", "rotate": {"rows": 3}, "if_exists": "fail"}));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_job_is_cut_off_its_objects_end_as_those_of_a_calm_run() {
    for config in configs() {
        let calm = calm(&config).await;
        for epoch in 1..=EPOCHS {
            for step in STEPS {
                let mut job = Job::new(&config, Env::system());
                let mut down = Some((epoch, step));
                while !job.run(down.take()).await.unwrap() {}
                let found = job.objects().await;
                let names: Vec<_> = found.keys().collect();
                assert_eq!(names, calm.keys().collect::<Vec<_>>(), "{config}: {epoch} {step:?}");
                assert!(found == calm, "{config}: {epoch} {step:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_seen_before_its_commit() {
    for config in configs() {
        let mut job = Job::new(&config, Env::system());
        assert!(!job.run(Some((1, Step::Kept))).await.unwrap());
        let seen: Vec<_> = job.objects().await.into_keys().filter(|k| !k.contains('_')).collect();
        assert!(seen.is_empty(), "{config}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_checkpoint_takes_back_what_was_committed_behind_it() {
    for config in configs() {
        let calm = calm(&config).await;
        let mut job = Job::new(&config, Env::system());
        assert!(!job.run(Some((1, Step::Committed))).await.unwrap());
        let older = job.kept.clone();
        assert!(!job.run(Some((4, Step::Written))).await.unwrap());
        job.kept = older;
        assert!(job.run(None).await.unwrap());
        assert!(job.objects().await == calm, "{config}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_beginning_removes_what_one_that_was_cut_off_has_left() {
    for config in configs().into_iter().filter(|c| c["if_exists"].is_null()) {
        let calm = calm(&config).await;
        for step in [Step::Written, Step::Prepared, Step::Kept] {
            let mut job = Job::new(&config, Env::system());
            assert!(!job.run(Some((1, step))).await.unwrap());
            job.kept = Kept::default();
            assert!(job.run(None).await.unwrap());
            assert!(job.objects().await == calm, "{config}: {step:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_request_fails_or_is_not_answered_the_objects_are_those_of_a_calm_run() {
    for config in [
        json!({"url": "s3://b/out/rows.parquet"}),
        json!({"url": "s3://b/out/{number}.jsonl", "rotate": {"rows": 3}}),
        json!({"url": "s3://b/rows.jsonl", "if_exists": "fail"}),
        json!({"url": "s3://b/{number}.jsonl", "rotate": {"rows": 3}, "if_exists": "fail"}),
    ] {
        let fast = Fast::start();
        let mut calm = Job::new(&config, fast.env());
        assert!(calm.run(None).await.unwrap());
        for call in 1..=calm.client.calls() {
            for fault in [Fault::Refused, Fault::Unheard] {
                let mut job = Job::new(&config, fast.env());
                job.client.fail(call, fault);
                assert!(job.run(None).await.unwrap(), "{config}: {call} {fault:?}");
                assert!(job.objects().await == calm.objects().await, "{config}: {call} {fault:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_off_is_thrown_away_by_the_next_run() {
    let text = "x".repeat(4 << 20);
    let large = |n: i64| batch_of(&[json!({"n": n, "kind": text.clone()})]);
    for config in [
        json!({"url": "s3://b/out/rows.jsonl", "part_size": "5MiB"}),
        json!({"url": "s3://b/out/{number}.jsonl", "rotate": {"rows": 100}, "part_size": "5MiB"}),
    ] {
        let job = Job::new(&config, Env::system());
        let mut sink = job.begin().await.unwrap();
        for n in 0..4 {
            sink.write(&large(n)).await.unwrap();
        }
        cut_off(sink);
        let is_note = |k: &String| k.ends_with(".upload");
        assert!(config["rotate"].is_null() || job.objects().await.keys().any(is_note), "{config}");
        let mut sink = job.begin().await.unwrap();
        assert!(job.objects().await.is_empty(), "{config}: {:?}", job.objects().await.keys());
        for n in 0..4 {
            sink.write(&large(n)).await.unwrap();
        }
        let receipt = sink.prepare(1).await.unwrap().unwrap();
        sink.commit(&receipt).await.unwrap();
        sink.finish().await.unwrap();
        let found = job.objects().await;
        assert_eq!(found.values().map(Bytes::len).sum::<usize>(), 4 * ((4 << 20) + r#"{"n":0,"kind":""}"#.len() + 1));
        assert_eq!(found.len(), 1, "{config}: {:?}", found.keys());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_kept_by_a_job_that_keeps_checkpoints_too() {
    for (config, key) in [
        (json!({"url": "s3://b/rows.jsonl", "if_exists": "fail"}), "rows.jsonl"),
        (json!({"url": "s3://b/{number}.jsonl", "rotate": {"rows": 3}, "if_exists": "fail"}), "00001.jsonl"),
    ] {
        // Before it begins, and before it commits.
        for step in [None, Some(Step::Kept)] {
            let mut job = Job::new(&config, Env::system());
            if let Some(step) = step {
                assert!(!job.run(Some((1, step))).await.unwrap());
            }
            job.client.inner.put(&key.into(), PutPayload::from_static(b"kept\n")).await.unwrap();
            let error = job.run(None).await.unwrap_err();
            assert!(error.message().contains("is there already, and `if_exists: fail` keeps it"), "{config}: {error}");
            assert_eq!(job.objects().await[key], b"kept\n".as_slice());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_and_is_gone_is_told() {
    for config in [json!({"url": "s3://b/out/rows.csv"}), json!({"url": "s3://b/{number}.csv", "rotate": {"rows": 3}})]
    {
        let mut job = Job::new(&config, Env::system());
        assert!(!job.run(Some((2, Step::Kept))).await.unwrap());
        for key in job.objects().await.into_keys().filter(|k| k.contains('_')) {
            job.client.inner.delete(&key.into()).await.unwrap();
        }
        let error = job.run(None).await.unwrap_err();
        assert_eq!(error.kind(), bourn_engine::Kind::NotFound, "{config}: {error}");
    }
}
