//! The routing table: what the commands of steps stand for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::{Document, Fault};
use super::{check, parse};
use crate::diagnostic::{Diagnostic, Problem};

/// What a command stands for: a kind of stage, or `{kind, args, defaults}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The kind of stage.
    pub kind: String,
    /// The key of its configuration that a step's `args` fill.
    pub args: Option<String>,
    /// What its configuration says where the step does not.
    pub defaults: Map<String, Value>,
}

impl Route {
    /// A kind that is called by its own name.
    pub fn to(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), args: None, defaults: Map::new() }
    }

    /// A step's `args` fill this key.
    #[must_use]
    pub fn with_args(self, key: impl Into<String>) -> Self {
        Self { args: Some(key.into()), ..self }
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Kind(String),
            Full {
                kind: String,
                args: Option<String>,
                #[serde(default)]
                defaults: Map<String, Value>,
            },
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Kind(kind) => Self::to(kind),
            Form::Full { kind, args, defaults } => Self { kind, args, defaults },
        })
    }
}

impl JsonSchema for Route {
    fn schema_name() -> Cow<'static, str> {
        "Route".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "what a command stands for: a kind of stage, or `{kind, args, defaults}`",
            "type": ["string", "object"],
            "required": ["kind"],
            "properties": {
                "kind": { "type": "string", "description": "the kind of stage" },
                "args": { "type": "string", "description": "the key of its configuration that a step's `args` fill" },
                "defaults": { "type": "object", "description": "what its configuration says where the step does not" }
            },
            "additionalProperties": false
        })
    }
}

/// Commands and what they stand for. The user's own entries take the place of the known ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Routing(BTreeMap<String, Route>);

/// The kinds that commands stand for, and the key that `args` fill. Data, not knowledge: a kind that is not registered is
/// told when a step uses it.
const KNOWN: [(&str, &str, &str); 9] = [
    ("/query", "model", "prompt"),
    ("/task", "model", "prompt"),
    ("/protocol", "model", "prompt"),
    ("model", "model", "prompt"),
    ("set", "set", "value"),
    ("merge", "merge", "of"),
    ("http", "http", "url"),
    ("process", "process", "command"),
    ("sql", "lookup", "query"),
];

impl Default for Routing {
    fn default() -> Self {
        Self(
            KNOWN
                .into_iter()
                .map(|(command, kind, args)| (command.to_owned(), Route::to(kind).with_args(args)))
                .collect(),
        )
    }
}

impl Routing {
    /// The known commands, and those of a routing file in YAML: `{ /query: {kind: model, args: prompt}, /now: http }`.
    ///
    /// # Errors
    /// Every problem of the file, with its place.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let tree = parse::parse(text).map_err(|fault| vec![fault.diagnostic(file, text)])?;
        let document = Document::new(file, text.to_owned(), tree.clone(), tree);
        let schema = SchemaGenerator::default().into_root_schema_for::<BTreeMap<String, Route>>().to_value();
        let value = document.filled().value();
        let mut faults = check::check(&schema, &value);
        if faults.is_empty() {
            match serde_json::from_value::<BTreeMap<String, Route>>(value) {
                Ok(routes) => return Ok(Self::default().with(routes)),
                Err(e) => faults.push(Fault::at([], Problem::new(e.to_string()))),
            }
        }
        Err(document.diagnostics(&faults))
    }

    /// Adds routes in place of those of the same command. What is not said of a known command stays.
    #[must_use]
    pub fn with(mut self, routes: impl IntoIterator<Item = (String, Route)>) -> Self {
        for (command, mut route) in routes {
            let same = self.0.values().find(|r| r.kind == route.kind && r.args.is_some());
            route.args = route.args.or_else(|| same.and_then(|r| r.args.clone()));
            self.0.insert(command, route);
        }
        self
    }

    /// What a command stands for: an entry, with or without its `/`, or else a kind of this name.
    pub fn find(&self, command: &str, is_kind: impl Fn(&str) -> bool) -> Option<Route> {
        let bare = command.strip_prefix('/').unwrap_or(command);
        let entry = [command, bare].into_iter().find_map(|c| self.0.get(c)).cloned();
        entry.or_else(|| is_kind(bare).then(|| Route::to(bare)))
    }

    /// Every command, by name.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &Route)> + Clone {
        self.0.iter().map(|(command, route)| (command.as_str(), route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_file_adds_commands_and_takes_the_place_of_known_ones() {
        let text = "/query: { kind: http, args: url, defaults: { method: POST } }\n/ask: model\n";
        let routing = Routing::parse(text, "routing.yaml").unwrap();
        let find = |command: &str| routing.find(command, |kind| kind == "filter");
        assert_eq!(find("/query").map(|r| (r.kind, r.defaults.len())), Some(("http".into(), 1)));
        // What `args` fill is known of the kind.
        assert_eq!(find("/ask"), Some(Route::to("model").with_args("prompt")));
        assert_eq!((find("/set"), find("/task").map(|r| r.kind)), (find("set"), Some("model".into())));
        assert_eq!((find("filter"), find("/nothing")), (Some(Route::to("filter")), None));
    }

    #[test]
    fn a_bad_routing_file_is_told_with_places() {
        let told = |text: &str| {
            let problems = Routing::parse(text, "routing.yaml").err().unwrap_or_default();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(told("/query: { knd: model }\n/x: 7\n"), @r"
    routing.yaml:1:9 the key `kind` is missing
    routing.yaml:1:11 unknown key `knd` (did you mean `kind`?)
    routing.yaml:2:5 expected a text or a map, found a number
    ");
        insta::assert_snapshot!(told("a: [1"), @"routing.yaml:1:4 unclosed bracket '['");
    }
}
