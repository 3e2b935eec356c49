//! What every stage and connector that speaks HTTP shares: the client, bodies with a bound, errors without secrets, retries.
#![forbid(unsafe_code)]

pub mod body;
pub mod client;
pub mod errors;
pub mod inflate;
pub mod method;
pub mod retry;

pub use body::Body;
pub use client::{Options, SharedClient};
pub use inflate::Inflate;
pub use method::Method;
pub use retry::Attempts;
