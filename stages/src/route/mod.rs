//! Stages that send rows different ways.

mod first_match;

pub use first_match::{Otherwise, Route};
