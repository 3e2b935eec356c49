//! What is changed by hand: runs tried again, forked, canceled.

use std::sync::{Arc, Mutex, PoisonError};

use bourn_engine::journal::History;
use bourn_engine::{Error, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value};

use crate::Sqlite;
use crate::fault::{Fault, Faults as _};
use crate::job::{Begin, run_number};
use crate::read::{Run, Spec};
use crate::spent::RETRIED;
use crate::writer::Clock;

/// What a new run is made of.
pub struct Fork<'a> {
    /// The run that it is made from.
    pub run: &'a Run,
    /// The last step that is taken over; none if nothing is.
    pub step: Option<&'a str>,
    /// Its id.
    pub id: &'a str,
    /// What its job begins with.
    pub begin: Begin,
}

impl Sqlite {
    /// A run that has ended is under way again: what did not complete is to be done anew, and these steps too.
    ///
    /// # Errors
    /// When it has not ended, somebody runs its job, or the journal can't be written.
    pub fn reopen(&self, run: &Run, anew: &[String]) -> Result<()> {
        let anew = serde_json::to_string(anew)?;
        let _claim = self.claim(run.job)?;
        let number = run.number;
        self.0.writer.write_now(move |c, clock| {
            let update = "UPDATE runs SET status = 'RUNNING', ended = NULL, deadline = NULL WHERE run = ?1 AND ended IS NOT NULL";
            if c.execute(update, [number]).told("write")? == 0 {
                return Err(Fault::Refused("the run has not ended".into()));
            }
            // What was asked of it was asked of the run that has ended.
            let taken_back =
                "INSERT INTO asks (run, what, at) SELECT DISTINCT run, 'resume', ?2 FROM asks WHERE run = ?1";
            c.execute(taken_back, params![number, clock.next()]).told("write")?;
            let event = "INSERT INTO events (run, position, kind, data) VALUES (?1, ?2, 'retried', ?3)";
            c.execute(event, params![number, clock.next(), anew]).told("write").map(drop)
        })
    }

