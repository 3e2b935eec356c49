//! What a step does: its command, routed to a kind of stage, and the configuration of that.

use serde_json::{Map, Value};

use super::check::unknown;
use super::model::Places;
use super::node::Node;
use super::reader::{Reader, later};
use super::references::Names;
use super::routing::Route;
use super::steps::Common;
use crate::api::registry::BoxStageConfig;
use crate::diagnostic::{Key, Problem, did_you_mean, nearest};

/// Keys of a step that the design has and this version has not.
const LATER_IN_STEP: [&str; 1] = ["finally"];

/// What a step does, as the spec says it.
#[derive(Clone)]
pub(super) struct Command {
    pub(super) name: String,
    route: Route,
    /// The key of the block that is the command: `command`, `uses`, or the kind itself.
    key: String,
}

/// A block that says what a command is given, and the way to it from the step.
#[derive(Clone)]
pub(super) struct Said<'a> {
    pub(super) block: &'a Node,
    pub(super) way: Vec<Key>,
}

/// What a step's configuration says.
pub(super) struct Configured {
    pub(super) stage: BoxStageConfig,
    pub(super) rate_limit: Option<String>,
    pub(super) places: Places,
}

impl Common<'_> {
    /// What a block does: a `command`, `uses`, or a kind as a key. It must say it, unless it may stand for what another one does.
    pub(super) fn command(
        &self,
        reader: &mut Reader<'_>,
        block: &Node,
        path: &[Key],
        own: &[String],
        may_say_none: bool,
    ) -> Option<Command> {
        let stages = reader.registry.stages();
        let find = |name: &str| self.routing.find(name, |kind| stages.contains_key(kind));
        let mut said = Vec::new();
        for member in block.members() {
            let here = [path, &[member.name.as_str().into()]].concat();
            let by_name = ["command", "uses"].contains(&member.name.as_str());
            if by_name {
                said.extend(member.node.text().map(|name| (name.to_owned(), here)));
            } else if own.contains(&member.name) {
            } else if LATER_IN_STEP.contains(&member.name.as_str()) {
                reader.fault_at_key(&here, later(&member.name));
            } else if find(&member.name).is_some() {
                said.push((member.name.clone(), here));
            } else {
                let known = own.iter().map(String::as_str);
                reader.fault_at_key(&here, unknown("key", &member.name, known));
            }
        }
        match said.as_slice() {
            [] if may_say_none => None,
            [] => {
                let problem = Problem::new("this step has no `command`");
                reader.fault(path, problem.help(format!("there are {}", self.known(reader))));
                None
            }
            [(name, here)] => self.route(reader, name, here, find(name)),
            [(first, _), (_, here), ..] => {
                let problem = Problem::new(format!("a step does one thing, and `{first}` is said already"));
                reader.fault(here, problem.help("write two steps"));
                None
            }
        }
    }

    fn route(&self, reader: &mut Reader<'_>, name: &str, here: &[Key], route: Option<Route>) -> Option<Command> {
        let key = match here.last() {
            Some(Key::Name(key)) => key.clone(),
            _ => String::new(),
        };
        let Some(route) = route else {
            let problem = Problem::new(format!("unknown command `{name}`"));
            let commands = self.routing.commands().map(|(command, _)| command);
            let help = nearest(name, commands.clone()).map_or_else(
                || format!("there are {}; `routing:` adds others", self.known(reader)),
                |near| format!("did you mean `{near}`?"),
            );
            reader.fault(here, problem.help(help));
            return None;
        };
        if !reader.registry.stages().contains_key(route.kind.as_str()) {
            let problem = Problem::new(format!("`{name}` stands for the kind `{}`, and there is none", route.kind));
            let kinds = reader.registry.stages().keys().copied();
            let problem = match did_you_mean(&route.kind, kinds) {
                Some(help) => problem.help(help),
                None => problem.help("see `bourn list`, and `routing:` for what commands stand for"),
            };
            reader.fault(here, problem);
            return None;
        }
        Some(Command { name: name.to_owned(), route, key })
    }

    fn known(&self, reader: &Reader<'_>) -> String {
        let stages = reader.registry.stages();
        let usable = self.routing.commands().filter(|(_, route)| stages.contains_key(route.kind.as_str()));
        let names: Vec<_> = usable.map(|(command, _)| format!("`{command}`")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// Where the parts of a step's configuration come from.
struct Assembly {
    filled: Map<String, Value>,
    written: Map<String, Value>,
    /// The whole configuration, when it is no map.
    whole: Option<(Value, Value)>,
    places: Places,
}

impl Common<'_> {
    /// The configuration of the stage that does the step: the defaults of the route, `with`, and `args`. What a later block says
    /// stands over what an earlier one said.
    pub(super) fn config(
        &self,
        reader: &mut Reader<'_>,
        command: &Command,
        blocks: &[Said<'_>],
        path: &[Key],
        names: &Names<'_>,
        needs: &mut Vec<usize>,
    ) -> Option<Configured> {
        let registry = reader.registry;
        let entry = registry.stages().get(command.route.kind.as_str())?;
        let schema = entry.schema.as_value();
        let defaults = self.defaults_for(&command.route, schema);
        let mut assembly =
            Assembly { filled: defaults.clone(), written: defaults, whole: None, places: Places::default() };
        let document = reader.document;
        // A kind as a key has its configuration below it, or what `args` would say.
        let by_kind = !["command", "uses"].contains(&command.key.as_str());
        for Said { block, way } in blocks {
            let own = by_kind.then(|| (command.key.as_str(), block.get(&command.key).is_some_and(Node::is_map)));
            let begin = assembly.places.known.len();
            for (key, as_map) in own.into_iter().chain([("with", true), ("args", false)]) {
                let Some(node) = block.get(key) else { continue };
                let way = [way, [key.into()].as_slice()].concat();
                let below = [path, &way].concat();
                limits(reader, node, &below);
                let filled = names.value(reader, node, &below, needs);
                // What a spec does not say itself is written nowhere.
                let written = document.written().at(&below).unwrap_or(node).value();
                if as_map {
                    assembly.merge(&way, filled, written);
                } else if let Err(problem) = assembly.args(&way, begin, (filled, written), &command.route, schema) {
                    reader.fault_at_key(&below, problem);
                }
            }
        }
        let (mut filled, written) =
            assembly.whole.unwrap_or((Value::Object(assembly.filled), Value::Object(assembly.written)));
        let places = assembly.places;
        let last = blocks.last().map(|said| said.way.clone()).unwrap_or_default();
        let locate = |place: &[Key]| {
            let mut below = path.to_vec();
            let found = places.locate(place);
            if found.as_slice() == ["command".into()] {
                below.extend(last.clone());
            }
            below.extend(found);
            // A kind as a key has no `command` to point at.
            if by_kind && below.last() == Some(&"command".into()) {
                below.pop();
                below.push(command.key.as_str().into());
            }
            below
        };
        let has_limits = schema["properties"].get("limits").is_some();
        let shared = has_limits.then(|| self.shared.resolve(reader, &locate(&["limits".into()]), &mut filled));
        let stage = reader.configured(entry, filled, &written, locate)?;
        Some(Configured { stage, rate_limit: shared.flatten(), places })
    }

    fn defaults_for(&self, route: &Route, schema: &Value) -> Map<String, Value> {
        let mut defaults = route.defaults.clone();
        let model = self.defaults.model.clone().filter(|_| schema["properties"]["model"].is_object());
        if let Some(model) = model {
            defaults.entry("model").or_insert_with(|| model.into());
        }
        if self.adaptive && schema["properties"]["effort"].is_object() {
            defaults.entry("effort").or_insert_with(|| "auto".into());
        }
        defaults
    }
}

impl Assembly {
    fn merge(&mut self, way: &[Key], filled: Value, written: Value) {
        if let (Value::Object(filled), Value::Object(written)) = (filled, written) {
            let place = |name: &String| (name.clone(), [way, &[name.as_str().into()]].concat());
            self.places.known.extend(filled.keys().map(place));
            self.filled.extend(filled);
            self.written.extend(written);
        }
    }

    /// Puts `args` where the route says, or the only key that the kind needs, or in place of the whole. `begin` is where the places
    /// of its block begin.
    fn args(
        &mut self,
        way: &[Key],
        begin: usize,
        (filled, written): (Value, Value),
        route: &Route,
        schema: &Value,
    ) -> Result<(), Problem> {
        if !schema["properties"].is_object() {
            self.places.known.push((String::new(), way.to_vec()));
            self.whole = Some((filled, written));
            return Ok(());
        }
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let only = if let [only] = required { only.as_str().map(str::to_owned) } else { None };
        let Some(name) = route.args.clone().or(only) else {
            let problem = Problem::new(format!("`{}` takes no `args`", route.kind));
            return Err(problem.help("say `with: {…}`"));
        };
        if self.places.known[begin..].iter().any(|(known, _)| *known == name) {
            let key = if let Some(Key::Name(key)) = way.last() { key } else { "args" };
            return Err(Problem::new(format!("`{key}` is the `{name}` that `with` says already")));
        }
        self.places.known.push((name.clone(), way.to_vec()));
        self.filled.insert(name.clone(), filled);
        self.written.insert(name, written);
        Ok(())
    }
}

/// What bounds a step is said by the step: a second place for it would be overruled without a word. Only a rate has none.
fn limits(reader: &mut Reader<'_>, config: &Node, path: &[Key]) {
    for member in config.get("limits").map(Node::members).unwrap_or_default() {
        let instead = match member.name.as_str() {
            "timeout" => "say `timeout` beside `command`",
            "retry" => "say `retry` beside `command`",
            "in_flight" => "say `optimization: { max_concurrency: … }`",
            "rows" | "order" => "a step works one run at a time, and its runs in any order",
            _ => continue,
        };
        let place = [path, &["limits".into(), member.name.as_str().into()]].concat();
        let problem = Problem::new(format!("`limits.{}` has no effect in a step", member.name));
        reader.fault_at_key(&place, problem.help(instead));
    }
}
