//! The block `secrets`: where each of them comes from, and its value.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::Fault;
use super::node::{Content, Node};
use super::reader::check_id;
use crate::data::secret::Secret;
use crate::diagnostic::{Key, Problem};
use crate::env::{Env, Heard, Program};

/// A value of a file or a program is at most so long.
const BYTES_MAX: usize = 64 << 10;
/// How long a program may take to print a secret.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Secrets by name, or a list of names of environment variables.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "read by walking the tree")]
pub(crate) enum SecretKeys {
    /// `[API_TOKEN]`: each from the environment variable of its name.
    Names(Vec<String>),
    /// `{ TOKEN: { env: API_TOKEN } }`
    Sources(BTreeMap<String, SecretSource>),
}

/// Where a secret comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SecretSource {
    /// From this environment variable.
    Env(String),
    /// From this file, without the line end at its end.
    File(String),
    /// From what this program prints, without the line end at its end: an argument list, never a shell line. It is run when
    /// the job is, not when the spec is checked or planned.
    Command(Vec<String>),
}

/// Values of secrets that a program prints, by name.
pub(crate) type Printed = BTreeMap<String, Secret>;

/// The secrets that a spec declares, with the place of each.
pub(crate) fn declared(spec: &Node) -> Vec<(String, Vec<Key>, SecretSource)> {
    let Some(block) = spec.get("secrets") else { return Vec::new() };
    let below = |key: Key| vec!["secrets".into(), key];
    match &block.content {
        Content::List(list) => {
            let names = list.iter().enumerate().filter_map(|(i, n)| Some((i, n.text()?)));
            names.map(|(i, name)| (name.to_owned(), below(i.into()), SecretSource::Env(name.to_owned()))).collect()
        }
        Content::Map(members) => {
            let read = |m: &super::node::Member| {
                let source = serde_json::from_value(m.node.value()).ok()?;
                Some((m.name.clone(), below(m.name.as_str().into()), source))
            };
            members.iter().filter_map(read).collect()
        }
        _ => Vec::new(),
    }
}

/// The names that can't be written as `${secret.NAME}`.
pub(crate) fn misnamed(declared: &[(String, Vec<Key>, SecretSource)]) -> Vec<Fault> {
    declared.iter().filter_map(|(name, path, _)| check_id(name).map(|p| Fault::at_key(path.clone(), p))).collect()
}

/// The value of a secret. That of a program is known when the job runs: a stand-in takes its place before.
pub(crate) fn value(name: &str, source: &SecretSource, printed: &Printed, env: &Env) -> Result<Secret, Problem> {
    match source {
        SecretSource::Env(variable) => env.variable(variable).map(Secret::new).ok_or_else(|| {
            let problem = Problem::new(format!("there is no environment variable `{variable}`"));
            problem.help(format!("set it: `export {variable}=…`"))
        }),
        SecretSource::File(path) => read(Path::new(path), env).map_err(|e| e.under("file")),
        SecretSource::Command(_) => {
            Ok(printed.get(name).cloned().unwrap_or_else(|| Secret::new(format!("secret-{name}"))))
        }
    }
}

fn read(path: &Path, env: &Env) -> Result<Secret, Problem> {
    let at = |e: crate::Error| Problem::new(e.message().to_owned());
    let file = env.files().open(path).map_err(at)?;
    let mut bytes = vec![0; BYTES_MAX + 1];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(length as u64, &mut bytes[length..]).map_err(|e| at(e.into()))? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    text(bytes).map_err(|why| Problem::new(format!("{} {why}", path.display())))
}

fn text(bytes: Vec<u8>) -> Result<Secret, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("holds more than {BYTES_MAX} bytes, which is no secret"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::new(text)) }
}

/// Runs the programs of a spec that print secrets, one after the other.
///
/// # Errors
/// Every one that fails, at its place; never with what it printed.
pub(crate) async fn print(spec: &Node, env: &Env) -> Result<Printed, Vec<Fault>> {
    let (mut printed, mut faults) = (Printed::new(), Vec::new());
    for (name, path, source) in declared(spec) {
        let SecretSource::Command(argv) = source else { continue };
        let program = Program {
            argv,
            input: Vec::new(),
            variables: Vec::new(),
            clear_variables: false,
            output_max: BYTES_MAX,
            timeout: TIMEOUT,
            heard: Heard::default(),
        };
        let value = match env.run(program).await {
            Err(e) => Err(e.message().to_owned()),
            Ok(done) if done.status == Some(0) => text(done.output).map_err(|why| format!("what it printed {why}")),
            Ok(done) => Err(match done.status {
                Some(status) => format!("it ended with status {status}"),
                None => "a signal ended it".to_owned(),
            }),
        };
        match value {
            Ok(value) => drop(printed.insert(name, value)),
            Err(why) => {
                let problem = Problem::new(format!("the program of the secret `{name}` failed: {why}"));
                faults.push(Fault::at(path.into_iter().chain(["command".into()]), problem));
            }
        }
    }
    if faults.is_empty() { Ok(printed) } else { Err(faults) }
}
