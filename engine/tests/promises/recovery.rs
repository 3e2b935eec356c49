//! A job that keeps checkpoints ends with the rows of one that never fell, whenever its host goes down: 2,000 random graphs,
//! each cut off up to six times, with disks that fail and lanes that change.
//!
//! And four graphs on a disk that breaks at each of its calls in turn: that call fails (`EIO`, `ENOSPC`, half of the bytes; a
//! failed fsync is one of them), or the host goes down there and has nothing of what was not synced.
//!
//! A failing seed is named in the message; `BOURN_SEED=7 cargo test -p bourn-engine --test promises recovery` runs it alone,
//! and `BOURN_SEEDS=100000` more of them.

use bourn_engine::testing::random_graph::RandomGraph;
use bourn_engine::testing::simulation::files::Fault;

use crate::random_graphs::number;

const CRASHES: u64 = 6;

/// The hash of a run, how often it was cut off, and how often a checkpoint was given up because it took too long.
fn run(seed: u64) -> Result<(u64, u64, u64), String> {
    let graph = RandomGraph::recovering(seed);
    let run = graph.run_with_crashes(CRASHES);
    let again = format!("BOURN_SEED={seed} cargo test -p bourn-engine --test promises recovery");
    run.result.map_err(|why| format!("seed {seed}: {why}\n{}\nrun it again: {again}", run.story))?;
    let notes = graph.seen();
    Ok((run.trace, notes.crashes, notes.timeouts))
}

#[test]
fn no_row_is_lost_or_doubled_by_crashes_in_2000_random_graphs() {
    let seeds = match number("BOURN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BOURN_SEEDS").unwrap_or(2_000),
    };
    let all = seeds.end - seeds.start;
    let (ran, failed): (Vec<_>, Vec<_>) = seeds.map(run).partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    assert!(
        failed.is_empty(),
        "{} seeds failed\n{}",
        failed.len(),
        failed.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
    );
    let sum = |of: fn(&(u64, u64, u64)) -> u64| ran.iter().flatten().map(of).sum::<u64>();
    let (crashes, timeouts) = (sum(|ran| ran.1), sum(|ran| ran.2));
    // Graphs that end before they are cut off prove nothing.
    assert!(crashes > all, "{crashes} crashes in {all} graphs");
    assert!(timeouts > all / 20, "{timeouts} checkpoints were given up in {all} graphs");
}

#[test]
fn the_same_seed_gives_the_same_crashes() {
    for seed in (0..100).step_by(10) {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// So many calls has the disk of a graph that is small enough to be tried at each.
const FEW: u64 = 150;

#[test]
fn whichever_call_of_the_disk_fails_and_wherever_the_host_goes_down_the_rows_are_right() {
    let calls = |seed: u64| RandomGraph::recovering(seed).run_on_a_broken_disk(u64::MAX, None).unwrap();
    let (mut tried, mut failed) = (0, Vec::new());
    for seed in (0..).filter(|seed| calls(*seed) < FEW).take(4) {
        for call in 1..=calls(seed) {
            for fault in [Some(Fault::Io), Some(Fault::Full), Some(Fault::Short), None] {
                tried += 1;
                let graph = RandomGraph::recovering(seed);
                if let Err(why) = graph.run_on_a_broken_disk(call, fault) {
                    failed.push(format!("seed {seed}, call {call}, {fault:?}: {why}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} of {tried}\n{}", failed.len(), failed[..failed.len().min(5)].join("\n"));
    assert!(tried > 300, "{tried}");
}
