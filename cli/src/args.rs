//! What the command line takes: one file, because the pages of `--help` are read together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bourn_engine::data::units::Interval;
use bourn_engine::spec::Mode;
use bourn_engine::spec::monitoring::Monitoring;
use bourn_engine::spec::targets::Targets;
use clap::builder::{EnumValueParser, TypedValueParser};
use clap::{Args as Group, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::checkpoints::args::Checkpoints;
use crate::complete;
use crate::db::Db;
use crate::dlq::args::Dlq;
use crate::memory::Memory;
use crate::mock_llm::args::MockLlm;
use crate::runs::args::{Approve, Inbox, Insights, Journal, Replay, Runs, Signal};

/// Streams rows through pipelines, and runs workflows: once for one input, or for every row of a million.
#[derive(Debug, Parser)]
#[command(name = "bourn", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// How answers and errors are written.
    #[arg(short, long, global = true, default_value = "text", value_name = "FORM", value_parser = form())]
    pub output: Output,
    /// When to use colours and drawn reports: `auto` is on a terminal, unless `NO_COLOR` is set.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 failed, 2 invalid input or spec, 3 a target was missed, 4 degraded with --fail-on-degraded, 5 a replay decides otherwise,
130 interrupted.
Logs go to stderr, at the level that BOURN_LOG says: error, warn (default), info, debug, trace.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a pipeline, a workflow once, or a workflow for every row.
    Run {
        #[command(flatten)]
        run: Box<Run>,
        /// Start again when the spec, its routing or the file of `--input` changes: what runs is stopped as by Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Run a spec and print what flows out of a source or stage, or into a sink.
    Tap(Box<Tap>),
    /// Check a spec: every problem in one go, with line, column and the way out.
    Validate(Validate),
    /// Run the test cases of specs, which stand below `tests:` in them or in NAME.test.yaml beside them.
    Test(Test),
    /// Kill a job again and again, at random moments and at named points, and compare its output with that of a calm run.
    Torture(Torture),
    /// Look at the checkpoints of a job, check them, and delete them.
    Checkpoints {
        /// What to do with them.
        #[command(subcommand)]
        what: Checkpoints,
    },
    /// Look at the dead letters of a job, run them through its spec again, or let them go.
    Dlq {
        /// What to do with them.
        #[command(subcommand)]
        what: Dlq,
    },
    /// Look at runs of workflows in the journal, and go on with them.
    Runs {
        /// What to do with them.
        #[command(subcommand)]
        what: Runs,
    },
    /// Decide a run again from a bundle of `bourn runs diagnose -o`, on any machine: nobody is asked, and nothing outside is touched.
    Replay(Replay),
    /// Check the journal, as the database that it is.
    Db {
        /// What to do with it.
        #[command(subcommand)]
        what: Db,
    },
    /// Look at what is kept of a workflow beyond its runs, in files beside the journal.
    Memory {
        /// What to do with it.
        #[command(subcommand)]
        what: Memory,
    },
    /// List the steps that wait for a signal or a time.
    Inbox(Inbox),
    /// Let a step go on that waits for a signal, and the run with it.
    Approve(Approve),
    /// Send a signal to a run, and let it go on.
    Signal(Signal),
    /// Show what a spec becomes: nodes with schemas, tasks, channels, delivery guarantees.
    Plan(Plan),
    /// List the kinds of stages, sources and sinks, or show one with its fields and an example.
    List {
        /// One of them.
        #[arg(add = ArgValueCandidates::new(complete::kinds))]
        kind: Option<String>,
    },
    /// Make a pipeline, a stage or a connector to begin with, which works as it is.
    New {
        /// What.
        #[command(subcommand)]
        what: New,
    },
    /// Print the JSON Schema of specs or of files with test cases, for editors and other tools.
    Schema {
        /// Of what.
        #[arg(long, value_enum, default_value_t, value_name = "FILES")]
        of: Files,
    },
    /// List the commands that steps may say, and what they stand for.
    Commands {
        /// With those of this routing file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        routing: Option<String>,
    },
    /// Say how the steps of a workflow went in its runs so far: times, attempts, costs, ways, and what could be looked at. It changes nothing.
    Insights(Insights),
    /// List the names of models that a spec may say, and what they stand for.
    Models,
    /// Serve a model on this machine that says what a script says: for tests of limits, faults and costs.
    MockLlm(MockLlm),
    /// Print what a shell reads when it starts to complete commands: `source <(bourn completions bash)`.
    Completions {
        /// Which.
        shell: Shell,
    },
}

/// What can be made anew.
#[derive(Debug, Subcommand)]
pub enum New {
    /// A spec with remarks and a test case: NAME.yaml.
    Pipeline {
        /// The name, or the path of the file.
        name: String,
    },
    /// A crate with a stage of one's own and its tests: a folder NAME.
    Stage {
        /// The name of the crate, and the stage's in a spec; a path makes it elsewhere.
        name: String,
        /// The clone of Bourn to build against; the one around this folder if it is not said.
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        bourn: Option<PathBuf>,
    },
    /// A crate with a connector of one's own and its tests: a folder NAME.
    Connector {
        /// The name of the crate, and the connector's in a spec; a path makes it elsewhere.
        name: String,
        /// The clone of Bourn to build against; the one around this folder if it is not said.
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        bourn: Option<PathBuf>,
    },
}

/// How a spec is found and read.
#[derive(Clone, Debug, Group)]
pub struct Spec {
    /// The spec, in YAML or JSON; `-` is stdin.
    #[arg(value_name = "SPEC", value_hint = ValueHint::FilePath, add = complete::specs())]
    pub path: String,
    /// Read the spec in this mode; one that can't be read so is refused.
    #[arg(long, value_name = "MODE", value_parser = mode, add = ArgValueCandidates::new(complete::modes))]
    pub mode: Option<Mode>,
    /// What the commands of steps stand for, in YAML: `{ /query: {kind: model, args: prompt} }`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub routing: Option<String>,
}

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
    #[arg(long, value_name = "ID", conflicts_with = "inputs", value_parser = crate::runs::args::id)]
    pub id: Option<String>,
    /// Write this on all runs that are started: `bourn runs list --label NAME=VALUE` finds them.
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::runs::args::label)]
    pub label: Vec<(String, String)>,
    /// What to do when there is a run of this id.
    #[arg(long, value_enum, default_value_t, requires = "id")]
    pub on_conflict: OnConflict,
    /// Whether a run that has ended gives up its id, so that this one may have it.
    #[arg(long, value_enum, default_value_t, requires = "id")]
    pub id_reuse: IdReuse,
    /// What runs are to reach, instead of what the spec says: `p95=2s`, `success_rate=0.99`, `throughput=100/s`, `cost_usd=5`,
    /// `tokens=100000`. When one is missed, the command ends with 3.
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::run::targets::parse)]
    pub target: Vec<Targets>,
    /// What may be spent on models, over what the spec says: `usd=5`, `tokens=2000000`, `on_exceeded=pause`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::run::budget::parse)]
    pub budget: Vec<crate::run::budget::Part>,
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
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::monitoring::settings::parse)]
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

