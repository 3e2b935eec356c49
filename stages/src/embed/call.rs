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
use bourn_engine::api::memo::Key;
use bourn_engine::api::observer::{Answered, Question};
use bourn_engine::api::template::Template;
use bourn_engine::api::{Accounts, Call, CallContext, Kept, Rejected, Reply, Usage};
use bourn_engine::error::Retry;
use bourn_engine::{Error, Kind, Result};
use reqwest::Client;
use serde_json::{Value, json};

use super::Embed;
use crate::model::About;
use crate::model::Price;
use crate::model::mock::tokens;
use crate::model::registry::Service;
use crate::model::remote::Link;
use crate::model::told_limits::limits;
use crate::places::{no_null, template};

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

    /// Who it is, for traces.
    fn about(&self) -> About<'_> {
        About::default()
    }

    /// All that a vector depends on beside its text: who is asked, which model, and how.
    fn manner(&self, dimensions: u32) -> String;
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
        Self { client, link, model: config.model.clone().unwrap_or_default(), shorten: config.shorten, price }
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

    fn about(&self) -> About<'_> {
        self.link.about(&self.model, None)
    }

    fn manner(&self, dimensions: u32) -> String {
        let Self { model, shorten, .. } = self;
        format!("{}/embeddings {model} {dimensions} {shorten}", self.link.base())
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
    price: Option<Price>,
    schema: SchemaRef,
}

impl<E: Embedder> Vectors<E> {
    /// Adds the vectors of `embedder` as the last column of `schema`.
    pub fn new(config: &Embed, embedder: E, schema: SchemaRef) -> Result<Self> {
        Ok(Self {
            embedder,
            text: template(&config.text)?,
            model: config.model.clone().unwrap_or_default(),
            dimensions: config.dimensions,
            rows_max: config.rows_max,
            tokens_max: config.tokens_max,
            price: config.price,
            schema,
        })
    }

    /// The text of each row, or none where there is nothing to ask.
    fn texts(&self, rows: &RecordBatch) -> Vec<Option<String>> {
        let text = |row| {
            let rendered = no_null(&self.text, rows, row, "has no vector").and_then(|()| self.text.render(rows, row));
            rendered.ok().filter(|text| !text.trim().is_empty())
        };
        (0..rows.num_rows()).map(text).collect()
    }

    /// The vectors that the journal has; none of any without one.
    async fn find(&self, texts: &[String], context: &CallContext) -> Result<Vec<Option<Vec<f32>>>> {
        match &context.journal {
            Some(journal) if !texts.is_empty() => {
                let found = journal.find(self.keys(texts)).await?;
                Ok(found.into_iter().map(|kept| kept.map(|kept| numbers(&kept.answer))).collect())
            }
            _ => Ok(vec![None; texts.len()]),
        }
    }

    fn keys(&self, texts: &[String]) -> Vec<Key> {
        let manner = self.embedder.manner(self.dimensions);
        texts.iter().map(|text| Key::of(["embed", &manner, text])).collect()
    }

    /// Keeps vectors before anyone sees them. What a request cost stands with its first one.
    async fn keep(
        &self,
        texts: &[String],
        vectors: &[Result<Vec<f32>>],
        mut usage: Usage,
        context: &CallContext,
    ) -> Result<()> {
        let Some(journal) = &context.journal else { return Ok(()) };
        let good =
            self.keys(texts).into_iter().zip(vectors).filter_map(|(key, vector)| Some((key, vector.as_ref().ok()?)));
        let bytes = |vector: &[f32]| vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let kept: Vec<_> = good
            .map(|(key, vector)| (key, Kept { answer: bytes(vector), usage: std::mem::take(&mut usage) }))
            .collect();
        if kept.is_empty() { journal.lost(usage).await } else { journal.keep(kept).await }
    }

    /// Asks for a part, and tells who listens.
    async fn embed(&self, texts: &[String], context: &CallContext) -> Result<Embedded> {
        let About { provider, model, address, temperature } = self.embedder.about();
        let model = model.or(Some(&*self.model).filter(|model| !model.is_empty()));
        let question =
            Question { operation: "embeddings", provider, model, address, temperature, ..Question::default() };
        let asking = context.asks(question);
        let embedded = self.embedder.embed(texts, self.dimensions, context).await;
        match &embedded {
            Ok(embedded) => asking.answered(Answered { usage: embedded.usage, ..Answered::default() }),
            Err(error) => asking.failed(error),
        }
        embedded
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
            match self.embed(&texts[part.clone()], &context).await {
                Ok(answer) => {
                    sum.usage += answer.usage;
                    sum.limits = answer.limits;
                    let vectors: Vec<_> = answer.vectors.into_iter().map(|vector| self.fitting(vector)).collect();
                    self.keep(&texts[part], &vectors, answer.usage, &context).await?;
                    found.extend(vectors);
                }
                // Trying the whole request again may help, or another key.
                Err(e) if e.retry() != Retry::Never || e.kind() != Kind::Validation => {
                    context.bill.kept(sum.usage);
                    return Err(e);
                }
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

/// What is kept of a vector, as numbers again.
fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

impl<E: Embedder> Vectors<E> {
    /// The rows with their vectors: one for each row that has a text. Rows whose text was refused are left out.
    fn answered(
        &self,
        rows: RecordBatch,
        texts: &[Option<String>],
        mut found: impl Iterator<Item = Result<Vec<f32>>>,
    ) -> Result<(RecordBatch, Vec<Rejected>)> {
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
        Ok((RecordBatch::try_new(self.schema.clone(), columns)?, rejected))
    }
}

impl<E: Embedder> Call for Vectors<E> {
    async fn known(&self, rows: &RecordBatch, context: &CallContext) -> Result<Option<RecordBatch>> {
        if context.journal.is_none() {
            return Ok(None);
        }
        let texts = self.texts(rows);
        let asked: Vec<String> = texts.iter().flatten().cloned().collect();
        let found = self.find(&asked, context).await?;
        let Some(vectors) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        context.bill.known(vectors.len());
        Ok(Some(self.answered(rows.clone(), &texts, vectors.into_iter().map(Ok))?.0))
    }

    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let nothing = vec![None; rows.num_rows()];
        Ok(Some(self.answered(rows.clone(), &nothing, std::iter::empty())?.0))
    }

    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>> {
        let texts = self.texts(rows);
        Ok(texts.into_iter().next().flatten().and_then(|text| self.keys(&[text]).pop()))
    }

    fn accounts(&self) -> Accounts {
        Accounts { keeps: true, tokens: true, usd: self.price.is_some(), ..Accounts::default() }
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let texts = self.texts(&rows);
        let asked: Vec<String> = texts.iter().flatten().cloned().collect();
        let known = self.find(&asked, context).await?;
        context.bill.known(known.iter().flatten().count());
        let unknown = asked.into_iter().zip(&known).filter(|(_, vector)| vector.is_none());
        let (found, sum) = self.ask(&unknown.map(|(text, _)| text).collect::<Vec<_>>(), context).await?;
        let mut found = found.into_iter();
        let vectors = known.into_iter().map_while(|vector| vector.map(Ok).or_else(|| found.next()));
        let (rows, rejected) = self.answered(rows, &texts, vectors)?;
        Ok(Reply { rejected, usage: sum.usage, limits: sum.limits, ..Reply::rows(rows) })
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        let input_tokens = self.texts(rows).iter().flatten().map(|text| tokens(text)).sum();
        Usage { input_tokens, output_tokens: 0, usd: self.price.unwrap_or_default().of(input_tokens, 0) }
    }
}
