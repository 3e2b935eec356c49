//! The stage `http` against a server that takes its time: `http_calls [IN_FLIGHT] [MILLISECONDS] [SECONDS]`, which are
//! 64, 20 and 10.
//!
//! The server runs in this process on loopback, so it takes its share of the same cores. Its timer has a grain of a
//! millisecond, so it is asked first, one request behind the other, how long it takes. The ideal is what so many requests in
//! flight give if nothing but the server takes time. Beside it stands a loop written by hand around the client that the stage
//! uses, in turns: three rounds of each.
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::disallowed_methods, reason = "the server stands outside of the engine, and so do the clocks")]

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use bourn_benches::{Again, Forget, batch, quantiles};
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Error, Result};
use bourn_stages::Http;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

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
    let url = format!("http://{}", listener.local_addr()?);
    let answer = move || async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        "{\"ok\":true}"
    };
    bourn_http::client::install_cryptography();
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route("/{n}", get(answer))).await });
    let alone = alone(&url).await?;
    let ideal = in_flight as f64 / alone.as_secs_f64();
    println!(
        "a request alone takes {:.1} ms: {in_flight} in flight make {ideal:.0} requests/s",
        alone.as_secs_f64() * 1e3
    );
    let rows = (in_flight * 1_000 / millis * seconds).next_multiple_of(ROWS as u64);
    for _ in 0..3 {
        let by_hand = rows as f64 / by_hand(&url, rows, in_flight).await?.as_secs_f64();
        let (took, latency) = stage(&url, rows, in_flight).await?;
        let stage = rows as f64 / took.as_secs_f64();
        println!(
            "the stage: {stage:.0} requests/s, {:.1} % of the ideal ({latency}); the loop: {by_hand:.0}, {:.1} %",
            stage / ideal * 100.0,
            by_hand / ideal * 100.0
        );
    }
    server.abort();
    Ok(())
}

/// The median of requests one behind the other.
async fn alone(url: &str) -> Result<Duration> {
    let client = reqwest::Client::new();
    let mut times = Vec::new();
    for n in 0..51 {
        let start = Instant::now();
        client.get(format!("{url}/{n}")).send().await?.bytes().await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// What one writes without an engine.
async fn by_hand(url: &str, rows: u64, in_flight: u64) -> Result<Duration> {
    let client = reqwest::Client::new();
    let start = Instant::now();
    let requests = stream::iter(0..rows).map(|n| {
        let request = client.get(format!("{url}/{n}"));
        async move { serde_json::from_slice::<Value>(&request.send().await?.bytes().await?).map_err(Error::from) }
    });
    let answers = requests.buffer_unordered(usize::try_from(in_flight)?);
    answers.try_for_each(|_| async { Ok(()) }).await?;
    Ok(start.elapsed())
}

/// The stage, and what its requests took.
async fn stage(url: &str, rows: u64, in_flight: u64) -> Result<(Duration, String)> {
    let mut graph = Graph::new("http");
    graph.source("again", Again::new(rows / ROWS as u64, batch(ROWS)));
    let stage = json!({ "url": format!("{url}/${{a}}"), "limits": { "in_flight": in_flight } });
    graph.stage("http", serde_json::from_value::<Http>(stage)?);
    graph.sink("forget", Forget::default());
    let engine = Engine::new(Registry::new());
    let plan = engine.plan(graph).await.map_err(|p| Error::engine(format!("{p:?}")))?;
    let start = Instant::now();
    let job = engine.start(plan).await?;
    let stats = job.stats().clone();
    job.wait().await?;
    let took = start.elapsed();
    if stats.rows_written() != rows {
        return Err(Error::engine(format!("{} rows of {rows}", stats.rows_written())));
    }
    let latency = stats.stages.iter().find(|s| &*s.stage == "http").map(|http| quantiles(&http.stats.latency));
    Ok((took, latency.unwrap_or_default()))
}
