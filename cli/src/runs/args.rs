//! What `bourn runs` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Group, Subcommand, ValueHint};

use crate::args::Output;

/// The name of a run's first checkpoint: its beginning.
pub const INITIALIZATION: &str = "workflow_initialization";
/// The journal, if the command line does not say which.
pub const JOURNAL: &str = ".bourn/journal.db";

/// What can be done with runs of workflows.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// List them, the newest first.
    List {
        #[command(flatten)]
        journal: Journal,
        /// Of this workflow alone.
        #[arg(long, value_name = "NAME")]
        workflow: Option<String>,
        /// Those alone that stand like this: RUNNING, WAITING, PAUSED, COMPLETED, FAILED, CANCELED or `TIMED_OUT`.
        #[arg(long, value_name = "STATUS", value_parser = status)]
        status: Option<bourn_engine::journal::RunState>,
        /// Those alone that were started with this label.
        #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
        /// Those alone for which this SQL condition is true: `status = 'FAILED' and started_at > '2026-11'`. It may name `run_id`,
        /// `workflow`, `workflow_type`, `status`, `started_at`, `ended_at`, `duration_ms`, `labels` (`labels ->> 'team' = 'x'`),
        /// `input` (JSON), `forked_from`, `mock` and `job`.
        #[arg(long, value_name = "SQL")]
        query: Option<String>,
        /// So many.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Show one: its steps, how far it has come, what it was started with.
    Show {
        #[command(flatten)]
        one: One,
        /// Its history instead: what happened, in order.
        #[arg(long)]
        history: bool,
        /// What was decided instead: by which conditions, switches, fallbacks, defaults and retries it took its way.
        #[arg(long, conflicts_with = "history")]
        decisions: bool,
    },
    /// Print what happens in one as it happens, until it has ended: a line for each event, with `-o json` one of JSON.
    Watch {
        #[command(flatten)]
        one: One,
    },
    /// Say why one stands as it does: what it waits for, who runs it, what failed, and what can be done; with `-o FILE.tar.zst` write all that
    /// is known of it into a bundle, without secrets.
    Diagnose {
        #[command(flatten)]
        one: One,
        /// How the answer is written: `text`, `json`, or into a bundle, a file `NAME.tar.zst`, for another machine: history, spec, plan, what was
        /// measured, environment, document and decisions. `bourn replay` decides the run again from it.
        #[arg(short, long, value_name = "FORM|FILE", default_value = "text", value_parser = crate::args::form_or_bundle)]
        output: Output,
        /// Put this file with logs into the bundle, too: what was written to stderr.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        log: Vec<String>,
    },
    /// Decide one again from its history: conditions, switches, lists, ends of rounds, and what asks nobody. Nobody is asked; what steps
    /// asked is answered by the history. Ends with 5 when it would take another way.
    Replay {
        #[command(flatten)]
        one: One,
        /// By this spec instead of the one that it began with: whether it would take the same decisions.
        #[arg(long, value_name = "SPEC", value_hint = ValueHint::FilePath)]
        spec: Option<String>,
    },
    /// Print the result document of one.
    Result {
        #[command(flatten)]
        one: One,
        /// What there is, also when it has not completed.
        #[arg(long)]
        partial: bool,
    },
    /// Go on with one that was cut off or paused: steps that have ended are not done again.
    Resume {
        #[command(flatten)]
        one: One,
        /// What may be spent on models from now on, by all runs of its job together, over what the spec says: `usd=5`, `tokens=2000000`,
        /// `on_exceeded=pause`.
        #[arg(long, value_name = "NAME=VALUE", value_parser = crate::run::budget::parse)]
        budget: Vec<crate::run::budget::Part>,
    },
    /// Try one again that failed: steps that completed are not done again.
    #[command(alias = "retry")]
    Recover {
        #[command(flatten)]
        one: One,
        /// Say what would be done and what that may cost, and do nothing.
        #[arg(long, conflicts_with = "budget")]
        dry_run: bool,
        /// What may be spent on models from now on, as for `resume`.
        #[arg(long, value_name = "NAME=VALUE", value_parser = crate::run::budget::parse)]
        budget: Vec<crate::run::budget::Part>,
    },
    /// Start a new run from a point of another one: the steps up to there are taken over.
    Fork {
        #[command(flatten)]
        one: One,
        /// The last step that is taken over: `step:ID`, `step_completion_ID`, the id alone, or `workflow_initialization`.
        #[arg(long, value_name = "STEP")]
        at: String,
        /// Change what a step gave: `.step.member=JSON`; text that is no JSON is a text.
        #[arg(long, value_name = "PATH=VALUE")]
        set: Vec<String>,
        /// The id of the new run; one is made if it is not said.
        #[arg(long, value_name = "ID", value_parser = id)]
        id: Option<String>,
    },
    /// Say in what two of them differ: the input, and each step with what it came to in both.
    Diff {
        /// The id of one, or the beginning of it.
        #[arg(value_name = "RUN")]
        a: String,
        /// That of the other one.
        #[arg(value_name = "OTHER")]
        b: String,
        #[command(flatten)]
        journal: Journal,
    },
    /// Delete some that have ended, with their history: those that are named, or all that fit what is said.
    Delete(Delete),
    /// End one, whoever runs it: requests in flight are dropped, nothing is started any more but what undoes and what comes at the end.
    Cancel {
        #[command(flatten)]
        one: One,
        /// How long to wait for the process that runs it.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::args::interval)]
        timeout: Duration,
    },
    /// Pause one: what is in flight ends, and nothing is started until `bourn runs resume`.
    Pause {
        #[command(flatten)]
        one: One,
        /// How long to wait for the process that runs it.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::args::interval)]
        timeout: Duration,
    },
}

