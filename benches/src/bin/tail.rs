//! From a line that is appended to a followed file until it stands in the file of the sink: `tail [LINES]` prints quantiles.
//!
//! Lines come at random moments, 1 to 200 ms apart, so that each meets the source in another part of its wait. The sink's
//! file is looked at every half millisecond. All settings are those of a spec that says nothing.
#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bourn_benches::quantiles;
use bourn_connectors::file::File;
use bourn_engine::api::Registry;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::metrics::Histogram;
use bourn_engine::{Engine, Error, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let lines = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(300);
    run(lines).await.map_err(|e| e.to_string())
}

async fn run(lines: u64) -> Result<()> {
    let env = Env::system();
    let folder = std::env::temp_dir().join(format!("bourn-tail-{}", std::process::id()));
    let (source, sink) = (folder.join("in.jsonl"), folder.join("out.jsonl"));
    let mut input = env.files().create(&source)?;
    writeln!(input, "{{\"sent\":0}}")?;

    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut graph = Graph::new("tail");
    graph.source("in", File::new(text(&source)).followed());
    graph.sink("out", File::new(text(&sink)));
    let engine = Engine::new(Registry::new());
    let plan = engine.plan(graph).await.map_err(|p| Error::engine(format!("{p:?}")))?;
    let job = engine.start(plan).await?;

    let latency = Histogram::default();
    let mut output = Output { env: env.clone(), path: sink, offset: 0, line: Vec::new() };
    output.next().await?;
    for _ in 0..lines {
        env.sleep(Duration::from_micros(1_000 + env.random() % 199_000)).await;
        let sent = env.monotonic();
        writeln!(input, "{{\"sent\":{}}}", sent.as_nanos())?;
        output.next().await?;
        latency.record(u64::try_from(env.monotonic().saturating_sub(sent).as_nanos()).unwrap_or(u64::MAX));
    }
    println!("from an appended line to the sink's file, {lines} lines: {}", quantiles(&latency));
    job.stop();
    job.wait().await?;
    for file in [&source, &output.path] {
        env.files().remove(file)?;
    }
    Ok(())
}

/// The file of the sink, as another program sees it.
struct Output {
    env: Env,
    path: PathBuf,
    offset: u64,
    line: Vec<u8>,
}

impl Output {
    /// Waits for the end of the next line.
    async fn next(&mut self) -> Result<()> {
        loop {
            let mut buffer = [0; 4_096];
            let count = self.env.files().open(&self.path)?.read_at(self.offset, &mut buffer)?;
            self.line.extend_from_slice(&buffer[..count]);
            self.offset += count as u64;
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                self.line.drain(..=end);
                return Ok(());
            }
            self.env.sleep(Duration::from_micros(500)).await;
        }
    }
}
