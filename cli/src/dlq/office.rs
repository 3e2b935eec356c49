//! Where the dead letters of a spec are: the sinks that took them, and the file of those that are settled.

use std::path::PathBuf;

use bourn_engine::api::checkpointing::{CHECKPOINTS, Place};
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::api::{Checkpointing, Checkpoints, ConnectContext};
use bourn_engine::checkpoint::Settled;
use bourn_engine::checkpoint::settled::Known;
use bourn_engine::data::columns::DEAD_LETTER;
use bourn_engine::data::letter::{Letter, Letters};
use bourn_engine::diagnostic::{Key, Problem, Problems};
use bourn_engine::embed::into_stream;
use bourn_engine::graph::{Graph, OnError, Role};
use bourn_engine::spec::{Loaded, Spec};
use bourn_engine::{Engine, Error, Kind};
use futures::StreamExt;

use super::counted;
use crate::failure::Failure;
use crate::prepare;
use crate::run::documents::Documents;
use crate::screen::Screen;

/// Where the dead letters of a spec are.
pub struct Office<'a> {
    /// What reads and runs.
    pub engine: Engine,
    /// The spec.
    pub loaded: &'a Loaded,
    /// Its graph.
    pub graph: Graph,
    /// What is settled.
    pub settled: Settled,
    /// What took letters and can be read back.
    sinks: Vec<BoxConnector>,
    /// Where the sink stands in the spec.
    place: Vec<Key>,
}

impl<'a> Office<'a> {
    /// That of a spec; reads nothing yet.
    ///
    /// # Errors
    /// When it has no dead letters, or they can't be read back.
    pub fn open(engine: Engine, loaded: &'a Loaded, path: &str) -> Result<Self, Failure> {
        if !matches!(loaded.spec, Spec::Pipeline(_)) {
            let message = format!("{path} is a workflow: what failed is told in the documents of its runs");
            return Err(Failure::invalid(message));
        }
        let graph = prepare::graph(loaded, &prepare::no_runs(), Documents::lines(), false);
        let sink = graph.options.dead_letters.as_deref().and_then(|id| graph.node(id));
        let Some((sink, Role::Sink(connector))) = sink.map(|node| (node, &node.role)) else {
            let message = format!(
                "{path} has no `dead_letters`; add `on_error: dead_letter` and `dead_letters: {{ file: {{ path: rejected.jsonl }} }}`"
            );
            return Err(Failure::invalid(message));
        };
        let all = [connector].into_iter().chain(&sink.fallback);
        let sinks: Vec<_> = all.filter(|sink| sink.reads_back()).cloned().collect();
        if sinks.is_empty() {
            let kinds = engine.registry().connectors().values().filter(|kind| kind.reads_back);
            let kinds: Vec<_> = kinds.map(|kind| format!("`{}`", kind.name)).collect();
            let message = format!(
                "{path}: its `dead_letters` go to `{}`, from which nothing can be read back; from {} it can",
                connector.kind(),
                kinds.join(", ")
            );
            return Err(Failure::invalid(message));
        }
        let base: PathBuf = match &graph.options.checkpoints {
            Checkpointing::On(Checkpoints { at: Place::Folder(path), .. })
            | Checkpointing::WhereNeeded(Checkpoints { at: Place::Folder(path), .. }) => path.clone(),
            // Of a job whose checkpoints are elsewhere, too: what is settled is known on this machine.
            _ => CHECKPOINTS.into(),
        };
        let settled = Settled::new(engine.env().clone(), &base, &graph.name);
        let place = sink.path.clone();
        Ok(Self { engine, loaded, graph, settled, sinks, place })
    }

    /// What is settled.
    ///
    /// # Errors
    /// When the file of it can't be read.
    pub fn known(&self) -> Result<Known, Failure> {
        self.settled.read().map_err(Failure::Failed)
    }

    /// Keeps others from settling letters, as long as what is returned lives.
    ///
    /// # Errors
    /// When another is at work.
    pub fn lock(&self) -> Result<Box<dyn Send + Sync>, Failure> {
        self.settled.lock().map_err(Failure::Failed)?.ok_or_else(|| {
            let place = self.settled.path().display();
            let message = format!("{place}: another `bourn dlq` is settling letters of this job; wait for its end");
            Failure::Failed(Error::new(Kind::Io, message))
        })
    }

    /// Hands over each letter that there is. What is no letter is told, and what can be read only in part; false is returned
    /// for the latter.
    ///
    /// # Errors
    /// When nothing can be read.
    pub async fn read(&self, screen: &Screen, mut take: impl FnMut(Letter)) -> Result<bool, Failure> {
        let context = ConnectContext { env: self.engine.env().clone(), id: "dead_letters".to_owned(), lanes: 1 };
        let (mut letters, mut others, mut is_whole) = (Letters::default(), 0, true);
        for (number, sink) in self.sinks.iter().enumerate() {
            let sources = sink.read_back(&DEAD_LETTER, &context).await;
            for source in sources.map_err(|problems| self.placed(problems, number))? {
                let (found, torn) = self
                    .read_one(source, |batch| {
                        let (found, none) = letters.read(batch)?;
                        others += none;
                        found.into_iter().for_each(&mut take);
                        Ok(())
                    })
                    .await?;
                others += found;
                if let Some(error) = torn {
                    screen.warn(&format!("the dead letters can be read in part only: {error}"));
                    is_whole = false;
                }
            }
        }
        if others > 0 {
            let lines = counted(others, "row");
            screen
                .warn(&format!("{lines} among the dead letters can't be read as one; a running job may be writing it"));
        }
        Ok(is_whole)
    }

    /// Reads a source to its end, or to where it fails. Returns how many of its rows can't be read.
    async fn read_one(
        &self,
        source: BoxConnector,
        mut take: impl FnMut(&arrow::record_batch::RecordBatch) -> Result<(), Error>,
    ) -> Result<(usize, Option<Error>), Failure> {
        let mut graph = Graph::new("dead letters");
        graph.options.secrets = self.graph.options.secrets.clone();
        graph.source("dead_letters", source).on_error(OnError::Drop);
        let (sink, mut batches) = into_stream();
        graph.sink("read", sink);
        let plan = self.engine.plan(graph).await.map_err(|problems| Failure::Failed(problems.into()))?;
        let job = self.engine.start(plan).await.map_err(Failure::Failed)?;
        let stats = job.stats().clone();
        let (mut torn, mut is_any) = (None, false);
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(batch) => {
                    take(&batch).map_err(Failure::Failed)?;
                    is_any = true;
                }
                Err(error) => torn = Some(error),
            }
        }
        drop(job);
        match torn {
            Some(error) if !is_any => Err(Failure::Failed(error)),
            torn => Ok((usize::try_from(stats.rows_rejected()).unwrap_or(usize::MAX), torn)),
        }
    }

    /// Problems of a sink, with their places in the spec.
    fn placed(&self, Problems(found): Problems, number: usize) -> Failure {
        let place = |problem: Problem| match number {
            0 => self.place.iter().rev().fold(problem, |problem, key| problem.under(key.clone())),
            // That of a fallback is not known.
            _ => Problem { path: Vec::new(), ..problem },
        };
        Failure::Problems(found.into_iter().map(|p| self.loaded.document.diagnostic(&place(p))).collect())
    }

    /// A text without secrets, as an answer may show it.
    pub fn shown(&self, text: &str) -> String {
        self.loaded.document.secrets().conceal_in_data(text).into_owned()
    }
}
