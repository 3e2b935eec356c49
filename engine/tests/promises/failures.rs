//! A panic or an error of any task ends the job with its cause; it never hangs and nothing is acknowledged.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Checkpointing, Checkpoints, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::Problems;
use bourn_engine::error::Error;
use bourn_engine::graph::{Graph, OnError};
use bourn_engine::state::visitor::{Chunk, Frozen, Owned, Scope, Snapshot};
use bourn_engine::state::{Piece, StateVisitor};
use bourn_engine::{Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Counting, Func, Log, simulate, values};

fn thirteen(rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
    assert!(!values(rows).contains(&13), "thirteen");
    out.emit(rows.clone());
    Ok(Progress::Done)
}

fn five(rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
    out.emit(rows.clone());
    if values(rows).contains(&5) { Err(Error::validation("five")) } else { Ok(Progress::Done) }
}

#[test]
fn a_panic_is_an_error_of_that_stage_and_not_a_hang() {
    for seed in 0..20 {
        let log = Log::default();
        let mut graph = Graph::new("panic");
        graph.source("numbers", Counting { acks: true, endless: true, log: log.clone(), ..Counting::to(20, 4) });
        graph.stage("thirteen", Func::new(thirteen));
        graph.sink("out", Collect::default());
        let error = simulate(seed, async |engine| engine.run(graph).await).unwrap_err();
        assert_eq!(error.place().stage.as_deref(), Some("thirteen"));
        assert!(error.message().contains("panicked: thirteen") && error.message().contains(r#"{"n":13}"#), "{error}");
    }
}

#[test]
fn the_first_row_at_fault_is_named_when_the_policy_is_to_fail() {
    let mut graph = Graph::new("fail");
    graph.source("numbers", Counting::to(20, 20));
    graph.stage("five", Func::new(five));
    graph.sink("out", Collect::default());
    let error = simulate(1, async |engine| engine.run(graph).await).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::Validation, "stage `five`, 0: five (in the row {\"n\":5})")
    );
}

#[test]
fn rows_at_fault_are_dropped_alone_when_the_policy_says_so() {
    let sink = Collect::default();
    let mut graph = Graph::new("drop");
    graph.source("numbers", Counting::to(20, 20));
    graph.stage("five", Func::new(five)).on_error(OnError::Drop);
    graph.stage("thirteen", Func::new(thirteen)).on_error(OnError::Drop);
    graph.sink("out", sink.clone());
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    assert_eq!(sink.values(), (0..20).filter(|n| *n != 5 && *n != 13).collect::<Vec<_>>());
}

/// State that has no form at rest.
#[derive(Default)]
struct Shapeless {}

impl Piece for Shapeless {
    fn snapshot(&mut self, _: bool) -> Result<Snapshot> {
        let frozen = Frozen::new(|| Err(Error::validation("it has no form at rest")));
        Ok(Snapshot(vec![Chunk::Changed(0, frozen)]))
    }
    fn restore(&mut self, _: &mut dyn Iterator<Item = Result<RecordBatch>>, _: &Owned) -> Result<()> {
        Ok(())
    }
    fn scope(&self) -> Scope {
        Scope::Lane
    }
    fn bytes_held(&self) -> usize {
        0
    }
}

impl Stage for Shapeless {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        out.emit(rows.clone());
        Ok(Progress::Done)
    }
    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("shapeless", self)
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Holds {}

impl StageConfig for Holds {
    const NAME: &'static str = "holds";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Shapeless::default()))
    }
}

#[test]
fn state_that_can_not_be_saved_ends_the_job_and_nothing_is_committed() {
    let log = Log::default();
    let mut graph = Graph::new("shapeless");
    graph.source("numbers", Counting { endless: true, ..Counting::to(20, 4) });
    graph.stage("holds", Holds {});
    graph.sink("out", Collect { transactional: true, log: log.clone(), ..Collect::default() });
    graph.options.epoch_every = Some(std::time::Duration::from_millis(10));
    graph.options.checkpoints = Checkpointing::On(Checkpoints::in_folder("checkpoints"));
    let error = simulate(1, async |engine| engine.run(graph).await).unwrap_err();
    assert!(error.message().contains("it has no form at rest"), "{error}");
    assert!(log.said().iter().all(|said| !said.starts_with("commit")), "{:?}", log.said());
}
