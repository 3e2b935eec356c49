//! What a job that keeps checkpoints is promised: whenever its host goes down, its files end as those of a calm run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::file::Compression;
use bourn_engine::api::{BoxSink, Epochs, Outcome, Receipt, Sink, SinkContext};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::testing::simulation::files::MemoryFiles;

/// Where the host goes down, in an epoch.
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
    // The third epoch has no rows.
    let count = if epoch == 3 { 0 } else { 7 };
    let rows: Vec<_> = (n..n + count).map(|n| json!({"n": n, "kind": format!("k{}", n % 2)})).collect();
    if rows.is_empty() { batch_of(&[json!({"n": 0, "kind": "k"})]).slice(0, 0) } else { batch_of(&rows) }
}

/// What a manifest would know.
#[derive(Clone, Default)]
struct Kept {
    behind: u64,
    receipts: Vec<(usize, Receipt)>,
}

async fn begin(file: &File, simulation: &Simulation, kept: &Kept) -> BoxSink {
    let folder = PathBuf::from("checkpoints/staged");
    let Kept { behind, receipts } = kept.clone();
    let epochs = Epochs { run: "r".into(), behind, receipts: receipts.clone(), folder };
    let context = SinkContext::new(simulation.env(), "out", rows_of(1).schema());
    let mut sink = file.sink(SinkContext { epochs: Some(epochs), ..context }).await.unwrap();
    for (_, receipt) in &receipts {
        assert_eq!(sink.commit(receipt).await.unwrap(), Outcome::Committed);
    }
    sink
}

/// Runs until the host goes down at a step, or to the end. Returns whether it came to the end.
async fn run(file: &File, simulation: &Simulation, kept: &mut Kept, down: Option<(u64, Step)>) -> bool {
    let mut sink = begin(file, simulation, kept).await;
    for epoch in kept.behind + 1..=EPOCHS {
        let at = |step| down == Some((epoch, step));
        let rows = rows_of(epoch);
        if rows.num_rows() > 0 {
            sink.write(&rows.slice(0, 4)).await.unwrap();
            sink.write(&rows.slice(4, 3)).await.unwrap();
        }
        if at(Step::Written) {
            return false;
        }
        let receipt = sink.prepare(epoch).await.unwrap();
        if at(Step::Prepared) {
            return false;
        }
        *kept = Kept { behind: epoch, receipts: receipt.iter().map(|r| (0, r.clone())).collect() };
        if at(Step::Kept) {
            return false;
        }
        if let Some(receipt) = &receipt {
            assert_eq!(sink.commit(receipt).await.unwrap(), Outcome::Committed);
        }
        if at(Step::Committed) {
            return false;
        }
    }
    sink.finish().await.unwrap();
    down.is_none_or(|(_, step)| step != Step::Finished)
}

/// The files that there are when it has ended, going down once if it says so; of what was not synced, all or nothing stays.
fn files_of(file: &File, down: Option<(u64, Step)>, keeps: bool) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = MemoryFiles::default();
    let mut kept = Kept::default();
    let mut down = down;
    loop {
        let simulation = Simulation::new(1).over(files.clone());
        let ended = simulation.run(run(file, &simulation, &mut kept, down.take())).done();
        if ended {
            return files.paths().into_iter().map(|p| (p.clone(), files.get(&p).unwrap())).collect();
        }
        files.crash(|| keeps);
    }
}

fn every_way_down(file: &File) {
    let calm = files_of(file, None, true);
    assert!(calm.values().map(Vec::len).sum::<usize>() > 100, "{:?}", calm.keys());
    for keeps in [true, false] {
        for epoch in 1..=EPOCHS {
            for step in STEPS {
                let found = files_of(file, Some((epoch, step)), keeps);
                let names: Vec<_> = found.keys().collect();
                assert_eq!(names, calm.keys().collect::<Vec<_>>(), "{}: {epoch} {step:?} {keeps}", file.path);
                assert!(found == calm, "{}: {epoch} {step:?} {keeps}", file.path);
            }
        }
    }
}

#[test]
fn one_file_of_every_format() {
    for ending in ["jsonl", "csv", "jsonl.gz", "csv.zst", "parquet", "arrow", "arrows"] {
        every_way_down(&File::new(format!("out/rows.{ending}")));
    }
    // Its marker between blocks is drawn at random.
    let avro = File { compression: Some(Compression::Snappy), ..File::new("out/rows.avro") };
    for step in STEPS {
        let found = files_of(&avro, Some((2, step)), false);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&PathBuf::from("out/rows.avro")]);
    }
}

#[test]
fn many_files_by_rows_and_by_value() {
    let rotate = Rotate { rows: Some(3), ..Rotate::default() };
    for ending in ["jsonl", "csv.gz", "parquet"] {
        every_way_down(&File::new(format!("out/rows-{{number}}.{ending}")).rotated(rotate));
        let by_value = File { format: Some(Format::Json), ..File::new("out") }.partitioned_by(["kind"]);
        every_way_down(&by_value.rotated(rotate));
    }
}

#[test]
fn an_older_checkpoint_takes_back_what_was_committed_behind_it() {
    let rotate = Rotate { rows: Some(3), ..Rotate::default() };
    for file in
        [File::new("out/rows.jsonl"), File::new("out/{number}.jsonl").rotated(rotate), File::new("out/rows.parquet")]
    {
        let calm = files_of(&file, None, true);
        let files = MemoryFiles::default();
        let mut kept = Kept::default();
        let going = |kept: &mut Kept, down| {
            let simulation = Simulation::new(1).over(files.clone());
            simulation.run(run(&file, &simulation, kept, down)).done()
        };
        assert!(!going(&mut kept, Some((1, Step::Committed))));
        let older = kept.clone();
        assert!(!going(&mut kept, Some((4, Step::Written))));
        kept = older;
        assert!(going(&mut kept, None));
        let found: BTreeMap<_, _> = files.paths().into_iter().map(|p| (p.clone(), files.get(&p).unwrap())).collect();
        assert!(found == calm, "{}: {:?}", file.path, found.keys());
    }
}

#[test]
fn a_file_that_is_gone_or_has_lost_its_end_is_told() {
    for ending in ["jsonl", "parquet"] {
        let file = File::new(format!("out/rows.{ending}"));
        let files = MemoryFiles::default();
        let mut kept = Kept::default();
        let simulation = Simulation::new(1).over(files.clone());
        assert!(!simulation.run(run(&file, &simulation, &mut kept, Some((2, Step::Kept)))).done());
        for path in files.paths() {
            files.change(&path, Vec::clear);
        }
        let Kept { behind, receipts } = kept;
        let epochs = Epochs { run: "r".into(), behind, receipts, folder: "checkpoints/staged".into() };
        let context = SinkContext::new(simulation.env(), "out", rows_of(1).schema());
        let told = simulation.run(async {
            let mut sink = file.sink(SinkContext { epochs: Some(epochs), ..context }).await?;
            sink.prepare(3).await?;
            sink.finish().await
        });
        let error = told.done().unwrap_err().to_string();
        let wanted = if ending == "jsonl" { "had" } else { "staged" };
        assert!(error.contains(wanted), "{error}");
    }
}