/// Where runs of workflows are kept.
#[derive(Clone, Debug, Group)]
pub struct Journal {
    /// The journal: what steps of workflows gave, and what stages of pipelines that say `journal: true` were answered. It is made if
    /// it is not there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = JOURNAL)]
    pub journal: PathBuf,
}

/// `inbox`.
#[derive(Debug, Group)]
pub struct Inbox {
    #[command(flatten)]
    pub journal: Journal,
    /// The most runs, the newest ones.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub limit: usize,
}

/// `insights`.
#[derive(Debug, Group)]
pub struct Insights {
    /// The name of the workflow.
    #[arg(value_name = "WORKFLOW")]
    pub workflow: String,
    /// Its newest runs that are looked at, at most.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub limit: usize,
    #[command(flatten)]
    pub journal: Journal,
}

/// `replay`.
#[derive(Debug, Group)]
pub struct Replay {
    /// The bundle.
    #[arg(value_name = "BUNDLE", value_hint = ValueHint::FilePath)]
    pub bundle: String,
    /// By this spec instead of the one in the bundle: whether the run would take the same decisions.
    #[arg(long, value_name = "SPEC", value_hint = ValueHint::FilePath)]
    pub spec: Option<String>,
    /// The value of an environment variable that the spec reads, where its mark, `<env.NAME>`, does not fit: of a number, for example.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
}

/// `signal`.
#[derive(Debug, Group)]
pub struct Signal {
    #[command(flatten)]
    pub one: One,
    /// The name that a step waits for.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What the step gives then: JSON, or `@FILE`.
    #[arg(long, value_name = "JSON|@FILE")]
    pub data: Option<String>,
    /// Who sends it, as the history tells; the user who is logged in if it is not said.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `approve`.
#[derive(Debug, Group)]
pub struct Approve {
    /// `RUN/STEP`, as `bourn inbox` says it.
    #[arg(value_name = "TASK")]
    pub task: String,
    /// What the step gives then: JSON, or `@FILE`; `{"approved": true}` if it is not said; what a step gives instead that has failed.
    #[arg(long, value_name = "JSON|@FILE", conflicts_with_all = ["reject", "retry"])]
    pub data: Option<String>,
    /// Say no: the step gives `{"approved": false}`, with the reason; one that has failed fails for good.
    #[arg(long, value_name = "REASON")]
    pub reject: Option<String>,
    /// Try a step again that has failed: its attempts begin anew.
    #[arg(long, conflicts_with = "reject")]
    pub retry: bool,
    /// Who decides, as the history tells; the user who is logged in if it is not said.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    #[command(flatten)]
    pub journal: Journal,
    /// What the commands of steps stand for, when the run was started with `--routing`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub routing: Option<String>,
}

/// `runs delete`.
#[derive(Debug, Group)]
pub struct Delete {
    /// Their whole ids.
    #[arg(value_name = "RUN", required_unless_present_any = ["older_than", "keep_latest", "status", "workflow"],
          conflicts_with_all = ["older_than", "keep_latest", "status", "workflow"])]
    pub runs: Vec<String>,
    /// Those that ended longer ago than this: `30d`.
    #[arg(long, value_name = "TIME", value_parser = crate::args::interval)]
    pub older_than: Option<Duration>,
    /// All but so many, the newest of each workflow.
    #[arg(long, value_name = "N")]
    pub keep_latest: Option<usize>,
    /// Those alone that stand like this.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub status: Option<bourn_engine::journal::RunState>,
    /// Those of this workflow alone.
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Those too that have not ended, and those of a job that was cut off, unless a process runs it.
    #[arg(long)]
    pub force: bool,
    /// Say which, and delete nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub journal: Journal,
}

/// A run.
#[derive(Debug, Group)]
pub struct One {
    /// Its id, or the beginning of it.
    #[arg(value_name = "RUN")]
    pub run: String,
    #[command(flatten)]
    pub journal: Journal,
    /// What the commands of steps stand for, when the run was started with `--routing`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub routing: Option<String>,
}

/// The id of a run that is to begin. It stands in lists, in commands, in keys of requests and in their headers.
///
/// # Errors
/// What is wrong with it.
pub fn id(text: &str) -> Result<String, String> {
    const LONGEST: usize = 256;
    match text {
        "" => Err("an id has a letter at least".into()),
        _ if text.len() > LONGEST => Err(format!("an id has {LONGEST} bytes at most, and this one {}", text.len())),
        _ if text.trim() != text => Err("an id begins and ends with no space".into()),
        _ if text.chars().any(char::is_control) => Err("an id is one line, without control characters".into()),
        _ => Ok(text.to_owned()),
    }
}

/// `NAME=VALUE`.
///
/// # Errors
/// When it is none.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let is_good = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    if name.is_empty() || !name.chars().all(is_good) {
        return Err(format!("`{name}` is no name of a label: it has letters, digits, `_`, `-`, `.` and `/`"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn status(text: &str) -> Result<bourn_engine::journal::RunState, String> {
    let known = "there are RUNNING, WAITING, PAUSED, COMPLETED, FAILED, CANCELED and TIMED_OUT";
    bourn_engine::journal::RunState::of(&text.to_uppercase()).ok_or_else(|| known.to_owned())
}
