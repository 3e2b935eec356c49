//! Epochs: when they begin, when they are complete, when they are committed.

pub mod begin;
pub mod coordinator;
pub mod keeper;
pub mod manifest;
pub mod protocol;
pub mod recovery;
pub mod saved;
pub mod settled;
pub mod store;

pub use begin::{Change, Resumed};
pub use manifest::Manifest;
pub use recovery::{Begin, Resume};
pub use settled::Settled;
pub use store::{Folder, Lock, Store};
