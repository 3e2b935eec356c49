//! Filling `${env.NAME}` and `${secret.NAME}`, in every text of a spec.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Fault;
use super::edges::dangling;
use super::node::{Content, Member, Node};
use super::secrets::{self, Printed};
use crate::data::secret::{Origin, Secret, Secrets, mark};
use crate::diagnostic::{Key, Problem};
use crate::env::Env;

/// Keys whose values are shown everywhere, so that no secret may be a part of them.
const SHOWN: [&str; 3] = ["id", "name", "from"];

/// What stands for the values of variables and secrets where a spec is only looked at, on whatever machine: their marks, `<env.NAME>` and
/// `<secret.NAME>`, as they stand in what was marked with [`Secrets::mark`].
#[derive(Clone, Debug, Default)]
pub struct StandIns {
    /// Values of variables that are said, because a mark would not fit.
    pub said: BTreeMap<String, String>,
    /// Variables that were not there, so that what stands for that holds.
    pub unset: BTreeSet<String>,
}

impl StandIns {
    fn variable(&self, name: &str) -> Option<String> {
        let said = self.said.get(name).cloned();
        said.or_else(|| (!self.unset.contains(name)).then(|| mark(&format!("env.{name}"))))
    }
}

/// What filling found.
pub(crate) struct Filling<'a> {
    env: &'a Env,
    stand_ins: Option<&'a StandIns>,
    /// The secrets that are declared; none for one whose value is at fault.
    secrets: BTreeMap<String, Option<Secret>>,
    used: Vec<(String, Origin, Secret)>,
    pub faults: Vec<Fault>,
}

impl<'a> Filling<'a> {
    /// Knows the secrets that a spec declares; `printed` are those that programs gave. With stand-ins the world is not asked.
    pub(crate) fn of(spec: &Node, printed: &Printed, env: &'a Env, stand_ins: Option<&'a StandIns>) -> Self {
        let (secrets, used, faults) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut filling = Self { env, stand_ins, secrets, used, faults };
        let Some(block) = spec.get("secrets") else { return filling };
        // Where a secret comes from may itself be filled: `file: ${env.CREDENTIALS_DIRECTORY}/token`.
        let block = filling.fill(block, &mut vec!["secrets".into()]);
        let member = Member { name: "secrets".into(), key: 0..0, node: block };
        let declared = secrets::declared(&Node { span: 0..0, content: Content::Map(vec![member]) });
        filling.faults.clear();
        filling.faults.extend(secrets::misnamed(&declared));
        for (name, path, source) in declared {
            let known = match stand_ins {
                Some(_) => Ok(Secret::new(mark(&format!("secret.{name}")))),
                None => secrets::value(&name, &source, printed, env),
            };
            let value = match known {
                Ok(value) if value.expose().contains("${") => {
                    let problem = Problem::new(format!("the secret `{name}` has `${{` in it"));
                    filling.faults.push(Fault::at(path, problem));
                    None
                }
                Ok(value) if !value.can_be_hidden() => {
                    let problem =
                        Problem::new(format!("the secret `{name}` is shorter than 4 bytes, and could not be hidden"));
                    let help = "a value that may be shown comes from the environment: `${env.NAME}`";
                    filling.faults.push(Fault::at(path, problem.help(help)));
                    None
                }
                Ok(value) => {
                    filling.used.push((format!("${{secret.{name}}}"), Origin::Secret, value.clone()));
                    Some(value)
                }
                Err(problem) => {
                    filling.faults.push(Fault::at(path, problem));
                    None
                }
            };
            filling.secrets.insert(name, value);
        }
        filling
    }

    /// Every value that was filled in or declared, to be kept out of messages.
    pub(crate) fn hidden(&self) -> Secrets {
        Secrets::new(self.used.iter().cloned())
    }

