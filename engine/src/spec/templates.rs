//! Stages that are written once and used several times: each use is expanded before the spec is checked.

use std::ops::Range;

use serde_json::Value;

use super::check::unknown;
use super::document::Fault;
use super::edges::dangling;
use super::keys::{StageKeys, names_of};
use super::node::{Content, Member, Node};
use super::reader::check_id;
use crate::diagnostic::{Key, Problem};

/// Stages that all uses together may become.
const STAGES_MAX: usize = 1_000;
/// How deep templates may use each other.
const DEPTH_MAX: usize = 8;
/// The key of a stage that uses a template.
pub(super) const TEMPLATE: &str = "template";

/// A use of a template, and the stages that it became.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// Places in the list of stages.
    pub stages: Range<usize>,
    /// The name of the template.
    pub template: String,
    /// The id of the use.
    pub id: String,
    /// Where the use stands in the text.
    pub span: Range<usize>,
}

/// What expanding gave.
pub(crate) struct Expanded {
    /// The spec with its uses expanded; a use at fault stays as it is.
    pub spec: Node,
    pub uses: Vec<Use>,
    pub faults: Vec<Fault>,
}

/// Expands every stage that says `template: NAME` or `template: { NAME: { parameter: value } }`. Its stages have the ids
/// `use.stage`; who reads the use reads the last of them.
pub(crate) fn expand(spec: &Node) -> Expanded {
    let mut expansion = Expansion {
        templates: spec.get("templates"),
        own: names_of::<StageKeys>(),
        last: Vec::new(),
        faults: Vec::new(),
    };
    let (mut stages, mut uses) = (Vec::new(), Vec::new());
    for block in spec.get("stages").map(Node::elements).unwrap_or_default() {
        let start = stages.len();
        // Where the use stays if it is at fault.
        let path = vec!["stages".into(), start.into()];
        let found = block.get(TEMPLATE).and_then(|_| expansion.used(block, &path, "", &mut Vec::new()));
        let Some((id, template, more)) = found else {
            stages.push(block.clone());
            continue;
        };
        if stages.len() + more.len() > STAGES_MAX {
            let problem = Problem::new(format!("templates make more than {STAGES_MAX} stages of this spec"));
            expansion.faults.push(Fault::at(path, problem));
            break;
        }
        stages.extend(more);
        uses.push(Use { stages: start..stages.len(), template, id, span: block.span.clone() });
    }
    if uses.is_empty() {
        return Expanded { spec: spec.clone(), uses, faults: expansion.faults };
    }
    let mut spec = spec.clone();
    let ids: Vec<String> = stages.iter().filter_map(id_of).map(str::to_owned).collect();
    let named = |name: &str| last_of(name, &ids, &expansion.last);
    if let Content::Map(members) = &mut spec.content {
        for member in members {
            match member.name.as_str() {
                "stages" => {
                    for stage in &mut stages {
                        rename_inputs(stage, &named);
                    }
                    member.node.content = Content::List(std::mem::take(&mut stages));
                }
                "sink" => rename_inputs(&mut member.node, &named),
                "sinks" => {
                    let Content::Map(sinks) = &mut member.node.content else { continue };
                    for sink in sinks {
                        rename_inputs(&mut sink.node, &named);
                    }
                }
                _ => {}
            }
        }
    }
    Expanded { spec, uses, faults: expansion.faults }
}

/// `a` and `a.port` read the last stage of the use `a`; a stage within it is read by its own id.
fn last_of(name: &str, ids: &[String], last: &[(String, String)]) -> Option<String> {
    let within = |id: &String| name == id || name.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('.'));
    if ids.iter().any(within) {
        return None;
    }
    let used = |(of, inner): &(String, String)| {
        let rest = name.strip_prefix(of.as_str())?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{inner}{rest}"))
    };
    last.iter().find_map(used)
}

/// Gives the names under `from` those that `named` knows.
fn rename_inputs(block: &mut Node, named: &impl Fn(&str) -> Option<String>) {
    let Content::Map(members) = &mut block.content else { return };
    let Some(from) = members.iter_mut().find(|m| m.name == "from") else { return };
    let rename = |node: &mut Node| {
        if let Content::Text(text) = &mut node.content
            && let Some(new) = named(text)
        {
            *text = new;
        }
    };
    match &mut from.node.content {
        Content::List(list) => list.iter_mut().for_each(rename),
        _ => rename(&mut from.node),
    }
}

fn id_of(block: &Node) -> Option<&str> {
    block.get("id").and_then(Node::text)
}

struct Expansion<'a> {
    templates: Option<&'a Node>,
    own: Vec<String>,
    /// The uses with the id of the last stage of each.
    last: Vec<(String, String)>,
    faults: Vec<Fault>,
}

