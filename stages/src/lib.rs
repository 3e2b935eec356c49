//! The stages that Bourn comes with; [`register`] is the list.
//!
//! `shape` makes rows into other rows, `route` sends them different ways, `set` adds a value made of the row, `merge` makes one of several, and the rest
//! are calls: `http`, `process`, `lookup` and `model` ask once for each row and add one column with the answer, and `embed` asks for many at once.
//!
//! A workflow in a program, in no server, with no file. The engine is what its parts are: these kinds of steps, and if they are said the
//! world (`Engine::with_env`), a journal, a cache; a test puts others in their places.
//!
//! ```
//! use bourn_engine::api::Registry;
//! use bourn_engine::{Engine, Result};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let engine = Engine::new(bourn_stages::register(Registry::new()));
//! let greet = "steps:
//!   - { id: who, set: { value: { name: '${input.name}', long: '${.input.name | length > 3}' } } }
//!   - { id: text, set: 'Hello ${who.results.name}' }";
//! let document = engine.workflow(greet, "greet.yaml").await?.run(&json!({ "name": "Ada" })).await?;
//! assert_eq!(document.final_output, "Hello Ada");
//! assert_eq!(document.workflow_results["who"]["long"], false);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod embed;
pub mod http;
pub mod lookup;
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
pub use lookup::Lookup;
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
        .stage::<Lookup>()
        .stage::<Model>()
        .stage::<Wait>()
        .stage::<Embed>()
}
