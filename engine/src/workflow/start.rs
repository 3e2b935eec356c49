//! Whether a step starts in a run: by the records of those before it, its condition, and the switches that may choose it.

use std::collections::BTreeSet;

use arrow::record_batch::RecordBatch;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;

use super::columns::cell;
use super::course::status;
use super::record::{Record, Status};
use crate::api::template::Template;
use crate::error::{Error, Result};
use crate::spec::Chain;
use crate::spec::model::Starts;
use crate::spec::switch::holds;
use crate::time::Timestamp;

/// Why a step is skipped whose condition is false.
pub(super) const CONDITION: &str = "its condition is false";

/// When a step starts.
#[derive(Clone)]
pub(super) struct Start {
    /// The id of the step.
    own: String,
    kind: Kind,
    /// The steps that it needs.
    needs: Vec<Need>,
    /// The steps that it must not overlap with, by id.
    after: Vec<String>,
    /// The switches that may choose it, by id.
    chosen_by: Vec<String>,
    condition: Option<Template>,
    /// Whether it stands in a workflow that cleans up.
    in_cleanup: bool,
}

#[derive(Clone)]
enum Kind {
    Completed,
    /// All that comes before the end.
    Finally {
        all: Vec<String>,
    },
    /// The step that it undoes, and all that may have failed.
    Undo {
        step: String,
        all: Vec<String>,
    },
}

#[derive(Clone)]
struct Need {
    id: String,
    /// The switches that it stands behind, by id.
    behind: BTreeSet<String>,
}

/// Why a step is not started.
pub(super) enum Skip {
    /// For this reason, and for good.
    For(String),
    /// A switch chose another way.
    NotChosen(String),
    /// A step that it needs waits.
    ForNow,
}

/// What a switch made of a step.
#[derive(Deserialize)]
struct Chosen {
    #[serde(default)]
    not_chosen_by: Option<String>,
    #[serde(default)]
    results: Value,
}

/// When a step ended, from its record.
pub(super) fn ended(record: &str) -> Result<Option<Timestamp>> {
    #[derive(Deserialize)]
    struct Times {
        #[serde(default)]
        started_at: Option<String>,
        #[serde(default)]
        duration_ms: Option<i64>,
    }
    let Times { started_at, duration_ms } = serde_json::from_str(record)?;
    let begun = started_at.and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
    let took = duration_ms.unwrap_or_default().saturating_mul(1_000);
    Ok(begun.map(|begun| Timestamp(begun.timestamp_micros().saturating_add(took))))
}

impl Start {
    /// That of something that needs nothing.
    pub(super) fn at_once() -> Self {
        let (own, kind, needs, chosen_by) = (String::new(), Kind::Completed, Vec::new(), Vec::new());
        Self { own, kind, needs, after: Vec::new(), chosen_by, condition: None, in_cleanup: false }
    }

    /// That of the step at this place, when it is known what [stands before](behind) each.
    pub(super) fn of(spec: &Chain, at: usize, behind: &[BTreeSet<usize>]) -> Self {
        let step = &spec.steps[at];
        let id = |at: &usize| spec.steps[*at].id.clone();
        let need = |at: &usize| Need { id: id(at), behind: behind[*at].iter().map(id).collect() };
        let ids = |wanted: fn(Starts) -> bool| {
            spec.steps.iter().filter(|step| wanted(step.starts)).map(|step| step.id.clone()).collect()
        };
        let kind = match step.starts {
            Starts::Completed => Kind::Completed,
            Starts::Finally => Kind::Finally { all: ids(|starts| starts != Starts::Finally) },
            Starts::Undo(of) => Kind::Undo { step: id(&of), all: ids(|starts| starts == Starts::Completed) },
        };
        Self {
            own: step.id.clone(),
            kind,
            needs: step.needs.iter().map(need).collect(),
            after: step.after.iter().map(|after| id(&after.step)).collect(),
            chosen_by: step.chosen_by.iter().map(id).collect(),
            condition: step.condition.clone(),
            in_cleanup: false,
        }
    }

    /// Whether it is started also in a run that somebody has stopped: it cleans up.
    pub(super) fn cleans_up(&self) -> bool {
        self.in_cleanup || !matches!(self.kind, Kind::Completed)
    }

    /// The same in a workflow that cleans up.
    pub(super) fn in_cleanup(self, in_cleanup: bool) -> Self {
        Self { in_cleanup, ..self }
    }

    /// Why the step is not started in this run.
    pub(super) fn skip(&self, rows: &RecordBatch, row: usize) -> Result<Option<Skip>> {
        let skip = match &self.kind {
            Kind::Completed => self.before(rows, row)?,
            // What it needs may have been stopped beside a step that another passage of the run has begun: of all none may be open.
            Kind::Finally { all } | Kind::Undo { all, .. }
                if self.open(rows, row)? || Self::any_open(all.iter(), rows, row)? =>
            {
                Some(Skip::ForNow)
            }
            Kind::Finally { .. } => None,
            Kind::Undo { step, all } => nothing_to_undo(step, all, rows, row)?.map(Skip::For),
        };
        if skip.is_some() {
            return Ok(skip);
        }
        // Whatever became of those; what has not ended may go on to do something.
        if Self::any_open(self.after.iter(), rows, row)? {
            return Ok(Some(Skip::ForNow));
        }
        let Some(condition) = &self.condition else { return Ok(None) };
        let wanted = holds(condition, rows, row, "if")?;
        Ok((!wanted).then(|| Skip::For(CONDITION.into())))
    }

