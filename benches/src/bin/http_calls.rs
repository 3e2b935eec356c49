//! The stage `http` against a server that takes its time: `http_calls [IN_FLIGHT] [MILLISECONDS] [SECONDS]`, which are
//! 64, 20 and 10.
//!
//! The server runs in this process on loopback, so it takes its share of the same cores. The ideal is what so many requests
//! in flight give if nothing but the server takes time: `IN_FLIGHT / MILLISECONDS`.
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::disallowed_methods, reason = "the server stands outside of the engine")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bourn_benches::{Again, Forget, batch, quantiles};
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Error, Result};
use bourn_stages::Http;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of one batch of the source.
const ROWS: usize = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |usual: u64| numbers.next().unwrap_or(Ok(usual)).map_err(|e| e.to_string());
    let (in_flight, millis, seconds) = (number(64)?, number(20)?, number(10)?);
    run(in_flight, millis, seconds).await.map_err(|e| e.to_string())
}

async fn run(in_flight: u64, millis: u64, seconds: u64) -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/${{a}}", listener.local_addr()?);
    let answer = move || async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        "{\"ok\":true}"
    };
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route("/{n}", get(answer))).await });
    let ideal = in_flight as f64 * 1e3 / millis as f64;
    let rows = (in_flight * 1_000 / millis * seconds).next_multiple_of(ROWS as u64);
    let mut graph = Graph::new("http");
    graph.source("again", Again::new(rows / ROWS as u64, batch(ROWS)));
    let stage = json!({ "url": url, "limits": { "in_flight": in_flight } });
    graph.stage("http", serde_json::from_value::<Http>(stage)?);
    graph.sink("forget", Forget::default());
    let engine = Engine::new(Registry::new());
    let plan = engine.plan(graph).await.map_err(|p| Error::engine(format!("{p:?}")))?;
    let start = engine.env().monotonic();
    let job = engine.start(plan).await?;
    let stats = job.stats().clone();
    job.wait().await?;
    let took = engine.env().monotonic().saturating_sub(start).as_secs_f64();
    server.abort();
    let each = stats.rows_written() as f64 / took;
    println!(
        "{rows} rows in {took:.2} s: {each:.0} requests/s, {:.1} % of the ideal {ideal:.0}/s",
        each / ideal * 100.0
    );
    if let Some(http) = stats.stages.iter().find(|s| &*s.stage == "http") {
        println!("  a request: {}", quantiles(&http.stats.latency));
    }
    Ok(())
}
