//! What speaks HTTP, against servers and clients of every kind.

mod server;
mod sink;
mod socket;
mod source;
mod source_bad;
mod sse;
