//! A workflow within a spec: what stands under `workflow` of a step or a stage, in the same text or in a file of its own; and files
//! that a spec includes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::check::unknown;
use super::document::Fault;
use super::load::{Loaded, Request};
use super::model::{Chain, Nested, Places, Spec, Work};
use super::node::{Content, Node};
use super::parse;
use super::reader::Reader;
use super::references::Names;
use super::secrets::{Printed, SecretSource, declared};
use super::steps::Common;
use super::tried::TIMEOUT;
use crate::api::Deadlines;
use crate::api::limits::Retries;
use crate::api::registry::BoxStageConfig;
use crate::data::columns::INPUT;
use crate::diagnostic::{Diagnostic, Key, Problem};
use crate::env::Env;

/// Bytes of a spec that is included, at most.
const BYTES_MAX: u64 = 4 << 20;
/// Rounds of a workflow, at most: each is a part of the graph of its own.
const ROUNDS_MAX: u32 = 32;
/// Keys that hold for the whole, and are said there.
const OF_THE_WHOLE: [&str; 8] =
    ["budget", "durability", "monitoring", "rate_limits", "schedule", "secrets", "targets", "tests"];

/// What a spec is read with that includes others.
pub(crate) struct Around<'a> {
    pub request: &'a Request,
    pub env: &'a Env,
    /// The files that this one is included by, outermost first.
    pub within: Vec<PathBuf>,
}

impl Common<'_> {
    /// A workflow as what a step does; `way` leads to its block from the step.
    pub(super) fn nested(
        &self,
        reader: &mut Reader<'_>,
        block: &Node,
        (path, way): (&[Key], &[Key]),
        names: &Names<'_>,
        repeat: Option<(u32, bool)>,
        needs: &mut Vec<usize>,
    ) -> Option<Work> {
        let below = |key: &str| [path, way, &[key.into()]].concat();
        for key in ["retry", "args", "with"].into_iter().filter(|key| block.get(key).is_some()) {
            let problem = Problem::new(format!("a workflow has no `{key}`"));
            reader
                .fault_at_key(&below(key), problem.help("say it of the steps in it; what it is given is its `input`"));
        }
        match repeat {
            Some((rounds, _)) if rounds > ROUNDS_MAX => {
                let problem = Problem::new(format!("a workflow is done in {ROUNDS_MAX} rounds at most"));
                let help = "each round is a part of the graph of its own; a step that is no workflow may have more";
                reader.fault(&below("repeat"), problem.help(help));
            }
            Some((_, true)) => {
                let problem = Problem::new("between the rounds of a workflow there is no `every`");
                reader.fault(&below("repeat"), problem.help("a `wait` step in it waits"));
            }
            _ => {}
        }
        let timeout = block.get("timeout").and_then(|said| match serde_json::from_value(said.value()) {
            Ok(time) => Some(time),
            // What is no limit at all is told with the other keys of the step.
            Err(_) if !said.is_map() => None,
            Err(_) => {
                let problem = Problem::new("a workflow has one `timeout`: how long all of it may take");
                reader.fault(&below("timeout"), problem.help("`timeout: 10m`; its steps have limits of their own"));
                None
            }
        });
        let place = [way, &["workflow".into()]].concat();
        let mut inner = read(reader, (path, &place), &["spec", "input"], Some(self), |reader, input| match input {
            Some((node, at)) => names.value(reader, node, at, needs),
            None => same(names.item),
        })?;
        let own = &mut inner.nested.chain.timeout;
        *own = [*own, timeout].into_iter().flatten().min();
        Some(Work {
            command: "workflow".into(),
            config: inner.input,
            timeout: TIMEOUT,
            deadlines: Deadlines::default(),
            retry: Retries::default(),
            rate_limit: None,
            places: inner.places,
            workflow: Some(Box::new(inner.nested)),
        })
    }
}

/// What stands under `workflow`.
pub(super) struct Inner {
    pub nested: Nested,
    /// What makes its input.
    pub input: BoxStageConfig,
    /// Where the parts of that stand.
    pub places: Places,
    /// What else stands there.
    pub block: Node,
}

