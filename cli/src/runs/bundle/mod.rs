//! `bourn runs diagnose RUN -o FILE.tar.zst`: all that is known of a run in one file, without secrets.

mod hide;
mod pack;
mod read;

use std::path::Path;

use bourn_engine::Engine;
use bourn_engine::data::secret::Origin;
use bourn_engine::plan::Asking;
use bourn_engine::spec::{Disclosure, Loaded, Request};
use bourn_engine::workflow::record::Record;
use bourn_engine::workflow::result::document_of;
use bourn_journal::{Event, Run};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Place, chain, diagnose, replay};
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::given::{self, Text};
use crate::run::documents::Documents;
use crate::{answer, explain, prepare};
use hide::Hidden;

pub(super) use hide::marked;
pub(super) use read::Bundle;

/// The form of bundles.
const SCHEMA: &str = "bourn.bundle/v1";
/// Of a longer log the end is taken, in bytes.
const LOG_MAX: u64 = 16 << 20;

/// The names of what a bundle has.
mod name {
    pub const BUNDLE: &str = "bundle.json";
    pub const RUN: &str = "run.json";
    pub const HISTORY: &str = "history.jsonl";
    pub const ENVIRONMENT: &str = "environment.json";
    pub const SPECS: &str = "spec/specs.json";
}

const README: &str = "\
A run of a Bourn workflow, for somebody who is to find out what became of it. `bourn replay THIS.tar.zst` decides it again on any
machine: nobody is asked, and nothing outside is touched.

  bundle.json       the form of this bundle, the version of Bourn, the files
  run.json          the run: its id, how it stands, its times, labels and input
  diagnosis.json    why it stands as it does, what failed, and the plan to recover it
  document.json     its result document
  history.jsonl     what happened, a line for each event, in order: when, its kind, the step, and what that left
  decisions.json    by which conditions, switches, fallbacks, defaults and retries it took its way, and what they saw
  metrics.json      what was measured: of the run, and of each step, element and round by its name in the history
  spec/             the spec that it began with, those that this includes, and the routing; specs.json says which is which
  plan.txt, .json   what the spec becomes: nodes, tasks, channels
  environment.json  the version of Bourn, the system, the NAMES of the variables and secrets that the spec reads
  logs/             logs, if whoever made this had some

Values of secrets, of variables that the spec reads, of variables of the process that made this and are called like credentials, and
of credentials that stand in the spec are not in it: marks stand for them, such as <secret.TOKEN>, <env.HOST> and <redacted.1>.
They are looked for as they were when this was made, in the forms in which texts usually hold them. What services answered is in the
history as it is: have a look before you hand this on.
";

/// A file of a bundle.
pub(super) struct File {
    name: String,
    bytes: Vec<u8>,
}

/// `bundle.json`.
#[derive(Serialize, Deserialize)]
struct About {
    schema: String,
    bourn: String,
    run_id: String,
    files: Vec<String>,
}

/// A line of `history.jsonl`.
#[derive(Serialize, Deserialize)]
struct Line {
    at: String,
    kind: String,
    step: Option<String>,
    by: Option<String>,
    data: Option<Box<RawValue>>,
}

/// `spec/specs.json`: the name of each spec where the run began, and its file here.
#[derive(Serialize, Deserialize)]
struct Specs {
    spec: (String, String),
    included: Vec<(String, String)>,
    routing: Option<String>,
}

/// `environment.json`, as far as a replay reads it.
#[derive(Serialize, Deserialize)]
struct Variable {
    name: String,
    is_set: bool,
}

/// Writes it, and looks whether the run can be decided again from it.
///
/// # Errors
/// When a secret is not known here, so that it can't be looked for, or something can't be read or written.
pub(super) fn write(place: &Place<'_>, run: &Run, path: &Path, logs: &[String]) -> Result<Exit, Failure> {
    let files = files(place, run, logs)?;
    pack::write(path, &files, run.started)?;
    let told = match Bundle::read(&path.display().to_string()).and_then(|bundle| replay::of_bundle(&bundle, None, &[]))
    {
        Ok(verdict) => replay::text(&verdict),
        Err(failure) => {
            place.screen.warn(&format!("the run can't be decided again from it: {}", told(&failure)));
            "not decided again".to_owned()
        }
    };
    let path = path.display();
    answer::print(&match place.screen.form {
        Form::Json => json!({ "bundle": path.to_string(), "files": files.len(), "replay": told }).to_string(),
        Form::Text => format!("{path}: {} files; `bourn replay {path}` says:\n{told}", files.len()),
    })?;
    Ok(Exit::Ok)
}

