//! Servers to start, stop and cut off.
#![allow(dead_code, reason = "not every choice of features has a server")]

pub mod job;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod program;
pub mod proxy;
