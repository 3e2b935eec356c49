//! What `mock-llm` takes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bourn_engine::data::units::Interval;
use clap::{Args as Group, ValueHint};

/// `mock-llm`.
#[derive(Clone, Debug, Group)]
#[command(after_help = MOCKS)]
pub struct MockLlm {
    /// Where it listens; port 0 is a free one. The first line on stdout is the address: `http://127.0.0.1:PORT`.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// What it answers, in YAML: see docs/mock-llm.md. Without it every question is echoed.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub script: Option<PathBuf>,
    /// How long an answer takes.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = interval)]
    pub latency: Duration,
    /// The only key that is let in; any that is not empty if it is not said.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The most requests in a minute; what is more is answered 429.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// The most tokens in a minute, read and written together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens_per_minute: Option<u32>,
    /// The most tokens in a minute that are read.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub input_tokens_per_minute: Option<u32>,
    /// The most tokens in a minute that are written.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub output_tokens_per_minute: Option<u32>,
    /// How much of a limit may be used at once: what it gives in this time.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = interval)]
    pub burst: Duration,
    /// Keep the limits, and say nothing of them but `retry-after`.
    #[arg(long)]
    pub hidden: bool,
    /// Overlook fields that the real services would refuse.
    #[arg(long)]
    pub lenient: bool,
}

const MOCKS: &str = "\
  bourn mock-llm --listen 127.0.0.1:8900 --latency 20ms --requests-per-minute 600
  ANTHROPIC_BASE_URL=http://127.0.0.1:8900 ANTHROPIC_API_KEY=any bourn run spec.yaml

It speaks Anthropic's Messages (POST /v1/messages) and what is compatible with OpenAI (POST /v1/chat/completions and
/v1/embeddings), each with GET /v1/models, streaming included. GET /stats counts what was asked and answered. A token is
four characters. It ends at Ctrl-C or SIGTERM.";

fn interval(text: &str) -> Result<Duration, String> {
    text.parse::<Interval>().map(|Interval(time)| time)
}
