//! Reading blocks of a spec: their keys, the key that names their kind, and its configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::{check, unknown};
use super::document::{Document, Fault};
use super::keys::{names_of, schema_of};
use super::nested::Around;
use super::node::{Member, Node};
use super::shown::Shown;
use crate::api::Registry;
use crate::api::registry::{BoxConnector, BoxStageConfig, Entry};
use crate::data::secret::Secrets;
use crate::diagnostic::{Diagnostic, Key, Problem, did_you_mean, nearest};

/// What reads a spec and collects its faults.
pub(crate) struct Reader<'a> {
    pub document: &'a Document,
    pub registry: &'a Registry,
    /// What files are included with.
    pub around: &'a Around<'a>,
    pub faults: Vec<Fault>,
    /// What is wrong with files that the spec includes.
    pub told: Vec<Diagnostic>,
    /// The texts of those files, by path.
    pub included: BTreeMap<String, String>,
    /// What those files hide.
    pub hidden: Vec<Secrets>,
}

/// What a kind makes of its configuration.
pub(crate) trait Configured: Sized {
    /// The same, described as it was written.
    fn shown_as(self, written: Value) -> Self;
}

impl Configured for BoxConnector {
    fn shown_as(self, written: Value) -> Self {
        Self(Arc::new(Shown { inner: self.0, written }))
    }
}

impl Configured for BoxStageConfig {
    fn shown_as(self, written: Value) -> Self {
        Self(Arc::new(Shown { inner: self.0, written }))
    }
}

/// What is said of a key that the design has and this version has not.
pub(crate) fn later(key: &str) -> Problem {
    Problem::new(format!("`{key}` comes with a later version of Bourn")).help("remove it for now")
}

impl<'a> Reader<'a> {
    /// A reader that has found nothing yet.
    pub(crate) fn of(document: &'a Document, registry: &'a Registry, around: &'a Around<'a>) -> Self {
        Self {
            document,
            registry,
            around,
            faults: Vec::new(),
            told: Vec::new(),
            included: BTreeMap::new(),
            hidden: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// A fault of the value at a path.
    pub(crate) fn fault(&mut self, path: &[Key], problem: Problem) {
        self.faults.push(Fault::at(path.iter().cloned(), problem));
    }

    /// A fault of the last key of a path.
    pub(crate) fn fault_at_key(&mut self, path: &[Key], problem: Problem) {
        self.faults.push(Fault::at_key(path.iter().cloned(), problem));
    }

    /// Checks `value` against the schema of `T` and reads it. Keys in `later` are told apart from unknown ones.
    pub(crate) fn keys<T: JsonSchema + DeserializeOwned>(
        &mut self,
        value: Value,
        path: &[Key],
        later_keys: &[&str],
    ) -> Option<T> {
        let is_later = |fault: &Fault| {
            let names = fault.problem.path.iter().map(|key| if let Key::Name(name) = key { name } else { "" });
            let name = names.collect::<Vec<_>>().join(".");
            (fault.on_key && later_keys.contains(&name.as_str())).then_some(name)
        };
        let faults = check(&schema_of::<T>(), &value);
        let good = faults.is_empty();
        for mut fault in faults {
            if let Some(name) = is_later(&fault) {
                fault.problem = Problem { path: fault.problem.path, ..later(&name) };
            }
            fault.problem.path.splice(0..0, path.iter().cloned());
            self.faults.push(fault);
        }
        if !good {
            return None;
        }
        match serde_json::from_value(value.clone()) {
            Ok(keys) => Some(keys),
            Err(e) => {
                self.unreadable(&value, path.to_vec(), &e.to_string());
                None
            }
        }
    }

    /// A value that fits its schema and can't be read all the same. The message quotes what is at fault, so it is found.
    fn unreadable(&mut self, value: &Value, path: Vec<Key>, message: &str) {
        let mut place = Vec::new();
        find_quoted(value, message, &mut Vec::new(), &mut place);
        let mut all = path;
        all.extend(if place.len() == 1 { place.remove(0) } else { Vec::new() });
        self.fault(&all, Problem::new(message.to_owned()));
    }

    /// The member of a block that names its kind. Own keys and keys that come later are none; the rest is told.
    pub(crate) fn kind<'n, T>(
        &mut self,
        block: &'n Node,
        path: &[Key],
        what: &Block<'_>,
        entries: &BTreeMap<&'static str, Entry<T>>,
    ) -> Option<&'n Member> {
        if !block.is_map() {
            let problem = Problem::new(format!("expected a map, found {}", block.kind()));
            let word = block.text().filter(|word| what.name != "stage" && entries.contains_key(word));
            self.fault(
                path,
                match word {
                    Some(word) => {
                        problem.help(format!("`{word}: {{}}`, with what `bourn list {word}` shows between the braces"))
                    }
                    None => problem.help(format!("for example `{}`", what.example)),
                },
            );
            return None;
        }
        let own = |m: &&Member| what.own.contains(&m.name);
        let others: Vec<_> = block.members().iter().filter(|m| !own(m)).collect();
        let (kinds, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|m| entries.contains_key(m.name.as_str()));
        let (laters, strangers): (Vec<_>, Vec<_>) = rest.into_iter().partition(|m| what.is_later(&m.name));
        let below = |m: &Member| [path, &[m.name.as_str().into()]].concat();
        // What stands beside a kind that comes later is part of it.
        if let Some(kind) = laters.iter().find(|m| what.later_kinds.contains(&m.name.as_str())) {
            self.fault_at_key(&below(kind), later(&kind.name));
            return None;
        }
        for member in laters {
            self.fault_at_key(&below(member), later(&member.name));
        }
        let own_names = what.own.iter().map(String::as_str);
        for stranger in &strangers {
            let near_own = nearest(&stranger.name, own_names.clone()).is_some();
            let feature = self.registry.feature_of(&stranger.name).filter(|_| what.name != "stage" && kinds.is_empty());
            let problem = if let Some(feature) = feature {
                Problem::new(format!("`{}` is not in this build", stranger.name))
                    .help(format!("build with `--features {feature}`"))
            } else if !kinds.is_empty() || (near_own && strangers.len() > 1) {
                unknown("key", &stranger.name, own_names.clone())
            } else {
                let kinds = entries.keys().copied().filter(|k| !what.hidden.contains(k));
                let problem = Problem::new(format!("unknown kind of {} `{}`", what.name, stranger.name));
                match did_you_mean(&stranger.name, kinds.clone().chain(own_names.clone())) {
                    Some(help) => problem.help(help),
                    None => problem.help(format!("there are {}", kinds.collect::<Vec<_>>().join(", "))),
                }
            };
            self.fault_at_key(&below(stranger), problem);
        }
        match kinds.as_slice() {
            [one] => Some(*one),
            [] => {
                if strangers.is_empty() {
                    let problem = Problem::new(format!("this {} says no kind", what.name));
                    self.fault(path, problem.help(format!("for example `{}`", what.example)));
                }
                None
            }
            [first, second, ..] => {
                let problem =
                    Problem::new(format!("one {} is one kind: `{}` or `{}`", what.name, first.name, second.name));
                self.fault_at_key(&below(second), problem.help(format!("write two {}s", what.name)));
                None
            }
        }
    }

