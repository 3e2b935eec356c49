//! The keys of a spec outside of the configurations of stages and connectors: types and their JSON Schema.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::checkpoint::CheckpointChoice;
use super::mode::Type;
use super::model::ErrorPolicy;
use super::monitoring::Monitoring;
use super::secrets::SecretKeys;
use super::shared::RateKeys;
use crate::api::limits::Retries;
use crate::api::{Budget, Keeping, Level, OnFull};
use crate::data::units::{Percentage, Size};
use crate::diagnostic::Key;

/// A block whose kind is a key: read by walking the tree, described by a definition that knows the registered kinds.
macro_rules! block {
    ($name:ident, $definition:literal) => {
        #[derive(Debug, Deserialize)]
        pub(crate) struct $name(#[allow(dead_code, reason = "read by walking the tree")] Value);
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $definition.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "$ref": concat!("#/$defs/", $definition) })
            }
        }
    };
}
block!(SourceBlock, "source");
block!(StageBlock, "stage");
block!(SinkBlock, "sink");
block!(StepBlock, "step");
block!(AlternativeBlock, "alternative");
block!(GateBlock, "gate");
block!(TestBlock, "test");
block!(NestedBlock, "nested");
block!(PipelineBlock, "pipeline");
/// The definitions that a schema of this file refers to.
pub(crate) const BLOCKS: [&str; 10] =
    ["source", "stage", "sink", "step", "alternative", "gate", "fallback", "test", "nested", "pipeline"];

/// One or more.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Each of them with its place below `path`.
    pub(crate) fn placed(&self, path: &[Key]) -> Vec<(Vec<Key>, &String)> {
        match self {
            Self::One(name) => vec![(path.to_vec(), name)],
            Self::Many(names) => (0_usize..).zip(names).map(|(i, n)| ([path, &[i.into()]].concat(), n)).collect(),
        }
    }
}

/// A version: a text such as `1.2.0`, or a number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "checked, not used yet")]
pub(crate) enum Version {
    /// `1.2.0`
    Text(String),
    /// `1`
    Number(f64),
}

/// A connector, or a list of them.
#[derive(Debug, Deserialize)]
pub(crate) struct FallbackBlock(#[allow(dead_code, reason = "read by walking the tree")] Value);

impl JsonSchema for FallbackBlock {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "fallback".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "$ref": "#/$defs/fallback" },
            { "type": "array", "items": { "$ref": "#/$defs/fallback" }, "minItems": 1 },
        ] })
    }
}

/// A pipeline: sources, stages, sinks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the blocks are read by walking the tree")]
pub(crate) struct PipelineKeys {
    /// The name of the job; the name of the file if it does not say.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The version of the spec.
    pub version: Option<Version>,
    /// How the spec is read; by what is in it if it does not say.
    pub r#type: Option<Type>,
    /// The only source of a linear pipeline.
    pub source: Option<SourceBlock>,
    /// Sources by id.
    pub sources: Option<BTreeMap<String, SourceBlock>>,
    /// Stages; each reads the one before it unless it says `from`.
    pub stages: Option<Vec<StageBlock>>,
    /// The only sink of a linear pipeline.
    pub sink: Option<SinkBlock>,
    /// Sinks by id.
    pub sinks: Option<BTreeMap<String, SinkBlock>>,
    /// What happens to a row that fails, where a stage does not say.
    pub on_error: Option<ErrorPolicy>,
    /// The share of the rows that may fail under `drop` or `dead_letter`: with more, the job ends, and commits nothing of the epoch in
    /// which they did. It is a share of all rows that this run has read, judged again and again from 1,000 rows on and once more at
    /// the end.
    pub tolerated_failure_percentage: Option<Percentage>,
    /// The sink of the rows that failed under `on_error: dead_letter`.
    pub dead_letters: Option<SinkBlock>,
    /// When progress is made safe.
    pub checkpoint: Option<CheckpointChoice>,
    /// What every sink but the dead letters must give at least, whatever crash comes between: a spec that can't is refused.
    pub delivery: Option<Level>,
    /// What the job may use.
    pub limits: Option<LimitKeys>,
    /// What all stages together may spend on models.
    pub budget: Option<Budget>,
    /// Where spans and metrics are sent, and how much of them.
    pub monitoring: Option<Monitoring>,
    /// Secrets by name, for `${secret.NAME}`; they are never shown.
    pub secrets: Option<SecretKeys>,
    /// Stages that are written once and used several times, by name.
    pub templates: Option<BTreeMap<String, TemplateKeys>>,
    /// Rates and limits of tokens by name: the stages that say `limits: { rate: NAME }` keep one together.
    pub rate_limits: Option<BTreeMap<String, RateKeys>>,
    /// Ways to try again, by name, for `limits: { retry: NAME }`.
    pub retries: Option<BTreeMap<String, Retries>>,
    /// Cases that `bourn test` runs.
    pub tests: Option<Vec<TestBlock>>,
}

