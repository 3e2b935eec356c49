//! One question to a model and its answer.

use arrow::record_batch::RecordBatch;
use bourn_engine::api::memo::Key;
use bourn_engine::api::observer::{Answered, Question};
use bourn_engine::api::template::Template;
use bourn_engine::api::{Accounts, CallContext, Usage};
use bourn_engine::data::secret::shortened;
use bourn_engine::{Error, Result};
use jsonschema::Validator;
use serde_json::Value;

use super::mock::{MOCK, tokens};
use super::provider::{About, Prompt, Provider, Said};
use super::{Model, Parse, Price};
use crate::answer::{Answer, Ask};
use crate::places::template;

/// What an answer is expected to have at most when the spec does not say.
const OUTPUT_TOKENS: u32 = 1_024;

/// A prompt with places, and who answers it.
pub struct Chat<P> {
    provider: P,
    prompt: Template,
    system: Option<Template>,
    model: Option<String>,
    max_tokens: Option<u32>,
    parse: Parse,
    /// What an answer must fit.
    schema: Option<Validator>,
    price: Option<Price>,
}

impl<P: Provider> Chat<P> {
    /// Reads the templates.
    pub fn new(config: &Model, provider: P) -> Result<Self> {
        // A mock makes up documents, as far as it can.
        let schema = config.json_schema.as_ref().filter(|_| provider.about().provider != MOCK);
        let schema = schema.map(jsonschema::validator_for).transpose();
        Ok(Self {
            schema: schema.map_err(|e| Error::validation(format!("`json_schema` is no JSON Schema: {e}")))?,
            provider,
            prompt: template(&config.prompt)?,
            system: config.system.as_deref().map(template).transpose()?,
            model: config.model.clone(),
            max_tokens: config.max_tokens,
            parse: config.read_as(),
            price: config.price,
        })
    }
}

impl<P> Chat<P> {
    fn prompt(&self, rows: &RecordBatch, row: usize) -> Result<Prompt> {
        Ok(Prompt {
            model: self.model.clone(),
            system: self.system.as_ref().map(|t| t.render(rows, row)).transpose()?,
            text: self.prompt.render(rows, row)?,
            max_tokens: self.max_tokens,
            json: self.parse == Parse::Json,
        })
    }

    fn read(&self, said: &Said, prompt: &Prompt) -> Result<Value> {
        check(said, prompt)?;
        match self.parse {
            Parse::Text => Ok(Value::String(said.text.clone())),
            Parse::Json => self.fits(document(&said.text)?),
        }
    }

    /// Services that take a schema do not all keep to it.
    fn fits(&self, document: Value) -> Result<Value> {
        let told = |e: jsonschema::ValidationError<'_>| match e.instance_path().as_str() {
            "" => e.to_string(),
            path => format!("{path}: {e}"),
        };
        let faults: Vec<_> =
            self.schema.iter().flat_map(|schema| schema.iter_errors(&document)).map(told).take(3).collect();
        if faults.is_empty() {
            return Ok(document);
        }
        let wrong = shortened(&faults.join("; "), 500);
        Err(Error::validation(format!("the answer does not fit `json_schema`: {wrong}")).transient())
    }
}

impl<P: Provider> Chat<P> {
    /// Asks, and tells who listens.
    async fn answer(&self, prompt: &Prompt, context: &CallContext) -> Result<Said> {
        let About { provider, model, address, temperature } = self.provider.about();
        let asking = context.asks(Question {
            operation: "chat",
            provider,
            model: model.or(prompt.model.as_deref()),
            address,
            max_tokens: prompt.max_tokens,
            temperature,
            system: prompt.system.as_deref(),
            text: Some(&prompt.text),
        });
        match self.provider.answer(prompt, context).await {
            Ok(said) => {
                let (model, finish) = (said.model.as_deref(), said.finish.as_deref());
                asking.answered(Answered { model, finish, usage: said.usage, text: Some(&said.text) });
                Ok(said)
            }
            Err(error) => {
                asking.failed(&error);
                Err(error)
            }
        }
    }
}

impl<P: Provider> Ask for Chat<P> {
    async fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext) -> Result<Answer> {
        let mut prompt = self.prompt(rows, row)?;
        if let Some(wrong) = &context.feedback {
            let text = &prompt.text;
            prompt.text = format!(
                "{text}\n\nYour last answer could not be used: {wrong}. Answer again, in the form that is asked for."
            );
        }
        let said = self.answer(&prompt, context).await?;
        // Rubbish has its price too.
        let value = self.read(&said, &prompt).inspect_err(|_| context.bill.lost(said.usage))?;
        Ok(Answer { value, usage: said.usage, limits: said.limits })
    }

    fn estimate(&self, rows: &RecordBatch, row: usize) -> Usage {
        let prompt = self.prompt.render(rows, row).unwrap_or_default();
        let system = self.system.as_ref().and_then(|t| t.render(rows, row).ok()).unwrap_or_default();
        let input_tokens = tokens(&system) + tokens(&prompt);
        let output_tokens = u64::from(self.max_tokens.unwrap_or(OUTPUT_TOKENS));
        Usage { input_tokens, output_tokens, usd: self.price.unwrap_or_default().of(input_tokens, output_tokens) }
    }

    fn key(&self, rows: &RecordBatch, row: usize) -> Result<Option<Key>> {
        let request = self.provider.request(&self.prompt(rows, row)?);
        let read_as = if self.parse == Parse::Json { "json" } else { "text" };
        Ok(Some(Key::of(["model", read_as, &request])))
    }

    fn accounts(&self) -> Accounts {
        Accounts { keeps: true, tokens: true, usd: self.price.is_some(), ..Accounts::default() }
    }
}

/// Refuses rubbish, so that it is seen here and not three stages further on.
fn check(said: &Said, prompt: &Prompt) -> Result<()> {
    let model = prompt.model.as_deref().unwrap_or("default");
    // Asked again, a model may well say something better.
    let wrong = |what: String| Err(Error::validation(format!("model `{model}` {what}")).transient());
    if said.text.trim().is_empty() {
        return wrong("gave an empty answer".into());
    }
    if said.text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return wrong("gave an answer with control characters: that is no text".into());
    }
    match prompt.max_tokens {
        Some(max) if said.usage.output_tokens > u64::from(max) => {
            wrong(format!("wrote {} tokens where `max_tokens` allows {max}", said.usage.output_tokens))
        }
        _ => Ok(()),
    }
}

/// The document in an answer; models like to put it into a fence.
fn document(text: &str) -> Result<Value> {
    let text = text.trim();
    let inner = text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).and_then(|t| t.strip_suffix("```"));
    serde_json::from_str(inner.unwrap_or(text)).map_err(|e| {
        let start = shortened(text, 80);
        // Asked again, a model may well say something better.
        Error::validation(format!("the model's answer is no JSON document: {e}; it begins with `{start}`")).transient()
    })
}
