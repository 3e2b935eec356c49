//! What the engine promises, one file per promise.

mod support;

mod rows_arrive;
