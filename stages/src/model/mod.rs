//! `model`: asks a language model about each row.

mod call;
pub mod mock;
pub mod provider;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::diagnostic::Problems;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, PerRow};
use crate::places::Check;
use crate::process::Parse;
use call::Chat;
pub use mock::{Fault, Mock};
pub use provider::{Prompt, Provider, Said};

/// Asks a language model about each row, and adds a column with its answer.
///
/// `model: { prompt: "Summarise in one sentence: ${text}", max_tokens: 100 }`. Values are filled in once and never read
/// as templates again. With `bourn run --mock` a mock model in the process answers, so that a spec can be tried without
/// keys or money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What is asked, with places such as `${column}`.
    pub prompt: String,
    /// What the model is told before, with places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Which model; the provider's own choice if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The most tokens that it may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
    /// How the answer is read; `json` rejects the row when it is no JSON document.
    #[serde(default)]
    pub parse: Parse,
    /// The column that gets the answer.
    #[serde(default = "answer::default_output")]
    pub output: String,
    /// What bounds the calls.
    #[serde(default)]
    pub limits: Limits,
}

impl Model {
    /// The call over a provider of one's own.
    ///
    /// # Errors
    /// When the configuration does not fit the input after all.
    pub fn over(&self, provider: impl Provider, input: &SchemaRef) -> Result<Operator> {
        let call = PerRow::new(Chat::new(self, provider)?, input, &self.output)?;
        Ok(Operator::call(call, self.limits.clone()))
    }
}

impl StageConfig for Model {
    const NAME: &'static str = "model";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        check.text(&["prompt".into()], &self.prompt);
        if let Some(system) = &self.system {
            check.text(&["system".into()], system);
        }
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        if context.mock {
            return self.over(Mock::default(), &context.inputs[0]);
        }
        let model = self.model.as_deref().unwrap_or("default");
        Err(Error::unsupported(format!(
            "no provider is configured for model `{model}`; `--mock` tries the spec without keys or money"
        )))
    }
}

#[cfg(test)]
mod tests;