/// What a job may use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitKeys {
    /// Bytes for edges and state together: `512MiB`.
    pub memory: Option<Size>,
}

/// The keys of a stage beside its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct StageKeys {
    /// Its handle in metrics, logs, dead letters and checkpoints; its kind if it does not say.
    pub id: Option<String>,
    /// What it reads, instead of the stage before it: an id, `id.port`, or a list of them.
    pub from: Option<OneOrMany>,
    /// How many parallel copies; one if it does not say.
    #[schemars(range(min = 1, max = 1024))]
    pub lanes: Option<usize>,
    /// What happens to a row that fails here.
    pub on_error: Option<ErrorPolicy>,
    /// What happens when an edge into it has no room: `block` (the default), `drop`, or `isolate`.
    #[serde(default)]
    pub on_full: OnFull,
    /// For a stage that asks a model or a service: keeps each answer, so that none is paid for twice, whatever ends the job. `true`
    /// is the journal of the command (`--journal`, `.bourn/journal.db`), a text another file. Whoever asks the same of the same
    /// model in the same words takes the answer from there, stages and jobs that share the file too.
    pub journal: Option<JournalKeys>,
    /// The stage is a workflow, which each row is a run of: the file of a spec, or `{ spec: FILE or a spec, input: what it is given,
    /// output: the column of its final_output }`. Its input is the whole row if it does not say.
    pub workflow: Option<NestedBlock>,
}

/// Whether and where answers are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum JournalKeys {
    /// `true`: in the journal of the command.
    Kept(bool),
    /// In this file.
    At(String),
}

impl JournalKeys {
    pub(crate) fn keeping(self) -> Option<Keeping> {
        match self {
            Self::Kept(kept) => kept.then_some(Keeping::Shared),
            Self::At(path) => Some(Keeping::At(path.into())),
        }
    }
}

/// The keys of a source beside its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct SourceKeys {
    /// How many parallel copies; one if it does not say.
    #[schemars(range(min = 1, max = 1024))]
    pub lanes: Option<usize>,
    /// What happens to a row that can't be read.
    pub on_error: Option<ErrorPolicy>,
}

/// The keys of a sink beside its kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct SinkKeys {
    /// What it reads, instead of the last stage: an id, `id.port`, or a list of them.
    pub from: Option<OneOrMany>,
    /// How many parallel copies; one if it does not say.
    #[schemars(range(min = 1, max = 1024))]
    pub lanes: Option<usize>,
    /// What happens to a row that can't be written.
    pub on_error: Option<ErrorPolicy>,
    /// What takes the rows that this sink refuses for good, or fails to take after its attempts: a connector, or a list of
    /// them in the order in which they are tried. What the last one refuses meets `on_error`.
    #[allow(dead_code, reason = "read by walking the tree")]
    pub fallback: Option<FallbackBlock>,
    /// What happens when an edge into it has no room: `block` (the default), `drop`, or `isolate`.
    #[serde(default)]
    pub on_full: OnFull,
}

/// Stages with parameters: a stage `template: { NAME: { parameter: value } }` stands for them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "templates are expanded by walking the tree")]
pub(crate) struct TemplateKeys {
    /// What it is for.
    pub description: Option<String>,
    /// What a use may or must say, for `${param.NAME}`.
    pub parameters: Option<BTreeMap<String, Option<ParameterKeys>>>,
    /// The stages; each reads the one before it unless it says `from`, the first what the use reads.
    #[schemars(length(min = 1))]
    pub stages: Vec<StageBlock>,
}

/// A parameter of a template.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "templates are expanded by walking the tree")]
pub(crate) struct ParameterKeys {
    /// What it is for.
    pub description: Option<String>,
    /// What holds when a use does not say; without it every use must.
    pub default: Option<Value>,
}

/// The JSON Schema of one of the types above, ready for a check: its blocks may be anything.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    if let Some(root) = schema.as_object_mut() {
        let defs = root.entry("$defs").or_insert_with(|| Map::new().into());
        if let Some(defs) = defs.as_object_mut() {
            defs.extend(BLOCKS.map(|b| (b.to_owned(), Value::Bool(true))));
        }
    }
    schema
}

/// The names of the keys of one of the types above.
pub(crate) fn names_of<T: JsonSchema>() -> Vec<String> {
    let schema = schema_of::<T>();
    schema["properties"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default()
}