    /// When the last of the steps before it ended; none if there is none that did anything.
    pub(super) fn ready(&self, rows: &RecordBatch, row: usize) -> Result<Option<Timestamp>> {
        let ids = self.needs.iter().map(|need| &need.id).chain(&self.after);
        let mut ends = ids.map(|id| ended(record(rows, id, row)?));
        ends.try_fold(None, |last, end| Ok(last.max(end?)))
    }

    /// Whether a step before it has not ended.
    fn open(&self, rows: &RecordBatch, row: usize) -> Result<bool> {
        Self::any_open(self.needs.iter().map(|need| &need.id), rows, row)
    }

    fn any_open<'a>(ids: impl Iterator<Item = &'a String>, rows: &RecordBatch, row: usize) -> Result<bool> {
        for id in ids {
            if status(record(rows, id, row)?)?.is_open() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What of the steps that it needs, and of the switches before it, keeps it from starting.
    fn before(&self, rows: &RecordBatch, row: usize) -> Result<Option<Skip>> {
        let mut waits = false;
        // Of the steps that completed, the switches that they stand behind; of the others, the switches that did not choose them.
        let (mut taken, mut not_taken) = (BTreeSet::new(), BTreeSet::new());
        for need in &self.needs {
            let record = record(rows, &need.id, row)?;
            let how = match status(record)? {
                Status::Completed | Status::Cached | Status::Reused => {
                    taken.extend(&need.behind);
                    continue;
                }
                Status::Waiting | Status::BackingOff | Status::Pending => {
                    waits = true;
                    continue;
                }
                Status::Skipped => match serde_json::from_str::<Chosen>(record)?.not_chosen_by {
                    Some(switch) => {
                        not_taken.insert(switch);
                        continue;
                    }
                    None => "was skipped",
                },
                Status::TimedOut => "timed out",
                Status::Canceled => "was canceled",
                Status::Failed => "failed",
            };
            return Ok(Some(Skip::For(format!("`{}` {how}", need.id))));
        }
        if waits {
            return Ok(Some(Skip::ForNow));
        }
        // Where ways meet again, it is enough that one of them was gone.
        if let Some(switch) = not_taken.into_iter().find(|switch| !taken.contains(switch)) {
            return Ok(Some(Skip::NotChosen(switch)));
        }
        self.chosen(rows, row)
    }

    /// Whether one of the switches that may choose it did.
    fn chosen(&self, rows: &RecordBatch, row: usize) -> Result<Option<Skip>> {
        for switch in &self.chosen_by {
            // It has completed: it is needed.
            let chosen: Chosen = serde_json::from_str(record(rows, switch, row)?)?;
            let is_own = |id: &Value| id.as_str() == Some(&self.own);
            if chosen.results.as_array().is_some_and(|ids| ids.iter().any(is_own)) {
                return Ok(None);
            }
        }
        Ok(self.chosen_by.first().map(|switch| Skip::NotChosen(switch.clone())))
    }
}

/// The record of a step.
fn record<'a>(rows: &'a RecordBatch, step: &str, row: usize) -> Result<&'a str> {
    cell(rows, step, row)?.ok_or_else(|| Error::engine(format!("step `{step}` has no record")))
}

/// Why a step need not be undone.
fn nothing_to_undo(step: &str, all: &[String], rows: &RecordBatch, row: usize) -> Result<Option<String>> {
    match status(record(rows, step, row)?)? {
        Status::Completed | Status::Reused => {}
        // Whatever it did was done by another run, and counts there.
        Status::Cached => return Ok(Some(format!("`{step}` was answered from the cache"))),
        _ => return Ok(Some(format!("`{step}` did not complete"))),
    }
    for other in all {
        if matches!(status(record(rows, other, row)?)?, Status::Failed | Status::TimedOut | Status::Canceled) {
            return Ok(None);
        }
    }
    Ok(Some("the run has not failed".into()))
}

/// For each step the switches whose ways lead to it.
pub(super) fn behind(spec: &Chain) -> Vec<BTreeSet<usize>> {
    let mut behind: Vec<BTreeSet<usize>> = spec.steps.iter().map(|s| s.chosen_by.iter().copied().collect()).collect();
    let mut is_whole = behind.iter().all(BTreeSet::is_empty);
    // Every round goes at least one step further.
    while !is_whole {
        is_whole = true;
        for (at, step) in spec.steps.iter().enumerate() {
            let more: BTreeSet<usize> = step.needs.iter().flat_map(|need| behind[*need].clone()).collect();
            is_whole &= more.is_subset(&behind[at]);
            behind[at].extend(more);
        }
    }
    behind
}

impl Record {
    /// A step that is not started.
    pub(super) fn not_started(skip: Skip) -> Self {
        match skip {
            Skip::For(reason) => Self::skipped(reason),
            Skip::NotChosen(switch) => {
                Self { not_chosen_by: Some(switch.clone()), ..Self::skipped(format!("`{switch}` chose another way")) }
            }
            Skip::ForNow => Self::pending(),
        }
    }
}
