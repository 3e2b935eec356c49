//! The stages that Bourn comes with; [`register`] is the list.
//!
//! `shape` makes rows into other rows, `route` sends them different ways, `set` adds a value made of the row, `merge` makes one of several, and the rest
//! are calls: `http`, `process` and `model` ask once for each row and add one column with the answer, and `embed` asks for many at once.
#![forbid(unsafe_code)]

pub mod embed;
pub mod http;
pub mod merge;
pub mod model;
pub mod process;
pub mod route;
pub mod set;
pub mod shape;
pub mod wait;

mod answer;
mod column;
mod named;
mod places;
#[cfg(test)]
mod testing;

use bourn_engine::api::Registry;

pub use embed::Embed;
pub use http::Http;
pub use merge::Merge;
pub use model::Model;
pub use process::Process;
pub use route::Route;
pub use set::Set;
pub use shape::{Batch, Chunk, Count, Dedupe, Filter, Flatten, Log, Map, Redact, Sample, Split, Sql, Throttle, Union};
pub use wait::Wait;

/// Adds every stage of this crate.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry
        .stage::<Filter>()
        .stage::<Map>()
        .stage::<Sql>()
        .stage::<Flatten>()
        .stage::<Chunk>()
        .stage::<Sample>()
        .stage::<Dedupe>()
        .stage::<Count>()
        .stage::<Redact>()
        .stage::<Split>()
        .stage::<Log>()
        .stage::<Union>()
        .stage::<Batch>()
        .stage::<Throttle>()
        .stage::<Route>()
        .stage::<Set>()
        .stage::<Merge>()
        .stage::<Http>()
        .stage::<Process>()
        .stage::<Model>()
        .stage::<Wait>()
        .stage::<Embed>()
}