fn told(failure: &Failure) -> String {
    match failure {
        Failure::Problems(all) => all.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; "),
        Failure::Invalid(error) | Failure::Failed(error) => error.to_string(),
        Failure::Told(_) | Failure::Unread => String::new(),
    }
}

/// The specs of a run, for other eyes.
struct Shown {
    specs: Specs,
    texts: Vec<File>,
    disclosure: Disclosure,
    loaded: Loaded,
}

/// All files, in the order in which they stand in the bundle.
fn files(place: &Place<'_>, run: &Run, logs: &[String]) -> Result<Vec<File>, Failure> {
    let Shown { specs, texts, disclosure, loaded } = shown(place, run)?;
    let hidden = Hidden::of(&loaded, &disclosure);
    let chain = chain(&loaded)?;
    let events = place.journal.events(run).map_err(Failure::Failed)?;
    let history = place.journal.history(run).map_err(Failure::Failed)?;
    let document =
        document_of(chain, &specs.spec.0, (&run.id, run.status), &history, &place.flags()).map_err(Failure::Failed)?;
    let (plan, planned) = plan(place.engine, &loaded)?;
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| all.push(File { name: name.to_owned(), bytes });
    add(name::RUN, hidden.json(&described(run)?)?);
    add("diagnosis.json", hidden.json(&diagnose::find(place, run)?)?);
    add("document.json", hidden.json(&document)?);
    add(name::HISTORY, lines(&events, &hidden)?);
    add("decisions.json", hidden.json(&super::decisions::of(chain, loaded.document.text(), run, &events)?)?);
    add("metrics.json", hidden.json(&metrics(&document, &history)?)?);
    add(name::SPECS, hidden.json(&specs)?);
    all.extend(texts);
    let mut add = |name: &str, bytes: Vec<u8>| all.push(File { name: name.to_owned(), bytes });
    add("plan.txt", hidden.text(&plan));
    add("plan.json", hidden.json(&planned)?);
    add(name::ENVIRONMENT, hidden.json(&environment(place.engine, &disclosure))?);
    for (number, path) in (1..).zip(logs) {
        let file = Path::new(path).file_name().map_or_else(|| "log".into(), |name| name.to_string_lossy().into_owned());
        let log = given::bytes(path, LOG_MAX, true)?;
        add(&format!("logs/{number}-{file}"), hidden.text(&String::from_utf8_lossy(&log)));
    }
    let about = About {
        schema: SCHEMA.to_owned(),
        bourn: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: run.id.clone(),
        files: all.iter().map(|file| file.name.clone()).collect(),
    };
    let first = [("README.txt", README.as_bytes().to_vec()), (name::BUNDLE, hidden.json(&about)?)];
    let first = first.map(|(name, bytes)| File { name: name.to_owned(), bytes });
    Ok(first.into_iter().chain(all).collect())
}

