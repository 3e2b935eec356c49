//! What tests of the engine, and of stages and connectors outside, are written with.

pub mod conformance;
pub mod harness;
pub mod random_graph;
pub mod simulation;