/// A template and what a use gives it.
struct Call<'a> {
    name: &'a str,
    body: &'a Node,
    arguments: Vec<(&'a str, &'a Node)>,
}

impl<'a> Expansion<'a> {
    /// The id of a use, the name of its template, and its stages; `None` when it is at fault.
    fn used(
        &mut self,
        block: &'a Node,
        path: &[Key],
        prefix: &str,
        within: &mut Vec<String>,
    ) -> Option<(String, String, Vec<Node>)> {
        let before = self.faults.len();
        let call = self.call(block, path)?;
        let written = id_of(block).unwrap_or(call.name);
        if let Some(problem) = check_id(written) {
            self.faults.push(Fault::at([path, &["id".into()]].concat(), problem));
        }
        if within.iter().any(|name| name == call.name) || within.len() >= DEPTH_MAX {
            let way: Vec<_> = within.iter().map(String::as_str).chain([call.name]).collect();
            let problem = Problem::new(format!("templates use each other too deeply: {}", way.join(" -> ")));
            self.faults.push(Fault::at(path.to_vec(), problem));
            return None;
        }
        let id = format!("{prefix}{written}");
        within.push(call.name.to_owned());
        let mut stages = Vec::new();
        for inner in call.body.get("stages").map(Node::elements).unwrap_or_default() {
            let mut inner = self.filled(inner, &call, path);
            self.name(&mut inner, &id, call.body);
            // A path into the use: where exactly in the template a fault is, its own span says.
            if inner.get(TEMPLATE).is_some() {
                let nested = self.nested(&inner, path, &id, within);
                stages.extend(nested);
            } else {
                stages.push(inner);
            }
        }
        within.pop();
        if stages.is_empty() && self.faults.len() == before {
            let problem = Problem::new(format!("the template `{}` has no stages", call.name));
            self.faults.push(Fault::at([path, &[TEMPLATE.into()]].concat(), problem));
        }
        self.hand_down(block, path, &mut stages);
        self.last.extend(stages.last().and_then(id_of).map(|inner| (id.clone(), inner.to_owned())));
        let template = call.name.to_owned();
        (self.faults.len() == before).then_some((id, template, stages))
    }

    /// A use within a template. It is filled already, so it lives as long as this call, and what it becomes is copied.
    fn nested(&mut self, block: &Node, path: &[Key], id: &str, within: &mut Vec<String>) -> Vec<Node> {
        let own = id_of(block).unwrap_or_default();
        let local = own.strip_prefix(&format!("{id}.")).unwrap_or(own).to_owned();
        let mut block = block.clone();
        set(&mut block, "id", Content::Text(local));
        let mut inner =
            Expansion { templates: self.templates, own: self.own.clone(), last: Vec::new(), faults: Vec::new() };
        let stages = inner.used(&block, path, &format!("{id}."), within).map(|(.., stages)| stages);
        self.faults.append(&mut inner.faults);
        self.last.append(&mut inner.last);
        stages.unwrap_or_default()
    }

