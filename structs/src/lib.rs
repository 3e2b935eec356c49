//! Rows as `serde` structs: closures over structs as stages, streams and sinks of structs as the ends of a pipeline.
//!
//! What [`bourn_engine::embed`] is for batches, for values of a type of the program: its fields are the columns. Each row fails
//! alone: one that does not fit goes where `on_error` says.
//!
//! ```
//! use bourn_engine::{Engine, Error, graph::Graph};
//! use bourn_structs::{GraphRows, from_rows, into_rows};
//! use futures::{TryStreamExt, stream};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { id: i64, cents: i64 }
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Priced { id: i64, euros: f64 }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> bourn_engine::Result<()> {
//! let mut graph = Graph::new("prices");
//! graph.source("orders", from_rows(stream::iter([Ok::<_, Error>(Order { id: 1, cents: 250 })])));
//! graph.map_rows("priced", |order: Order| Priced { id: order.id, euros: order.cents as f64 / 100.0 });
//! let (sink, priced) = into_rows::<Priced>();
//! graph.sink("out", sink);
//!
//! let engine = Engine::default();
//! let job = engine.start(engine.plan(graph).await?).await?;
//! assert_eq!(priced.try_collect::<Vec<_>>().await?, [Priced { id: 1, euros: 2.5 }]);
//! job.wait().await
//! # }
//! ```

mod columns;
mod ends;
mod stages;
mod values;

pub use ends::{Rows, from_rows, from_rows_as, into_row_sink, into_rows};
pub use stages::GraphRows;
