//! 500 random graphs at channel capacity 1, each under a schedule of its own: every row is accounted for, none deadlocks,
//! and the same seed gives the same run.
//!
//! A failing seed is named in the message; `BOURN_SEED=7 cargo test -p bourn-engine --test promises random_graphs` runs it
//! alone, and `BOURN_SEEDS=2000` more of them.

use bourn_engine::testing::random_graph::RandomGraph;

pub fn number(variable: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "how a person asks for one seed")]
    std::env::var(variable).ok().and_then(|v| v.parse().ok())
}

fn run(seed: u64) -> Result<u64, String> {
    let run = RandomGraph::new(seed).run();
    let again = format!("BOURN_SEED={seed} cargo test -p bourn-engine --test promises random_graphs");
    run.result.map_err(|why| format!("seed {seed}: {why}\n{}\nrun it again: {again}", run.story))?;
    Ok(run.trace)
}

#[test]
fn no_row_is_lost_and_nothing_deadlocks_in_500_random_graphs() {
    let seeds = match number("BOURN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BOURN_SEEDS").unwrap_or(500),
    };
    let failed: Vec<String> = seeds.filter_map(|seed| run(seed).err()).collect();
    assert!(failed.is_empty(), "{} seeds failed\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in (0..500).step_by(10) {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}
