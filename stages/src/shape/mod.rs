//! Stages that make rows into other rows.

pub mod batch;
pub mod chunk;
pub mod count;
pub mod dedupe;
pub mod filter;
pub mod flatten;
pub mod log;
pub mod map;
pub mod redact;
pub mod sample;
pub mod split;
pub mod sql;
pub mod throttle;
pub mod union;

mod columns;
mod keys;

pub use batch::Batch;
pub use chunk::Chunk;
pub use count::Count;
pub use dedupe::Dedupe;
pub use filter::Filter;
pub use flatten::Flatten;
pub use log::Log;
pub use map::Map;
pub use redact::Redact;
pub use sample::Sample;
pub use split::Split;
pub use sql::Sql;
pub use throttle::Throttle;
pub use union::Union;
