//! Checkpoints and rows in a bucket: a job of the command that is killed goes on from there, and leaves what a calm one does.

use std::process::Stdio;

use serde_json::Value;

use crate::support::Folder;
use crate::weed::{SECRET, Weed};

const ROWS: u64 = 60_000;

/// A job with state, which counts the rows of each user.
fn spec(weed: &Weed) -> String {
    format!(
        "\
name: counted
source: {{ generate: {{ rows: {ROWS}, rate: 40000/s, columns: {{ id: n, user: n % 10 }} }} }}
stages:
  - count: {{ by: [user], as: visit }}
sink: {{ file: {{ path: out.jsonl }} }}
checkpoint:
  every: 100ms
  path: s3://data/kept
  lease: 3s
  options: {{ endpoint: 'http://{}', access_key_id: writer, secret_access_key: '${{secret.KEY}}' }}
secrets: {{ KEY: {{ env: BUCKET_SECRET }} }}
",
        weed.address
    )
}

/// What the command says, and its exit code.
fn bourn(folder: &Folder, args: &[&str], kill_at: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bourn"));
    command.args(args).current_dir(folder.path(".")).env("BUCKET_SECRET", SECRET).env_remove("BOURN_LOG");
    if let Some(point) = kill_at {
        command.env("BOURN_KILL_AT", point);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!out.contains(SECRET) && !err.contains(SECRET), "{out}{err}");
    (output.status.code(), out, err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_goes_on_from_its_checkpoint_in_a_bucket() {
    let weed = Weed::start().await;
    let folder = Folder::new();
    std::fs::write(folder.path("spec.yaml"), spec(&weed)).unwrap();
    tokio::task::block_in_place(|| {
        let run = ["run", "spec.yaml"];
        let (_, out, err) = bourn(&folder, &["validate", "spec.yaml", "--connect"], None);
        assert!(out.contains("valid"), "{out}{err}");
        let (_, plan, _) = bourn(&folder, &["plan", "spec.yaml"], None);
        assert!(plan.contains("checkpoints in s3://data/kept/counted, the newest 3 stay"), "{plan}");
        for point in ["manifest_stored:3", "part_stored:2", "committed:2"] {
            assert_eq!(bourn(&folder, &run, Some(point)).0, None, "{point}");
        }
        let (code, out, _) = bourn(&folder, &["checkpoints", "list", "spec.yaml", "-o", "json"], None);
        assert_eq!(code, Some(0));
        let kept: Vec<Value> = serde_json::from_str(&out).unwrap();
        assert!(!kept.is_empty());
        for verb in ["show", "verify"] {
            assert_eq!(bourn(&folder, &["checkpoints", verb, "spec.yaml"], None).0, Some(0), "{verb}");
        }
        let older = kept[0]["id"].to_string();
        let (code, _, err) = bourn(&folder, &["run", "spec.yaml", "--from-checkpoint", &older], None);
        assert_eq!(code, Some(0), "{err}");
        assert!(err.contains(&format!("goes on behind checkpoint {older}")), "{err}");
        assert!(err.contains("(s3://data/kept/counted)"), "{err}");
    });
    let mut visits = [0; 10];
    let text = std::fs::read_to_string(folder.path("out.jsonl")).unwrap();
    for (n, line) in text.lines().enumerate() {
        let row: Value = serde_json::from_str(line).unwrap();
        let user = usize::try_from(row["user"].as_u64().unwrap()).unwrap();
        visits[user] += 1;
        assert_eq!((row["id"].as_u64(), row["visit"].as_u64()), (Some(n as u64), Some(visits[user])));
    }
    assert_eq!(text.lines().count() as u64, ROWS);
    tokio::task::block_in_place(|| {
        let (code, _, err) = bourn(&folder, &["checkpoints", "delete", "spec.yaml", "--all"], None);
        assert_eq!(code, Some(0), "{err}");
        let (code, _, err) = bourn(&folder, &["checkpoints", "list", "spec.yaml"], None);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("there is no checkpoint in s3://data/kept/counted"), "{err}");
    });
}

/// Rows into one object and into many, with checkpoints on the disk.
fn into_objects(weed: &Weed) -> String {
    let options = format!(
        "options: {{ endpoint: 'http://{}', access_key_id: writer, secret_access_key: '${{secret.KEY}}' }}",
        weed.address
    );
    format!(
        "\
name: written
source: {{ generate: {{ rows: {ROWS}, rate: 40000/s, columns: {{ id: n, text: \"'row ' || n\" }} }} }}
sinks:
  many: {{ object_store: {{ url: 's3://data/many/{{number}}.jsonl', rotate: {{ rows: 3000 }}, {options} }} }}
  one: {{ object_store: {{ url: s3://data/one/rows.parquet, {options} }} }}
checkpoint: {{ every: 100ms }}
secrets: {{ KEY: {{ env: BUCKET_SECRET }} }}
"
    )
}

fn read_back(weed: &Weed, url: &str) -> String {
    let options = format!(
        "options: {{ endpoint: 'http://{}', access_key_id: writer, secret_access_key: '${{secret.KEY}}' }}",
        weed.address
    );
    format!(
        "name: read\nsource: {{ object_store: {{ url: '{url}', {options} }} }}\nsink: {{ file: {{ path: back.jsonl }} }}\n\
         secrets: {{ KEY: {{ env: BUCKET_SECRET }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_leaves_in_the_bucket_what_a_calm_one_does() {
    let weed = Weed::start().await;
    let folder = Folder::new();
    std::fs::write(folder.path("spec.yaml"), into_objects(&weed)).unwrap();
    std::fs::write(folder.path("many.yaml"), read_back(&weed, "s3://data/many/*.jsonl")).unwrap();
    std::fs::write(folder.path("one.yaml"), read_back(&weed, "s3://data/one/rows.parquet")).unwrap();
    tokio::task::block_in_place(|| {
        let (_, plan, _) = bourn(&folder, &["plan", "spec.yaml"], None);
        assert_eq!(plan.matches("exactly once").count(), 2, "{plan}");
        for point in ["prepared:3", "manifest_stored:2", "file_placed:1", "committed:2", "assembled:1"] {
            let (code, _, err) = bourn(&folder, &["run", "spec.yaml"], Some(point));
            assert_eq!(code, None, "{point}: {err}");
        }
        let (code, _, err) = bourn(&folder, &["run", "spec.yaml"], None);
        assert_eq!(code, Some(0), "{err}");
        for spec in ["many.yaml", "one.yaml"] {
            let (code, _, err) = bourn(&folder, &["run", spec, "--fresh"], None);
            assert_eq!(code, Some(0), "{err}");
            let text = std::fs::read_to_string(folder.path("back.jsonl")).unwrap();
            let mut ids: Vec<u64> =
                text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["id"].as_u64().unwrap()).collect();
            ids.sort_unstable();
            assert!(ids.iter().copied().eq(0..ROWS), "{spec}: {} rows", ids.len());
        }
    });
    assert_eq!(weed.uploads().await, 0);
    let left = weed.keys().await;
    assert!(left.iter().all(|key| !key.contains("_bourn/") && !key.contains("/_")), "{left:?}");
}
