//! `process`: rows through a program, run for each of them or once for all.

mod run;
mod stream;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use bourn_engine::Result;
use bourn_engine::api::template::Template;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::diagnostic::{Key, Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, PerRow};
use crate::places::Check;
use run::Run;
use stream::Stream;

/// Sends each row through a program, and adds a column with what it wrote.
///
/// `process: { command: [grep, -c, "${word}", words.txt] }` runs the program for each row; a status other than 0 rejects the
/// row, with the last line that the program wrote on its standard error.
///
/// `process: { command: [python3, score.py], mode: stream }` starts it once a lane, and sends it each row as a line of
/// JSON. It must answer each line with one line, in the order of the rows, and write each out at once (`flush=True`). Rows
/// that wait (`limits.in_flight`) are sent before the answers to earlier ones; `lanes` makes several programs. When it ends,
/// hangs, or writes what is no answer, it is started again for the next row. The rows that it had are tried again as
/// `limits.retry` says, each alone, and then rejected with its status and the last lines of its standard error, which is
/// logged. It is killed when the job ends, so it must not keep anything back until its input ends.
///
/// A null in a place of the command or of `env` rejects its row. The command is a list of arguments, never a line for a shell, so a value can't add arguments or commands; one that
/// begins with `-` may still be read as an option, which most programs let you end with `--`. A program is ended, with
/// whatever it has started, when a row takes longer than `limits.timeout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments, with places such as `${column}` unless it stays for all rows.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Whether it is run for each row, or once for all.
    #[serde(default)]
    pub mode: Mode,
    /// What it reads for a row: a text, or any JSON, with places. Nothing if it is not said, and the whole row as JSON in
    /// `stream`, where a text must be one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Environment variables that it sees beside those of the engine, with places unless it stays for all rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether it sees the variables of `env` alone, and none of the engine's, `PATH` included.
    #[serde(default)]
    pub clear_env: bool,
    /// How its standard output is read: as text, and as JSON in `stream`, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parse: Option<Parse>,
    /// How long the first answer may take after a start in `stream`, where loading takes longer than a row;
    /// `limits.timeout` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Interval>,
    /// The most that it may write for a row; it is ended beyond that.
    #[serde(default = "output_max")]
    pub output_max: Size,
    /// The column that gets the output.
    #[serde(default = "answer::default_output")]
    pub output: String,
    /// What bounds the calls.
    #[serde(default)]
    pub limits: Limits,
}

/// How rows reach the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is run for each row, and all that it writes is the answer.
    #[default]
    PerRow,
    /// It is started once, and answers each line with a line.
    Stream,
}

/// How a text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parse {
    /// As text, without line breaks at its end.
    #[default]
    Text,
    /// As one JSON document.
    Json,
}

fn output_max() -> Size {
    Size(10 << 20)
}

impl Process {
    fn parse(&self) -> Parse {
        self.parse.unwrap_or(if self.mode == Mode::Stream { Parse::Json } else { Parse::Text })
    }

    /// Checks a text that is filled for each row, or once for all.
    fn check_text(&self, check: &mut Check<'_>, path: &[Key], text: &str) {
        if self.mode == Mode::PerRow {
            return check.text(path, text);
        }
        match Template::parse(text).map(|t| t.references().next().cloned()) {
            Ok(None) => {}
            Ok(Some(place)) => {
                let problem =
                    Problem::new(format!("`${{{place}}}` has no row here: the program is started once for all"));
                let problem = problem.part(place.span.clone()).help("rows reach it by `input`");
                check.add(Problem { path: path.to_vec(), ..problem });
            }
            Err(problem) => check.add(Problem { path: path.to_vec(), ..problem }),
        }
    }
}

impl StageConfig for Process {
    const NAME: &'static str = "process";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        if self.command.first().is_none_or(String::is_empty) {
            check.add(Problem::new("there is no program to run").under("command"));
        }
        for (i, argument) in self.command.iter().enumerate() {
            self.check_text(&mut check, &["command".into(), i.into()], argument);
        }
        for (name, value) in &self.env {
            self.check_text(&mut check, &["env".into(), name.as_str().into()], value);
            if name.is_empty() || name.contains(['=', '\0']) {
                check.add(Problem::new(format!("`{name}` can't be the name of a variable")).under("env"));
            }
        }
        if let Some(input) = &self.input {
            check.document(&["input".into()], input);
        }
        if self.start_timeout.is_some() && self.mode == Mode::PerRow {
            check.add(Problem::new("`start_timeout` is for `mode: stream`").under("start_timeout"));
        }
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn silent(&self) -> Option<&'static str> {
        let stays = "a program that stays for all rows (`mode: stream`) says nothing until its line is there";
        (self.mode == Mode::Stream).then_some(stays)
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let input = &context.inputs[0];
        Ok(match self.mode {
            Mode::PerRow => Operator::call(PerRow::new(Run::new(self)?, input, &self.output)?, self.limits.clone()),
            Mode::Stream => {
                let call = PerRow::new(Stream::new(self, context)?, input, &self.output)?;
                // The layers around the call would count the time behind other rows too.
                Operator::call(call, Limits { timeout: Limits::NO_TIMEOUT, ..self.limits.clone() })
            }
        })
    }
}

#[cfg(test)]
mod tests;
