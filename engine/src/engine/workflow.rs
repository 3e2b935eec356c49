//! Workflows in a program: inputs in, documents out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use serde_json::Value;

use super::Engine;
use crate::api::Cache;
use crate::embed::{from_stream, into_stream};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::runtime::job::Job;
use crate::spec::{Loaded, Request, Spec};
use crate::workflow::result::ResultDocument;
use crate::workflow::{Runs, compile, run_id};

/// Inputs of runs that are ready together go on together, at most so many.
const TOGETHER: usize = 1_024;

/// A workflow that a program runs, made by [`Engine::workflow`]. A clone is the same one.
#[derive(Clone)]
pub struct Workflow {
    engine: Engine,
    loaded: Arc<Loaded>,
    journal: Option<(Arc<dyn Journal>, u64)>,
    cache: Option<Arc<dyn Cache>>,
}

impl Engine {
    /// Reads the spec of a workflow, in YAML or JSON; `file` is the name that its problems are told with. Programs that print its
    /// secrets are run.
    ///
    /// # Errors
    /// Every problem of the spec in one, each with its line and column.
    pub async fn workflow(&self, text: &str, file: &str) -> Result<Workflow> {
        let loaded =
            Request::default().load_to_run(text, file, self.registry(), self.env()).await.map_err(|problems| {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Error::validation(told.join("\n"))
            })?;
        if !matches!(loaded.spec, Spec::Chain(_)) {
            return Err(Error::validation(format!(
                "{file} is a pipeline, which has no inputs: `Engine::run` runs its graph"
            )));
        }
        Ok(Workflow { engine: self.clone(), loaded: Arc::new(loaded), journal: None, cache: None })
    }
}

impl Workflow {
    /// The same with its runs in a journal, as this job of it: what a run has done is not done again when it goes on. A job is one call of
    /// [`Workflow::run_as`] or [`Workflow::run_all`], and the calls that go on with it, with the same inputs.
    #[must_use]
    pub fn with_journal(self, journal: Arc<dyn Journal>, job: u64) -> Self {
        Self { journal: Some((journal, job)), ..self }
    }

    /// The same with a place where steps look that say `cache`.
    #[must_use]
    pub fn with_cache(self, cache: Arc<dyn Cache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Runs it once. A run that fails is no error: its document says so.
    ///
    /// # Errors
    /// What keeps it from being planned or started, or ended the job.
    pub async fn run(&self, input: &Value) -> Result<ResultDocument> {
        self.run_as(&run_id(self.engine.env()), input).await
    }

    /// The same with an id of its own, by which a journal knows it again.
    ///
    /// # Errors
    /// As for [`Workflow::run`].
    pub async fn run_as(&self, id: &str, input: &Value) -> Result<ResultDocument> {
        let id = id.to_owned();
        let mut documents = self.start(stream::iter([input.clone()]), |runs| runs.with_id(id)).await?;
        let last = documents.next().await.transpose()?;
        // The job has ended when nothing follows.
        match documents.next().await.transpose()? {
            None => last.ok_or_else(|| Error::engine("the run ended without a document")),
            Some(later) => Ok(later),
        }
    }

    /// Runs it for each input; the documents come in the order of the inputs. As many runs are under way as are admitted, and a program
    /// that does not read holds them up.
    ///
    /// # Errors
    /// What keeps it from being planned or started. What ends the job is the last item of the stream.
    pub async fn run_all(&self, inputs: impl Stream<Item = Value> + Send + 'static) -> Result<Documents> {
        self.start(inputs, |runs| runs).await
    }

    async fn start(
        &self,
        inputs: impl Stream<Item = Value> + Send + 'static,
        named: impl FnOnce(Runs) -> Runs,
    ) -> Result<Documents> {
        let lines = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let columns = lines.clone();
        let batches = inputs.ready_chunks(TOGETHER).map(move |inputs| {
            let texts: StringArray = inputs.iter().map(|input| Some(input.to_string())).collect();
            Ok::<_, Error>(RecordBatch::try_new(columns.clone(), vec![Arc::new(texts)])?)
        });
        let mut runs = named(Runs::of("inputs", from_stream(lines, batches)));
        if let Some((journal, job)) = &self.journal {
            runs = runs.with_journal(journal.clone(), *job);
        }
        if let Some(cache) = &self.cache {
            runs = runs.with_cache(cache.clone());
        }
        let mut graph = compile(&self.loaded, &runs);
        let (sink, batches) = into_stream();
        graph.sink("documents", sink);
        let job = self.engine.start(self.engine.plan(graph).await?).await?;
        let documents = batches.flat_map(|batch| {
            let read = batch.and_then(|batch| documents(&batch));
            stream::iter(match read {
                Ok(documents) => documents.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        Ok(Documents { job, documents: documents.boxed() })
    }
}

fn documents(batch: &RecordBatch) -> Result<Vec<ResultDocument>> {
    let column = batch.column_by_name("document").and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or_else(|| Error::engine("results have a column `document`"))?;
    (0..column.len()).map(|row| Ok(serde_json::from_str(column.value(row))?)).collect()
}

/// The documents of runs, in the order of their inputs; of a run that waited and came back there is another one later.
pub struct Documents {
    job: Job,
    documents: BoxStream<'static, Result<ResultDocument>>,
}

impl Documents {
    /// The job that makes them: to watch and to stop it.
    pub fn job(&self) -> &Job {
        &self.job
    }
}

impl Stream for Documents {
    type Item = Result<ResultDocument>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.documents.poll_next_unpin(context)
    }
}
