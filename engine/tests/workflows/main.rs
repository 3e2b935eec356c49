//! What a workflow promises: each run a row, each step a column, failures as data, documents in order.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod backoffs;
mod beside;
mod budgets;
mod cached;
mod conflicts;
mod documents;
mod each;
mod embedded;
mod escalations;
mod fail_fast;
mod failures;
mod formats;
mod gates;
mod held;
mod journal;
mod kinds;
mod order;
mod outputs;
mod overdue;
mod paid;
mod passages;
mod pipeline_steps;
mod plans;
mod replays;
mod returns;
mod rounds;
mod routes;
mod run_budgets;
mod stops;
mod timeouts;
mod times;
mod turns;
mod waits;
mod ways;
mod within;
