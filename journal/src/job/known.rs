//! What an earlier process has left of runs.

use arrow::array::{Array, StringArray};
use bourn_engine::api::Usage;
use bourn_engine::journal::{Earlier, History, RunState, Spending, Started};
use bourn_engine::time::Timestamp;
use rusqlite::Connection;
use serde_json::value::RawValue;

use super::{Job, place_of, run_number};
use crate::fault::{Fault, Faults as _};
use crate::spent::{RETRIED, spent};

impl Job {
    /// What an earlier process has left of these runs.
    pub(super) fn known(&self, c: &Connection, runs: &Started) -> Result<Vec<Option<Earlier>>, Fault> {
        let mut there: Vec<Option<Earlier>> = vec![None; runs.numbers.len()];
        let mut place = runs.numbers.iter().copied().zip(0..).collect::<Vec<(u64, usize)>>();
        if !self.resumed {
            place.retain(|(number, _)| runs.returned.contains(number));
        }
        place.sort_unstable();
        // Runs that are read one after the other stand so in the tables; those that come back stand anywhere.
        for stretch in place.chunk_by(|a, b| a.0 + 1 == b.0) {
            self.known_of(c, runs, stretch, &mut there)?;
        }
        Ok(there)
    }

    /// The same of runs whose numbers follow each other, each with its place.
    fn known_of(
        &self,
        c: &Connection,
        runs: &Started,
        place: &[(u64, usize)],
        there: &mut [Option<Earlier>],
    ) -> Result<(), Fault> {
        let (Some((first, _)), Some((last, _))) = (place.first(), place.last()) else { return Ok(()) };
        let range = [run_number(self.number, *first)?, run_number(self.number, *last)?];
        let find = |run: i64| {
            let number = place_of(run);
            place.binary_search_by_key(&number, |(n, _)| *n).ok().map(|at| (number, place[at].1))
        };
        let mut statement = c
            .prepare_cached("SELECT run, id, input, status, started, deadline FROM runs WHERE run BETWEEN ?1 AND ?2")
            .told("read")?;
        let mut rows = statement.query(range).told("read")?;
        while let Some(row) = rows.next().told("read")? {
            let run: i64 = row.get(0).told("read")?;
            let Some((number, at)) = find(run) else { continue };
            let text = |column: usize| row.get_ref(column).and_then(|v| Ok(v.as_str_or_null()?)).told("read");
            if text(2)? != given(&runs.inputs, at) {
                let message = format!(
                    "input {} is not what it was when job {} began: `--fresh` begins anew",
                    number + 1,
                    self.number
                );
                return Err(Fault::Refused(message));
            }
            let state = text(3)?.and_then(RunState::of);
            let state = state.ok_or_else(|| Fault::Damaged(format!("run {number} stands as nothing that is known")))?;
            let since = Some(Timestamp(row.get(4).told("read")?));
            let deadline = row.get::<_, Option<i64>>(5).told("read")?.map(Timestamp);
            let (history, spent) = (History::default(), Usage::default());
            let id = text(1)?.unwrap_or_default().to_owned();
            there[at] = Some(Earlier { id, state, history, since, spent, deadline });
        }
        let events =
            "SELECT run, kind, step, data, position FROM events WHERE run BETWEEN ?1 AND ?2 ORDER BY run, position";
        let mut statement = c.prepare_cached(events).told("read")?;
        let (mut rows, mut spending) = (statement.query(range).told("read")?, (None, Spending::default()));
        while let Some(row) = rows.next().told("read")? {
            let run: i64 = row.get(0).told("read")?;
            let Some((_, at)) = find(run) else { continue };
            let event: (String, Option<String>, Option<String>) =
                (row.get(1).told("read")?, row.get(2).told("read")?, row.get(3).told("read")?);
            let earlier = there[at].as_mut().ok_or_else(|| Fault::Damaged(format!("run {run} never began")))?;
            if spending.0 != Some(run) {
                spending = (Some(run), Spending::default());
            }
            if event.0 == RETRIED {
                earlier.since = Some(Timestamp(row.get(4).told("read")?));
            }
            spent(&mut spending.1, &event)?;
            earlier.spent = spending.1.total();
            add(&mut earlier.history, event, row.get(4).told("read")?)?;
        }
        Ok(())
    }
}

/// Whether the record of a step says that it has results.
pub fn has_completed(record: &str) -> bool {
    ["COMPLETED", "CACHED", "REUSED"].iter().any(|status| record.starts_with(&format!("{{\"status\":\"{status}\"")))
}

/// What a run that is tried again is told to do anew.
pub(crate) fn anew(data: Option<&str>) -> Result<Vec<String>, Fault> {
    let told = data.map(serde_json::from_str).transpose();
    Ok(told
        .map_err(|e| Fault::Damaged(format!("what is to be done anew is no list of steps: {e}")))?
        .unwrap_or_default())
}

/// Adds what happened to what is known of a run: its kind, its step or signal, its data.
pub(crate) fn add(
    history: &mut History,
    (kind, name, data): (String, Option<String>, Option<String>),
    at: i64,
) -> Result<(), Fault> {
    let (Some(name), Some(data)) = (name, data.clone()) else {
        if kind != RETRIED {
            return Ok(());
        }
        // Tried again: what did not complete is done anew, and what was told to be.
        let told = anew(data.as_deref())?;
        let is_told = |name: &str| told.iter().any(|step| History::is_of(name, step));
        history.0.retain(|name, record| name.starts_with('@') || (has_completed(record.get()) && !is_told(name)));
        history.done_again(&told);
        history.forget_open();
        return Ok(());
    };
    if let Some(step) = history.tried_again(&name, &data).filter(|_| kind == "signal") {
        let told = History::told_anew(&data);
        history.forget(step, has_completed);
        history.0.retain(|name, _| !told.iter().any(|step| History::is_of(name, step)));
        history.done_again(&told);
        return Ok(());
    }
    let damaged = |e| Fault::Damaged(format!("what it has of `{name}` is no JSON: {e}"));
    let data = RawValue::from_string(data).map_err(damaged)?;
    let name = match kind.as_str() {
        "wait" => History::wait(&name),
        "backoff" => History::backoff(&name),
        "signal" => {
            history.came(&name, data, at);
            return Ok(());
        }
        _ => name,
    };
    history.0.insert(name, data);
    Ok(())
}

pub(super) fn given(array: &StringArray, at: usize) -> Option<&str> {
    array.is_valid(at).then(|| array.value(at))
}