    /// Reads the configuration of a kind that stands at a path.
    pub(crate) fn configure<T: Configured>(&mut self, entry: &Entry<T>, path: &[Key]) -> Option<T> {
        let (filled, written) = (self.document.filled().at(path)?.value(), self.document.written().at(path)?.value());
        self.configured(entry, filled, &written, |place| [path, place].concat())
    }

    /// Reads a configuration of which `locate` knows where its parts stand.
    pub(crate) fn configured<T: Configured>(
        &mut self,
        entry: &Entry<T>,
        filled: Value,
        written: &Value,
        locate: impl Fn(&[Key]) -> Vec<Key>,
    ) -> Option<T> {
        let faults = check(entry.schema.as_value(), &filled);
        let good = faults.is_empty();
        self.faults.extend(faults.into_iter().map(|mut fault| {
            fault.problem.path = locate(&fault.problem.path);
            fault
        }));
        if !good {
            return None;
        }
        let hidden = (filled != *written).then(|| written.clone());
        match entry.read(filled.clone()) {
            Ok(config) => Some(match hidden {
                Some(written) => config.shown_as(written),
                None => config,
            }),
            Err(e) => {
                let before = self.faults.len();
                self.unreadable(&filled, Vec::new(), e.message());
                for fault in &mut self.faults[before..] {
                    fault.problem.path = locate(&fault.problem.path);
                }
                None
            }
        }
    }
}

/// What a block of some sort may say.
pub(crate) struct Block<'a> {
    /// `stage`
    pub name: &'a str,
    /// Its keys beside the kind.
    pub own: Vec<String>,
    /// Keys that come with a later version.
    pub later: &'a [&'a str],
    /// Kinds that come with a later version.
    pub later_kinds: &'a [&'a str],
    /// Kinds that are not offered.
    pub hidden: &'a [&'a str],
    /// A good one.
    pub example: &'a str,
}

impl<'a> Block<'a> {
    pub(crate) fn of<T: JsonSchema>(name: &'a str, example: &'a str) -> Self {
        Self { name, own: names_of::<T>(), later: &[], later_kinds: &[], hidden: &[], example }
    }

    fn is_later(&self, key: &str) -> bool {
        self.later.contains(&key) || self.later_kinds.contains(&key)
    }
}

/// The ways to every plain value that a message quotes.
fn find_quoted(value: &Value, message: &str, path: &mut Vec<Key>, found: &mut Vec<Vec<Key>>) {
    let quoted = match value {
        Value::String(s) => message.contains(&format!("`{s}`")) || message.contains(&format!("{s:?}")),
        Value::Number(n) => message.contains(&format!("`{n}`")),
        _ => false,
    };
    if quoted {
        found.push(path.clone());
    }
    let children: Vec<(Key, &Value)> = match value {
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.as_str().into(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        path.push(key);
        find_quoted(child, message, path, found);
        path.pop();
    }
}

/// The members of a block that are its own keys, as a value.
pub(crate) fn own_part(block: &Node, own: &[String]) -> Value {
    Value::Object(block.part(|name| own.iter().any(|k| k == name)))
}

/// Whether an id can stand in a path, in `stage.port`, and in the name of a file; those of the engine begin otherwise.
pub(crate) fn check_id(id: &str) -> Option<Problem> {
    let good = id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && id.len() <= 64
        && !id.starts_with(crate::data::columns::RESERVED_PREFIX);
    let help = "an id is at most 64 letters, digits, `_` and `-`, begins with a letter, and not with `_bourn_`";
    (!good).then(|| Problem::new(format!("`{id}` can't be an id")).help(help))
}
