//! Splits and positions: where a source is in its input.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A part of an input that is read by one lane, in order: a file, a partition, a shard. Its name is stable across runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Split(Arc<str>);

impl Split {
    /// The split with this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a split has been read, in the source's own words. A source that is started with it yields the rows behind it.
///
/// It is kept as JSON, so that a person who looks at a checkpoint can read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position(Arc<str>);

impl Position {
    /// The position that `value` describes.
    ///
    /// # Errors
    /// When `value` has no JSON form.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// The position that a message or a dead letter shows so. Whether a source can go on behind it is not said.
    pub fn shown(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }

    /// What [`Position::of`] was given.
    ///
    /// # Errors
    /// When another type wrote it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
