//! Steps that are done in rounds: what the round before left, and whether there is another one.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::StringArray;
use arrow::record_batch::RecordBatch;

use super::attempts::{Attempts, NOTED};
use super::columns::{cell, numbers, scope};
use super::course::{Course, known};
use super::record::{Record, Status};
use super::wait::PATIENCE;
use crate::api::{CallContext, Next};
use crate::error::{Error, Result};
use crate::journal::{BackingOff, Entries, Journal, Steps, Wait};
use crate::spec::model::Repeat;
use crate::spec::switch::holds;

/// What a step is done in rounds for.
pub(super) struct Again {
    pub repeat: Repeat,
    /// Where a round is kept before the next begins.
    pub journal: Option<(Arc<dyn Journal>, Wait)>,
}

impl Again {
    /// Whether there is another round after this answer, and what it is asked. One that comes later is noted with its round.
    pub(super) async fn next(
        &self,
        (course, name): (&Course, &str),
        answer: &RecordBatch,
        context: &CallContext,
    ) -> Result<Next> {
        let text = cell(answer, &course.id, 0)?.unwrap_or_default();
        let record: Record = serde_json::from_str(text)?;
        let Some(rounds) = record.rounds.filter(|_| record.status == Status::Completed) else { return Ok(Next::Over) };
        // What was known before had its last round.
        let is_known = known(answer, 0, name)?.is_some();
        if is_known || rounds >= self.repeat.max || holds(&self.repeat.until, answer, 0, "repeat.until")? {
            return Ok(Next::Over);
        }
        // What is decided again waits for nothing.
        let every = if course.begin.recorded.is_some() { Duration::ZERO } else { self.repeat.every };
        if let Some((journal, wait)) = &self.journal {
            let named = |rounds| Ok::<_, Error>(format!("{}{}", scope(answer, 0)?, round(name, Some(rounds))).into());
            let (number, records) = (numbers(answer)?[0], StringArray::from(vec![text]));
            let steps = vec![Steps { step: named(rounds - 1)?, numbers: vec![number], names: None, records }];
            let next =
                (every > NOTED).then(|| Attempts::first(&format!("round {}", rounds + 1), context.env.wall(), every));
            let backoff = |next: &Attempts| -> Result<BackingOff> {
                Ok(BackingOff { number, step: named(rounds)?, data: serde_json::to_string(next)? })
            };
            let backoffs = next.iter().map(backoff).collect::<Result<_>>()?;
            // What is to be done at a time must be known at that time.
            let wait = if next.is_some() { Wait::Durable } else { *wait };
            journal.append(Entries { steps, backoffs, ..Entries::default() }, wait).await?;
            if let Some(next) = next.filter(|_| every > PATIENCE) {
                course.waits(journal, answer, (Some(next.due), true))?;
                return Ok(Next::Later(course.answer(answer, vec![serde_json::to_string(&next.record())?])?));
            }
        }
        if !every.is_zero() {
            context.env.sleep(every).await;
        }
        Ok(Next::Round(answer.clone()))
    }
}

/// What the round before left of a step of this name.
pub(super) fn before(course: &Course, rows: &RecordBatch, name: &str) -> Result<Record> {
    let first = Record { rounds: Some(0), ..Record::pending() };
    if rows.column_by_name(&course.id).is_some() {
        return Ok(cell(rows, &course.id, 0)?.map(serde_json::from_str).transpose()?.unwrap_or(first));
    }
    let mut last = first;
    while let Some(kept) = known(rows, 0, &round(name, last.rounds))? {
        last = serde_json::from_str(&kept)?;
    }
    Ok(last)
}

/// The name of the round that follows so many: `step#1` is the first.
pub(super) fn round(name: &str, rounds: Option<u32>) -> String {
    format!("{name}#{}", rounds.unwrap_or(0) + 1)
}

/// Adds the rounds before to a record.
pub(super) fn add(record: Record, before: &Record) -> Record {
    let rounds = before.rounds.unwrap_or(0);
    if rounds == 0 {
        return Record { rounds: Some(1), ..record };
    }
    let attempts = record.attempts + before.attempts;
    Record { rounds: Some(rounds + 1), attempts, ..record.costing(before.usage).behind(before) }
}