    /// Which template is used, and with what.
    fn call(&mut self, block: &'a Node, path: &[Key]) -> Option<Call<'a>> {
        let here = [path, &[TEMPLATE.into()]].concat();
        let node = block.get(TEMPLATE)?;
        let (name, given): (&str, &[Member]) = match &node.content {
            Content::Text(name) => (name, &[]),
            Content::Map(members) if members.len() == 1 => (&members[0].name, members[0].node.members()),
            _ => {
                let problem = Problem::new("expected the name of a template, or a map of one name to its parameters");
                self.faults.push(Fault::at(here, problem.help("for example `template: { clean: { min: 3 } }`")));
                return None;
            }
        };
        let known = self.templates.map(Node::members).unwrap_or_default();
        let Some(template) = known.iter().find(|m| m.name == name) else {
            let problem = dangling("template", name, known.iter().map(|m| m.name.as_str()).collect::<Vec<_>>());
            self.faults.push(Fault::at(here, problem));
            return None;
        };
        let parameters = template.node.get("parameters").map(Node::members).unwrap_or_default();
        let before = self.faults.len();
        for argument in given.iter().filter(|g| !parameters.iter().any(|p| p.name == g.name)) {
            let problem = unknown("parameter", &argument.name, parameters.iter().map(|p| p.name.as_str()));
            let at = [here.as_slice(), &[name.into(), argument.name.as_str().into()]].concat();
            self.faults.push(Fault::at_key(at, problem));
        }
        let mut arguments = Vec::new();
        for parameter in parameters {
            let said = given.iter().find(|g| g.name == parameter.name).map(|g| &g.node);
            if let Some(value) = said.or_else(|| parameter.node.get("default")) {
                arguments.push((parameter.name.as_str(), value));
            } else {
                let problem = Problem::new(format!("the template `{name}` needs `{}`", parameter.name));
                let example = format!("`template: {{ {name}: {{ {}: … }} }}`", parameter.name);
                self.faults.push(Fault::at(here.clone(), problem.help(example)));
            }
        }
        (self.faults.len() == before).then_some(Call { name, body: &template.node, arguments })
    }

    /// What the use itself says of the stream: where it comes from for the first stage, the rest for all that say nothing.
    fn hand_down(&mut self, block: &Node, path: &[Key], stages: &mut [Node]) {
        for member in block.members().iter().filter(|m| m.name != "id" && m.name != TEMPLATE) {
            if !self.own.contains(&member.name) {
                let at = [path, &[member.name.as_str().into()]].concat();
                let problem = unknown("key", &member.name, self.own.iter().map(String::as_str));
                self.faults.push(Fault::at_key(at, problem));
                continue;
            }
            let first = matches!(member.name.as_str(), "from" | "on_full");
            let silent = stages.iter_mut().filter(|s| s.get(&member.name).is_none());
            for stage in silent.take(if first { 1 } else { usize::MAX }) {
                if let Content::Map(members) = &mut stage.content {
                    members.push(member.clone());
                }
            }
        }
    }

    /// Gives a stage of a template its id, `use.stage`, and its inputs theirs.
    fn name(&self, stage: &mut Node, id: &str, template: &Node) {
        let inner = |block: &Node| {
            let kind = || block.members().iter().find(|m| !self.own.contains(&m.name)).map(|m| m.name.as_str());
            let template = block.get(TEMPLATE).and_then(|t| t.text().or_else(|| Some(&t.members().first()?.name)));
            id_of(block).or(template).or_else(kind).map(str::to_owned)
        };
        let ids: Vec<String> =
            template.get("stages").map(Node::elements).unwrap_or_default().iter().filter_map(inner).collect();
        let Some(own) = inner(stage) else { return };
        set(stage, "id", Content::Text(format!("{id}.{own}")));
        rename_inputs(stage, &|name| {
            let first = name.split('.').next().unwrap_or(name);
            ids.iter().any(|id| id == first).then(|| format!("{id}.{name}"))
        });
    }

    /// The stage with the places `${param.NAME}` filled in.
    fn filled(&mut self, node: &Node, call: &Call<'_>, path: &[Key]) -> Node {
        let content = match &node.content {
            Content::Text(text) => return self.text(node, text, call, path),
            Content::List(list) => Content::List(list.iter().map(|n| self.filled(n, call, path)).collect()),
            Content::Map(members) => Content::Map(
                members.iter().map(|m| Member { node: self.filled(&m.node, call, path), ..m.clone() }).collect(),
            ),
            other => other.clone(),
        };
        Node { span: node.span.clone(), content }
    }

    fn text(&mut self, node: &Node, text: &str, call: &Call<'_>, path: &[Key]) -> Node {
        let mut filled = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("${param.") {
            let start = at + found;
            let end = text[start..].find('}').map(|e| start + e);
            let Some(end) = end.filter(|_| !text[..start].ends_with('$')) else {
                filled.push_str(&text[at..start + 2]);
                at = start + 2;
                continue;
            };
            let name = text[start + "${param.".len()..end].trim();
            let value = call.arguments.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            match value {
                // A value alone keeps its type, and its own place in the text.
                Some(value) if (start, end + 1) == (0, text.len()) => return value.clone(),
                Some(value) => {
                    filled.push_str(&text[at..start]);
                    match value.value() {
                        Value::String(text) => filled.push_str(&text),
                        Value::Array(_) | Value::Object(_) | Value::Null => {
                            let problem =
                                Problem::new(format!("`{name}` is {} and can't be part of a text", value.kind()));
                            self.faults.push(Fault::at(path.to_vec(), problem));
                        }
                        plain => filled.push_str(&plain.to_string()),
                    }
                }
                None => {
                    let known = call.arguments.iter().map(|(name, _)| *name).collect::<Vec<_>>();
                    let problem = dangling(&format!("parameter of the template `{}`:", call.name), name, known);
                    self.faults.push(Fault::at(path.to_vec(), problem));
                }
            }
            at = end + 1;
        }
        filled.push_str(&text[at..]);
        Node { span: node.span.clone(), content: Content::Text(filled) }
    }
}

/// Sets a member, in place of one that is there; it stands where the block begins.
fn set(block: &mut Node, name: &str, content: Content) {
    let start = block.span.start..block.span.start;
    let Content::Map(members) = &mut block.content else { return };
    if let Some(member) = members.iter_mut().find(|m| m.name == name) {
        member.node.content = content;
    } else {
        let node = Node { span: block.span.clone(), content };
        members.insert(0, Member { name: name.to_owned(), key: start, node });
    }
}
