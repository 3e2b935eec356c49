//! JSON lines -> filter -> JSON lines: `json_lines IN OUT`, or `json_lines generate N OUT` for Nexmark bids. The work of
//! `benches/peers/json_lines.py` without the command line around it.

use bourn_connectors::{File, Nexmark};
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Result};
use bourn_stages::Filter;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    run(&arguments).await.map_err(|e| e.to_string())
}

async fn run(arguments: &[String]) -> Result<()> {
    let mut graph = Graph::new("json_lines");
    match arguments {
        [word, events, out] if word == "generate" => {
            let events: u64 = events.parse()?;
            let nexmark: Nexmark = serde_json::from_value(json!({ "events": events, "seed": 1 }))?;
            graph.source("bids", nexmark);
            graph.sink("out", File::new(out));
        }
        [input, out] => {
            let schema = json!({ "auction": "bigint", "bidder": "bigint", "price": "bigint", "channel": "text",
                "url": "text", "date_time": "text", "extra": "text" });
            let file: File = serde_json::from_value(json!({ "path": input, "schema": schema }))?;
            graph.source("bids", file);
            graph.stage("dear", Filter("price > 1000000".into()));
            graph.sink("out", File::new(out));
        }
        _ => return Err(bourn_engine::Error::validation("json_lines IN OUT, or json_lines generate N OUT")),
    }
    Engine::new(Registry::new()).run(graph).await
}
