//! `model`: asks a language model about each row.

mod answering;
mod call;
mod classify;
mod complexity;
mod messages;
pub mod mock;
mod pieces;
pub mod provider;
pub mod registry;
pub(crate) mod remote;
pub(crate) mod settings;
pub(crate) mod told_limits;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::data::secret::Secret;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use bourn_http::{Options, SharedClient};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, PerRow};
use crate::places::Check;
use crate::process::Parse;
use call::Chat;
use messages::Manner;
pub use mock::{Fault, Mock};
pub use provider::{About, Prompt, Provider, Said};
pub use registry::Service;
use remote::{Link, Remote};
use settings::Address;
pub use settings::{Effort, Price};

/// Asks a language model about each row, and adds a column with its answer.
///
/// `model: { prompt: "Summarise in one sentence: ${text}", max_tokens: 100 }`. Values are filled in once and never read
/// as templates again. The key is `${env.ANTHROPIC_API_KEY}` or `${env.OPENAI_API_KEY}` if the spec says none. With
/// `bourn run --mock` a mock model in the process answers, so that a spec can be tried without keys or money; `bourn
/// mock-llm` is a server for the same. `journal: true` beside it keeps answers, so that none is paid for twice, and `budget` in
/// `limits` bounds what is spent ([docs/models.md](../models.md)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What is asked, with places such as `${column}`.
    pub prompt: String,
    /// What the model is told before, with places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Which model: `opus`, `claude-sonnet-5`, `gpt-5-mini`, …; `bourn models` lists names. Only `--mock` needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Who answers: `anthropic`, or `openai` for everything that is compatible with it; the name of the model says it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Service>,
    /// Where it is asked, if not at the provider itself; `ANTHROPIC_BASE_URL` and `OPENAI_BASE_URL` of the environment are
    /// heeded too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The key: `${secret.NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// How hard it thinks; the model's own way if not said. `auto` is `low`, `medium` or `high` by how long a request is, how much is
    /// asked in it, whether it has code, and how deep the `json_schema` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// How much chance there is in the answer. Not every model takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    pub temperature: Option<f32>,
    /// Whether the answer comes in pieces, as it is written. It is the same one, and counts when its end has come: what breaks off is asked
    /// again. Say it for long answers, which idle connections do not survive, and for `timeout: { heartbeat: … }` of a step. Not every
    /// service that is compatible with OpenAI tells with the pieces what they cost, so it is not done if not said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Texts at which the answer ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The JSON Schema that the answer fits; the answer is read as JSON then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// What a million tokens cost in US dollars, `input` and `output`, so that costs are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
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
    /// A column that gets what each answer cost: `{"input_tokens": …, "output_tokens": …, "usd": …}`. None if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// What bounds the calls.
    #[serde(default)]
    pub limits: Limits,
    #[serde(skip)]
    #[schemars(skip)]
    client: SharedClient,
}

impl Model {
    /// How an answer is read.
    fn read_as(&self) -> Parse {
        if self.json_schema.is_some() { Parse::Json } else { self.parse }
    }

    fn planned(&self, input: &SchemaRef) -> Result<SchemaRef, Problem> {
        let schema = answer::schema(input, &self.output)?;
        match &self.usage {
            Some(name) if *name == self.output => {
                Err(Problem::new("this column has the answers").help("give it another name").under("usage"))
            }
            Some(name) => answer::with_field(&schema, name).map_err(|problem| problem.under("usage")),
            None => Ok(schema),
        }
    }

    /// Who answers, with all that is said to them.
    fn remote(&self, name: &str, env: &Env) -> Result<Remote> {
        let found = registry::find(name, self.provider, self.base_url.is_some());
        let found = found.map_err(|p| Error::validation(p.message))?;
        let address = Address::of(found.service, self.base_url.as_deref(), self.api_key.as_ref(), env)?;
        let client = self.client.get(&Options {
            url: &address.base,
            redirects: 0,
            same_host: true,
            idle_max: self.limits.in_flight,
        })?;
        let manner = Manner {
            model: found.id,
            effort: self.effort,
            temperature: self.temperature,
            stop: self.stop.clone(),
            json_schema: self.json_schema.clone(),
            price: self.price.unwrap_or_default(),
            is_original: address.is_original,
            stream: self.stream,
        };
        Ok(Remote::new(client, Link::new(found.service, address)?, manner))
    }

    /// The call over a provider of one's own.
    ///
    /// # Errors
    /// When the configuration does not fit the input after all.
    pub fn over(&self, provider: impl Provider, input: &SchemaRef) -> Result<Operator> {
        let call = PerRow::new(Chat::new(self, provider)?, input, &self.output)?.telling(self.usage.as_deref())?;
        // Every service has limits, and few say all of them.
        let adaptive = Some(self.limits.adaptive.unwrap_or(true));
        Ok(Operator::call(call, Limits { adaptive, ..self.limits.clone() }))
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
        if let Some(Err(problem)) =
            self.model.as_deref().map(|name| registry::find(name, self.provider, self.base_url.is_some()))
        {
            check.add(problem);
        }
        if let Some(url) =
            self.base_url.as_deref().filter(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            check.add(
                Problem::new(format!("`{url}` is no URL"))
                    .help("it begins with `http://` or `https://`")
                    .under("base_url"),
            );
        }
        if self.json_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            check
                .add(Problem::new("this is no JSON Schema").help("it begins with `type: object`").under("json_schema"));
        } else if let Some(e) = self.json_schema.as_ref().and_then(|schema| jsonschema::validator_for(schema).err()) {
            check.add(Problem::new(format!("this is no JSON Schema: {e}")).under("json_schema"));
        }
        check.finish(self.planned(&inputs[0]))
    }

    fn silent(&self) -> Option<&'static str> {
        (!self.stream).then_some("without `stream: true` a model says nothing until its answer is there")
    }

    fn is_stateless(&self) -> bool {
        true
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        if context.mock {
            let mock = Mock { schema: self.json_schema.clone(), ..Mock::default() };
            return self.over(mock, &context.inputs[0]);
        }
        let Some(name) = self.model.as_deref() else {
            let message =
                "no `model` is named; `bourn models` lists names, and `--mock` tries the spec without keys or money";
            return Err(Error::validation(message));
        };
        self.over(self.remote(name, &context.env)?, &context.inputs[0])
    }
}

#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
