//! What `bourn dlq` takes.

use std::time::Duration;

use arrow::compute::kernels::cast_utils::Parser as _;
use arrow::datatypes::TimestampMicrosecondType;
use bourn_engine::data::units::Interval;
use bourn_engine::time::Timestamp;
use clap::{Args as Group, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::args::Spec;
use crate::complete;

/// What can be done with the dead letters of a job.
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List them by stage, kind and reason: how many, the first and the last.
    List {
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        which: Which,
        /// Those too that were replayed or discarded.
        #[arg(long)]
        all: bool,
    },
    /// Show them as they are: id, reason, position, and the row as it entered the stage.
    Show {
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        one: Ids,
        #[command(flatten)]
        which: Which,
        /// Those too that were replayed or discarded.
        #[arg(long)]
        all: bool,
    },
    /// Run their rows through the spec as it is now, from the stage that rejected them on: all of them if none is chosen.
    Replay(Box<Replay>),
    /// Let them go: they are listed no more. The store itself stays as it is.
    #[command(after_help = DISCARDS)]
    Discard {
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        one: Ids,
        #[command(flatten)]
        which: Which,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

const DISCARDS: &str = "\
  bourn dlq discard orders.yaml 3f2a9c1b
  bourn dlq discard orders.yaml --stage priced --until 2026-01-31
  bourn dlq discard orders.yaml --all --yes";

/// `replay`.
#[derive(Debug, Group)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line, each on its own")]
#[command(after_help = REPLAYS)]
pub struct Replay {
    #[command(flatten)]
    pub spec: Spec,
    #[command(flatten)]
    pub one: Ids,
    #[command(flatten)]
    pub which: Which,
    /// All of them, which is so too when none is chosen.
    #[arg(long)]
    pub all: bool,
    /// Write and settle nothing: tell which rows would enter where, and what would become of them. Stages that ask something
    /// outside are not run.
    #[arg(long)]
    pub dry_run: bool,
    /// Run stages that keep something by key (`dedupe`, `count`) too, with nothing in them: what the job has seen they do not
    /// know.
    #[arg(long)]
    pub empty_state: bool,
    /// Send every model call to a mock model in the process: no keys, no money.
    #[arg(long)]
    pub mock: bool,
    /// How long it may drain after the first Ctrl-C or SIGTERM before it is ended.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = interval)]
    pub drain_timeout: Duration,
}

const REPLAYS: &str = "\
  bourn dlq replay orders.yaml --stage priced --dry-run
  bourn dlq replay orders.yaml --reason 'cannot cast' --since 2h

Stages before the one that rejected a row are not run, nor are sources. Sinks get the rows beside those of the job, which may
be running: a table or a stream among the others, files in new ones of their own (`out.jsonl` -> `out.replay-ID.jsonl`). A
row that fails again is a dead letter again. A letter is settled once the sinks have its row for good: a replay that is cut
off is to be started again, and such rows may come twice.";

/// Letters by their ids.
#[derive(Debug, Group)]
pub struct Ids {
    /// Their ids, as `show` tells them; a beginning that no other has will do.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
}

/// Letters by what they say.
#[derive(Debug, Group)]
pub struct Which {
    /// Of this source, stage or sink; several may be named.
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(complete::stages))]
    pub stage: Vec<String>,
    /// Of this kind: `validation`, `timeout`, ….
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// With this in their reason.
    #[arg(long, value_name = "PART")]
    pub reason: Option<String>,
    /// From this time on: `2026-01-31`, `2026-01-31T12:00:00Z`, or so long ago: `2h`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// So many at most, the first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

impl Which {
    /// Whether it says nothing.
    pub fn is_any(&self) -> bool {
        self.stage.is_empty()
            && self.kind.is_none()
            && self.reason.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.limit.is_none()
    }
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In UTC.
    At(Timestamp),
    /// Before now.
    Ago(Duration),
}

impl Moment {
    /// The time, when it is `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(time) => Timestamp(now.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(Interval(time)) = text.parse::<Interval>() {
        return Ok(Moment::Ago(time));
    }
    let time = TimestampMicrosecondType::parse(text).map(|micros| Moment::At(Timestamp(micros)));
    time.ok_or_else(|| format!("`{text}` is no time such as `2026-01-31`, `2026-01-31T12:00:00Z` or `2h`"))
}

fn interval(text: &str) -> Result<Duration, String> {
    text.parse::<Interval>().map(|Interval(time)| time)
}
