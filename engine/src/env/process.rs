//! Programs: one that is run to its end, and one that stays and is talked to over its pipes.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};

use crate::error::Result;

/// What to run to its end: an argument list, never a shell line.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program, looked up in `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// What it reads on its standard input.
    pub input: Vec<u8>,
    /// Variables that it sees beside those of the engine.
    pub variables: Vec<(String, String)>,
    /// Whether it sees none of the engine's variables.
    pub clear_variables: bool,
    /// The most bytes kept of each of its outputs; a program that writes more is ended.
    pub output_max: usize,
    /// How long it may run; it is ended then. The engine's own deadline ends it too.
    pub timeout: Duration,
    /// Told whenever it has written something.
    pub heard: Heard,
}

/// Whoever listens for what a program writes; nobody by default.
#[derive(Clone, Default)]
pub struct Heard(Option<Arc<dyn Fn() + Send + Sync>>);

impl Heard {
    /// Calls `listen` whenever something was written.
    pub fn by(listen: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listen)))
    }

    /// Something was written.
    pub fn tell(&self) {
        if let Some(listen) = &self.0 {
            listen();
        }
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Heard(..)" } else { "Heard(nobody)" })
    }
}

/// What a program left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote on its standard output.
    pub output: Vec<u8>,
    /// What it wrote on its standard error.
    pub errors: Vec<u8>,
}

/// What to start and to talk to: an argument list, never a shell line.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, looked up in `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Variables that it sees beside those of the engine.
    pub variables: Vec<(String, String)>,
    /// Whether it sees none of the engine's variables.
    pub clear_variables: bool,
}

/// A running program and its pipes. Dropping it kills it, and every program that it has started in its process group.
///
/// The pipes are polled: nothing is read or written, and no pipe is emptied, but by whoever holds the child.
pub struct Child {
    /// How it ended. It stands first, so that a child is killed before its pipes close.
    pub end: Box<dyn End>,
    /// Its standard input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub errors: Box<dyn AsyncRead + Send + Unpin>,
}

/// The end of a running program; see [`Child`].
pub trait End: Send {
    /// How it ended, once it has by itself; the same however often it is asked.
    ///
    /// # Errors
    /// When the system can't tell.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Exit>>;
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}