/// `test`.
#[derive(Debug, Group)]
#[command(after_help = TESTS)]
pub struct Test {
    /// Specs, files with cases beside them, or folders: every spec with cases below one, and below this one if none is said.
    #[arg(value_name = "SPEC|FOLDER", value_hint = ValueHint::AnyPath, default_value = ".", hide_default_value = true)]
    pub paths: Vec<String>,
    /// Run those cases alone that have this in their name.
    #[arg(long, value_name = "PART")]
    pub filter: Option<String>,
    /// What the commands of steps stand for, in YAML: `{ /query: {kind: model, args: prompt} }`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub routing: Option<String>,
    /// Run them again when a spec, its cases or the routing changes, or a new file with cases appears.
    #[arg(long)]
    pub watch: bool,
}

const TESTS: &str = "\
A case of a pipeline:

  tests:
    - name: late flights are kept
      given: [ { id: 1, delay: 20 }, { id: 2, delay: 3 } ]
      expect: [ { id: 1, delay: 20 } ]

Memory stands in for sources and sinks, and time is virtual: nothing outside is touched. Several sources, sinks or stages
are named (`given: { flights: [...] }`, `expect: { late: [...], by_delay.early: { count: 2 } }`); `unordered: true` and
`partial: true` compare less strictly. See also `dead_letters`, `error`, `fail`, `mocks`, `clock` and `script` in
`bourn schema`. A case of a workflow says `input: {...}` and `expect: { status, output, steps, skipped, error }`.";

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

