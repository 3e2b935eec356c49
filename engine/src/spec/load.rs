//! Text to a spec that can run: every problem of it is told at once.

use std::collections::BTreeMap;

use crate::api::Registry;
use crate::diagnostic::{Diagnostic, Problem};
use crate::env::Env;

use super::case::Case;
use super::document::{Document, Fault};
use super::fill::{Filling, StandIns};
use super::keys::names_of;
use super::mode::{Choice, Mode, choose};
use super::model::Spec;
use super::nested::Around;
use super::node::Node;
use super::reader::Reader;
use super::routing::Routing;
use super::secrets::Printed;
use super::steps::Common;
use super::templates::Expanded;
use super::{case, chain, check, parse, pipeline, secrets, swarm, templates};

/// A spec without a problem.
#[derive(Clone)]
pub struct Loaded {
    /// Its text and tree.
    pub document: Document,
    /// How it is run, and why.
    pub choice: Choice,
    /// What it says.
    pub spec: Spec,
    /// The test cases that stand in it.
    pub cases: Vec<Case>,
    /// The texts of the files that it includes, by path.
    pub included: BTreeMap<String, String>,
}

/// What a spec is loaded with.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What the commands of steps stand for, where the spec does not say.
    pub routing: Routing,
    /// A mode that the user asks for; a spec that can't be run so is at fault.
    pub mode: Option<Mode>,
    /// The texts of files that specs include, by path, where they are known: the others are read.
    pub included: BTreeMap<String, String>,
    /// What stands for variables and secrets, where the world is not to be asked for them.
    pub stand_ins: Option<StandIns>,
}

/// Loads a spec with the known commands, in the mode that it asks for; see [`Request::load`].
///
/// # Errors
/// Every problem, in the order of the text.
pub fn load(text: &str, file: &str, registry: &Registry, env: &Env) -> Result<Loaded, Vec<Diagnostic>> {
    Request::default().load(text, file, registry, env)
}

impl Request {
    /// Loads a spec in YAML or JSON, to look at it. `file` is the name that diagnostics show. Changes nothing and runs
    /// nothing; it reads the variables and the files of secrets that the spec names. A secret that a program prints has a
    /// stand-in: see [`Request::load_to_run`].
    ///
    /// # Errors
    /// Every problem, in the order of the text. A text that can't be parsed has one.
    pub fn load(&self, text: &str, file: &str, registry: &Registry, env: &Env) -> Result<Loaded, Vec<Diagnostic>> {
        let written = parse::parse(text).map_err(|fault| vec![fault.diagnostic(file, text)])?;
        self.loaded(
            (text, file, written),
            &Around { request: self, env, within: Vec::new() },
            &Printed::new(),
            registry,
        )
    }

    /// The same to run it: the programs that print its secrets are run.
    ///
    /// # Errors
    /// Every problem of the spec; of a spec without any, every program that failed.
    pub async fn load_to_run(
        &self,
        text: &str,
        file: &str,
        registry: &Registry,
        env: &Env,
    ) -> Result<Loaded, Vec<Diagnostic>> {
        let looked_at = self.load(text, file, registry, env)?;
        let told = |faults: Vec<Fault>| looked_at.document.diagnostics(&faults);
        let printed = secrets::print(looked_at.document.filled(), env).await.map_err(told)?;
        if printed.is_empty() {
            return Ok(looked_at);
        }
        let written = parse::parse(text).map_err(|fault| vec![fault.diagnostic(file, text)])?;
        self.loaded((text, file, written), &Around { request: self, env, within: Vec::new() }, &printed, registry)
    }

