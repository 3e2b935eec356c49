//! `bourn runs fork`: a new run that takes over what another one has done, up to a point.

use bourn_engine::workflow::run_id;
use bourn_journal::Run;
use serde_json::Value;

use super::{Place, go_on};
use crate::failure::{Exit, Failure};

/// Makes the new run and runs it.
///
/// # Errors
/// When there is no such step in the history, or a change can't be made.
pub fn fork(place: &Place<'_>, run: &Run, at: &str, set: &[String], id: Option<&str>) -> Result<Exit, Failure> {
    let step = match at.strip_prefix("step_completion_").or_else(|| at.strip_prefix("step:")) {
        Some(step) => Some(step),
        None if at == "workflow_initialization" => None,
        None => Some(at),
    };
    let changes = set.iter().map(|text| Change::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let id = id.map_or_else(|| run_id(place.engine.env()), str::to_owned);
    let change = |step: &str, record: &mut Value| {
        for change in changes.iter().filter(|c| c.step == step) {
            change.apply(record)?;
        }
        Ok(())
    };
    let (forked, taken) = place.journal.fork(run, step, &id, change).map_err(Failure::Invalid)?;
    if let Some(unused) = changes.iter().find(|c| !taken.contains(&c.step)) {
        return Err(Failure::invalid(format!(
            "--set: step `{}` is not taken over, so it can't be changed",
            unused.step
        )));
    }
    let taken = match taken.len() {
        1 => "1 step is".to_owned(),
        count => format!("{count} steps are"),
    };
    place.screen.tell(&format!("run {id}: {taken} taken over from {}", run.id));
    go_on::pass(place, &forked)
}

/// `.step.member.0=JSON`.
struct Change {
    step: String,
    path: Vec<String>,
    value: Value,
}

impl Change {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::invalid(format!("--set: `{text}` is no change: write `.step.member=VALUE`"));
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let mut names = path.strip_prefix('.').ok_or_else(wrong)?.split('.').map(str::to_owned);
        let step = names.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok(Self { step, path: names.collect(), value })
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
            let missing = || bourn_engine::Error::validation(format!("--set: step `{}` gave no `{name}`", self.step));
            place = known.ok_or_else(missing)?;
        }
        *place = self.value.clone();
        Ok(())
    }
}
