//! Rows as `serde` structs inside a program: each row fails alone, and a missing column is a problem of the plan.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::embed::{from_stream, into_stream};
use bourn_engine::graph::{Graph, OnError};
use bourn_engine::testing::harness::json;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::{Engine, Error, Result};
use bourn_structs::{GraphRows, from_rows, from_rows_as, into_row_sink, into_rows};
use futures::channel::mpsc;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

#[path = "../../examples/09-embedded.rs"]
#[expect(dead_code, reason = "its main is run as an example, not here")]
mod example;

#[tokio::test]
async fn the_example_watches_a_pipeline_and_stops_it() {
    let alarms = example::first_alarms(example::sensor()).await.unwrap();
    assert!(alarms.len() >= 3, "{}", alarms.len());
    let first = example::Alarm { sensor: "attic".into(), text: "31 °C".into() };
    assert_eq!((&alarms[0], alarms.iter().all(|alarm| alarm.sensor == "attic")), (&first, true));
}

/// Runs a job in a simulated world.
fn simulate<T>(work: impl AsyncFnOnce(Engine) -> T) -> T {
    let simulation = Simulation::new(1);
    let engine = Engine::default().with_env(simulation.env());
    simulation.run(work(engine)).done()
}

/// Rows of one column `n`, up to `end`, in batches of 50.
fn numbers(end: i64) -> BoxConnector {
    let batch = |from: i64| {
        let numbers = Int64Array::from_iter_values(from..(from + 50).min(end));
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)])
    };
    let batches: Vec<_> = (0..end).step_by(50).map(batch).collect();
    from_stream(batches[0].as_ref().unwrap().schema(), stream::iter(batches))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: i64,
    cents: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Priced {
    id: i64,
    euros: f64,
}

fn orders() -> impl futures::Stream<Item = Result<Order>> + Send + 'static {
    let cents = |id: i64| if id == 3 { None } else { Some(id * 100) };
    stream::iter((0..6).map(move |id| Ok(Order { id, cents: cents(id) })))
}

/// The row is an error of the program, a row without a price, or one that is not kept.
fn priced(order: Order) -> Result<Priced> {
    let cents = order.cents.ok_or_else(|| Error::validation("without a price"))?;
    Ok(Priced { id: order.id, euros: f64::from(u32::try_from(cents)?) / 100.0 })
}

#[tokio::test]
async fn rows_of_a_stream_are_mapped_filtered_and_come_out_as_rows() {
    let (dead_letters, rejected) = into_stream();
    let mut graph = Graph::new("orders");
    graph.source("orders", from_rows(orders()));
    graph.try_map_rows("priced", priced).on_error(OnError::DeadLetter);
    graph.filter_rows("dear", |row: &Priced| row.euros >= 2.0);
    graph.flat_map_rows("twice", |row: Priced| Ok([row.clone(), row]));
    let (sink, rows) = into_rows::<Priced>();
    graph.sink("out", sink);
    graph.dead_letters("rejected", dead_letters);
    let engine = Engine::default();
    let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
    let (rows, letters) = futures::join!(rows.try_collect::<Vec<Priced>>(), rejected.try_collect::<Vec<RecordBatch>>());
    let (rows, letters) = (rows.unwrap(), letters.unwrap());
    let expected: Vec<_> =
        [2, 4, 5].into_iter().flat_map(|id| std::iter::repeat_n(Priced { id, euros: id as f64 }, 2)).collect();
    assert_eq!(rows, expected);
    assert_eq!(job.stats().rows_rejected(), 1);
    job.wait().await.unwrap();
    let letter = bourn_engine::data::json::row_value(&letters[0], 0).unwrap();
    assert_eq!((letter["stage"].as_str(), letter["reason"].as_str()), (Some("priced"), Some("without a price")));
}

#[test]
fn a_column_that_a_type_needs_is_a_problem_of_the_plan() {
    let mut graph = Graph::new("missing");
    graph.source("numbers", numbers(3));
    graph.map_rows("priced", |order: Priced| order);
    let (sink, _out) = into_stream();
    graph.sink("out", sink);
    let error = simulate(async |engine| engine.run(graph).await).unwrap_err();
    assert!(error.to_string().starts_with("`Priced` needs the column `id`"), "{error}");
    let (sink, rows) = into_rows::<Priced>();
    let mut graph = Graph::new("missing");
    graph.source("numbers", numbers(3));
    graph.sink("out", sink);
    let error = simulate(async |engine| engine.run(graph).await).unwrap_err();
    assert!(error.to_string().starts_with("`Priced` needs the column `id`"), "{error}");
    drop(rows);
}

#[test]
fn a_row_that_the_reader_can_not_take_goes_where_on_error_says() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Number {
        n: i8,
    }
    let (sink, rows) = into_rows::<Number>();
    let mut graph = Graph::new("narrow");
    graph.source("numbers", numbers(200));
    graph.sink("out", sink).on_error(OnError::Drop);
    simulate(async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let rows: Vec<Number> = rows.try_collect().await.unwrap();
        assert_eq!(rows, (0..=127).map(|n| Number { n }).collect::<Vec<_>>());
        assert_eq!((job.stats().rows_written(), job.stats().rows_rejected()), (128, 72));
        job.wait().await.unwrap();
    });
}

#[test]
fn an_error_among_the_rows_of_a_stream_comes_behind_the_rows_before_it() {
    let rows = vec![
        Ok(Order { id: 1, cents: None }),
        Err(std::io::Error::other("the line was cut")),
        Ok(Order { id: 2, cents: None }),
    ];
    let mut graph = Graph::new("cut");
    graph.source("orders", from_rows(stream::iter(rows)));
    let (sink, out) = into_rows::<Order>();
    graph.sink("out", sink);
    let seen: Vec<_> = simulate(async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let seen = out.collect().await;
        assert!(job.wait().await.is_err());
        seen
    });
    assert_eq!(seen.last().unwrap().as_ref().unwrap_err().to_string(), "source `orders`: the line was cut");
    assert!(seen.iter().flatten().all(|order| order.id == 1));
}

#[test]
fn a_row_of_the_program_that_does_not_fit_its_columns_is_rejected_alone() {
    let columns = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let rows = [json!({"id": 1}), json!({"id": null}), json!({"id": 3})];
    let mut graph = Graph::new("said");
    let stream = stream::iter(rows).map(Ok::<_, Error>);
    graph.source("rows", from_rows_as(columns, stream)).on_error(OnError::Drop);
    let (sink, out) = into_rows::<serde_json::Map<String, serde_json::Value>>();
    graph.sink("out", sink);
    simulate(async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let ids: Vec<_> = out.map_ok(|row| row["id"].clone()).try_collect().await.unwrap();
        assert_eq!((ids, job.stats().rows_rejected()), (vec![json!(1), json!(3)], 1));
        job.wait().await.unwrap();
    });
}

#[test]
fn a_sink_of_the_program_gets_rows() {
    let (write, read) = mpsc::channel(4);
    let mut graph = Graph::new("into");
    graph.source("orders", from_rows(orders()));
    graph.sink("out", into_row_sink::<Order, _>(write));
    simulate(async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let ids: Vec<i64> = read.map(|order: Order| order.id).collect().await;
        assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
        job.wait().await.unwrap();
    });
}
