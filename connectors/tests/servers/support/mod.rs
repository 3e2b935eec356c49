//! Servers to start, stop and cut off.

pub mod program;
pub mod proxy;
