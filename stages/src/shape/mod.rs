//! Stages that make rows into other rows.

pub mod batch;
pub mod filter;
pub mod map;
pub mod throttle;
pub mod union;

mod columns;

pub use batch::Batch;
pub use filter::Filter;
pub use map::Map;
pub use throttle::Throttle;
pub use union::Union;