/// Reads what stands under `workflow` at `path`, which `way` leads to from the step. `given` makes the input of its key, of which it
/// gets the place, or of none.
pub(super) fn read(
    reader: &mut Reader<'_>,
    (path, way): (&[Key], &[Key]),
    keys: &[&str],
    outer: Option<&Common<'_>>,
    given: impl FnOnce(&mut Reader<'_>, Option<(&Node, &[Key])>) -> Value,
) -> Option<Inner> {
    let here = [path, way].concat();
    let block = reader.document.filled().at(&here)?.clone();
    let below = |key: &str| [here.as_slice(), &[key.into()]].concat();
    let (spec, at) = match &block.content {
        Content::Text(_) => (&block, here.clone()),
        Content::Map(members) => {
            for member in members.iter().filter(|m| !keys.contains(&m.name.as_str())) {
                let problem = unknown("key", &member.name, keys.iter().copied());
                let help = "`workflow: { spec: { steps: [ … ] } }` is a workflow in the same file, `workflow: FILE` in another one";
                reader.fault_at_key(&below(&member.name), problem.help(help));
            }
            let Some(spec) = block.get("spec") else {
                reader.fault(&here, Problem::new("the key `spec` is missing").help("the path of a file, or a spec"));
                return None;
            };
            (spec, below("spec"))
        }
        _ => {
            let problem = Problem::new(format!("expected the path of a spec or a map, found {}", block.kind()));
            reader.fault(&here, problem);
            return None;
        }
    };
    let input = block.get("input").filter(|_| block.is_map());
    let place = below("input");
    let value = given(reader, input.map(|node| (node, place.as_slice())));
    let written = reader.document.written().at(&place).map_or_else(|| value.clone(), Node::value);
    let nested = match &spec.content {
        Content::Text(file) => included(reader, file, &at),
        Content::Map(_) => inline(reader, &at, outer),
        _ => {
            reader.fault(&at, Problem::new(format!("expected the path of a spec or a map, found {}", spec.kind())));
            None
        }
    };
    if nested.as_ref().is_some_and(|nested| nested.chain.format.file().is_some()) {
        let problem = Problem::new("a workflow within something else gives its output, and writes no file of it");
        reader.fault(&at, problem.help("its `output_format` is `last`, `map`, `list`, `text` or `${ … }` here"));
    }
    let registry = reader.registry;
    let Some(entry) = registry.stages().get("set") else {
        reader.fault(&here, Problem::new("a workflow within another one needs the kind `set`, and there is none"));
        return None;
    };
    let locate = |_: &[Key]| if input.is_some() { place.clone() } else { here.clone() };
    let (filled, written) = (json!({ "value": value }), json!({ "value": written }));
    let made = reader.configured(entry, filled, &written, locate)?;
    let to_input = [way, &["input".into()]].concat();
    let known = vec![("value".to_owned(), if input.is_some() { to_input } else { way.to_vec() })];
    Some(Inner { nested: nested?, input: made, places: Places { known }, block })
}

/// The input of a workflow that says none.
pub(super) fn same(name: Option<&str>) -> Value {
    format!("${{{}}}", name.unwrap_or(INPUT)).into()
}

/// A workflow in the same text.
fn inline(reader: &mut Reader<'_>, at: &[Key], outer: Option<&Common<'_>>) -> Option<Nested> {
    let document = reader.document.below(at)?;
    let mut inner = Reader::of(&document, reader.registry, reader.around);
    for member in document.filled().members().iter().filter(|m| OF_THE_WHOLE.contains(&m.name.as_str())) {
        let problem = Problem::new(format!("`{}` is said for the whole spec", member.name));
        inner.fault_at_key(&[member.name.as_str().into()], problem.help("write it at the top, beside `name`"));
    }
    let name = match at.iter().rev().nth(2) {
        Some(Key::Name(name)) => name.clone(),
        _ => "workflow".to_owned(),
    };
    let read = inner.around.request.read(&mut inner, &name, outer);
    let Reader { faults, told, included, hidden, .. } = inner;
    let is_good = faults.is_empty() && told.is_empty();
    reader.faults.extend(faults.into_iter().map(|mut fault| {
        fault.problem.path.splice(0..0, at.iter().cloned());
        fault
    }));
    reader.told.extend(told);
    reader.included.extend(included);
    reader.hidden.extend(hidden);
    let (_, spec) = read.filter(|_| is_good)?;
    let mut chain = steps_of(reader, spec, at)?;
    below(&mut chain, at);
    Some(Nested { chain, file: None })
}

/// Lets the places of steps begin at the outer spec.
fn below(chain: &mut Chain, at: &[Key]) {
    for step in &mut chain.steps {
        step.path.splice(0..0, at.iter().cloned());
        for work in [&mut step.work].into_iter().chain(&mut step.fallback) {
            if let Some(nested) = work.workflow.as_deref_mut().filter(|nested| nested.file.is_none()) {
                below(&mut nested.chain, at);
            }
        }
    }
}

/// A workflow in a file of its own.
fn included(reader: &mut Reader<'_>, file: &str, at: &[Key]) -> Option<Nested> {
    let file = text(reader, file, at)?;
    let loaded = file.load(reader, reader.around.env);
    let loaded = keep(reader, loaded)?;
    let chain = steps_of(reader, loaded.spec, at)?;
    Some(Nested { chain, file: Some(file.name) })
}

/// A file that a spec includes.
pub(super) struct Included {
    pub name: String,
    pub text: String,
    /// The files that it is included by, outermost first.
    within: Vec<PathBuf>,
}

/// Reads a file that a spec includes at a place: its path is from the folder of the spec.
pub(super) fn text(reader: &mut Reader<'_>, file: &str, at: &[Key]) -> Option<Included> {
    let around = reader.around;
    let folder = Path::new(reader.document.name()).parent().unwrap_or(Path::new(""));
    let path = folder.join(file);
    let name = path.display().to_string();
    let mut within: Vec<PathBuf> =
        around.within.iter().cloned().chain([PathBuf::from(reader.document.name()), path.clone()]).collect();
    if within[..within.len() - 1].contains(&path) {
        let way: Vec<_> = within.iter().map(|path| format!("`{}`", path.display())).collect();
        reader.fault(at, Problem::new(format!("this spec contains itself: {}", way.join(" -> "))));
        return None;
    }
    within.pop();
    let text = match around.request.included.get(&name) {
        Some(text) => Ok(text.clone()),
        None => text_of(&path, around.env),
    };
    match text {
        Ok(text) => {
            reader.included.insert(name.clone(), text.clone());
            Some(Included { name, text, within })
        }
        Err(problem) => {
            reader.fault(at, problem);
            None
        }
    }
}

impl Included {
    /// Loads it in a world.
    pub(super) fn load(&self, reader: &Reader<'_>, env: &Env) -> Result<Loaded, Vec<Diagnostic>> {
        let (name, text) = (self.name.as_str(), self.text.as_str());
        let written = parse::parse(text).map_err(|fault| vec![fault.diagnostic(name, text)])?;
        let request = Request { mode: None, ..reader.around.request.clone() };
        let inner = Around { request: &request, env, within: self.within.clone() };
        request.loaded((text, name, written), &inner, &Printed::new(), reader.registry)
    }
}

/// Notes what was loaded, or tells what is wrong.
fn keep(reader: &mut Reader<'_>, loaded: Result<Loaded, Vec<Diagnostic>>) -> Option<Loaded> {
    let mut loaded = match loaded {
        Ok(loaded) => loaded,
        Err(told) => {
            reader.told.extend(told);
            return None;
        }
    };
    for (secret, path, source) in declared(loaded.document.filled()) {
        if matches!(source, SecretSource::Command(_)) {
            let problem = Problem::new(format!("the secret `{secret}` is printed by a program"));
            let help = "a spec that is included takes secrets from the environment and from files";
            reader.told.push(loaded.document.locate(&Fault::at(path, problem.help(help))));
        }
    }
    reader.included.append(&mut loaded.included);
    reader.hidden.push(loaded.document.secrets().clone());
    Some(loaded)
}

fn text_of(path: &Path, env: &Env) -> Result<String, Problem> {
    let at = |e: &dyn std::fmt::Display| Problem::new(format!("{}: {e}", path.display()));
    let file = env.files().open(path).map_err(|e| Problem::new(e.message().to_owned()))?;
    if file.len().map_err(|e| at(&e))? > BYTES_MAX {
        return Err(at(&format!("holds more than {BYTES_MAX} bytes, which is no spec")));
    }
    String::from_utf8(file.content().map_err(|e| at(&e))?).map_err(|_| at(&"is no UTF-8 text"))
}

fn steps_of(reader: &mut Reader<'_>, spec: Spec, at: &[Key]) -> Option<Chain> {
    match spec {
        Spec::Chain(chain) => Some(*chain),
        Spec::Pipeline(_) => {
            let problem = Problem::new("this is a pipeline, and a workflow within another spec has steps or agents");
            reader.fault(at, problem.help("a step that says `pipeline: FILE` runs it"));
            None
        }
    }
}
