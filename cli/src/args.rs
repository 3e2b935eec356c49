//! What the command line takes: the verbs, and what several of them take.

use std::path::PathBuf;
use std::time::Duration;

use bourn_engine::data::units::Interval;
use bourn_engine::spec::Mode;
use clap::builder::{EnumValueParser, TypedValueParser};
use clap::{Args as Group, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCandidates;

use crate::checkpoints::args::Checkpoints;
use crate::complete;
use crate::db::Db;
use crate::dlq::args::Dlq;
use crate::memory::Memory;
use crate::mock_llm::args::MockLlm;
use crate::run::args::Run;
use crate::runs::args::{Approve, Inbox, Insights, Replay, Runs, Signal};
use crate::tap::args::Tap;
use crate::test::args::Test;
use crate::torture::args::Torture;

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
