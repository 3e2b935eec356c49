//! What the shell is told when somebody presses Tab: words of this build, and of the spec on the command line.

use std::ffi::OsStr;
use std::path::Path;

use bourn_engine::Engine;
use bourn_engine::graph::{Graph, Role};
use clap::{CommandFactory as _, FromArgMatches as _};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter};
use clap_complete::env::{CompleteEnv, Shells};

use crate::args::{Args, Spec};
use crate::failure::Failure;
use crate::list;
use crate::prepare;
use crate::run::documents::Documents;

/// The variable in which the script says for which shell it asks.
const VARIABLE: &str = "BOURN_COMPLETE";

/// Answers the script of a shell and ends the process, when it is that which has started it.
pub fn answer_shell() {
    CompleteEnv::with_factory(Args::command).var(VARIABLE).complete();
}

/// What a shell reads when it starts: it asks this binary at each Tab.
///
/// # Errors
/// When the library does not know the shell.
pub fn script(shell: Shell) -> Result<String, Failure> {
    let name = shell.to_string();
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&name) else {
        return Err(Failure::invalid(format!("nothing is known of the shell {name}")));
    };
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "bourn", "bourn", &own_path(), &mut script)
        .map_err(|e| Failure::Failed(e.into()))?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The binary as it was called: by its name where the shell finds it so.
fn own_path() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "bourn".into());
    let path = Path::new(&called);
    let whole = if path.components().count() > 1 { std::path::absolute(path).ok() } else { None };
    whole.as_deref().unwrap_or(path).to_string_lossy().into_owned()
}

/// Files that may be specs, and folders on the way to them.
pub fn specs() -> ArgValueCompleter {
    let is_spec = |path: &Path| path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    ArgValueCompleter::new(PathCompleter::any().filter(is_spec).stdio())
}

/// The kinds of stages, sources and sinks.
pub fn kinds() -> Vec<CompletionCandidate> {
    let candidate = |(name, summary): (&str, &str)| candidate(name, summary.lines().next().unwrap_or_default());
    list::summaries(&prepare::registry()).into_iter().map(candidate).collect()
}

/// The modes of specs.
pub fn modes() -> Vec<CompletionCandidate> {
    ["chain", "flow", "swarm", "pipeline", "hybrid"].map(CompletionCandidate::new).into()
}

/// Where `tap` can look in the spec that stands before it; nowhere when that has a problem.
pub fn places(begun: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(begun), Some(graph)) = (begun.to_str(), graph_on_the_line()) else { return Vec::new() };
    let mut places = Vec::new();
    for node in graph.nodes.iter().filter(|node| !node.id.starts_with('@')) {
        let (about, ports) = match &node.role {
            Role::Source(connector) => (format!("source, {}", connector.kind()), Vec::new()),
            Role::Stage(config) => ("stage".to_owned(), config.ports()),
            Role::Sink(connector) => (format!("sink, {}", connector.kind()), Vec::new()),
        };
        places.push(candidate(&node.id, &about));
        places.extend(ports.iter().map(|port| candidate(&format!("{}.{port}", node.id), "port")));
    }
    places.retain(|place| place.get_value().to_string_lossy().starts_with(begun));
    places
}

/// The sources, stages and sinks of the spec that stands before them.
pub fn stages(begun: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(begun), Some(graph)) = (begun.to_str(), graph_on_the_line()) else { return Vec::new() };
    let ids = graph.nodes.iter().map(|node| node.id.as_str()).filter(|id| id.starts_with(begun));
    ids.map(CompletionCandidate::new).collect()
}

fn candidate(word: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(word).help(Some(about.to_owned().into()))
}

/// The graph of the spec that the unfinished command line names, which stands behind a `--`.
fn graph_on_the_line() -> Option<Graph> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let matches = Args::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let mut verb = matches.subcommand()?.1;
    while let Some((_, below)) = verb.subcommand() {
        verb = below;
    }
    let spec = Spec::from_arg_matches(verb).ok()?;
    let runtime = prepare::runtime().ok()?;
    let _inside = runtime.enter();
    let engine = Engine::new(prepare::registry());
    let loaded = prepare::load(&spec, &engine).ok()?;
    Some(prepare::graph(&loaded, &prepare::no_runs(), Documents::lines(), true))
}
