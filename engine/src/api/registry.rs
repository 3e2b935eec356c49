//! The stages and connectors that an engine knows, by the key in a spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connector::{Capabilities, ConnectContext, Connector, SinkContext, Unread};
use super::erased::{ErasedConnector, ErasedStage};
use super::sink::BoxSink;
use super::stage_config::{Distribution, StageConfig};
use super::store::{ReadStore, StoreAt, StoreConfig};
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Result};

/// The configuration of a connector of any type.
#[derive(Clone)]
pub struct BoxConnector(pub(crate) Arc<dyn ErasedConnector>);

impl BoxConnector {
    /// Hands a configuration over to the engine.
    pub fn new(connector: impl Connector) -> Self {
        Self(Arc::new(connector))
    }
}

/// For a connector that stands before another one and hands over to it.
impl BoxConnector {
    /// Its key in a spec.
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// What it can do; see [`Connector::capabilities`].
    pub fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    /// See [`Connector::check_sink`].
    ///
    /// # Errors
    /// As there.
    pub async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        self.0.check_sink(schema, context).await
    }

    /// See [`Connector::sink`].
    ///
    /// # Errors
    /// As there.
    pub async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        self.0.sink(context).await
    }

    /// Its configuration, as plans show it: without secrets.
    pub fn describe(&self) -> Value {
        self.0.describe()
    }
}

/// For whoever looks at dead letters and replays them.
impl BoxConnector {
    /// See [`Connector::READS_BACK`].
    pub fn reads_back(&self) -> bool {
        self.0.reads_back()
    }

    /// See [`Connector::read_back`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_back(&self, rows: &SchemaRef, context: &ConnectContext) -> Result<Vec<Self>, Problems> {
        self.0.read_back(rows, context).await
    }

    /// See [`Connector::beside`].
    pub fn beside(&self, mark: &str, context: &ConnectContext) -> Option<Self> {
        self.0.beside(mark, context)
    }

    /// See [`Connector::reread`].
    pub fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        self.0.reread(texts, schema)
    }
}

impl<C: Connector> From<C> for BoxConnector {
    fn from(connector: C) -> Self {
        Self::new(connector)
    }
}

/// The configuration of a stage of any type.
#[derive(Clone)]
pub struct BoxStageConfig(pub(crate) Arc<dyn ErasedStage>);

impl BoxStageConfig {
    /// Hands a configuration over to the engine.
    pub fn new(config: impl StageConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl BoxStageConfig {
    /// How its rows are spread over its lanes; see [`StageConfig::distribution`].
    pub fn distribution(&self) -> Distribution {
        self.0.distribution()
    }

    /// The names of its ports; see [`StageConfig::ports`].
    pub fn ports(&self) -> Vec<String> {
        self.0.ports()
    }
}

impl<C: StageConfig> From<C> for BoxStageConfig {
    fn from(config: C) -> Self {
        Self::new(config)
    }
}

/// A kind of stage or connector: what `bourn list` shows, and how its configuration is read.
#[derive(Clone)]
pub struct Entry<T> {
    /// The key in a spec.
    pub name: &'static str,
    /// The JSON Schema of its configuration, with its doc comments as descriptions.
    pub schema: Schema,
    /// Whether what it has written as a sink can be read again; see [`Connector::READS_BACK`].
    pub reads_back: bool,
    read: fn(Value) -> Result<T>,
}

impl<T> Entry<T> {
    /// Reads a configuration that fits the schema.
    ///
    /// # Errors
    /// When it does not fit after all.
    pub fn read(&self, config: Value) -> Result<T> {
        (self.read)(config)
    }

    /// The first sentence of its doc comment.
    pub fn summary(&self) -> &str {
        let text = self.schema.get("description").and_then(Value::as_str).unwrap_or_default();
        text.split("\n\n").next().unwrap_or_default()
    }
}

/// The stages and connectors that an engine knows. A value: two engines may know different ones.
#[derive(Clone, Default)]
pub struct Registry {
    stages: BTreeMap<&'static str, Entry<BoxStageConfig>>,
    connectors: BTreeMap<&'static str, Entry<BoxConnector>>,
    absent: BTreeMap<&'static str, &'static str>,
    stores: BTreeMap<&'static str, ReadStore>,
}

impl Registry {
    /// One that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind of stage, in place of one of the same name.
    #[must_use]
    pub fn stage<C: StageConfig>(mut self) -> Self {
        let read = |v| Ok(BoxStageConfig::new(read::<C>(v)?));
        let entry = Entry { name: C::NAME, schema: schema_of::<C>(), reads_back: false, read };
        self.stages.insert(C::NAME, entry);
        self
    }

    /// Adds a kind of connector, in place of one of the same name.
    #[must_use]
    pub fn connector<C: Connector>(mut self) -> Self {
        let read = |v| Ok(BoxConnector::new(read::<C>(v)?));
        let entry = Entry { name: C::NAME, schema: schema_of::<C>(), reads_back: C::READS_BACK, read };
        self.connectors.insert(C::NAME, entry);
        self
    }

    /// Notes that a build with the cargo feature `feature` has a connector `name`, which this one lacks, so that a spec that
    /// names it is told so.
    #[must_use]
    pub fn absent(mut self, name: &'static str, feature: &'static str) -> Self {
        self.absent.insert(name, feature);
        self
    }

    /// The cargo feature that brings a connector which is not in this build.
    pub fn feature_of(&self, connector: &str) -> Option<&'static str> {
        self.absent.get(connector).copied().filter(|_| !self.connectors.contains_key(connector))
    }

    /// Adds a kind of store for checkpoints, for URLs that begin with one of these schemes.
    #[must_use]
    pub fn store(mut self, schemes: &[&'static str], read: ReadStore) -> Self {
        self.stores.extend(schemes.iter().map(|scheme| (*scheme, read)));
        self
    }

    /// What is said of a store at a URL.
    ///
    /// # Errors
    /// When no kind of store that is known has such URLs.
    pub fn store_at(&self, at: StoreAt) -> Result<Arc<dyn StoreConfig>, Problem> {
        let scheme = at.url.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
        if let Some(read) = self.stores.get(scheme) {
            return Ok(read(at));
        }
        let problem = Problem::new(format!("`{scheme}://` is no place for checkpoints that is known")).under("path");
        let known: Vec<String> = self.stores.keys().map(|scheme| format!("`{scheme}://`")).collect();
        Err(problem.help(match self.feature_of("object_store") {
            Some(feature) => format!("a bucket takes a build with the cargo feature `{feature}`; a path is a folder"),
            None if known.is_empty() => "a path is a folder".to_owned(),
            None => format!("a path is a folder, and URLs begin with {}", known.join(", ")),
        }))
    }

    /// The kinds of stages, by name.
    pub fn stages(&self) -> &BTreeMap<&'static str, Entry<BoxStageConfig>> {
        &self.stages
    }

    /// The kinds of connectors, by name.
    pub fn connectors(&self) -> &BTreeMap<&'static str, Entry<BoxConnector>> {
        &self.connectors
    }
}

fn schema_of<C: JsonSchema>() -> Schema {
    SchemaGenerator::default().into_root_schema_for::<C>()
}

fn read<C: DeserializeOwned>(config: Value) -> Result<C> {
    serde_json::from_value(config).map_err(|e| Error::validation(e.to_string()))
}