    /// Loads what was parsed.
    pub(crate) fn loaded(
        &self,
        (text, file, written): (&str, &str, Node),
        around: &Around<'_>,
        printed: &Printed,
        registry: &Registry,
    ) -> Result<Loaded, Vec<Diagnostic>> {
        let env = around.env;
        let Expanded { spec: written, uses, mut faults } = templates::expand(&written);
        let mut filling = Filling::of(&written, printed, env, self.stand_ins.as_ref());
        let filled = filling.fill(&written, &mut Vec::new());
        let secrets = filling.hidden();
        faults.append(&mut filling.faults);
        let document = Document::new(file, text.to_owned(), written, filled).with(secrets, uses);
        let mut reader = Reader { faults, ..Reader::of(&document, registry, around) };
        let read = self.read(&mut reader, stem(file), None);
        let cases = case::read(&mut reader, &["tests".into()], read.as_ref().map(|(_, spec)| spec));
        let Reader { faults, included, mut told, hidden, .. } = reader;
        let document = document.hiding(&hidden);
        match read {
            Some((choice, spec)) if faults.is_empty() && told.is_empty() => {
                Ok(Loaded { document, choice, spec, cases, included })
            }
            _ => {
                told.splice(0..0, document.diagnostics(&faults));
                Err(told)
            }
        }
    }

    /// Reads a spec that stands alone, or within another one.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        outer: Option<&Common<'_>>,
    ) -> Option<(Choice, Spec)> {
        let root = reader.document.filled();
        if !root.is_map() {
            let problem = Problem::new(format!("a spec is a map, and this is {}", root.kind()));
            reader.fault(&[], problem.help("a pipeline has `sources`, `stages` and `sinks`; a workflow has `steps`"));
            return None;
        }
        let choice = match choose(root) {
            Ok(choice) => choice,
            Err(problem) => {
                reader.fault(&[], problem);
                unknown_keys(reader, root);
                return None;
            }
        };
        // Steps may be one of several modes, and which is known when they were read.
        let is_auto = root.get("type").and_then(Node::text).is_none_or(|said| said == "auto");
        let may_change = is_auto && outer.is_none() && matches!(choice.mode, Mode::Chain | Mode::Flow);
        let refused = |choice: &Choice| {
            let mode = self.mode.filter(|mode| *mode != choice.mode && outer.is_none())?;
            Some(Problem::new(format!("this spec can't be run as a {mode}: {}", choice.reason)))
        };
        if let Some(problem) = refused(&choice).filter(|_| !may_change) {
            reader.fault(&[], problem);
        }
        let has = |key| root.get(key).is_some();
        let spec = match choice.mode {
            Mode::Swarm => Spec::Chain(Box::new(swarm::read(reader, name)?)),
            Mode::Hybrid if has("steps") => Spec::Chain(Box::new(chain::read(reader, name, &self.routing, outer)?)),
            Mode::Chain | Mode::Flow => Spec::Chain(Box::new(chain::read(reader, name, &self.routing, outer)?)),
            Mode::Hybrid | Mode::Pipeline => Spec::Pipeline(Box::new(pipeline::read(reader, name)?)),
        };
        let choice = match &spec {
            Spec::Chain(chain) if may_change => chain.mode_thresholds.choose(chain, choice),
            _ => choice,
        };
        if let Some(problem) = refused(&choice).filter(|_| may_change) {
            reader.fault(&[], problem);
        }
        Some((choice, spec))
    }
}

/// A spec of no known mode: perhaps one of its keys is a slip.
fn unknown_keys(reader: &mut Reader<'_>, root: &Node) {
    let mut known = names_of::<super::keys::PipelineKeys>();
    known.extend(names_of::<super::workflow_keys::WorkflowKeys>());
    known.extend(names_of::<super::swarm_keys::SwarmKeys>());
    for member in root.members().iter().filter(|m| !known.contains(&m.name)) {
        let problem = check::unknown("key", &member.name, known.iter().map(String::as_str));
        reader.fault_at_key(&[member.name.as_str().into()], problem);
    }
}

/// `orders` for `specs/orders.yaml`.
fn stem(file: &str) -> &str {
    std::path::Path::new(file).file_stem().and_then(|s| s.to_str()).filter(|s| !s.is_empty()).unwrap_or("bourn")
}