    /// The same tree with the places of every text filled; all others, and `$${`, stay for templates. What is below
    /// `templates` is filled where it is used.
    pub(crate) fn fill(&mut self, node: &Node, path: &mut Vec<Key>) -> Node {
        let content = match &node.content {
            Content::Text(text) => Content::Text(self.text(text, path)),
            Content::List(list) => {
                Content::List(list.iter().enumerate().map(|(i, n)| self.below(i.into(), n, path)).collect())
            }
            Content::Map(members) => {
                let is_root = path.is_empty();
                let fill = |m: &Member| match m.name.as_str() {
                    "templates" if is_root => m.clone(),
                    name => Member { node: self.below(name.into(), &m.node, path), ..m.clone() },
                };
                Content::Map(members.iter().map(fill).collect())
            }
            other => other.clone(),
        };
        Node { span: node.span.clone(), content }
    }

    fn below(&mut self, key: Key, node: &Node, path: &mut Vec<Key>) -> Node {
        path.push(key);
        let filled = self.fill(node, path);
        path.pop();
        filled
    }

    fn text(&mut self, text: &str, path: &[Key]) -> String {
        let mut filled = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let start = at + found;
            let escaped = text[at..start].ends_with('$');
            let end = text[start..].find('}').map(|e| start + e).filter(|_| !escaped);
            let place = end.map(|end| (end + 1, text[start + 2..end].trim()));
            let Some((end, inner)) = place else {
                filled.push_str(&text[at..start + 2]);
                at = start + 2;
                continue;
            };
            filled.push_str(&text[at..start]);
            match self.value(inner, path) {
                Ok(Some(value)) => filled.push_str(&value),
                Ok(None) => filled.push_str(&text[start..end]),
                Err(problem) => {
                    filled.push_str(&text[start..end]);
                    self.faults.push(Fault::at(path.to_vec(), problem.part(start..end)));
                }
            }
            at = end;
        }
        filled.push_str(&text[at..]);
        filled
    }

    /// `None` for a place that is neither of the environment nor a secret.
    fn value(&mut self, inner: &str, path: &[Key]) -> Result<Option<String>, Problem> {
        if let Some(name) = inner.strip_prefix("secret.") {
            return self.secret(name, path).map(Some);
        }
        if let Some(name) = inner.strip_prefix("param.") {
            let problem = Problem::new(format!("`${{param.{name}}}` stands in no template"));
            return Err(problem.help("parameters are those of the template around them"));
        }
        let Some(place) = inner.strip_prefix("env.") else { return Ok(None) };
        // As in a shell: the default holds for a variable that is not there, and for an empty one.
        let (name, default) = place.split_once(":-").map_or((place, None), |(name, default)| (name, Some(default)));
        let found = self.stand_ins.map_or_else(|| self.env.variable(name), |stand_ins| stand_ins.variable(name));
        let value = match (found, default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            // It stands in the spec, so there is nothing to hide.
            (_, Some(default)) => return Ok(Some(default.to_owned())),
            (None, None) => {
                let problem = Problem::new(format!("there is no environment variable `{name}`"));
                let help = format!("set it: `export {name}=…`, or say what holds without it: `${{env.{name}:-…}}`");
                return Err(problem.help(help));
            }
        };
        // It would be read as a place of a template, and data is never a template.
        if value.contains("${") {
            return Err(Problem::new(format!("the environment variable `{name}` has `${{` in it")));
        }
        self.used.push((format!("${{env.{name}}}"), Origin::Environment, Secret::new(value.as_str())));
        Ok(Some(value))
    }

    fn secret(&mut self, name: &str, path: &[Key]) -> Result<String, Problem> {
        if let Some(Key::Name(key)) = path.last().filter(|k| SHOWN.iter().any(|s| **k == Key::from(*s))) {
            let problem = Problem::new(format!("a secret can't be part of `{key}`, which is shown"));
            return Err(problem);
        }
        match self.secrets.get(name) {
            Some(Some(value)) => Ok(value.expose().to_owned()),
            // Its own fault is told where it is declared.
            Some(None) => Ok(format!("${{secret.{name}}}")),
            None => {
                let known: Vec<_> = self.secrets.keys().map(String::as_str).collect();
                let problem = dangling("secret", name, known.clone());
                let example = format!("add `secrets: {{ {name}: {{ env: {name} }} }}`");
                Err(if known.is_empty() { problem.help(example) } else { problem })
            }
        }
    }
}