/// `validate`.
#[derive(Debug, Group)]
pub struct Validate {
    #[command(flatten)]
    pub spec: Spec,
    /// Ask the servers that it reads from and writes to, each for 15 seconds at most: whether they are there, let us in, and
    /// have the columns and tables. Programs that print secrets are run. Without it nobody is asked.
    #[arg(long)]
    pub connect: bool,
}

/// `plan`.
#[derive(Debug, Group)]
pub struct Plan {
    #[command(flatten)]
    pub spec: Spec,
    /// Draw the graph instead.
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub graph: Option<Drawing>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Where an answer goes, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To stdout, in this form.
    Form(Form),
    /// Into this file.
    File(PathBuf),
}

impl Output {
    /// The form on stdout.
    pub fn form(&self) -> Form {
        match self {
            Self::Form(form) => *form,
            Self::File(_) => Form::Text,
        }
    }
}

fn form() -> impl TypedValueParser<Value = Output> {
    EnumValueParser::<Form>::new().map(Output::Form)
}

/// A form, or a file for a bundle.
///
/// # Errors
/// When it is neither.
pub fn form_or_bundle(text: &str) -> Result<Output, String> {
    match Form::from_str(text, false) {
        Ok(form) => Ok(Output::Form(form)),
        Err(_) if text.ends_with(".tar.zst") => Ok(Output::File(text.into())),
        Err(_) => Err("write `text`, `json`, or a file that ends with `.tar.zst`".into()),
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Files that a schema describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Files {
    /// Pipelines and workflows.
    #[default]
    Specs,
    /// Cases beside a spec: NAME.test.yaml.
    Tests,
    /// What `bourn run -o json` and `bourn runs result` give of a run of a workflow.
    Results,
}

/// A language to draw graphs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// For Markdown.
    Mermaid,
    /// For programs: of a workflow its steps, and why each comes after which.
    Json,
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|e: bourn_engine::Error| e.message().to_owned())
}

/// A length of time.
///
/// # Errors
/// When it is none.
pub fn interval(text: &str) -> Result<Duration, String> {
    text.parse::<Interval>().map(|Interval(time)| time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn an_answer_is_of_a_form_and_a_bundle_is_a_file() {
        let output = |args: &[&str]| Args::try_parse_from([&["bourn", "runs"], args].concat()).map(|args| args.output);
        let diagnose = |to: &str| output(&["diagnose", "a", "-o", to]).unwrap();
        assert_eq!(diagnose("json"), Output::Form(Form::Json));
        assert_eq!(diagnose("a.tar.zst"), Output::File("a.tar.zst".into()));
        assert_eq!(output(&["-o", "json", "diagnose", "a"]).unwrap(), Output::Form(Form::Json));
        assert_eq!(output(&["diagnose", "a"]).unwrap().form(), Form::Text);
        assert!(output(&["diagnose", "a", "-o", "jsn"]).is_err() && output(&["show", "a", "-o", "a.tar.zst"]).is_err());
    }

    #[test]
    fn one_input_and_many_exclude_each_other() {
        let args = ["bourn", "run", "a.yaml", "--input", "{}", "--inputs", "-"];
        assert!(Args::try_parse_from(args).is_err());
    }
}
