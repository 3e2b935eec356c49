//! What the engine promises, one file per promise.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::unnecessary_wraps,
    reason = "a test may fail where it stands, and its stages have one signature"
)]

mod support;

mod admission;
mod bounded_edges;
mod calls;
mod dead_letters;
mod embedded;
mod epochs;
mod failures;
mod fallback;
mod full_edges;
mod golden;
mod merged_inputs;
mod no_global;
mod open_columns;
mod plan_text;
mod problems;
mod random_graphs;
mod recovery;
mod rows_accounted;
mod rows_arrive;
mod service_limits;
mod tolerance;
