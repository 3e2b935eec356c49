//! Servers to start, stop and cut off, and what drives a connector against them.
#![allow(dead_code, reason = "not every choice of features has a server")]

pub mod drive;
pub mod gate;
pub mod job;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod program;
pub mod proxy;
#[cfg(feature = "http")]
pub mod served;
pub mod web;
#[cfg(feature = "object_store")]
pub mod weed;
