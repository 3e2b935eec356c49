//! The inputs of runs, and between them runs that come back: what they waited for has come, or their time.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};

use super::columns::{PASSAGE, RUN};
use crate::api::erased::{ErasedConnector, JobEnd};
use crate::api::registry::BoxConnector;
use crate::api::{BoxSource, Capabilities, Chunk, ConnectContext, Known, Source, SourceContext};
use crate::data::columns::RUN_ID;
use crate::data::position::{Position, Split};
use crate::diagnostic::Problems;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::journal::{Back, Journal, Rest, Until};

/// Runs that come back together, at most.
const ROWS: usize = 1_024;

/// A source of inputs in a job that has a journal.
pub(super) struct Returning {
    pub inputs: BoxConnector,
    pub journal: Arc<dyn Journal>,
    /// Whether runs may be passed several times at once.
    pub overlap: bool,
    /// How long it goes on when all inputs were read.
    pub until: Option<Until>,
}

/// What only a run has that comes back: its number, its id, and which passage of it begins.
const OWN: [DataType; 3] = [DataType::UInt64, DataType::Utf8, DataType::UInt64];

/// The columns of the inputs, and what only a run has that comes back.
fn columns(inputs: &SchemaRef) -> SchemaRef {
    let inputs = inputs.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let number = |name| Field::new(name, DataType::UInt64, true);
    let more = [number(RUN), Field::new(RUN_ID, DataType::Utf8, true), number(PASSAGE)];
    Arc::new(Schema::new(inputs.chain(more).collect::<Vec<_>>()))
}

impl ErasedConnector for Returning {
    fn kind(&self) -> &'static str {
        self.inputs.0.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inputs.0.capabilities()
    }

    fn schema<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<SchemaRef, Problems>> {
        async move { Ok(columns(&self.inputs.0.schema(context).await?)) }.boxed()
    }

    fn known<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Known, Problems>> {
        async move {
            Ok(match self.inputs.0.known(context).await? {
                Known::Schema(schema) => Known::Schema(columns(&schema)),
                asks @ Known::Asks(_) => asks,
            })
        }
        .boxed()
    }

    fn splits<'a>(&'a self, context: &'a ConnectContext) -> BoxFuture<'a, Result<Vec<Split>>> {
        self.inputs.0.splits(context)
    }

    fn source(&self, context: SourceContext) -> BoxFuture<'_, Result<BoxSource>> {
        async move {
            let (env, schema) = (context.env.clone(), context.schema.clone());
            let own = schema.fields().len().saturating_sub(OWN.len());
            let inner = Arc::new(schema.project(&(0..own).collect::<Vec<_>>())?);
            let inputs = Inputs::Idle(self.inputs.0.source(SourceContext { schema: inner, ..context }).await?);
            let (journal, rest) = (self.journal.clone(), self.journal.asked().rest().clone());
            rest.begin(self.overlap);
            let reading = Reading { inputs, place: None, env, schema, journal, rest, until: self.until };
            Ok(BoxSource::new(reading))
        }
        .boxed()
    }

    fn describe(&self) -> serde_json::Value {
        self.inputs.0.describe()
    }

    fn started(&self, end: JobEnd) {
        self.inputs.0.started(end);
    }
}

