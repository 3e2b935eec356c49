//! Inputs that are merged may differ in what may be null: what reads them gets the columns that they have together.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BoxSource, Capabilities, Chunk, ConnectContext, Connector, Replay, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::Problems;
use bourn_engine::graph::Graph;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Func, KeyedPass, schema, simulate};

/// Numbers, one batch each; a null is one only where it may be.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Given {
    column: String,
    nullable: bool,
    numbers: Vec<Option<i64>>,
}

impl Given {
    fn numbers(nullable: bool, numbers: &[Option<i64>]) -> Self {
        Self { column: "n".into(), nullable, numbers: numbers.to_vec() }
    }
    fn columns(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(&self.column, DataType::Int64, self.nullable)]))
    }
}

impl Connector for Given {
    const NAME: &'static str = "given";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(self.columns())
    }
    async fn source(&self, _: SourceContext) -> Result<BoxSource> {
        Ok(BoxSource::new(GivenSource { given: self.clone(), at: 0 }))
    }
}

struct GivenSource {
    given: Given,
    at: usize,
}

impl Source for GivenSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(number) = self.given.numbers.get(self.at) else { return Ok(None) };
        self.at += 1;
        let column: ArrayRef = Arc::new(Int64Array::from(vec![*number]));
        let batch = RecordBatch::try_new(self.given.columns(), vec![column])?;
        Ok(Some(Chunk::new(batch, Split::new(""), Position::of(&self.at)?)))
    }
}

/// Two sources, the first without nulls, and what `merge` puts behind them.
fn graph(merge: impl Fn(&mut Graph)) -> Graph {
    let mut graph = Graph::new("merged");
    graph.source("strict", Given::numbers(false, &[Some(1), Some(2), Some(3)]));
    graph.source("loose", Given::numbers(true, &[None, Some(5), None]));
    graph.options.epoch_every = Some(Duration::from_millis(1));
    merge(&mut graph);
    graph
}

fn check(name: &str, seed: u64, graph: Graph, sink: &Collect) {
    simulate(seed, async |engine| engine.run(graph).await).unwrap_or_else(|e| panic!("{name}, seed {seed}: {e}"));
    let batches = sink.rows.lock().unwrap();
    let nulls: usize = batches.iter().map(|b| b.column(0).null_count()).sum();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, nulls), (6, 2), "{name}, seed {seed}");
    // A sink may put batches of different writers together, so all of them have the columns that it was planned with.
    assert!(batches.iter().all(|b| b.schema() == schema()), "{name}, seed {seed}");
}

#[test]
fn a_column_may_be_null_behind_inputs_of_which_one_may_have_nulls() {
    for seed in 0..20 {
        let sink = Collect::default();
        // By key, so that rows of both inputs are put together in the exchange.
        let by_stage = graph(|graph| {
            graph.stage("both", Func::pass()).from(["strict", "loose"]);
            graph.stage("keyed", KeyedPass {}).lanes(3);
            graph.sink("out", sink.clone());
        });
        check("a stage", seed, by_stage, &sink);
        let sink = Collect::default();
        let by_sink = graph(|graph| {
            graph.sink("out", sink.clone()).from(["strict", "loose"]);
        });
        check("a sink", seed, by_sink, &sink);
    }
}

#[test]
fn a_plan_says_that_the_column_may_be_null() {
    let merged = graph(|graph| {
        graph.stage("both", Func::pass()).from(["strict", "loose"]);
        graph.sink("out", Collect::default());
    });
    let text = simulate(1, async |engine| engine.plan(merged).await.unwrap().explain());
    assert!(text.contains("  both (func) <- strict, loose\n    {}\n    -> (n bigint)\n"), "{text}");
}

#[test]
fn inputs_with_other_columns_are_refused_by_their_names() {
    let mut graph = Graph::new("unlike");
    graph.source("strict", Given::numbers(false, &[]));
    graph.source("other", Given { column: "m".into(), ..Given::numbers(true, &[]) });
    graph.stage("both", Func::pass()).from(["strict", "other"]);
    graph.sink("out", Collect::default());
    let Problems(problems) = simulate(1, async |engine| engine.plan(graph).await.map(drop).unwrap_err());
    let told: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(told, ["column `n` is in `strict` and not in `other`"]);
}
