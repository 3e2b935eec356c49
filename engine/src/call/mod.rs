//! The layers around a call: each is a call itself, and `stack` puts them together in one place.

pub mod adaptive;
pub mod again;
pub mod deadlines;
pub mod known;
pub mod learnt;
pub mod metered;
pub mod places;
pub mod rate_limit;
pub mod retry;
pub mod spend;
pub mod stack;
pub mod timeout;
pub mod token_limit;
pub mod turns;

pub use stack::stack;
