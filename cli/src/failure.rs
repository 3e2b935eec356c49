//! What ends a command before its time, and the exit code that it gives.

use std::io;

use bourn_engine::diagnostic::Diagnostic;
use bourn_engine::{Error, Kind};

/// The exit codes, as `--help` tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is done.
    Ok = 0,
    /// The job failed, or a run did.
    Failed = 1,
    /// The input or the spec is not valid; nothing was started.
    Invalid = 2,
    /// A target was missed.
    Missed = 3,
    /// A step gave its default, and that was not to be.
    Degraded = 4,
    /// A run that was decided again took another way.
    Differs = 5,
    /// A signal ended it before it had drained.
    Interrupted = 130,
}

/// What ends a command.
#[derive(Debug)]
pub enum Failure {
    /// A spec, or a routing file, has these problems.
    Problems(Vec<Diagnostic>),
    /// An argument or an input is not valid.
    Invalid(Error),
    /// It was started and failed.
    Failed(Error),
    /// All has been told.
    Told(Exit),
    /// Whoever read stdout has gone, which is no failure (`| head`).
    Unread,
}

/// A write on stdout failed. A reader that has gone cancels what was going on, without noise.
pub fn stdout_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::new(Kind::Canceled, "stdout was closed by its reader"),
        _ => Error::from(error).context("stdout"),
    }
}

impl Failure {
    /// An argument is not valid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(Error::validation(message.into()))
    }

    /// A job, or an answer, ended so. One whose reader has gone is canceled.
    pub fn ended(error: Error) -> Self {
        if error.kind() == Kind::Canceled { Self::Unread } else { Self::Failed(error) }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Problems(_) | Self::Invalid(_) => Exit::Invalid,
            Self::Failed(_) => Exit::Failed,
            Self::Told(exit) => *exit,
            Self::Unread => Exit::Ok,
        }
    }
}
