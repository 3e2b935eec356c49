//! One run of a program, and what its end means.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::CallContext;
use bourn_engine::api::memo::Key;
use bourn_engine::api::template::Template;
use bourn_engine::data::secret::shortened;
use bourn_engine::env::{Exit, Finished, Heard, Program};
use bourn_engine::{Error, Kind, Result};
use serde_json::Value;

use super::{Parse, Process};
use crate::answer::{Answer, Ask};
use crate::places::{self, Document, template};

/// A program with places in its arguments.
pub struct Run {
    command: Vec<Template>,
    variables: Vec<(String, Template)>,
    input: Option<Document>,
    parse: Parse,
    output_max: usize,
    clear_env: bool,
}

impl Run {
    /// Reads the templates.
    pub fn new(config: &Process) -> Result<Self> {
        let variable = |(name, text): (&String, &String)| Ok((name.clone(), template(text)?));
        Ok(Self {
            command: config.command.iter().map(|a| template(a)).collect::<Result<_>>()?,
            variables: config.env.iter().map(variable).collect::<Result<_>>()?,
            input: config.input.as_ref().map(Document::read).transpose()?,
            parse: config.parse(),
            clear_env: config.clear_env,
            output_max: usize::try_from(config.output_max.0).unwrap_or(usize::MAX),
        })
    }
}

impl Run {
    /// What is run for a row.
    fn program(&self, rows: &RecordBatch, row: usize, timeout: Duration) -> Result<Program> {
        let fill = |t: &Template| {
            places::no_null(t, rows, row, "is no argument and no variable")?;
            t.render(rows, row)
        };
        Ok(Program {
            argv: self.command.iter().map(fill).collect::<Result<_>>()?,
            input: self.input.as_ref().map(|d| d.text(rows, row)).transpose()?.unwrap_or_default().into_bytes(),
            variables: self.variables.iter().map(|(n, t)| Ok((n.clone(), fill(t)?))).collect::<Result<_>>()?,
            clear_variables: self.clear_env,
            output_max: self.output_max,
            timeout,
            heard: Heard::default(),
        })
    }
}

impl Ask for Run {
    async fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext) -> Result<Answer> {
        let program = self.program(rows, row, context.deadline.saturating_sub(context.env.monotonic()))?;
        let name = program.argv.first().cloned().unwrap_or_default();
        let (bill, env) = (context.bill.clone(), context.env.clone());
        let heard = Heard::by(move || bill.alive(env.monotonic()));
        let finished = context.env.run(Program { heard, ..program }).await?;
        ended_well(&name, &finished)?;
        read(&name, finished.output, self.parse).map(Answer::from)
    }

    fn key(&self, rows: &RecordBatch, row: usize) -> Result<Option<Key>> {
        let Program { argv, input, variables, .. } = self.program(rows, row, Duration::ZERO)?;
        let manner = format!("process {:?} {} {}", self.parse, self.clear_env, argv.len());
        let variables = variables.iter().flat_map(|(name, value)| [name, value]);
        let texts = [&manner].into_iter().chain(&argv).chain(variables).map(String::as_bytes);
        Ok(Some(Key::of_bytes(texts.chain([input.as_slice()]))))
    }
}

fn ended_well(name: &str, finished: &Finished) -> Result<()> {
    if finished.status == Some(0) {
        return Ok(());
    }
    let how = how_it_ended(Exit { status: finished.status, signal: finished.signal });
    let said = String::from_utf8_lossy(&finished.errors);
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let reason = last.map_or_else(String::new, |line| format!(": {}", shortened(line, 300)));
    let message = format!("`{name}` {how}{reason}");
    // A status is the program's own verdict; a signal came from elsewhere (no memory, an operator) and may not come again.
    Err(match finished.status {
        Some(_) => Error::validation(message),
        None => Error::new(Kind::LostWorker, message),
    })
}

/// The end of a program in words.
pub fn how_it_ended(exit: Exit) -> String {
    match (exit.status, exit.signal) {
        (Some(status), _) => format!("ended with status {status}"),
        (None, Some(signal)) => format!("was ended by signal {signal}{}", signal_name(signal)),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// What a program wrote, as a value.
pub fn read(name: &str, output: Vec<u8>, parse: Parse) -> Result<Value> {
    match parse {
        Parse::Text => match String::from_utf8(output) {
            Ok(mut text) => {
                text.truncate(text.trim_end_matches(['\n', '\r']).len());
                Ok(Value::String(text))
            }
            Err(e) => Err(Error::validation(format!("`{name}` wrote no UTF-8: {}", e.utf8_error())).with_source(e)),
        },
        Parse::Json => serde_json::from_slice(&output)
            .map_err(|e| Error::validation(format!("`{name}` wrote no JSON document: {e}")).with_source(e)),
    }
}
