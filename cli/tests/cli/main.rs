//! The command as people use it: what goes in, what comes out, and the exit code.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests look at the command from outside")]
#![expect(clippy::unwrap_used, reason = "what the tests share is no test for clippy")]

mod collector;
mod hook;
mod support;
mod swarms;

mod alerts;
mod answers;
mod artifacts;
mod bad_input;
mod budgets;
mod bundles;
mod cached;
mod cases;
mod checkpoints;
mod completions;
mod dlq;
mod embedded;
mod escalations;
mod examples;
mod flows;
mod folders;
mod gates;
mod held;
mod ids;
mod insights;
mod lives;
mod lookups;
mod memory;
mod mock_llm;
mod models;
mod monitoring;
mod moved;
mod new;
#[cfg(all(feature = "http", feature = "nats", feature = "object_store", feature = "postgres"))]
mod offline;
mod outages;
mod overdue;
mod paid;
mod pinned;
mod pipelines;
mod replays;
mod replies;
mod retention;
mod returns;
mod runs;
mod runs_told;
mod schedules;
mod schema;
mod secrets;
mod shared;
mod specs;
mod stops;
mod streams;
mod taps;
mod tasks;
mod told;
mod watch;
mod watching;
mod within;
mod workflows;
