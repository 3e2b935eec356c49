//! What happens when an edge has no room: the key `on_full` of a stage or sink.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::data::units::Size;

/// What happens to rows for which the edges into a stage or sink have no room, because it is slower than what it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form")]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// The writer waits, and with it everything that it feeds.
    #[default]
    Block,
    /// The batch is dropped, and its rows are counted. Barriers, watermarks and the end never are.
    Drop,
    /// The batch goes to a spool on the disk, so that the writer goes on; when that is full too, the writer waits.
    Isolate(Isolation),
}

/// The spool of an isolated stage or sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Isolation {
    /// The most bytes on the disk, of all edges and lanes of the stage or sink together.
    pub disk: Size,
    /// The folder in which jobs have the folders of their spools. What is there of a job that has died is removed when a
    /// job of the same name starts.
    pub path: PathBuf,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { disk: Size(1 << 30), path: PathBuf::from(".bourn/spool") }
    }
}

/// What a spec says: `block`, `drop`, `isolate`, or `{ isolate: { disk: 1GiB } }`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Form {
    /// `block`: what writes waits. `drop`: rows are dropped and counted. `isolate`: rows wait on the disk.
    Word(Word),
    /// Rows wait on the disk, at most so many bytes; then what writes waits.
    Isolate(Isolate),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Word {
    Block,
    Drop,
    Isolate,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Isolate {
    /// The spool.
    isolate: Isolation,
}

impl From<Form> for OnFull {
    fn from(form: Form) -> Self {
        match form {
            Form::Word(Word::Block) => Self::Block,
            Form::Word(Word::Drop) => Self::Drop,
            Form::Word(Word::Isolate) => Self::Isolate(Isolation::default()),
            Form::Isolate(Isolate { isolate }) => Self::Isolate(isolate),
        }
    }
}

impl JsonSchema for OnFull {
    fn schema_name() -> Cow<'static, str> {
        "OnFull".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Form::json_schema(generator)
    }
}

impl OnFull {
    /// A spool of at most so many bytes, in the usual folder.
    pub fn isolate(disk: u64) -> Self {
        Self::Isolate(Isolation { disk: Size(disk), ..Isolation::default() })
    }
}

/// `block`, `drop`, or `isolate, 1 GiB of disk`.
impl std::fmt::Display for OnFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block => f.write_str("block"),
            Self::Drop => f.write_str("drop"),
            Self::Isolate(isolation) => write!(f, "isolate on {} of disk", isolation.disk),
        }
    }
}
