//! Texts out, vectors back: in requests that are bounded by rows and by tokens.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, FixedSizeListBuilder, Float32Builder};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::call::RemoteLimits;
use bourn_engine::api::template::Template;
use bourn_engine::api::{Call, CallContext, Rejected, Reply, Usage};
use bourn_engine::error::Retry;
use bourn_engine::{Error, Kind, Result};
use reqwest::Client;
use serde_json::{Value, json};

use super::Embed;
use crate::model::Price;
use crate::model::mock::tokens;
use crate::model::registry::Service;
use crate::model::remote::Link;
use crate::model::told_limits::limits;
use crate::places::template;

/// Something that makes vectors of texts.
pub trait Embedder: Send + Sync + 'static {
    /// One vector of `dimensions` numbers for each text, in order. The future may be dropped at any await.
    ///
    /// # Errors
    /// As for [`Call::call`].
    fn embed(
        &self,
        texts: &[String],
        dimensions: u32,
        context: &CallContext,
    ) -> impl Future<Output = Result<Embedded>> + Send;
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Embedded {
    /// A vector for each text.
    pub vectors: Vec<Vec<f32>>,
    /// What it cost.
    pub usage: Usage,
    /// What the service said of its limits.
    pub limits: Option<Box<RemoteLimits>>,
}

/// A service in OpenAI's words.
pub struct Remote {
    client: Client,
    link: Link,
    model: String,
    shorten: bool,
    price: Price,
}

impl Remote {
    /// Asks over `client`.
    pub fn new(client: Client, link: Link, config: &Embed) -> Self {
        let price = config.price.unwrap_or_default();
        Self { client, link, model: config.model.clone(), shorten: config.shorten, price }
    }
}

impl Embedder for Remote {
    async fn embed(&self, texts: &[String], dimensions: u32, context: &CallContext) -> Result<Embedded> {
        let mut body = json!({ "model": self.model, "input": texts, "encoding_format": "float" });
        if self.shorten {
            body["dimensions"] = json!(dimensions);
        }
        let (answer, headers) = self.link.post(&self.client, "embeddings", &body, context).await?;
        let vectors = vectors(&answer, texts.len())?;
        let input_tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
        let usage = Usage { input_tokens, output_tokens: 0, usd: self.price.of(input_tokens, 0) };
        Ok(Embedded { vectors, usage, limits: limits(Service::OpenAi, &headers, context.env.wall()) })
    }
}

/// The vectors of an answer, by the place that each says.
fn vectors(answer: &Value, count: usize) -> Result<Vec<Vec<f32>>> {
    let wrong = |what: &str| Error::new(Kind::Io, format!("the answer has {what}")).transient();
    let data = answer["data"].as_array().ok_or_else(|| wrong("no vectors"))?;
    let mut vectors = vec![Vec::new(); count];
    for (n, one) in data.iter().enumerate() {
        let at = one["index"].as_u64().map_or(Ok(n), usize::try_from)?;
        let numbers = one["embedding"].as_array().ok_or_else(|| wrong("something that is no vector"))?;
        #[expect(clippy::cast_possible_truncation, reason = "vectors have 32-bit numbers")]
        let numbers: Option<Vec<f32>> = numbers.iter().map(|x| x.as_f64().map(|x| x as f32)).collect();
        let place = vectors.get_mut(at).ok_or_else(|| wrong("a vector for a text that was not asked"))?;
        *place = numbers.ok_or_else(|| wrong("a vector of something else than numbers"))?;
    }
    if vectors.iter().any(Vec::is_empty) {
        return Err(wrong("fewer vectors than texts were asked"));
    }
    Ok(vectors)
}

/// The call.
pub struct Vectors<E> {
    embedder: E,
    text: Template,
    model: String,
    dimensions: u32,
    rows_max: usize,
    tokens_max: u64,
    schema: SchemaRef,
}

impl<E: Embedder> Vectors<E> {
    /// Adds the vectors of `embedder` as the last column of `schema`.
    pub fn new(config: &Embed, embedder: E, schema: SchemaRef) -> Result<Self> {
        Ok(Self {
            embedder,
            text: template(&config.text)?,
            model: config.model.clone(),
            dimensions: config.dimensions,
            rows_max: config.rows_max,
            tokens_max: config.tokens_max,
            schema,
        })
    }

