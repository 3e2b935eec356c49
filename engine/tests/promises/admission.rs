//! No more rows are under way than a source admits, also when stages hold rows back.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::Problems;
use bourn_engine::graph::Graph;
use bourn_engine::state::{Buffer, StateVisitor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Counting, simulate};

/// Lets rows go in groups of `rows`.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Hold {
    rows: usize,
}

struct Holding {
    rows: usize,
    buffer: Buffer,
}

impl StageConfig for Hold {
    const NAME: &'static str = "hold";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Holding { rows: self.rows, buffer: Buffer::default() }))
    }
}

impl Holding {
    fn emit(&mut self, out: &mut Output) -> Result<Progress> {
        let taken = self.buffer.take(self.rows);
        if let Some(first) = taken.first() {
            out.emit(concat_batches(&first.schema(), &taken)?);
        }
        Ok(Progress::Done)
    }
}

impl Stage for Holding {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.buffer.push(rows.clone());
        if self.buffer.rows() >= self.rows { self.emit(out) } else { Ok(Progress::Done) }
    }
    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        self.rows = usize::MAX;
        self.emit(out)
    }
    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("rows", &mut self.buffer)
    }
}

#[test]
fn rows_under_way_never_exceed_the_admission_and_all_arrive() {
    for seed in 0..10 {
        let sink = Collect { slow: std::time::Duration::from_millis(1), ..Collect::default() };
        let mut graph = Graph::new("admitted");
        graph.source("numbers", Counting::to(2_000, 50)).admission(64);
        graph.stage("hold", Hold { rows: 40 });
        graph.sink("out", sink.clone());
        simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            let stats = Arc::clone(job.stats());
            let mut ended = Box::pin(job.wait());
            let mut most = 0;
            while futures::poll!(ended.as_mut()).is_pending() {
                engine.env().sleep(std::time::Duration::from_micros(500)).await;
                let entered: u64 = stats.total("hold", |s| &s.rows_in);
                most = most.max(entered.saturating_sub(stats.rows_written()));
                let queued: u64 = stats.edges.iter().map(|e| e.stats.queued_rows()).sum();
                assert!(queued <= 64, "{queued} rows queued");
            }
            assert!(most <= 64, "{most} rows were under way");
        });
        assert_eq!(sink.values(), (0..2_000).collect::<Vec<_>>());
    }
}
