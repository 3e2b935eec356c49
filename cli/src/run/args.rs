//! What `run` takes.

use std::net::SocketAddr;
use std::time::Duration;

use bourn_engine::spec::monitoring::Monitoring;
use bourn_engine::spec::targets::Targets;
use clap::{Args as Group, ValueEnum, ValueHint};

use crate::args::{Spec, interval};
use crate::monitoring::settings;
use crate::runs::args::{Journal, id, label};

/// `run`.
#[derive(Clone, Debug, Group)]
#[group(skip)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line, each on its own")]
pub struct Run {
    #[command(flatten)]
    pub spec: Spec,
    /// Run the workflow once with this input: JSON, or `@FILE`.
    #[arg(long, value_name = "JSON|@FILE", conflicts_with = "inputs")]
    pub input: Option<String>,
    /// Run the workflow for every line of a file of JSON lines; `-` is stdin. Results are JSON lines in the same order.
    #[arg(long, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub inputs: Option<String>,
    /// Send every model call to a mock model in the process: no keys, no money.
    #[arg(long)]
    pub mock: bool,
    #[command(flatten)]
    pub journal: Journal,
    /// Where steps look that say `cache`, and rates that have a name are kept for all processes together: a Redis or Valkey, as
    /// `redis://HOST:PORT`. Otherwise the variable `BOURN_CACHE` says it, and without both it is the journal, and the process.
    #[arg(long, value_name = "URL")]
    pub cache: Option<String>,
    /// The id of the run that `--input` begins; one is made if it is not said.
    #[arg(long, value_name = "ID", conflicts_with = "inputs", value_parser = id)]
    pub id: Option<String>,
    /// Write this on all runs that are started: `bourn runs list --label NAME=VALUE` finds them.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// What to do when there is a run of this id.
    #[arg(long, value_enum, default_value_t, requires = "id")]
    pub on_conflict: OnConflict,
    /// Whether a run that has ended gives up its id, so that this one may have it.
    #[arg(long, value_enum, default_value_t, requires = "id")]
    pub id_reuse: IdReuse,
    /// What runs are to reach, instead of what the spec says: `p95=2s`, `success_rate=0.99`, `throughput=100/s`, `cost_usd=5`,
    /// `tokens=100000`. When one is missed, the command ends with 3.
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::targets::parse)]
    pub target: Vec<Targets>,
    /// What may be spent on models, over what the spec says: `usd=5`, `tokens=2000000`, `on_exceeded=pause`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::budget::parse)]
    pub budget: Vec<super::budget::Part>,
    /// End with 4 when a step failed and gave its `default`, or rows passed without an answer since the budget was spent.
    #[arg(long)]
    pub fail_on_degraded: bool,
    /// Go on until every run of a workflow has ended, those too that wait for a time, a signal or a person. Without it they come back
    /// for as long as there are inputs, and are left in the journal then.
    #[arg(long)]
    pub wait: bool,
    /// Serve `/metrics` (Prometheus) and `/livez` at this address while it runs, for example 127.0.0.1:9100.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Send spans and metrics to a collector, by OTLP over HTTP, over what the spec says: `otlp=http://127.0.0.1:4318`, `sample=0.1`,
    /// `payloads=true`, `interval=10s`, `log_level=info`. Otherwise `OTEL_EXPORTER_OTLP_ENDPOINT` says where to.
    #[arg(long, value_name = "NAME=VALUE", value_parser = settings::parse)]
    pub monitoring: Vec<Monitoring>,
    #[command(flatten)]
    pub begin: Beginning,
    /// Say nothing but errors: no progress, no table, no warnings.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the table of stages at the end, on stderr, also when it is not a terminal.
    #[arg(long, conflicts_with = "quiet")]
    pub stats: bool,
    /// How long a job may drain after the first Ctrl-C or SIGTERM before it is ended.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = interval)]
    pub drain_timeout: Duration,
}

/// What to do when there is a run of the id that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnConflict {
    /// Refuse.
    #[default]
    Fail,
    /// Print the document of that run: as it ended, when it ends, or after going on with it when it was cut off.
    UseExisting,
    /// Cancel that run if it has not ended, as `bourn runs cancel` does, and begin this one: that one is called `ID~1` then.
    TerminateExisting,
}

/// Whether the id of a run that has ended may be had by another one. The one that has ended is then called `ID~1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IdReuse {
    /// It may not.
    #[default]
    Never,
    /// When that run did not complete.
    FailedOnly,
    /// However it ended.
    Always,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Of a job, by its number.
    Epoch(u64),
    /// Of a run: when this step had completed.
    Step {
        /// The id of the run.
        run: String,
        /// The step.
        at: String,
    },
}

/// A number, or `RUN/STEP`.
fn checkpoint(text: &str) -> Result<Checkpoint, String> {
    match (text.parse(), text.rsplit_once('/')) {
        (Ok(epoch), _) => Ok(Checkpoint::Epoch(epoch)),
        (_, Some((run, at))) => Ok(Checkpoint::Step { run: run.to_owned(), at: at.to_owned() }),
        _ => Err("write the number of a checkpoint of a job, or RUN/STEP of a run".to_owned()),
    }
}

/// Where a job that keeps checkpoints begins.
#[derive(Clone, Debug, Group)]
pub struct Beginning {
    /// Begin behind this checkpoint, not behind the newest; see `bourn checkpoints list SPEC`. Of a workflow `RUN/step_completion_STEP`: a
    /// new run that takes over what that one had when the step had completed, as `bourn runs fork` makes it.
    #[arg(long, value_name = "ID|RUN/STEP", conflicts_with = "fresh", value_parser = checkpoint)]
    pub from_checkpoint: Option<Checkpoint>,
    /// Begin anew, whatever checkpoints there are, or runs of a workflow that were cut off.
    #[arg(long)]
    pub fresh: bool,
    /// Lose what a checkpoint keeps of this source, stage or sink, because the spec has no place for it any more.
    #[arg(long, value_name = "ID", conflicts_with = "fresh")]
    pub drop_state: Vec<String>,
}
