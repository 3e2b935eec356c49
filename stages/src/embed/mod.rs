//! `embed`: the text of each row becomes a vector.

mod call;
#[cfg(feature = "local_models")]
mod local;
pub mod mock;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::data::secret::Secret;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use bourn_http::{Options, SharedClient};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::column;
use crate::model::remote::Link;
use crate::model::settings::Address;
use crate::model::{Price, Service};
use crate::places::Check;
use call::{Embedder, Remote, Vectors};
use mock::Mock;

/// Asks a model for a vector of each row's text, and adds it as a column: many texts in one request.
///
/// `embed: { text: "${text}", model: text-embedding-3-small, dimensions: 1536 }`. It is asked at OpenAI, or at what is
/// compatible with it, as `base_url` says (`/v1/embeddings`). The column is a list of so many 32-bit numbers as `dimensions`
/// says. A text that is blank or has a null gets a null. One that is refused is rejected alone. With `bourn run --mock` the
/// vectors are made of the words of the text, without keys or money. `journal: true` beside it keeps vectors by their texts, so that
/// none is paid for twice, and `budget` in `limits` bounds what is spent ([docs/models.md](../models.md)).
///
/// `embed: { text: "${text}", local: models/minilm, dimensions: 384 }` asks nobody: the model stands in a folder, and works in the process.
/// The folder has a `tokenizer.json` and either `model.safetensors` with static vectors, as those of `Model2Vec` and `WordLlama`, or
/// `model.onnx`, as sentence-transformers exports it, whose vectors have the length 1. A text is read as far as the model reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// The text, with places such as `${column}`.
    pub text: String,
    /// Which model a service is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The folder of a model that works in the process, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<PathBuf>,
    /// How many numbers a vector has.
    #[schemars(range(min = 1, max = 16384))]
    pub dimensions: u32,
    /// Whether the model is told to make its vectors that short; otherwise they have this length by themselves.
    #[serde(default)]
    pub shorten: bool,
    /// Where it is asked, if not at OpenAI itself; `OPENAI_BASE_URL` of the environment is heeded too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The key: `${secret.NAME}`; `${env.OPENAI_API_KEY}` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// The most texts in a request.
    #[serde(default = "rows_max")]
    #[schemars(range(min = 1, max = 2048))]
    pub rows_max: usize,
    /// The most tokens in a request, taken as four characters each.
    #[serde(default = "tokens_max")]
    #[schemars(range(min = 1))]
    pub tokens_max: u64,
    /// What a million tokens cost in US dollars, `input`, so that costs are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// The column that gets the vector.
    #[serde(default = "output")]
    pub output: String,
    /// What bounds the calls; `rows` is `rows_max` here.
    #[serde(default)]
    pub limits: Limits,
    #[serde(skip)]
    #[schemars(skip)]
    client: SharedClient,
}

fn rows_max() -> usize {
    256
}

fn tokens_max() -> u64 {
    100_000
}

fn output() -> String {
    "embedding".to_owned()
}

impl Embed {
    /// The column.
    fn field(&self) -> Field {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let length = i32::try_from(self.dimensions).unwrap_or(i32::MAX);
        Field::new(&self.output, DataType::FixedSizeList(item, length), true)
    }

    fn planned(&self, input: &SchemaRef) -> Result<SchemaRef, Problem> {
        if self.output.is_empty() || column::is_reserved(&self.output) {
            return Err(column::reserved(&self.output).under("output"));
        }
        if input.index_of(&self.output).is_ok() {
            return Err(Problem::new(format!("there is a column `{}` already", self.output)).under("output"));
        }
        let fields = input.fields().iter().cloned().chain([Arc::new(self.field())]);
        Ok(Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), input.metadata().clone())))
    }

    /// The call over an embedder of one's own.
    ///
    /// # Errors
    /// When the configuration does not fit the input after all.
    pub fn over(&self, embedder: impl Embedder, input: &SchemaRef) -> Result<Operator> {
        let schema = self.planned(input).map_err(|p| Error::validation(p.message))?;
        let adaptive = Some(self.limits.adaptive.unwrap_or(true));
        let limits = Limits { rows: self.rows_max.max(1), adaptive, ..self.limits.clone() };
        Ok(Operator::call(Vectors::new(self, embedder, schema)?, limits))
    }
}

#[cfg(feature = "local_models")]
impl Embed {
    fn local(&self, folder: &std::path::Path, context: &BuildContext) -> Result<Operator> {
        let local = local::Local::open(folder, self.dimensions, &context.env)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let in_flight = self.limits.in_flight.min(local.in_flight(cores));
        // It refuses nobody.
        let limits = Limits { in_flight, adaptive: Some(false), ..self.limits.clone() };
        Self { limits, ..self.clone() }.over(local, &context.inputs[0])
    }
}

#[cfg(not(feature = "local_models"))]
impl Embed {
    #[expect(clippy::unused_self, reason = "the other build has it")]
    fn local(&self, _: &std::path::Path, _: &BuildContext) -> Result<Operator> {
        Err(Error::unsupported("models in the process are not in this build"))
    }
}

impl StageConfig for Embed {
    const NAME: &'static str = "embed";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        check.text(&["text".into()], &self.text);
        let bounds = [
            ("dimensions", self.dimensions == 0),
            ("rows_max", self.rows_max == 0),
            ("tokens_max", self.tokens_max == 0),
        ];
        for (name, _) in bounds.into_iter().filter(|(_, is_zero)| *is_zero) {
            check.add(Problem::new("0 has no meaning here").under(name));
        }
        match (&self.model, &self.local) {
            (Some(_), Some(_)) => {
                check.add(Problem::new("`model` is for a service, and `local` asks none").under("local"));
            }
            (None, None) => {
                check.add(Problem::new("`model` says which one a service is asked for, or `local` where one stands"));
            }
            (None, Some(_)) if !cfg!(feature = "local_models") => {
                let problem = Problem::new("models in the process are not in this build");
                check.add(problem.help("build with `--features local_models`").under("local"));
            }
            (None, Some(_)) => {
                let of_service = [
                    ("base_url", self.base_url.is_some()),
                    ("api_key", self.api_key.is_some()),
                    ("shorten", self.shorten),
                    ("price", self.price.is_some()),
                ];
                for (name, _) in of_service.into_iter().filter(|(_, is_said)| *is_said) {
                    check.add(Problem::new(format!("`{name}` is for a service, and `local` asks none")).under(name));
                }
            }
            (Some(_), None) => {}
        }
        check.finish(self.planned(&inputs[0]))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        if context.mock {
            return self.over(Mock, &context.inputs[0]);
        }
        if let Some(folder) = &self.local {
            return self.local(folder, context);
        }
        let address = Address::of(Service::OpenAi, self.base_url.as_deref(), self.api_key.as_ref(), &context.env)?;
        let client = self.client.get(&Options {
            url: &address.base,
            redirects: 0,
            same_host: true,
            idle_max: self.limits.in_flight,
        })?;
        let remote = Remote::new(client, Link::new(Service::OpenAi, address)?, self);
        self.over(remote, &context.inputs[0])
    }
}

#[cfg(test)]
mod tests;
