//! Planning asks nobody over a network unless it is told to: what only a server knows stays open, all else is checked.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Known, Replay, Side, SinkContext,
    SourceContext,
};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::graph::Graph;
use bourn_engine::plan::{Asking, Plan};
use bourn_engine::{Engine, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{Collect, Counting, Func, Log, schema, simulate};

/// Columns and a table that a server knows.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Remote {
    /// What is wrong with the configuration.
    wrong: Option<String>,
    /// The server never answers.
    #[serde(skip)]
    hangs: bool,
    #[serde(skip)]
    log: Log,
}

impl Remote {
    async fn asked(&self, what: &str, context: &ConnectContext) -> Result<(), Problems> {
        self.log.say(what);
        if self.hangs {
            context.env.sleep(Duration::from_hours(1)).await;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Problems> {
        Problems::check(self.wrong.iter().map(Problem::new).collect())
    }
}

impl Connector for Remote {
    const NAME: &'static str = "remote";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true).and_sink(Delivery::Plain)
    }
    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        self.check()?;
        self.asked("schema", context).await?;
        Ok(schema())
    }
    async fn known(&self, _: &ConnectContext) -> Result<Known, Problems> {
        self.check()?;
        Ok(Known::Asks("remote at host:1".into()))
    }
    async fn reach(&self, side: Side<'_>, context: &ConnectContext) -> Result<(), Problems> {
        match side {
            Side::Source => self.asked("reach source", context).await,
            Side::Sink(columns) => self.asked(&format!("reach sink of {}", columns.fields().len()), context).await,
        }
    }
    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        Connector::source(&Counting::to(3, 3), context).await
    }
    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        Connector::sink(&Collect::default(), context).await
    }
}

fn graph(remote: &Remote) -> Graph {
    let mut graph = Graph::new("orders");
    graph.source("orders", remote.clone());
    graph.stage("late", Func::pass());
    graph.sink("out", remote.clone());
    graph.source("numbers", Counting::to(10, 5));
    graph.stage("all", Func::pass()).from(["numbers"]);
    graph.sink("copy", remote.clone()).from(["all"]);
    graph.dead_letters("rejected", remote.clone());
    graph
}

fn planned(remote: &Remote, asking: Asking) -> Result<Plan, Vec<String>> {
    let plan = simulate(1, async |engine: Engine| engine.plan_asking(graph(remote), asking).await);
    plan.map_err(|Problems(found)| found.into_iter().map(|p| p.message).collect())
}

#[test]
fn nobody_is_asked_and_what_stays_open_is_shown() {
    let remote = Remote::default();
    let plan = planned(&remote, Asking::Nobody).unwrap();
    assert!(remote.log.said().is_empty(), "{:?}", remote.log.said());
    insta::assert_snapshot!(plan.explain());
}

#[test]
fn what_is_wrong_without_a_server_is_told_all_the_same() {
    let remote = Remote { wrong: Some("the address is none".into()), ..Remote::default() };
    assert_eq!(planned(&remote, Asking::Nobody).err().unwrap(), ["the address is none"]);
}

#[test]
fn a_plan_with_open_columns_is_not_started() {
    let remote = Remote::default();
    let error: Error = simulate(1, async |engine: Engine| {
        let plan = engine.plan_asking(graph(&remote), Asking::Nobody).await.unwrap();
        engine.start(plan).await.err().unwrap()
    });
    assert_eq!(error.message(), "the columns of `orders` are open: plan the job again, asking remote at host:1");
}

#[test]
fn a_job_that_is_to_run_asks_for_columns_and_no_more() {
    let remote = Remote::default();
    let plan = planned(&remote, Asking::Sources).unwrap();
    assert_eq!(remote.log.said(), ["schema"]);
    assert!(plan.open().next().is_none() && !plan.tasks.is_empty());
}

#[test]
fn everyone_is_asked_where_that_is_said() {
    let remote = Remote::default();
    planned(&remote, Asking::Everyone).unwrap();
    let mut said = remote.log.said();
    said.sort();
    assert_eq!(said, ["reach sink of 1", "reach sink of 1", "reach sink of 7", "reach source", "schema"]);
}

#[test]
fn a_server_that_never_answers_is_given_up_with_its_name() {
    let remote = Remote { hangs: true, ..Remote::default() };
    let mut told = planned(&remote, Asking::Everyone).err().unwrap();
    told.sort();
    let silent = |id: &str, server: &str| format!("`{id}`: {server}: no answer within 15s");
    assert_eq!(told, [silent("copy", "remote"), silent("orders", "remote at host:1"), silent("rejected", "remote")]);
}
