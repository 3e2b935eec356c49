//! What `torture` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Group, ValueHint};

use crate::args::interval;
use crate::complete;

/// `torture`.
#[derive(Debug, Group)]
#[command(after_help = TORTURES)]
pub struct Torture {
    /// The spec of a pipeline or a workflow; without it, a workflow of every kind of step with a service that counts. Of a pipeline,
    /// sources end and can be read again, and sinks can be read back: those on a server name a place for each run, such as a table
    /// `orders_${env.BOURN_RUN:-0}`; the others are below this folder.
    #[arg(value_name = "SPEC", value_hint = ValueHint::FilePath, add = complete::specs())]
    pub spec: Option<String>,
    /// How often it is killed; it is begun anew as often as that needs.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub kills: u64,
    /// What kills and lanes are drawn from; any number if it is not said.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Runs of each job of the workflow that is there without a SPEC; 1,000 if it is not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub runs: Option<u64>,
    /// What the runs of a workflow are given, a line of JSON for each.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub inputs: Option<String>,
    /// Let a mock model answer what steps of a workflow ask.
    #[arg(long)]
    pub mock: bool,
    /// Take checkpoints of a pipeline so often, whatever the spec says.
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub every: Option<Duration>,
    /// How long a job may take that nobody disturbs.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = interval)]
    pub calm_max: Duration,
    /// Write the sum into this file too; all of it as JSON if it ends with `.json`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// Let the runs write below this folder, and keep the last ones; a temporary one if it is not said.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Tell of each kill.
    #[arg(short, long)]
    pub verbose: bool,
}

const TORTURES: &str = "\
  bourn torture orders.yaml --kills 500 --every 50ms --report torture.txt
  bourn torture --kills 200 --runs 1000
  bourn torture review.yaml --inputs in.jsonl --mock

Each run is a process of its own, ended by SIGKILL: what it has written to files stays, for the system goes on. A third of
the restarts has other lanes where a stage keeps its state by key. A seed gives the same draws, not the same moments. The
exit code is 1 when a row is lost, comes twice or stands elsewhere, or something is left behind. Of a workflow, when a run or a
step is lost that the journal or a document had told of, or a step is done again that the journal has.";
