//! A step that runs a pipeline.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bourn_engine::Engine;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::api::{BoxSource, Capabilities, ConnectContext, Connector, Registry, Replay, SourceContext};
use bourn_engine::diagnostic::Problems;
use bourn_engine::spec::Request;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Runs, compile};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::{SEEN, Shelf, lines_of};

/// Three rows, the first of which may be slow or fail.
const PIPELINE: &str = "
source: { lines: ['${env.FIRST}', b, c] }
on_error: drop
stages:
  - { say: { text: '${text} of ${number}', after: '${env.SLOW:-0}', fail: '${env.FAIL:-}', limits: { in_flight: 1, timeout: 2h, retry: { max_attempts: 1 } } } }
sink: { shelf: {} }
";

/// What never ends.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Endless {}

impl Connector for Endless {
    const NAME: &'static str = "endless";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, false)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        lines_of(&[]).schema(&ConnectContext { env: Simulation::new(1).env(), id: "e".into(), lanes: 1 }).await
    }
    async fn source(&self, _: SourceContext) -> Result<BoxSource> {
        Err(Error::engine("never opened"))
    }
}

fn registry() -> Registry {
    crate::kinds::registry().connector::<Endless>()
}

fn request(pipeline: &str) -> Request {
    let included = [("specs/load.yaml", pipeline), ("specs/flow.yaml", "steps: [ { id: a, set: 1 } ]")];
    let included: BTreeMap<_, _> = included.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    Request { included, ..Request::default() }
}

/// Runs a workflow whose steps run a pipeline; the documents, and the virtual time that it took.
fn work(steps: &str, pipeline: &str, inputs: &[&str]) -> (Vec<Value>, Duration) {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let loaded = request(pipeline).load(steps, "specs/work.yaml", &registry(), &env);
    let loaded = loaded.unwrap_or_else(|told| panic!("{told:?}"));
    let mut graph = compile(&loaded, &Runs::of("lines", BoxConnector::new(lines_of(inputs))));
    let shelf = Shelf::default();
    graph.sink("shelf", shelf.clone());
    let engine = Engine::new(registry()).with_env(env.clone());
    let took = simulation.run(async move {
        let begin = env.monotonic();
        engine.run(graph).await.unwrap();
        env.monotonic().saturating_sub(begin)
    });
    let mut documents = shelf.documents.lock().unwrap().clone();
    documents.sort_by_key(|document| document["run_id"].to_string());
    (documents, took.done())
}

fn told(steps: &str, pipeline: &str) -> Vec<String> {
    let told = request(pipeline).load(steps, "specs/work.yaml", &registry(), &Simulation::new(1).env()).err();
    told.unwrap_or_default().iter().map(|d| format!("{}: {}", d.source.name(), d.message)).collect()
}

