//! What the engine promises, one file per promise.

mod support;

mod admission;
mod bounded_edges;
mod calls;
mod dead_letters;
mod epochs;
mod failures;
mod no_global;
mod plan_text;
mod problems;
mod random_graphs;
mod rows_accounted;
mod rows_arrive;
