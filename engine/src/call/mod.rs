//! The layers around a call: each is a call itself, and `stack` puts them together in one place.

pub mod timeout;
pub mod rate_limit;
pub mod retry;
pub mod journaled;
pub mod stack;

pub use stack::stack;
