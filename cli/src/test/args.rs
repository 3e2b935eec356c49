//! What `test` takes.

use clap::{Args as Group, ValueHint};

/// `test`.
#[derive(Debug, Group)]
#[command(after_help = TESTS)]
pub struct Test {
    /// Specs, files with cases beside them, or folders: every spec with cases below one, and below this one if none is said.
    #[arg(value_name = "SPEC|FOLDER", value_hint = ValueHint::AnyPath, default_value = ".", hide_default_value = true)]
    pub paths: Vec<String>,
    /// Run those cases alone that have this in their name.
    #[arg(long, value_name = "PART")]
    pub filter: Option<String>,
    /// What the commands of steps stand for, in YAML: `{ /query: {kind: model, args: prompt} }`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub routing: Option<String>,
    /// Run them again when a spec, its cases or the routing changes, or a new file with cases appears.
    #[arg(long)]
    pub watch: bool,
}

const TESTS: &str = "\
A case of a pipeline:

  tests:
    - name: late flights are kept
      given: [ { id: 1, delay: 20 }, { id: 2, delay: 3 } ]
      expect: [ { id: 1, delay: 20 } ]

Memory stands in for sources and sinks, and time is virtual: nothing outside is touched. Several sources, sinks or stages
are named (`given: { flights: [...] }`, `expect: { late: [...], by_delay.early: { count: 2 } }`); `unordered: true` and
`partial: true` compare less strictly. See also `dead_letters`, `error`, `fail`, `mocks`, `clock` and `script` in
`bourn schema`. A case of a workflow says `input: {...}` and `expect: { status, output, steps, skipped, error }`.";
