//! From a spec on the command line to a graph that can be planned.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bourn_engine::Engine;
use bourn_engine::api::Registry;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::plan::{Asking, Plan};
use bourn_engine::spec::{Loaded, Request, Routing, Spec};
use bourn_engine::workflow::{self, Runs};
use bourn_journal::Journals;

use crate::args;
use crate::failure::Failure;
use crate::given::Text;
use crate::run::documents::Documents;
use crate::run::inputs::Inputs;

/// Every stage and connector of this binary, and what it lacks.
pub fn registry() -> Registry {
    bourn_connectors::features::absent(bourn_connectors::register(bourn_stages::register(Registry::new())))
}

/// An engine that knows all of that, and keeps answers in this journal.
pub fn engine(journal: &Path, env: Env) -> Engine {
    let engine = Engine::new(registry()).with_env(env);
    let journals = Journals::new(journal, engine.env());
    engine.with_journal(Arc::new(journals))
}

/// The runtime of the data: a worker for every core.
///
/// # Errors
/// When the system has no threads left.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let build = || -> io::Result<_> {
        let workers = std::thread::available_parallelism()?.get();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name("bourn-worker")
            .enable_all()
            .build()
    };
    build().map_err(|e| Failure::Failed(e.into()))
}

/// Reads and checks a spec.
///
/// # Errors
/// Every problem of it.
pub fn load(spec: &args::Spec, engine: &Engine) -> Result<Loaded, Failure> {
    let (request, Text { name, text }) = request(spec)?;
    request.load(&text, &name, engine.registry(), engine.env()).map_err(Failure::Problems)
}

/// The same to run it: with the secrets that programs print.
///
/// # Errors
/// Every problem of it, or every program that failed.
pub async fn load_to_run(spec: &args::Spec, engine: &Engine) -> Result<Loaded, Failure> {
    let (request, Text { name, text }) = request(spec)?;
    request.load_to_run(&text, &name, engine.registry(), engine.env()).await.map_err(Failure::Problems)
}

fn request(spec: &args::Spec) -> Result<(Request, Text), Failure> {
    let routing = match &spec.routing {
        Some(path) => {
            let Text { name, text } = Text::read(path)?;
            Routing::parse(&text, &name).map_err(Failure::Problems)?
        }
        None => Routing::default(),
    };
    Ok((Request { routing, mode: spec.mode, ..Request::default() }, Text::read(&spec.path)?))
}

/// The graph of a spec. What the runs of a workflow leave goes to `documents`.
pub fn graph(loaded: &Loaded, runs: &Runs, documents: Documents, mock: bool) -> Graph {
    let mut graph = workflow::compile(loaded, runs);
    graph.options.mock = mock;
    if !matches!(loaded.spec, Spec::Pipeline(_)) {
        graph.sink("@documents", documents);
    }
    graph
}

/// Runs of no input, for a spec that is only looked at.
pub fn no_runs() -> Runs {
    let journal = std::sync::Arc::new(bourn_engine::journal::Memory::default());
    Runs::of("inputs", BoxConnector::new(Inputs::one("--input", String::new()))).with_journal(journal, 1)
}

/// Plans a graph that was made of a spec, to run it.
///
/// # Errors
/// Every problem, with its place in the spec.
pub async fn plan(engine: &Engine, graph: Graph, loaded: &Loaded) -> Result<Plan, Failure> {
    plan_asking(engine, graph, loaded, Asking::default()).await
}

/// The same, asking whom `asking` says.
///
/// # Errors
/// Every problem, with its place in the spec.
pub async fn plan_asking(engine: &Engine, graph: Graph, loaded: &Loaded, asking: Asking) -> Result<Plan, Failure> {
    engine.plan_asking(graph, asking).await.map_err(|Problems(all)| {
        Failure::Problems(all.iter().map(|problem| loaded.document.diagnostic(problem)).collect())
    })
}
