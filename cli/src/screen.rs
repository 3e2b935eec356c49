//! What stderr is, and who may write on it when: errors, warnings, notices, progress.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bourn_engine::data::secret::Secrets;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::args::{Args, Form, Verb, When};

/// Width of a report where nobody knows how wide the reader's window is.
const WIDTH: usize = 120;

/// Stderr. A clone is the same one.
#[derive(Clone)]
pub struct Screen {
    /// Whether a person may be looking.
    pub is_terminal: bool,
    /// Whether reports are drawn, with colours.
    pub is_drawn: bool,
    /// How answers and errors are written.
    pub form: Form,
    /// Its width, in columns.
    pub width: usize,
    color: When,
    is_quiet: bool,
    bar: ProgressBar,
    hidden: Arc<Mutex<Secrets>>,
}

impl Screen {
    /// As the command line, the terminal and `NO_COLOR` say.
    pub fn new(args: &Args) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self {
            is_terminal,
            is_drawn: is_coloured(args.color, is_terminal),
            color: args.color,
            form: args.output.form(),
            width: Term::stderr().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns)),
            is_quiet: match &args.verb {
                Verb::Run { run, .. } => run.quiet,
                Verb::Tap(tap) => tap.run.quiet,
                _ => false,
            },
            bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            hidden: Arc::default(),
        }
    }

    /// Whether progress is shown: to a person, who did not ask for silence.
    pub fn shows_progress(&self) -> bool {
        self.is_terminal && !self.is_quiet
    }

    /// Whether nothing is to be said but errors.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Whether what is printed on stdout shows up on the same terminal.
    pub fn shares_terminal(&self) -> bool {
        self.is_terminal && io::stdout().is_terminal()
    }

    /// Whether an answer on stdout has colours.
    pub fn colours_answers(&self) -> bool {
        is_coloured(self.color, io::stdout().is_terminal())
    }

    /// The bar of the progress, hidden until somebody shows it.
    pub fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Writes what must be read, whatever was asked for.
    pub fn say(&self, text: &str) {
        // When stderr is closed there is nobody left to tell.
        let _unheard = self.write(format!("{}\n", text.trim_end_matches('\n')).as_bytes());
    }

    /// Writes what should be read, unless silence was asked for.
    pub fn warn(&self, text: &str) {
        if !self.is_quiet {
            self.say(&format!("warning: {text}"));
        }
    }

    /// Writes what goes on, also when nobody looks at a terminal, unless silence was asked for.
    pub fn tell(&self, text: &str) {
        if !self.is_quiet {
            self.say(text);
        }
    }

    /// Writes what helps a person who looks.
    pub fn notice(&self, text: &str) {
        if self.shows_progress() {
            self.say(text);
        }
    }

    /// Shows the places of these values instead of the values, whoever writes: reports, errors, logs.
    pub fn hide(&self, secrets: &Secrets) {
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = secrets.clone();
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !hidden.is_empty() {
            let text = String::from_utf8_lossy(bytes);
            let shown = hidden.conceal_in_data(&text);
            return self.bar.suspend(|| io::stderr().lock().write_all(shown.as_bytes()));
        }
        self.bar.suspend(|| io::stderr().lock().write_all(bytes))
    }
}

fn is_coloured(when: When, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        // The convention of no-color.org: any text in it counts.
        When::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// For logs, which must not be torn apart by the bar.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Screen::write(self, bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
