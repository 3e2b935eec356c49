//! What a command answers on stdout.

use std::io::{self, Write};

use console::Term;

use crate::failure::{Failure, stdout_error};

/// Writes a text, and a line's end if it has none.
///
/// # Errors
/// When stdout can't be written to, or nobody reads it any more.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written =
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes())).and_then(|()| out.flush());
    written.map_err(|e| Failure::ended(stdout_error(e)))
}

/// How wide the window of whoever reads is, in columns.
pub fn width() -> usize {
    Term::stdout().size_checked().map_or(120, |(_, columns)| usize::from(columns))
}