/// Reads the specs, with the secrets that programs print, and takes out what nobody is to see.
fn shown(place: &Place<'_>, run: &Run) -> Result<Shown, Failure> {
    let (request, spec) = place.request(run)?;
    let (registry, env) = (place.engine.registry(), place.engine.env());
    let runtime = prepare::runtime()?;
    let known =
        runtime.block_on(request.load_to_run(&spec.text, &spec.file, registry, env)).map_err(Failure::Problems)?;
    let secrets = known.document.secrets().clone();
    place.screen.hide(&secrets);
    let mut disclosure = Disclosure::default();
    // What came from the environment may stand in a spec of its own right.
    let in_texts = secrets.of(Origin::Secret);
    let mut disclosed = |text: &str, name: &str| {
        let text = disclosure.add(text, name).map_err(Failure::Problems)?;
        Ok::<_, Failure>(in_texts.mark(&text).into_owned())
    };
    let text = disclosed(&spec.text, &spec.file)?;
    let mut texts = vec![File { name: "spec/spec.yaml".into(), bytes: text.clone().into_bytes() }];
    let mut specs = Specs { spec: (spec.file.clone(), texts[0].name.clone()), included: Vec::new(), routing: None };
    let mut included = std::collections::BTreeMap::new();
    for (number, (path, text)) in (1..).zip(&spec.included) {
        let (name, text) = (format!("spec/included-{number}.yaml"), disclosed(text, path)?);
        specs.included.push((path.clone(), name.clone()));
        texts.push(File { name, bytes: text.clone().into_bytes() });
        included.insert(path.clone(), text);
    }
    if let Some(path) = &place.one.routing {
        let Text { name: path, text } = Text::read(path)?;
        let (name, text) = ("spec/routing.yaml".to_owned(), disclosed(&text, &path)?);
        specs.routing = Some(name.clone());
        texts.push(File { name, bytes: text.into_bytes() });
    }
    let request = Request { included, ..request };
    let loaded = request.load(&text, &spec.file, registry, env).map_err(Failure::Problems)?;
    // What programs printed is hidden too.
    let document = loaded.document.clone().also_hiding(&secrets);
    Ok(Shown { specs, texts, disclosure, loaded: Loaded { document, ..loaded } })
}

/// The run, with its times as everywhere else.
fn described(run: &Run) -> Result<Value, Failure> {
    let mut described = serde_json::to_value(run).map_err(|e| Failure::Failed(e.into()))?;
    described["started"] = run.started.to_string().into();
    described["ended"] = run.ended.map(|at| at.to_string()).into();
    Ok(described)
}

fn lines(events: &[Event], hidden: &Hidden) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for event in events {
        let data = event.data.as_deref().map(|data| hidden.raw(data)).transpose()?;
        let hide = |text: &Option<String>| text.as_deref().map(|text| hidden.shown(text));
        let line = Line {
            at: event.at.to_string(),
            kind: event.kind.clone(),
            step: event.step.clone(),
            by: hide(&event.who),
            data,
        };
        serde_json::to_writer(&mut lines, &line).map_err(|e| Failure::Failed(e.into()))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// What was measured, as far as it is kept.
fn metrics(
    document: &bourn_engine::workflow::result::ResultDocument,
    history: &bourn_engine::journal::History,
) -> Result<Value, Failure> {
    let mut records = Map::new();
    for (name, record) in history.0.iter().filter(|(name, _)| !name.starts_with('@')) {
        let record: Record = serde_json::from_str(record.get()).map_err(|e| Failure::Failed(e.into()))?;
        let Record { status, attempts, started_at, duration_ms, usage, rounds, fallback, .. } = record;
        let measured = json!({ "status": status, "attempts": attempts, "started_at": started_at,
            "duration_ms": duration_ms, "usage": usage, "rounds": rounds, "fallback": fallback });
        records.insert(name.clone(), measured);
    }
    Ok(json!({ "run": document.execution_metrics, "performance": document.performance_report, "records": records }))
}

/// What the spec becomes, or why it can't be planned here.
fn plan(engine: &Engine, loaded: &Loaded) -> Result<(String, Value), Failure> {
    let runtime = prepare::runtime()?;
    let planned = runtime.block_on(async {
        let graph = prepare::graph(loaded, &prepare::no_runs(), Documents::lines(), true);
        prepare::plan_asking(engine, graph, loaded, Asking::Nobody).await
    });
    Ok(match planned {
        Ok(plan) => explain::shown(loaded, &plan),
        Err(failure) => {
            let why = told(&failure);
            (format!("it can't be planned here: {why}"), json!({ "error": why }))
        }
    })
}

/// Versions, the system, and the names of what the spec reads.
fn environment(engine: &Engine, disclosure: &Disclosure) -> Value {
    let is_set = |name: &String| engine.env().variable(name).is_some();
    let variables = disclosure.variables.iter().map(|name| Variable { name: name.clone(), is_set: is_set(name) });
    let secrets = disclosure.secrets.iter().map(|(name, from)| json!({ "name": name, "from": from }));
    let registry = engine.registry();
    json!({
        "bourn": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "stages": registry.stages().keys().collect::<Vec<_>>(),
        "variables": variables.collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(),
    })
}
