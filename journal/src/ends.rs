//! What of all runs has ended, for who checks that nothing of it goes.

use bourn_engine::Result;
use bourn_engine::journal::RunState;

use crate::Sqlite;
use crate::fault::{Fault, Faults as _};

/// What has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The run and the name of each step that has ended, as often as the journal has it: `step`, `step[3]`, `step#2`, `outer/step`.
    pub steps: Vec<(String, String)>,
    /// How each run stands.
    pub runs: Vec<(String, RunState)>,
    /// Whether there were jobs, and all of them have ended.
    pub are_over: bool,
}

impl Sqlite {
    /// What has ended of all runs, and how they stand.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn ended(&self) -> Result<Ended> {
        self.read(|c| {
            let query = "SELECT id, step FROM events JOIN runs USING (run) WHERE kind = 'step'";
            let mut statement = c.prepare(query).told("read")?;
            let steps = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).told("read")?;
            let steps = steps.collect::<rusqlite::Result<_>>().told("read")?;
            let mut statement = c.prepare("SELECT id, status FROM runs ORDER BY run").told("read")?;
            let mut rows = statement.query(()).told("read")?;
            let mut runs = Vec::new();
            while let Some(row) = rows.next().told("read")? {
                let (id, status): (String, String) = (row.get(0).told("read")?, row.get(1).told("read")?);
                let state = RunState::of(&status).ok_or_else(|| Fault::Damaged(format!("no run is {status}")))?;
                runs.push((id, state));
            }
            let query = "SELECT count(*) > 0 AND count(*) = count(ended) FROM jobs";
            let are_over = c.query_row(query, (), |row| row.get(0)).told("read")?;
            Ok(Ended { steps, runs, are_over })
        })
    }
}