    /// The text of each row, or none where there is nothing to ask.
    fn texts(&self, rows: &RecordBatch) -> Vec<Option<String>> {
        let text = |row| self.text.render(rows, row).ok().filter(|text| !text.trim().is_empty());
        (0..rows.num_rows()).map(text).collect()
    }

    /// Asks for texts in as few requests as the bounds allow. What is refused for good is asked again in halves, until the
    /// texts at fault are alone.
    async fn ask(&self, texts: &[String], context: &CallContext) -> Result<(Vec<Result<Vec<f32>>>, Embedded)> {
        let mut parts: VecDeque<Range<usize>> = self.parts(texts).into();
        let (mut found, mut sum) = (Vec::with_capacity(texts.len()), Embedded::default());
        while let Some(part) = parts.pop_front() {
            let mut context = context.clone();
            if part.len() < texts.len() {
                context.idempotency_key = format!("{}/{}-{}", context.idempotency_key, part.start, part.end).into();
            }
            match self.embedder.embed(&texts[part.clone()], self.dimensions, &context).await {
                Ok(answer) => {
                    sum.usage.input_tokens += answer.usage.input_tokens;
                    sum.usage.usd += answer.usage.usd;
                    sum.limits = answer.limits;
                    found.extend(answer.vectors.into_iter().map(|vector| self.fitting(vector)));
                }
                // Trying the whole request again may help, or another key.
                Err(e) if e.retry() != Retry::Never || e.kind() != Kind::Validation => return Err(e),
                Err(e) if part.len() == 1 => found.push(Err(e)),
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.push_front(middle..part.end);
                    parts.push_front(part.start..middle);
                }
            }
        }
        Ok((found, sum))
    }

    fn fitting(&self, vector: Vec<f32>) -> Result<Vec<f32>> {
        if vector.len() == self.dimensions as usize {
            return Ok(vector);
        }
        let (model, has, asked) = (&self.model, vector.len(), self.dimensions);
        Err(Error::validation(format!(
            "model `{model}` makes vectors of {has} numbers, where `dimensions` says {asked}"
        )))
    }

    /// Which texts go together.
    fn parts(&self, texts: &[String]) -> Vec<Range<usize>> {
        let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
        for (n, text) in texts.iter().enumerate() {
            let more = tokens(text);
            if n > start && (n - start == self.rows_max || sum + more > self.tokens_max) {
                parts.push(start..n);
                (start, sum) = (n, 0);
            }
            sum += more;
        }
        if start < texts.len() {
            parts.push(start..texts.len());
        }
        parts
    }
}

impl<E: Embedder> Call for Vectors<E> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let texts = self.texts(&rows);
        let asked: Vec<String> = texts.iter().flatten().cloned().collect();
        let (found, sum) = self.ask(&asked, context).await?;
        let mut found = found.into_iter();
        let length = i32::try_from(self.dimensions)?;
        let item = Field::new("item", DataType::Float32, false);
        let mut column = FixedSizeListBuilder::new(Float32Builder::new(), length).with_field(item);
        let (mut kept, mut rejected) = (Vec::with_capacity(texts.len()), Vec::new());
        for (row, text) in texts.iter().enumerate() {
            let vector = match text.as_ref().and_then(|_| found.next()).transpose() {
                Ok(vector) => vector,
                Err(e) if rows.num_rows() == 1 => return Err(e),
                Err(e) => {
                    rejected.push(Rejected::rows(rows.slice(row, 1), e));
                    kept.push(false);
                    continue;
                }
            };
            kept.push(true);
            match &vector {
                Some(vector) => column.values().append_slice(vector),
                // Their numbers are behind a null, and there must be some.
                None => (0..self.dimensions).for_each(|_| column.values().append_value(0.0)),
            }
            column.append(vector.is_some());
        }
        let rows = if rejected.is_empty() { rows } else { filter_record_batch(&rows, &BooleanArray::from(kept))? };
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(column.finish()) as ArrayRef);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Reply { rejected, usage: sum.usage, limits: sum.limits, ..Reply::rows(rows) })
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        let input_tokens = self.texts(rows).iter().flatten().map(|text| tokens(text)).sum();
        Usage { input_tokens, ..Usage::default() }
    }
}