/// Where the inputs come from. A read that is under way outlives the one that asked for it: what comes back does not cut it off.
enum Inputs {
    Idle(BoxSource),
    Reading(BoxFuture<'static, (BoxSource, Result<Option<Chunk>>)>),
    Read,
}

struct Reading {
    inputs: Inputs,
    /// How far the inputs were read.
    place: Option<(Split, Position)>,
    env: Env,
    schema: SchemaRef,
    journal: Arc<dyn Journal>,
    rest: Rest,
    until: Option<Until>,
}

impl Source for Reading {
    fn read(&mut self) -> impl Future<Output = Result<Option<Chunk>>> + Send {
        // Who drops this before it is done asks no more.
        let asking = self.rest.ask();
        async move {
            let chunk = self.next().await;
            // What has ended is never asked again.
            if let Ok(Some(_)) | Err(_) = &chunk {
                asking.answered();
            }
            chunk
        }
    }
}

enum More {
    Input(Chunk),
    Back(Vec<Back>),
    Nothing,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            let back = self.rest.next(&self.env, ROWS, Until::Never).now_or_never();
            let back = match back {
                Some(back) => back,
                None => match self.more().await? {
                    More::Input(chunk) => return Ok(Some(chunk)),
                    More::Back(back) => back,
                    More::Nothing => return Ok(None),
                },
            };
            if let Some(chunk) = self.again(back).await? {
                return Ok(Some(chunk));
            }
        }
    }

    /// The next inputs, or runs that come back before there are any.
    async fn more(&mut self) -> Result<More> {
        loop {
            self.inputs = match std::mem::replace(&mut self.inputs, Inputs::Read) {
                Inputs::Idle(mut source) => Inputs::Reading(
                    async move {
                        let chunk = source.read().await;
                        (source, chunk)
                    }
                    .boxed(),
                ),
                other => other,
            };
            let Inputs::Reading(reading) = &mut self.inputs else {
                let Some(until) = self.until else { return Ok(More::Nothing) };
                let back = self.rest.next(&self.env, ROWS, until).await;
                return Ok(if back.is_empty() { More::Nothing } else { More::Back(back) });
            };
            let read = match select(reading, pin!(self.rest.next(&self.env, ROWS, Until::Never))).await {
                Either::Left((read, _)) => read,
                Either::Right((back, _)) => return Ok(More::Back(back)),
            };
            let (source, chunk) = read;
            self.inputs = Inputs::Read;
            if let Ok(None) = chunk {
                continue;
            }
            self.inputs = Inputs::Idle(source);
            let Some(mut chunk) = chunk? else { continue };
            let rows = chunk.records.num_rows();
            self.rest.read(rows as u64);
            self.place = Some((chunk.split.clone(), chunk.position.clone()));
            let none = OWN.map(|kind| new_null_array(&kind, rows));
            let columns = chunk.records.columns().iter().cloned().chain(none).collect();
            chunk.records = RecordBatch::try_new(self.schema.clone(), columns)?;
            return Ok(More::Input(chunk));
        }
    }

    /// Runs that come back, as they began.
    async fn again(&mut self, runs: Vec<Back>) -> Result<Option<Chunk>> {
        let passages: HashMap<u64, u64> = runs.iter().map(|back| (back.run, back.passage)).collect();
        let back = self.journal.returned(runs.iter().map(|back| back.run).collect()).await?;
        for Back { run, passage } in runs.into_iter().filter(|gone| back.iter().all(|one| one.number != gone.run)) {
            // Somebody else has ended it.
            if passage > 0 {
                self.rest.lost(run);
            } else {
                self.rest.came_back(run);
                self.rest.over(1);
            }
        }
        if back.is_empty() {
            return Ok(None);
        }
        let column = |field: &Field| -> ArrayRef {
            match field.name().as_str() {
                "text" => Arc::new(back.iter().map(|run| Some(run.input.as_str())).collect::<StringArray>()),
                RUN => Arc::new(back.iter().map(|run| run.number).collect::<UInt64Array>()),
                RUN_ID => Arc::new(back.iter().map(|run| Some(run.id.as_str())).collect::<StringArray>()),
                PASSAGE => Arc::new(back.iter().map(|run| passages.get(&run.number).copied()).collect::<UInt64Array>()),
                _ => new_null_array(field.data_type(), back.len()),
            }
        };
        let columns = self.schema.fields().iter().map(|field| column(field)).collect();
        let records = RecordBatch::try_new(self.schema.clone(), columns)?;
        let Some((split, position)) = self.place.clone() else {
            return Err(Error::engine("a run comes back before one was read"));
        };
        Ok(Some(Chunk::new(records, split, position)))
    }
}
