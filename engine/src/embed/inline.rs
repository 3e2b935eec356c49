//! A stage whose configuration is a value of the program, and can't be read from a spec.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::{BuildContext, Cardinality, Operator};
use crate::diagnostic::Problems;
use crate::error::Result;

/// Answers at planning which columns leave, given those that enter.
type Columns = Box<dyn Fn(&SchemaRef) -> Result<SchemaRef, Problems> + Send + Sync>;
type Build = Box<dyn Fn(&BuildContext) -> Result<Operator> + Send + Sync>;

/// What a [`StageConfig`](crate::api::StageConfig) is for a spec: for closures and other values of a program.
///
/// `graph.stage("doubled", Inline::new("double", Cardinality::One, columns, build))`
pub struct Inline {
    kind: &'static str,
    cardinality: Cardinality,
    columns: Columns,
    build: Build,
}

impl Inline {
    /// `kind` is what plans and metrics call it; `columns` is asked at planning, which columns leave for those that enter;
    /// `build` makes one instance for each lane.
    pub fn new(
        kind: &'static str,
        cardinality: Cardinality,
        columns: impl Fn(&SchemaRef) -> Result<SchemaRef, Problems> + Send + Sync + 'static,
        build: impl Fn(&BuildContext) -> Result<Operator> + Send + Sync + 'static,
    ) -> Self {
        Self { kind, cardinality, columns: Box::new(columns), build: Box::new(build) }
    }
}

impl From<Inline> for BoxStageConfig {
    fn from(stage: Inline) -> Self {
        Self(Arc::new(stage))
    }
}

impl ErasedStage for Inline {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        (self.columns)(&inputs[0])
    }

    fn cardinality(&self) -> Cardinality {
        self.cardinality
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        (self.build)(context)
    }

    fn describe(&self) -> serde_json::Value {
        "closure".into()
    }
}