    /// What was said of the budget of a job, over its spec.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn budget(&self, job: u64) -> Result<Map<String, Value>> {
        self.read(|c| {
            let query = "SELECT budget FROM jobs WHERE job = ?1";
            let text: String = c.query_row(query, [job], |row| row.get(0)).told("read")?;
            serde_json::from_str(&text).map_err(|e| Fault::Damaged(format!("the budget of job {job} is none: {e}")))
        })
    }

    /// Whoever goes on with a job keeps to this from now on.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn say_budget(&self, job: u64, budget: &Map<String, Value>) -> Result<()> {
        let text = serde_json::to_string(budget)?;
        self.0.writer.write_now(move |c, _| {
            c.execute("UPDATE jobs SET budget = ?2 WHERE job = ?1", params![job, text]).told("write").map(drop)
        })
    }

    /// Whether a process runs the job of this run.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn is_claimed(&self, run: &Run) -> Result<bool> {
        Ok(crate::claim::Claim::take(self.path(), run.job, &self.0.env)?.is_none())
    }

    /// What somebody says to a step of a run that waits for a signal, or for a decision, and to no other. Of several answers the first one
    /// counts: what that said is returned, if this is not it.
    ///
    /// # Errors
    /// When the run or the step has ended, or the journal can't be written.
    pub fn answer(&self, run: &Run, step: &str, data: &Value, who: Option<&str>) -> Result<Option<String>> {
        let (number, step, data) = (run.number, step.to_owned(), data.to_string());
        let (name, who) = (History::decision(&step), who.map(str::to_owned));
        let earlier = Arc::new(Mutex::new(None));
        let found = earlier.clone();
        self.0.writer.write_now(move |c, clock| {
            is_open(c, number)?;
            let begun = "SELECT coalesce(max(position), 0) FROM events WHERE run = ?1 AND kind = 'wait' AND step = ?2";
            let begun: i64 = c.query_row(begun, params![number, step], |row| row.get(0)).told("read")?;
            let behind = "SELECT data FROM events WHERE run = ?1 AND kind = ?2 AND step = ?3 AND position > ?4 LIMIT 1";
            let behind = |kind: &str, name: &str| {
                let row = params![number, kind, name, begun];
                c.query_row(behind, row, |row| row.get::<_, String>(0)).optional().told("read")
            };
            if behind("step", &step)?.is_some() {
                return Err(Fault::Refused(format!("step `{step}` waits no longer")));
            }
            if let Some(data) = behind("signal", &name)? {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(data);
                return Ok(());
            }
            send(c, clock, (number, &name, &data), who.as_deref())
        })?;
        let earlier = earlier.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(earlier)
    }

    /// A signal for a run, and who sends it: a step that waits for it goes on when the run passes next.
    ///
    /// # Errors
    /// When the run has ended, or the journal can't be written.
    pub fn signal(&self, run: &Run, name: &str, data: &Value, who: Option<&str>) -> Result<()> {
        let (number, name, data) = (run.number, name.to_owned(), data.to_string());
        let who = who.map(str::to_owned);
        self.0.writer.write_now(move |c, clock| {
            is_open(c, number)?;
            send(c, clock, (number, &name, &data), who.as_deref())
        })
    }

    /// What a job begins with that does what the job of this run does.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn begin_of(&self, run: &Run) -> Result<Begin> {
        let Spec { file, text, included, .. } = self.spec(run.job)?;
        Ok(Begin {
            workflow: run.workflow.clone(),
            file,
            text,
            included,
            source: None,
            mock: run.mock,
            fresh: false,
            r#type: run.workflow_type.clone(),
            labels: run.labels.clone(),
            run_key: None,
        })
    }

    /// A new run with the same input, in a job of its own, which has what the run had when the step had ended, all of it changed by
    /// `change`. Says which steps were taken over.
    ///
    /// # Errors
    /// When the step has not completed in `run`, the id is taken, or the journal can't be written.
    pub fn fork(
        &self,
        Fork { run, step, id, begin }: Fork<'_>,
        change: impl FnOnce(&mut [(String, Value)]) -> Result<()>,
    ) -> Result<(Run, Vec<String>)> {
        let events = self.events(run)?;
        let end = match step {
            None => None,
            Some(step) => {
                let is_it = |e: &&crate::Event| e.kind == "step" && e.step.as_deref() == Some(step);
                let missing = || Error::validation(format!("step `{step}` has not ended in run `{}`", run.id));
                Some(events.iter().rfind(is_it).ok_or_else(missing)?.at)
            }
        };
        let mut taken: Vec<(String, Value)> = Vec::new();
        for event in events.into_iter().filter(|e| end.is_some_and(|end| e.at <= end)) {
            if event.kind == RETRIED {
                // It was done anew from there on, and what had been done at the end of the run was for another end.
                let told = crate::job::anew(event.data.as_deref()).map_err(|fault| fault.at(self.path()))?;
                taken.retain(|(known, _)| !told.iter().any(|step| History::is_of(known, step)));
                continue;
            }
            let (Some(step), Some(data), "step") = (event.step, event.data, event.kind.as_str()) else { continue };
            taken.retain(|(known, _)| *known != step);
            let mut record: Value = serde_json::from_str(&data)?;
            if !["COMPLETED", "CACHED", "REUSED"].iter().any(|s| record["status"] == *s) {
                continue;
            }
            record["status"] = "REUSED".into();
            taken.push((step, record));
        }
        // Nothing begins when that can't be.
        change(&mut taken)?;
        let job = self.begin(&begin)?.job;
        let (number, id, from) = (job.number(), id.to_owned(), run.clone());
        let new = id.clone();
        let records: Vec<(String, String)> =
            taken.iter().map(|(step, record)| (step.clone(), record.to_string())).collect();
        self.0.writer.write_now(move |c, clock| {
            let insert = "INSERT INTO runs (run, id, status, input, started, forked_from) VALUES (?1, ?2, 'RUNNING', ?3, ?4, ?5)";
            let run = run_number(number, 0)?;
            let inserted = c.execute(insert, params![run, id, from.input, clock.next(), from.id]);
            inserted.map_err(|e| crate::job::taken(e, &id))?;
            for (step, record) in &records {
                let event = "INSERT INTO events (run, position, kind, step, data) VALUES (?1, ?2, 'step', ?3, ?4)";
                c.execute(event, params![run, clock.next(), step, record]).told("write")?;
            }
            Ok(())
        })?;
        drop(job);
        Ok((self.run(&new)?, taken.into_iter().map(|(step, _)| step).collect()))
    }
}

/// Whether a run has not ended.
fn is_open(c: &Connection, run: i64) -> Result<(), Fault> {
    let open = "SELECT count(*) FROM runs WHERE run = ?1 AND ended IS NULL";
    if c.query_row(open, [run], |row| row.get::<_, i64>(0)).told("read")? == 0 {
        return Err(Fault::Refused("the run has ended".into()));
    }
    Ok(())
}

/// A signal of this name is there, and the process that runs the job of the run hears it.
fn send(
    c: &Connection,
    clock: &mut Clock,
    (run, name, data): (i64, &str, &str),
    who: Option<&str>,
) -> Result<(), Fault> {
    let insert = "INSERT INTO events (run, position, kind, step, data, who) VALUES (?1, ?2, 'signal', ?3, ?4, ?5)";
    c.execute(insert, params![run, clock.next(), name, data, who]).told("write")?;
    let ask = "INSERT INTO asks (run, what, at) VALUES (?1, ?2, ?3)";
    c.execute(ask, params![run, crate::asked::SIGNAL, clock.next()]).told("write").map(drop)
}
