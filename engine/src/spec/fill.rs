//! Filling `${env.NAME}` from the environment, in every text of a spec.

use super::document::Fault;
use super::node::{Content, Member, Node};
use crate::diagnostic::{Key, Problem};
use crate::env::Env;

/// A value that came from the environment, so that it can be kept out of messages.
#[derive(Clone)]
pub(crate) struct Secret {
    name: String,
    value: String,
}

/// Shorter values would turn up in messages by chance.
const SECRET_MIN: usize = 4;

impl Secret {
    /// `text` with the place in place of the value.
    pub(crate) fn conceal(&self, text: &str) -> String {
        if self.value.len() < SECRET_MIN {
            text.to_owned()
        } else {
            text.replace(&self.value, &format!("${{env.{}}}", self.name))
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "${{env.{}}}", self.name)
    }
}

/// What filling found.
#[derive(Default)]
pub(crate) struct Filling {
    pub secrets: Vec<Secret>,
    pub faults: Vec<Fault>,
}

impl Filling {
    /// The same tree with the places `${env.NAME}` of every text filled; all others, and `$${`, stay for templates.
    pub(crate) fn fill(&mut self, node: &Node, env: &Env, path: &mut Vec<Key>) -> Node {
        let content = match &node.content {
            Content::Text(text) => Content::Text(self.text(text, env, path)),
            Content::List(list) => {
                Content::List(list.iter().enumerate().map(|(i, n)| self.below(i.into(), n, env, path)).collect())
            }
            Content::Map(members) => Content::Map(
                members
                    .iter()
                    .map(|m| Member { node: self.below(m.name.as_str().into(), &m.node, env, path), ..m.clone() })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { span: node.span.clone(), content }
    }

    fn below(&mut self, key: Key, node: &Node, env: &Env, path: &mut Vec<Key>) -> Node {
        path.push(key);
        let filled = self.fill(node, env, path);
        path.pop();
        filled
    }

    fn text(&mut self, text: &str, env: &Env, path: &[Key]) -> String {
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
            match self.value(inner, env) {
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

    /// `None` for a place that is not of the environment.
    fn value(&mut self, inner: &str, env: &Env) -> Result<Option<String>, Problem> {
        if let Some(name) = inner.strip_prefix("secret.") {
            let problem = Problem::new(format!("`${{secret.{name}}}`: secrets come with a later version of Bourn"));
            return Err(problem.help(format!("take it from the environment: `${{env.{name}}}`")));
        }
        let Some(name) = inner.strip_prefix("env.") else { return Ok(None) };
        let Some(value) = env.variable(name) else {
            let problem = Problem::new(format!("there is no environment variable `{name}`"));
            return Err(problem.help(format!("set it: `export {name}=…`")));
        };
        // It would be read as a place of a template, and data is never a template.
        if value.contains("${") {
            return Err(Problem::new(format!("the environment variable `{name}` has `${{` in it")));
        }
        self.secrets.push(Secret { name: name.to_owned(), value: value.clone() });
        Ok(Some(value))
    }
}
