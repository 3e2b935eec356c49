//! `bourn replay` and `bourn runs replay`: a run decided again from a bundle or the journal, by its spec or by another one.

use bourn_engine::Engine;
use bourn_engine::diagnostic::Problems;
use bourn_engine::spec::Request;
use bourn_engine::testing::replay::{Past, replay};
use bourn_engine::workflow::Verdict;
use bourn_journal::Run;
use serde_json::{Value, json};

use super::args::Replay;
use super::bundle::{Bundle, marked};
use super::{Place, chain};
use crate::answer;
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::given::Text;
use crate::prepare;
use crate::screen::Screen;

/// Decides the run of a bundle again.
///
/// # Errors
/// When it can't be read, or the spec has problems.
pub fn bundle(args: &Replay, screen: &Screen) -> Result<Exit, Failure> {
    let bundle = Bundle::read(&args.bundle)?;
    let verdict = of_bundle(&bundle, args.spec.as_deref(), &args.env)?;
    tell(&verdict, (&bundle.workflow, &bundle.past.id), screen)
}

/// The same, without a word.
///
/// # Errors
/// When the spec has problems.
pub(super) fn of_bundle(bundle: &Bundle, spec: Option<&str>, said: &[(String, String)]) -> Result<Verdict, Failure> {
    let mut request = bundle.request.clone();
    request.stand_ins.iter_mut().for_each(|stand_ins| stand_ins.said.extend(said.iter().cloned()));
    decide(request, &bundle.spec, spec, &bundle.past)
}

/// Decides a run of the journal again.
///
/// # Errors
/// When the journal can't be read, or the spec has problems.
pub(super) fn run(place: &Place<'_>, run: &Run, spec: Option<&str>) -> Result<Exit, Failure> {
    let (request, own) = place.request(run)?;
    let history = place.journal.history(run).map_err(Failure::Failed)?;
    let past = Past { id: run.id.clone(), input: run.input.clone(), history };
    let verdict = decide(request, &(own.file, own.text), spec, &past)?;
    tell(&verdict, (&run.workflow, &run.id), place.screen)
}

/// By the spec of this name and text, or by the one in another file.
fn decide(request: Request, own: &(String, String), other: Option<&str>, past: &Past) -> Result<Verdict, Failure> {
    // Stages may want a runtime around them when they are made; nothing runs on it.
    let runtime = prepare::runtime()?;
    let _inside = runtime.enter();
    let engine = Engine::new(prepare::registry());
    let (request, Text { name, text }) = match other {
        // What it includes is read as it is now.
        Some(path) => (Request { included: std::collections::BTreeMap::new(), ..request }, Text::read(path)?),
        None => (request, Text { name: own.0.clone(), text: own.1.clone() }),
    };
    let loaded = request.load(&text, &name, engine.registry(), engine.env()).map_err(Failure::Problems)?;
    chain(&loaded)?;
    let secrets = loaded.document.secrets();
    // What is recorded has marks, so what comes out now has them too.
    let with_marks = |record: String| if request.stand_ins.is_some() { marked(secrets, record) } else { record };
    let told = |Problems(all): Problems| {
        Failure::Problems(all.iter().map(|problem| loaded.document.diagnostic(problem)).collect())
    };
    let mut verdict = replay(&loaded, engine.registry(), past, with_marks).map_err(told)?;
    for outcome in verdict.difference.iter_mut().flat_map(|other| [&mut other.recorded, &mut other.replayed]) {
        // It is shown.
        *outcome =
            serde_json::from_str(&marked(secrets, outcome.to_string())).map_err(|e| Failure::Failed(e.into()))?;
    }
    Ok(verdict)
}

fn tell(verdict: &Verdict, (workflow, run): (&str, &str), screen: &Screen) -> Result<Exit, Failure> {
    answer::print(&match screen.form {
        Form::Json => {
            let mut shown = json!({ "workflow": workflow, "run_id": run, "same": verdict.difference.is_none() });
            if let (Value::Object(shown), Ok(Value::Object(more))) = (&mut shown, serde_json::to_value(verdict)) {
                shown.extend(more);
            }
            format!("{shown:#}")
        }
        Form::Text => text(verdict),
    })?;
    Ok(if verdict.difference.is_some() { Exit::Differs } else { Exit::Ok })
}

/// For people.
pub(super) fn text(verdict: &Verdict) -> String {
    let count = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let compared = format!("{} and {} compared", count(verdict.steps, "step"), count(verdict.decisions, "decision"));
    let mut lines = Vec::new();
    match &verdict.difference {
        Some(difference) => {
            lines.push(format!("other decisions, first at `{}`; before it {compared}", difference.step));
            lines.push(format!("  recorded: {}", outcome(&difference.recorded)));
            lines.push(format!("  replayed: {}", outcome(&difference.replayed)));
        }
        None if verdict.not_recorded.is_empty() => lines.push(format!("same decisions: {compared}")),
        None => lines.push(format!("same decisions, as far as they are recorded: {compared}")),
    }
    if !verdict.not_recorded.is_empty() {
        lines.push(format!("  not recorded: {}", verdict.not_recorded.join(", ")));
    }
    if !verdict.not_decided.is_empty() {
        lines.push(format!("  not decided without that: {}", verdict.not_decided.join(", ")));
    }
    lines.join("\n")
}

/// `COMPLETED {"n":1}`, `SKIPPED: its condition is false`.
fn outcome(outcome: &Value) -> String {
    let Value::Object(members) = outcome else { return outcome.to_string() };
    let mut all: Vec<String> = members.get("status").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    all.extend(members.iter().filter(|(name, _)| *name != "status").map(|(name, value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    }));
    all.join(", ")
}
