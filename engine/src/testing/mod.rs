//! What tests of the engine, and of stages and connectors outside, are written with.

pub mod harness;

pub mod conformance;

pub mod simulation;

pub mod random_graph;

pub mod mocked;

pub mod replay;
