//! The engine's cost in instructions, for callgrind: `instructions CASE N` works N batches. `benches/instructions` runs
//! each case twice under valgrind and prints the difference per batch.

use bourn_benches::{batch, chain, work};
use std::hint::black_box;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let case = std::env::args().nth(1).unwrap_or_default();
    let batches: u64 = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let rows = batch(1);
    let stages = match case.as_str() {
        "clone" => {
            (0..batches).for_each(|_| drop(black_box(rows.clone())));
            return;
        }
        case => case.parse().unwrap_or(1),
    };
    let mut chain = chain(stages);
    (0..batches).for_each(|_| work(&mut chain, &rows));
}
