//! A program run to its end.

use std::time::Duration;

/// What to run: an argument list, never a shell line.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program, looked up in `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// What it reads on its standard input.
    pub input: Vec<u8>,
    /// Variables that it sees beside those of the engine.
    pub variables: Vec<(String, String)>,
    /// The most bytes kept of each of its outputs; a program that writes more is ended.
    pub output_max: usize,
    /// How long it may run; it is ended then. The engine's own deadline ends it too.
    pub timeout: Duration,
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
