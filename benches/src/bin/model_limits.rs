//! The stage `model` against `bourn mock-llm`, which hides its limits: `model_limits [ROWS] [REQUESTS_PER_MINUTE] [IN_FLIGHT]`,
//! which are 100,000, 100,000 and 256.
//!
//! The server is the binary beside this one, so build both: `cargo build --release --workspace --bins`. It takes 20 ms for an answer,
//! says nothing of its limits but `retry-after`, and lets ten seconds' worth through at once. The ideal is what the limits alone
//! ask for. Server and client share the machine; the calls in a second of CPU are those of this process.
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the server and the clocks stand outside of the engine"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bourn_benches::{Again, Forget, batch, quantiles};
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Error, Result};
use bourn_stages::Model;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of one batch of the source.
const ROWS: u64 = 1_000;
/// How much of the limit may be used at once, in seconds.
const BURST: u64 = 10;
/// The ticks of a second in `/proc/PID/stat`, which Linux has fixed for programs.
const TICKS: f64 = 100.0;

/// A server that ends with this program.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |usual: u64| numbers.next().unwrap_or(Ok(usual)).map_err(|e| e.to_string());
    let (rows, per_minute, in_flight) = (number(100_000)?, number(100_000)?, number(256)?);
    run(rows.next_multiple_of(ROWS), per_minute, in_flight).await.map_err(|e| e.to_string())
}

async fn run(rows: u64, per_minute: u64, in_flight: u64) -> Result<()> {
    bourn_http::client::install_cryptography();
    let (server, address) = serve(per_minute)?;
    let mut graph = Graph::new("model");
    graph.source("again", Again::new(rows / ROWS, batch(usize::try_from(ROWS)?)));
    let stage = json!({
        "model": "gpt-5", "base_url": address, "api_key": "any", "prompt": "question ${a}", "max_tokens": 100,
        "limits": { "in_flight": in_flight, "order": "free" },
    });
    graph.stage("model", serde_json::from_value::<Model>(stage)?);
    graph.sink("forget", Forget::default());
    let engine = Engine::new(Registry::new());
    let plan = engine.plan(graph).await.map_err(|p| Error::engine(format!("{p:?}")))?;
    let (start, cpu, cpu_server) = (Instant::now(), cpu("self")?, cpu(&server.0.id().to_string())?);
    let job = engine.start(plan).await?;
    let stats = job.stats().clone();
    job.wait().await?;
    let took = start.elapsed();
    let (cpu, cpu_server) = (self::cpu("self")? - cpu, self::cpu(&server.0.id().to_string())? - cpu_server);
    let told: Value = serde_json::from_slice(&reqwest::get(format!("{address}/stats")).await?.bytes().await?)?;
    let count = |name: &str| told[name].as_u64().unwrap_or_default();
    let per_second = per_minute as f64 / 60.0;
    let ideal =
        Duration::from_secs_f64((rows as f64 / per_second - BURST as f64).max(rows as f64 * 0.02 / in_flight as f64));
    println!(
        "{rows} rows, {per_minute} requests a minute, hidden: {:.1} s, {:.3} of the ideal",
        took.as_secs_f64(),
        took.as_secs_f64() / ideal.as_secs_f64()
    );
    println!("rows lost: {}; answers paid for twice: {}", rows - stats.rows_written(), count("answered") - rows);
    println!(
        "answered 429: {} of {} calls, {:.3} %",
        count("429"),
        count("requests"),
        count("429") as f64 / count("requests") as f64 * 100.0
    );
    println!("calls in a second of CPU: {:.0} (the server: {:.0})", rows as f64 / cpu, rows as f64 / cpu_server);
    if let Some(model) = stats.stages.iter().find(|s| &*s.stage == "model") {
        println!(
            "a request with its wait: {}; most in flight at the server: {}",
            quantiles(&model.stats.latency),
            count("in_flight_most")
        );
    }
    Ok(())
}

fn serve(per_minute: u64) -> Result<(Served, String)> {
    let binary = std::env::current_exe()?.with_file_name("bourn");
    let mut command = Command::new(&binary);
    command.args(["mock-llm", "--hidden", "--latency", "20ms", "--requests-per-minute", &per_minute.to_string()]);
    command.args(["--burst", &format!("{BURST}s")]).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().map_err(|e| Error::from(e).context(binary.display()))?;
    let mut server = Served(child);
    let mut address = String::new();
    let out = server.0.stdout.take().ok_or_else(|| Error::engine("the server has no stdout"))?;
    BufReader::new(out).read_line(&mut address)?;
    Ok((server, address.trim().to_owned()))
}

/// The seconds of CPU that a process has taken.
fn cpu(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    // The 14th and 15th field; what stands before the name's `)` are two.
    Ok((ticks(11) + ticks(12)) / TICKS)
}
