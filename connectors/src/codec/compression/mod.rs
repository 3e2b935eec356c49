//! Compressed text: gzip and zstd around formats of lines.

mod pack;
mod unpack;

use bourn_engine::data::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use pack::Packer;
pub use unpack::Text;

/// How a text is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several.
    Zstd,
}

impl Packing {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// How far a compressed text may grow: a small file can hold more than fits anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most decompressed bytes for each compressed one, once the text has 16 MiB.
    #[serde(default = "ratio")]
    pub ratio: u32,
    /// The most decompressed bytes of one text; without a limit if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

fn ratio() -> u32 {
    200
}

impl Default for Limits {
    fn default() -> Self {
        Self { ratio: ratio(), size: None }
    }
}
