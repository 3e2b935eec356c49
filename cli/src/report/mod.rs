//! What is told on the screen.

pub mod bottleneck;
pub mod diagnostics;
pub mod document;
pub mod progress;
pub mod table;
