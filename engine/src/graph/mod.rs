//! The graph that a spec or the Rust API describes, before planning.

pub mod behind;
pub mod builder;
pub mod logical;
pub mod validate;

pub use builder::NodeBuilder;
pub use logical::{Graph, Input, Node, OnError, Options, Role};