#[test]
fn it_gives_the_numbers_of_its_rows_and_pays_for_what_they_cost() {
    let steps = "
steps:
  - { id: load, pipeline: { spec: load.yaml, env: { FIRST: '${input.first}', FAIL: '${input.fail}' } } }
  - { id: told, set: { value: '${load.results.rows_written} of ${load.results.rows_read}' } }
output_format: map
";
    let inputs =
        [r#"{"first": "a", "fail": ""}"#, r#"{"first": "x", "fail": "permanent"}"#, r#"{"first": null, "fail": ""}"#];
    let (documents, _) = work(steps, PIPELINE, &inputs);
    let all: Vec<_> = documents.iter().map(|d| (d["status"].clone(), d["final_output"]["told"].clone())).collect();
    assert_eq!(all.iter().filter(|(status, _)| status == "COMPLETED").count(), 1, "{documents:#?}");
    let good = documents.iter().find(|d| d["status"] == "COMPLETED").unwrap();
    assert_eq!(good["final_output"]["told"], "3 of 3");
    let stages = &good["final_output"]["load"]["stages"];
    assert_eq!(
        stages["say"],
        json!({ "kind": "say", "rows_in": 3, "rows_out": 3, "rows_rejected": 0, "rows_filtered": 0 })
    );
    assert_eq!(good["execution_metrics"]["usage"]["usd"], 1.5, "what the pipeline's models cost is the step's");
    let mut details: Vec<_> = documents.iter().filter_map(|d| d["error_analysis"]["detail"].as_str()).collect();
    details.sort_unstable();
    assert_eq!(
        details,
        [
            "`${input.first}` is null, which can't be a variable of a pipeline",
            "no row of specs/load.yaml has got through: 3 of 3 were rejected",
        ]
    );
}

#[test]
fn one_that_is_given_up_is_stopped_and_no_other_one_begins_before_it_has_ended() {
    let steps = "
steps:
  - { id: load, pipeline: { spec: load.yaml, env: { FIRST: a, SLOW: '${.input}' } }, timeout: 5s, retry: { max_attempts: 3, initial_interval: 1ms } }
";
    let most = || SEEN.with(|seen| seen.most.swap(0, SeqCst));
    most();
    let (documents, took) = work(steps, PIPELINE, &["8000"]);
    assert_eq!(documents[0]["status"], "FAILED");
    assert_eq!(documents[0]["error_analysis"]["class"], "timeout");
    assert_eq!(most(), 1, "two of them at once");
    assert!(took < Duration::from_mins(2), "{took:?}");
    let (documents, _) = work(steps, PIPELINE, &["1000"]);
    assert_eq!((documents[0]["status"].clone(), most()), (json!("COMPLETED"), 1));
}

#[test]
fn it_takes_as_long_as_it_takes_unless_something_is_said() {
    let steps = "steps: [ { id: load, pipeline: { spec: load.yaml, env: { FIRST: a, SLOW: 3600000 } } } ]";
    let (documents, took) = work(steps, PIPELINE, &["{}"]);
    assert_eq!(documents[0]["status"], "COMPLETED");
    assert!(took >= Duration::from_hours(3), "{took:?}");
}

#[test]
fn what_is_wrong_is_told_before_anything_runs() {
    let step = |block: &str| format!("steps: [ {{ id: a, pipeline: {block} }} ]");
    let good = step("{ spec: load.yaml, env: { FIRST: x } }");
    assert_eq!(told(&good, PIPELINE), [] as [&str; 0]);
    let loaded = request(PIPELINE).load(&good, "specs/work.yaml", &registry(), &Simulation::new(1).env());
    assert_eq!(loaded.ok().map(|l| l.choice.reason).as_deref(), Some("the spec has `steps` and a step `pipeline`"));
    assert_eq!(told(&step("gone.yaml"), PIPELINE), ["specs/work.yaml: specs/gone.yaml: no such file"]);
    assert_eq!(told(&step("load.yaml"), PIPELINE), ["specs/load.yaml: there is no environment variable `FIRST`"]);
    assert_eq!(told(&step("flow.yaml"), PIPELINE), ["specs/work.yaml: this is no pipeline: it has no `sources`"]);
    let endless = "source: { endless: {} }\nsink: { shelf: {} }";
    assert_eq!(
        told(&step("load.yaml"), endless),
        ["specs/work.yaml: the source `source` (`endless`) of this pipeline has no end"]
    );
    let lists = step("{ spec: load.yaml, env: { FIRST: [1], 'A=': '${nobody}' }, input: 1 }");
    assert_eq!(
        told(&lists, PIPELINE),
        [
            "specs/work.yaml: a variable is a text, and this is a list",
            "specs/work.yaml: `A=` can't be the name of a variable",
            "specs/work.yaml: there is no step `nobody`",
            "specs/work.yaml: unknown key `input`",
            "specs/load.yaml: there is no environment variable `FIRST`",
        ]
    );
    let more = "steps: [ { id: a, pipeline: load.yaml, args: 1, switch: [ { then: a } ] } ]";
    assert!(told(more, PIPELINE)[0].contains("`switch` is said already"), "{:?}", told(more, PIPELINE));
    let inline = step("{ spec: { source: { lines: [] }, sink: { shelf: {} } } }");
    assert_eq!(told(&inline, PIPELINE), ["specs/work.yaml: expected the path of a pipeline, found a map"]);
}

#[test]
fn what_only_a_run_knows_is_no_fault_of_the_spec() {
    let number = "
source: { lines: [a] }
stages:
  - { say: { text: x, limits: { timeout: '${env.LONG}', retyr: {} } } }
sink: { shelf: {} }
";
    let of_run = "steps: [ { id: a, pipeline: { spec: load.yaml, env: { LONG: '${input.long}' } } } ]";
    let faults = told(of_run, number);
    assert_eq!(faults, ["specs/load.yaml: unknown key `retyr`"], "the slip is one however long that is");
    assert_eq!(told(of_run, &number.replace(", retyr: {}", "")), [] as [&str; 0]);
}
