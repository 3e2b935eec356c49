//! Bourn inside an async program: closures as stages, streams as sources, streams and sinks of a program as sinks.
//!
//! A pipeline of a program is planned, bounded, counted and stopped like any other; only its ends and some of its stages
//! are values of the program. Nothing is spawned for it, and nothing in it is unbounded: a program that does not read
//! holds the pipeline up, and a pipeline that does not read holds the program up.
//!
//! | in a program | in the graph |
//! |---|---|
//! | a `Stream` of batches | `graph.source(id, from_stream(schema, stream))` |
//! | a closure over batches | `graph.map_batches`, `filter_batches`, `flat_map_batches` |
//! | a `Stream` to read | `let (sink, rows) = into_stream(); graph.sink(id, sink)` |
//! | a `Sink` to write to | `graph.sink(id, into_sink(sink))` |
//!
//! The crate `bourn-structs` has the same over `serde` structs. It is made of [`from_parts`], [`into_stream_of`],
//! [`into_sink_of`] and [`Inline`], which are there for rows of any other form as well.
//!
//! ```
//! use arrow::array::{AsArray, Int64Array};
//! use arrow::compute::kernels::numeric::mul;
//! use arrow::datatypes::Int64Type;
//! use arrow::record_batch::RecordBatch;
//! use bourn_engine::embed::{from_stream, into_stream};
//! use bourn_engine::{Engine, Error, graph::Graph, rows};
//! use futures::{StreamExt, TryStreamExt, stream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> bourn_engine::Result<()> {
//! let numbers = rows![{"n": 1}, {"n": 2}, {"n": 3}];
//! let mut graph = Graph::new("doubled");
//! graph.source("numbers", from_stream(numbers.schema(), stream::iter([Ok::<_, Error>(numbers)])));
//! graph.map_batches("double", |rows: &RecordBatch| {
//!     Ok(RecordBatch::try_new(rows.schema(), vec![mul(rows.column(0), &Int64Array::new_scalar(2))?])?)
//! });
//! let (sink, doubled) = into_stream();
//! graph.sink("doubled", sink);
//!
//! let engine = Engine::default();
//! let job = engine.start(engine.plan(graph).await?).await?;
//! let batches: Vec<RecordBatch> = doubled.try_collect().await?;
//! assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values(), &[2, 4, 6]);
//! assert_eq!(job.stats().rows_written(), 3);
//! job.wait().await
//! # }
//! ```

mod batches;
mod inline;
mod input;
mod output;
mod planned;
mod sink;

pub use inline::Inline;
pub use input::{Part, from_parts, from_stream};
pub use output::{Batches, Check, Read, Received, into_stream, into_stream_of};
pub use sink::{into_sink, into_sink_of};
