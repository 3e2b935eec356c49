//! A pipeline inside a tokio program: structs in from a channel, a closure as a stage, structs out as a stream; it is watched
//! while it runs, and stopped.
//!
//!   cargo run --manifest-path structs/Cargo.toml --example 09-embedded

use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Error, Result};
use bourn_structs::{GraphRows, from_rows, into_rows};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

/// What comes in: a row, its fields the columns.
#[derive(Serialize, Deserialize)]
pub struct Reading {
    /// Which one.
    pub sensor: String,
    /// How warm.
    pub celsius: f64,
}

/// What goes out.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Which one.
    pub sensor: String,
    /// How warm, in words.
    pub text: String,
}

/// Runs until three alarms were seen, and returns all that were under way.
pub async fn first_alarms(readings: impl Stream<Item = Reading> + Send + 'static) -> Result<Vec<Alarm>> {
    let mut graph = Graph::new("alarms");
    graph.source("readings", from_rows(readings.map(Ok::<_, Error>)));
    graph.filter_rows("hot", |r: &Reading| r.celsius > 30.0);
    graph.map_rows("alarm", |r: Reading| Alarm { text: format!("{:.0} °C", r.celsius), sensor: r.sensor });
    let (sink, mut alarms) = into_rows::<Alarm>();
    graph.sink("alarms", sink);

    let engine = Engine::default();
    let job = engine.start(engine.plan(graph).await?).await?;
    let mut seen = Vec::new();
    while let Some(alarm) = alarms.next().await {
        seen.push(alarm?);
        if seen.len() == 3 {
            eprintln!("{} read, {} written so far", job.stats().rows_read(), job.stats().rows_written());
            job.stop();
        }
    }
    job.wait().await?;
    Ok(seen)
}

/// A sensor that never ends.
pub fn sensor() -> impl Stream<Item = Reading> + Send + 'static {
    futures::stream::iter(0_u32..).map(|n| Reading { sensor: "attic".into(), celsius: f64::from(n % 40) })
}

/// Prints the first three.
#[tokio::main]
pub async fn main() -> Result<()> {
    for alarm in first_alarms(sensor()).await?.iter().take(3) {
        println!("{}: {}", alarm.sensor, alarm.text);
    }
    Ok(())
}
