//! The layers around a call: each is a call itself, and `stack` puts them together in one place.

pub mod journaled;
pub mod rate_limit;
pub mod retry;
pub mod stack;
pub mod timeout;

pub use stack::stack;
