//! SQL expressions over Arrow batches: the only crate that sees DataFusion.
//!
//! A text becomes an [`Expression`] at planning, with everything that can be wrong with it told then as a
//! [`Problem`](bourn_engine::diagnostic::Problem); at run time it is a tree of Arrow kernels that works whole batches.
//! [`Predicate`] is an expression that is true or false, and keeps the rows for which it is true; [`Query`] is a whole
//! `select` over the rows of a batch.
//!
//! What differs from DataFusion's own reading of a text, always so that the same rows give the same result:
//! - names keep their case, and a function whose value depends on when or how often it is asked (`now()`, `random()`) is refused;
//! - `timestamp` is to the microsecond, as everywhere in the engine, and text is one type (`Utf8`);
//! - arithmetic on columns that overflows is an error of its row, never a wrong number.
#![forbid(unsafe_code)]

mod expression;
mod predicate;
mod query;

mod check;
mod compile;
mod dialect;
mod errors;
mod formats;
mod functions;
mod text;
mod types;

pub use bourn_engine::data::sql_type::sql_name;
pub use compile::quote;
pub use expression::Expression;
pub use predicate::Predicate;
pub use query::Query;
