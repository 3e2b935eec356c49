//! `process`: runs a program for each row.

mod run;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, PerRow};
use crate::places::Check;
use run::Run;

/// Runs a program for each row, and adds a column with what it wrote.
///
/// `process: { command: [grep, -c, "${word}", words.txt] }`. The command is a list of arguments, never a line for a
/// shell, so a value can't add arguments or commands; one that begins with `-` may still be read as an option, which
/// most programs let you end with `--`. A status other than 0 rejects the row, with the last line that the program wrote
/// on its standard error. It is ended when it runs longer than `limits.timeout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments, with places such as `${column}`.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// What it reads on its standard input: a text, or any JSON, with places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Environment variables that it sees beside those of the engine, with places.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How its standard output is read.
    #[serde(default)]
    pub parse: Parse,
    /// The most that it may write; it is ended beyond that.
    #[serde(default = "output_max")]
    pub output_max: Size,
    /// The column that gets the output.
    #[serde(default = "answer::default_output")]
    pub output: String,
    /// What bounds the calls.
    #[serde(default)]
    pub limits: Limits,
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

impl StageConfig for Process {
    const NAME: &'static str = "process";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        if self.command.first().is_none_or(String::is_empty) {
            check.add(Problem::new("there is no program to run").under("command"));
        }
        for (i, argument) in self.command.iter().enumerate() {
            check.text(&["command".into(), i.into()], argument);
        }
        for (name, value) in &self.env {
            check.text(&["env".into(), name.as_str().into()], value);
            if name.is_empty() || name.contains(['=', '\0']) {
                check.add(Problem::new(format!("`{name}` can't be the name of a variable")).under("env"));
            }
        }
        if let Some(input) = &self.input {
            check.document(&["input".into()], input);
        }
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let call = PerRow::new(Run::new(self)?, &context.inputs[0], &self.output)?;
        Ok(Operator::call(call, self.limits.clone()))
    }
}

#[cfg(test)]
mod tests;
