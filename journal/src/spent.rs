//! What the runs of a job have cost, read off what their steps left.

use bourn_engine::Result;
use bourn_engine::api::Usage;
use bourn_engine::journal::{History, Spending};
use rusqlite::params;

use crate::fault::{Fault, Faults as _};
use crate::job::{Job, anew, run_number};

/// What happened to a run that is tried again.
pub(crate) const RETRIED: &str = "retried";

/// Adds what happened to what a run has cost: its kind, its step, its data.
pub(crate) fn spent(
    spending: &mut Spending,
    (kind, step, data): &(String, Option<String>, Option<String>),
) -> Result<(), Fault> {
    match (kind.as_str(), step, data) {
        (RETRIED, _, data) => spending.retried(&anew(data.as_deref())?),
        ("step", Some(step), Some(data)) => {
            let damaged = |e| Fault::Damaged(format!("what it has of `{step}` is no record: {e}"));
            spending.left(step, data).map_err(damaged)?;
        }
        ("backoff" | "wait", Some(step), Some(data)) => {
            let damaged = |e| Fault::Damaged(format!("what it has of the attempts of `{step}` is no note: {e}"));
            spending.noted(step, data).map_err(damaged)?;
        }
        ("signal", Some(signal), Some(data)) => {
            if let Some(step) = History::decided_again(signal, data) {
                spending.tried_again(step, &History::told_anew(data));
            }
        }
        _ => {}
    }
    Ok(())
}

impl Job {
    /// What the steps of its runs have cost, as far as they have ended.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn spent(&self) -> Result<Usage> {
        self.journal.read(|c| {
            let query = "SELECT run, kind, step, data FROM events WHERE run >= ?1 AND run < ?2 AND \
                         (kind IN ('retried', 'backoff', 'wait', 'signal') OR kind = 'step' AND data ->> '$.usage' IS NOT NULL) \
                         ORDER BY run, position";
            let mut statement = c.prepare(query).told("read")?;
            let range = params![run_number(self.number, 0)?, run_number(self.number + 1, 0)?];
            let (mut total, mut run, mut of_run) = (Usage::default(), None, Spending::default());
            let mut rows = statement.query(range).told("read")?;
            while let Some(row) = rows.next().told("read")? {
                let of: i64 = row.get(0).told("read")?;
                if run != Some(of) {
                    total += std::mem::take(&mut of_run).total();
                    run = Some(of);
                }
                let event = (row.get(1).told("read")?, row.get(2).told("read")?, row.get(3).told("read")?);
                spent(&mut of_run, &event)?;
            }
            total += of_run.total();
            Ok(total)
        })
    }
}
