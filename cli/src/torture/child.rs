//! What is tortured as a process of its own: started, killed, asked how it ended.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is tortured is a process, not a part of a job"
)]

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use bourn_engine::Error;
use bourn_engine::env::{Env, points};
use futures::future::{Either, select};
use tokio::process::Command;

/// When a process is to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kill {
    /// When it comes to this point for the n-th time.
    At(&'static str, u64),
    /// So long after its start.
    After(Duration),
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(point, count) => write!(f, "{point}:{count}"),
            Self::After(time) => write!(f, "after {time:?}"),
        }
    }
}

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was killed, as was wanted.
    Killed,
    /// The job came to its end.
    Well,
    /// Something went wrong, and this is what it said.
    Badly(String),
    /// It had not ended when its time was over, and was killed.
    Late(String),
}

/// What became of a process.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The points that it came to, in order.
    pub points: Vec<String>,
    /// How long it ran.
    pub time: Duration,
}

/// The name of the spec in the folder of a job.
pub const SPEC: &str = "spec.json";
/// The number of SIGKILL.
const KILLED: i32 = 9;
const POINTS: &str = "points.txt";
const ERRORS: &str = "errors.txt";

/// What a process is told.
pub struct Program<'a> {
    /// The folder where it is noted what it came to, and what went wrong.
    pub folder: &'a Path,
    /// Where it runs: there, if it does not say.
    pub directory: Option<&'a Path>,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The file that gets what it prints, if anybody reads it.
    pub printed: Option<&'a Path>,
}

impl<'a> Program<'a> {
    /// The job whose spec lies in this folder.
    pub fn job(folder: &'a Path) -> Self {
        let arguments = ["run", SPEC, "--quiet"].map(OsString::from).to_vec();
        Self { folder, directory: None, arguments, printed: None }
    }
}

/// Runs a process, until it ends, is killed, or has taken longer than `limit`.
///
/// # Errors
/// When no process can be started or the disk fails.
pub async fn run(program: Program<'_>, kill: Option<&Kill>, limit: Duration, env: &Env) -> Result<Outcome, Error> {
    let Program { folder, directory, arguments, printed } = program;
    let (points, errors) = (folder.join(POINTS), folder.join(ERRORS));
    let empty = |path: &Path| std::fs::File::create(path).map_err(|e| Error::from(e).context(path.display()));
    empty(&points)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).current_dir(directory.unwrap_or(folder));
    command.stdin(Stdio::null()).stderr(empty(&errors)?);
    match printed {
        Some(path) => command.stdout(empty(path)?),
        None => command.stdout(Stdio::null()),
    };
    command.env(points::TOLD_IN, &points).env_remove(points::KILL_AT).kill_on_drop(true);
    if let Some(Kill::At(point, count)) = kill {
        command.env(points::KILL_AT, format!("{point}:{count}"));
    }
    let start = env.monotonic();
    let mut child = command.spawn()?;
    let wait = match kill {
        Some(Kill::After(time)) => *time,
        _ => limit,
    };
    let ended = match select(pin!(child.wait()), env.sleep(wait)).await {
        Either::Left((status, _)) => Some(status?),
        Either::Right(_) => None,
    };
    let time = env.monotonic().saturating_sub(start);
    let end = match ended {
        Some(status) if status.success() => End::Well,
        // It has ended itself at its point.
        Some(status) if status.signal() == Some(KILLED) && matches!(kill, Some(Kill::At(..))) => End::Killed,
        Some(status) => {
            let said = std::fs::read_to_string(&errors).unwrap_or_default();
            End::Badly(format!("the process ended with {status}: {}", said.trim()))
        }
        None => {
            child.kill().await?;
            let was_quicker = child.wait().await?.success();
            match kill {
                Some(Kill::After(_)) if was_quicker => End::Well,
                Some(Kill::After(_)) => End::Killed,
                _ => End::Late(format!("the process has not ended after {limit:?}")),
            }
        }
    };
    let told = std::fs::read_to_string(&points).map_err(|e| Error::from(e).context(points.display()))?;
    Ok(Outcome { end, points: told.lines().map(str::to_owned).collect(), time })
}
