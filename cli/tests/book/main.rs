//! The book: every code block of the README and of docs/ is run, or compared with a file that is.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own the folders and the processes"
)]

mod blocks;
mod code;
mod surroundings;
