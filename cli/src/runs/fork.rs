//! `bourn runs fork`: a new run that takes over what another one has done, up to a point.

use bourn_engine::Engine;
use bourn_engine::spec::Spec;
use bourn_engine::workflow::run_id;
use bourn_journal::{Begin, Fork, Run, Sqlite};
use serde_json::Value;

use super::args::{INITIALIZATION, One};
use super::{Place, go_on};
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::run::args;
use crate::screen::Screen;

/// Makes the new run and runs it.
///
/// # Errors
/// When there is no such step in the history, or a change can't be made.
pub(super) fn fork(place: &Place<'_>, run: &Run, at: &str, set: &[String], id: Option<&str>) -> Result<Exit, Failure> {
    let begin = place.journal.begin_of(run).map_err(Failure::Failed)?;
    go_on::pass(place, &forked(place, run, begin, &Point { at, set, id })?)
}

/// `bourn run SPEC --from-checkpoint RUN/STEP`: the same, with the spec as it is now.
///
/// # Errors
/// When it is no run of this workflow, or an input is given too.
pub fn run_from(args: &args::Run, run: &str, at: &str, screen: &Screen) -> Result<Exit, Failure> {
    if args.input.is_some() || args.inputs.is_some() {
        return Err(Failure::invalid(format!("--from-checkpoint: the input is that of run `{run}`")));
    }
    let engine = Engine::new(prepare::registry());
    let journal = Sqlite::existing(&args.journal.journal, engine.env()).map_err(Failure::Invalid)?;
    let run = journal.run(run).map_err(Failure::Invalid)?;
    let loaded = prepare::load(&args.spec, &engine)?;
    let name = match &loaded.spec {
        Spec::Chain(spec) => &spec.name,
        Spec::Pipeline(spec) => &spec.name,
    };
    if *name != run.workflow {
        return Err(Failure::invalid(format!("run `{}` is one of `{}`, not of `{name}`", run.id, run.workflow)));
    }
    let begin = Begin {
        file: loaded.document.name().to_owned(),
        text: loaded.document.text().to_owned(),
        included: loaded.included.clone(),
        mock: args.mock || run.mock,
        r#type: loaded.choice.mode.to_string(),
        labels: args.label.iter().cloned().collect(),
        ..journal.begin_of(&run).map_err(Failure::Failed)?
    };
    let one = One { run: run.id.clone(), journal: args.journal.clone(), routing: args.spec.routing.clone() };
    let place = Place { engine: &engine, journal: &journal, one: &one, screen };
    let new = forked(&place, &run, begin, &Point { at, set: &[], id: args.id.as_deref() })?;
    if args.fail_on_degraded { go_on::pass_whole(&place, &new) } else { go_on::pass(&place, &new) }
}

/// From where, with which changes, under which id.
struct Point<'a> {
    at: &'a str,
    set: &'a [String],
    id: Option<&'a str>,
}

fn forked(place: &Place<'_>, run: &Run, begin: Begin, point: &Point<'_>) -> Result<Run, Failure> {
    let at = point.at;
    let step = match at.strip_prefix("step_completion_").or_else(|| at.strip_prefix("step:")) {
        Some(step) => Some(step),
        None if at == INITIALIZATION => None,
        None => Some(at),
    };
    let changes = point.set.iter().map(|text| Change::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let id = point.id.map_or_else(|| run_id(place.engine.env()), str::to_owned);
    let change = |taken: &mut [(String, Value)]| {
        for change in &changes {
            let step = taken.iter_mut().find(|(step, _)| *step == change.step);
            let (_, record) = step.ok_or_else(|| change.refused("is not taken over, so it can't be changed"))?;
            change.apply(record)?;
        }
        Ok(())
    };
    let fork = Fork { run, step, id: &id, begin };
    let (forked, taken) = place.journal.fork(fork, change).map_err(Failure::Invalid)?;
    let taken = match taken.len() {
        1 => "1 step is".to_owned(),
        count => format!("{count} steps are"),
    };
    place.screen.tell(&format!("run {id}: {taken} taken over from {}", run.id));
    Ok(forked)
}

/// `.step.member.0=JSON`, or `.step.member[0]=JSON`.
struct Change {
    step: String,
    path: Vec<String>,
    value: Value,
}

impl Change {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::invalid(format!("--set: `{text}` is no change: write `.step.member=VALUE`"));
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        // An element is written like a member, or as jq writes it.
        let path = path.replace('[', ".").replace(']', "");
        let mut names = path.strip_prefix('.').ok_or_else(wrong)?.split('.').map(str::to_owned);
        let step = names.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok(Self { step, path: names.collect(), value })
    }

    fn refused(&self, why: &str) -> bourn_engine::Error {
        bourn_engine::Error::validation(format!("--set: step `{}` {why}", self.step))
    }

    /// Changes what the step gave.
    fn apply(&self, record: &mut Value) -> bourn_engine::Result<()> {
        let mut place = &mut record["results"];
        for name in &self.path {
            let known = match place {
                Value::Object(members) => members.get_mut(name),
                Value::Array(elements) => name.parse::<usize>().ok().and_then(|at| elements.get_mut(at)),
                _ => None,
            };
            place = known.ok_or_else(|| self.refused(&format!("gave no `{name}`")))?;
        }
        *place = self.value.clone();
        Ok(())
    }
}
