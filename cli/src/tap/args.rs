//! What `tap` takes.

use clap::Args as Group;
use clap_complete::engine::ArgValueCompleter;

use crate::complete;
use crate::run::args::Run;

/// `tap`.
#[derive(Debug, Group)]
#[command(after_help = TAPS)]
pub struct Tap {
    #[command(flatten)]
    pub run: Run,
    /// Where to look: the id of a source, stage or sink, `stage.port`, or `dead_letters`.
    #[arg(value_name = "STAGE", add = ArgValueCompleter::new(complete::places))]
    pub stage: String,
    /// Stop after so many rows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Show those rows alone for which this SQL condition is true.
    #[arg(long, value_name = "SQL")]
    pub filter: Option<String>,
    /// Let the sinks write too: files begin anew, and what they held is gone.
    #[arg(long)]
    pub write: bool,
    /// Write nothing, which is what holds unless `--write` is said.
    #[arg(long, hide = true, conflicts_with = "write")]
    pub dry: bool,
}

const TAPS: &str = "\
  bourn tap flights.yaml late --rows 10
  bourn tap flights.yaml by_delay.early --filter \"origin = 'JFK'\" -o json

Nothing is written, and nothing acknowledged: webhooks get no 200, queues keep their messages unless the input ends. With `--write`
the sinks run as ever, from the beginning and without checkpoints, but those that print (`stdout`, `console`) stay silent.";
