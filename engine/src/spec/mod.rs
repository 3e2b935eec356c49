//! Text to a typed spec, with places.

pub mod alerts;
pub mod caching;
pub mod case;
pub mod complexity;
pub mod document;
pub mod load;
pub mod mode;
pub mod model;
pub mod monitoring;
pub mod node;
pub mod optimization;
pub mod output;
pub mod parse;
pub mod receiver;
pub mod routing;
pub mod schedule;
pub mod schema;
pub mod targets;

pub mod route;
pub(crate) mod switch;

mod budget;
mod chain;
mod check;
mod checkpoint;
mod command;
mod depends;
mod disclose;
mod edges;
mod fill;
pub mod gates;
mod keys;
mod nested;
mod on_failure;
mod paths;
mod pipeline;
mod pipeline_step;
mod placed;
mod reader;
pub(crate) mod references;
pub mod resources;
mod secrets;
mod shared;
mod shown;
mod steps;
mod swarm;
mod swarm_keys;
mod templates;
mod timeouts;
mod tried;
mod waits;
mod workflow_keys;

#[cfg(test)]
mod tests;

pub use case::{Case, Cases};
pub use disclose::{Disclosure, is_credential};
pub use document::Document;
pub use fill::StandIns;
pub use load::{Loaded, Request, load};
pub use mode::{Choice, Mode};
pub use model::{Chain, Pipeline, Spec};
pub use routing::{Route, Routing};
pub use schema::{cases_schema, schema};
