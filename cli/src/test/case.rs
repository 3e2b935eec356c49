//! One case: the spec in a simulated world, with memory in place of its sources and sinks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bourn_engine::api::registry::{BoxConnector, BoxStageConfig};
use bourn_engine::api::{BuildContext, Registry, memo};
use bourn_engine::diagnostic::{Diagnostic, Key, Problem, Problems};
use bourn_engine::graph::Graph;
use bourn_engine::plan::{OperatorKind, Plan, PlannedNode};
use bourn_engine::runtime::job::Job;
use bourn_engine::spec::case::Case;
use bourn_engine::spec::model::{Chain, Pipeline};
use bourn_engine::spec::{Document, Loaded, Spec};
use bourn_engine::testing::mocked::{asks, mocked};
use bourn_engine::testing::simulation::{Outcome, Simulation};
use bourn_engine::workflow::{Runs, compile};
use bourn_engine::{Engine, Error};
use futures::channel::mpsc::Sender;
use serde_json::{Map, Value};

use super::compare::{self, Fault};
use super::given;
use super::memory::{Feed, Given, Taken};
use crate::run::documents::Documents;
use crate::run::inputs::Inputs;

/// How much virtual time a case may take beyond what its script says.
const TIME_MAX: Duration = Duration::from_hours(24);
/// Time moves when nobody has anything to do any more, so whoever waits for this long sees the others at rest.
const REST: Duration = Duration::from_nanos(1);

/// What a case runs with.
pub struct Bench<'a> {
    /// What the spec says.
    pub loaded: &'a Loaded,
    /// Where the case stands.
    pub cases: &'a Document,
    /// The kinds that there are.
    pub registry: &'a Registry,
}

/// What came of the run: why it failed, or none.
type Ended = Result<Vec<Fault>, Vec<Diagnostic>>;

/// Runs a case to its end.
///
/// # Errors
/// Problems of the case or the spec, for which nothing was run.
pub fn run(bench: &Bench<'_>, case: &Case) -> Ended {
    let mut loaded = bench.loaded.clone();
    match &mut loaded.spec {
        Spec::Pipeline(spec) => {
            let script = Script::of(bench, case, spec).map_err(|Problems(all)| diagnostics(bench.cases, &all))?;
            pipeline(bench, case, &loaded, script)
        }
        Spec::Chain(spec) => {
            mocks(case, "", spec);
            workflow(bench, case, &loaded)
        }
    }
}

/// Puts what the case says in the place of steps, also of those of a workflow within: `outer/step`.
fn mocks(case: &Case, within: &str, spec: &mut Chain) {
    for step in &mut spec.steps {
        let id = format!("{within}{}", step.id);
        // What is said of a step holds for its fallbacks as well.
        for work in [&mut step.work].into_iter().chain(&mut step.fallback) {
            match &mut work.workflow {
                Some(nested) => mocks(case, &format!("{id}/"), &mut nested.chain),
                None => mock(case, &id, &mut work.config),
            }
        }
    }
}

fn mock(case: &Case, id: &str, config: &mut BoxStageConfig) {
    if let Some(mock) = case.mocks.get(id) {
        *config = mocked(config.clone(), mock.clone());
    }
}

fn diagnostics(document: &Document, problems: &[Problem]) -> Vec<Diagnostic> {
    problems.iter().map(|p| document.diagnostic(p)).collect()
}

/// What happens in a case of a pipeline: batches by move and source, and where rows are looked at.
struct Script {
    senders: BTreeMap<String, Sender<Given>>,
    moves: Vec<Vec<(String, Given)>>,
    taken: BTreeMap<String, Taken>,
    letters: Option<Taken>,
}

