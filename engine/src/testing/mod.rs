//! What tests of the engine, and of stages and connectors outside, are written with.

// harness
// conformance
pub mod simulation;
// random