impl Script {
    /// Puts memory in the place of everything outside.
    fn of(bench: &Bench<'_>, case: &Case, spec: &mut Pipeline) -> Result<Self, Problems> {
        let (mut problems, mut senders) = (Vec::new(), BTreeMap::new());
        let mut moves: Vec<Vec<(String, Given)>> = case.moves.iter().map(|_| Vec::new()).collect();
        for source in &mut spec.sources {
            let columns = match given::columns(&source.id, case, configured(bench.loaded, &source.path)) {
                Ok(columns) => columns,
                Err(Problems(all)) => {
                    problems.extend(all);
                    continue;
                }
            };
            let mut count = 0;
            for (step, into) in case.moves.iter().zip(&mut moves) {
                for feed in step.give.iter().filter(|f| f.source == source.id) {
                    for (rows, path) in feed.rows.batches() {
                        match given::batches(&columns, rows) {
                            Ok(batches) => {
                                count += batches.len();
                                into.extend(batches.into_iter().map(|batch| (source.id.clone(), batch)));
                            }
                            Err(e) => problems.push(Problem { path, ..Problem::new(e.to_string()) }),
                        }
                    }
                }
            }
            let (feed, sender) = Feed::new(columns.schema().clone(), count);
            source.connector = BoxConnector::new(feed);
            senders.insert(source.id.clone(), sender);
        }
        Problems::check(problems)?;
        for stage in &mut spec.stages {
            mock(case, &stage.id, &mut stage.config);
        }
        let mut taken = BTreeMap::new();
        for sink in &mut spec.sinks {
            let memory = Taken::failing(case.fail.get(&sink.id));
            sink.connector = BoxConnector::new(memory.clone());
            taken.insert(sink.id.clone(), memory);
            if !sink.fallback.is_empty() {
                let memory = Taken::default();
                sink.fallback.iter_mut().for_each(|connector| *connector = BoxConnector::new(memory.clone()));
                taken.insert(format!("{}.fallback", sink.id), memory);
            }
        }
        let letters = spec.dead_letters.as_mut().map(|sink| {
            let memory = Taken::default();
            sink.connector = BoxConnector::new(memory.clone());
            memory
        });
        Ok(Self { senders, moves, taken, letters })
    }

    /// Adds a look at whatever is no sink.
    fn tap(&mut self, case: &Case, graph: &mut Graph) {
        for want in case.moves.iter().flat_map(|m| &m.wants).chain(&case.wants) {
            let target = want.target();
            if let Entry::Vacant(place) = self.taken.entry(target.clone()) {
                let memory = place.insert(Taken::default()).clone();
                graph.sink(format!("@{target}"), memory).from([target.as_str()]);
            }
        }
    }
}

/// The columns that the configuration of a source declares.
fn configured(loaded: &Loaded, path: &[Key]) -> Option<Vec<(String, String)>> {
    let node = loaded.document.filled().at(&[path, &["schema".into()]].concat())?;
    let columns = node.members().iter().map(|m| Some((m.name.clone(), m.node.text()?.to_owned())));
    columns.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
}

fn world(case: &Case) -> Simulation {
    let scripted = case.moves.iter().map(|m| m.after).sum::<Duration>();
    let world = Simulation::new(1).time_max(scripted + TIME_MAX);
    match case.clock {
        Some(clock) => world.begin(clock),
        None => world,
    }
}

fn pipeline(bench: &Bench<'_>, case: &Case, loaded: &Loaded, mut script: Script) -> Ended {
    let mut graph = compile(loaded, &crate::prepare::no_runs());
    graph.options.mock = true;
    script.tap(case, &mut graph);
    // What stands in for the ends keeps nothing over a crash.
    graph.options.delivery = None;
    let world = world(case);
    let engine = Engine::new(bench.registry.clone()).with_env(world.env());
    let engine = engine.with_journal(std::sync::Arc::new(memo::Memory::default()));
    let taken = script.taken.clone();
    let letters = script.letters.clone();
    let outcome = world.run(async {
        let plan = planned(&engine, graph, bench, case).await?;
        let mut faults = Vec::new();
        let ended = match engine.start(plan).await {
            Ok(job) => play(&engine, job, case, script, &mut faults).await,
            Err(e) => Err(e),
        };
        faults.extend(how_it_ended(case, ended));
        Ok(faults)
    });
    let mut faults = told(outcome, case)?;
    faults.extend(case.wants.iter().filter_map(|want| compare::rows(want, &taken[&want.target()].rows())));
    if case.letters.is_some() && letters.is_none() {
        let path = [case.path.as_slice(), &["dead_letters".into()]].concat();
        faults.push(Fault::new(&path, "this spec has no `dead_letters`, so none can be expected"));
    } else {
        faults.extend(compare::letters(case, &letters.map(|l| l.rows()).unwrap_or_default()));
    }
    Ok(faults)
}

/// Time passes, rows are given, what has come since is looked at.
async fn play(engine: &Engine, job: Job, case: &Case, script: Script, faults: &mut Vec<Fault>) -> Result<(), Error> {
    let Script { mut senders, moves, taken, .. } = script;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (step, given) in case.moves.iter().zip(moves) {
        engine.env().sleep(step.after).await;
        for (source, batch) in given {
            if let Some(sender) = senders.get_mut(&source) {
                // It has room for all; a job that has ended takes no more, and says why in the end.
                let _ended = sender.try_send(batch);
            }
        }
        engine.env().sleep(REST).await;
        for want in &step.wants {
            let (all, from) = (taken[&want.target()].rows(), seen.entry(want.target()).or_default());
            faults.extend(compare::rows(want, &all[(*from).min(all.len())..]));
            *from = all.len();
        }
    }
    drop(senders);
    job.wait().await
}

fn how_it_ended(case: &Case, ended: Result<(), Error>) -> Option<Fault> {
    let path = [case.path.as_slice(), &["error".into()]].concat();
    match (ended, &case.error) {
        (Ok(()), None) => None,
        (Ok(()), Some(part)) => Some(Fault::new(&path, format!("the job ended well, and {part:?} was expected"))),
        (Err(e), Some(part)) if e.to_string().contains(part) => None,
        (Err(e), Some(part)) => Some(Fault::new(&path, format!("the job failed: {e}; {part:?} was expected"))),
        (Err(e), None) => Some(Fault::new(&case.path, format!("the job failed: {e}"))),
    }
}

fn told(outcome: Outcome<Ended>, case: &Case) -> Ended {
    let (what, waiting) = match outcome {
        Outcome::Done(ended) => return ended,
        Outcome::Deadlock(waiting) => ("nothing can happen any more", waiting),
        Outcome::Livelock(waiting) => ("it has not ended a day after its last move", waiting),
    };
    let waiting: Vec<_> = waiting.iter().map(ToString::to_string).collect();
    Ok(vec![Fault::new(&case.path, format!("{what}; waiting: {}", waiting.join(", ")))])
}

/// The plan, in which nothing asks anything outside.
async fn planned(engine: &Engine, graph: Graph, bench: &Bench<'_>, case: &Case) -> Result<Plan, Vec<Diagnostic>> {
    let plan = engine.plan(graph).await.map_err(|Problems(all)| diagnostics(&bench.loaded.document, &all))?;
    let is_silent = |n: &&PlannedNode| {
        let is_call = matches!(n.operator, OperatorKind::Call(_)) && !["model", "mock"].contains(&n.kind());
        is_call && step_asks(engine, bench.loaded, n)
    };
    let problem = |n: &PlannedNode| {
        let (id, kind) = (&n.id, n.kind());
        let problem = Problem::new(format!(
            "`{id}` asks something outside (`{kind}`), and this case does not say what it answers"
        ));
        let problem = problem.help(format!("add `mocks: {{ {id}: {{ answer: … }} }}`"));
        bench.cases.diagnostic(&Problem { path: case.path.clone(), ..problem })
    };
    let problems: Vec<_> = plan.nodes.iter().filter(is_silent).map(problem).collect();
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

/// Whether what stands behind a step is a call: every step is one itself.
fn step_asks(engine: &Engine, loaded: &Loaded, node: &PlannedNode) -> bool {
    let Spec::Chain(spec) = &loaded.spec else { return true };
    // A node of the engine's own has a name that no step can have.
    let Some(step) = spec.step(&node.id).filter(|step| step.work.workflow.is_none()) else { return false };
    let (env, id, inputs) = (engine.env().clone(), node.id.to_string(), node.inputs.clone());
    // One that can't be built says so when the job starts.
    asks(&step.work.config, &BuildContext { mock: true, ..BuildContext::of(env, id, inputs) }).unwrap_or_default()
}

fn workflow(bench: &Bench<'_>, case: &Case, loaded: &Loaded) -> Ended {
    let input = case.input.clone().unwrap_or_else(|| Value::Object(Map::new()));
    let runs = Runs::of("inputs", BoxConnector::new(Inputs::one("input", input.to_string()))).with_id("test");
    let documents = Documents::kept();
    let mut graph = compile(loaded, &runs);
    graph.options.mock = true;
    graph.sink("@documents", documents.clone());
    let world = world(case);
    let engine = Engine::new(bench.registry.clone()).with_env(world.env());
    let outcome = world.run(async {
        let plan = planned(&engine, graph, bench, case).await?;
        let ended = match engine.start(plan).await {
            Ok(job) => job.wait().await,
            Err(e) => Err(e),
        };
        Ok(how_it_ended(case, ended).into_iter().collect())
    });
    let mut faults = told(outcome, case)?;
    let document = documents.seen().last.as_deref().and_then(|d| serde_json::from_str(d).ok());
    if let (Some(want), Some(document)) = (&case.run, document) {
        faults.extend(compare::run(case, want, &document));
    }
    Ok(faults)
}
