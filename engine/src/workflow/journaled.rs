//! The places of a workflow's graph where the journal is asked and told: at the beginning of runs, behind steps, at the end.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::{filter_record_batch, not, take};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::columns::{ADMISSION, DEADLINE, HISTORY, ITEM, SCOPE, SINCE, numbers, passage, scope, texts, time};
use super::course::{is_open, item, known, status};
use super::document::document;
use super::finish::run_of;
use super::passages::passed;
use super::record::{Record, Status, state};
use super::rest::AtRest;
use super::result::DocumentConfig;
use crate::api::erased::ErasedStage;
use crate::api::limits::Retries;
use crate::api::{
    Accounts, BuildContext, Call, CallContext, Cardinality, Distribution, Keys, Limits, Operator, Order, Reply,
};
use crate::data::columns::{INPUT, RUN_ID, json_field};
use crate::data::units::Interval;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::{Earlier, Ends, Entries, Journal, RunState, Started, Steps, Wait};
use crate::time::Timestamp;

/// Runs that are told to the journal together, at most.
const ROWS: usize = 1_024;
/// How many such groups may wait for it in one place.
const IN_FLIGHT: usize = 64;
/// A journal that is busy for longer than this is told to be stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// A place of the graph where rows pass the journal. It can't be read from a spec, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(super) struct Journaled {
    pub journal: Arc<dyn Journal>,
    pub what: What,
}

/// What is asked or told.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Runs begin; their histories come back, and the documents of those that are at rest.
    Start(Wait, AtRest),
    /// Steps have ended.
    Steps(Arc<[Arc<str>]>, Wait),
    /// The work of a step is done, or a gate of it was asked: kept under the name of the step with this mark behind it.
    Mark(Arc<str>, Arc<str>, Wait),
    /// Passages of runs have come to the end, of which there may be several at once. What those have done is kept that have not seen all,
    /// and they leave no document.
    Passed(Vec<Arc<str>>),
    /// Runs have ended: of all steps, and what is still to be told of some.
    /// What becomes of their results may fail them still, if `ends` says so.
    End { steps: Vec<Arc<str>>, told: Vec<Arc<str>>, ends: Option<DocumentConfig> },
}

impl ErasedStage for Journaled {
    fn kind(&self) -> &'static str {
        "journal"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.output(&inputs[0]))
    }

    fn distribution(&self) -> Distribution {
        match self.what {
            // Runs begin in the order of their numbers, so that their places in the store are near each other.
            What::Start(..) => Distribution::Single,
            _ => Distribution::Any,
        }
    }

    fn cardinality(&self) -> Cardinality {
        if matches!(self.what, What::Passed(_)) { Cardinality::Many } else { Cardinality::One }
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let limits = Limits {
            rows: ROWS,
            in_flight: IN_FLIGHT,
            order: Order::Kept,
            timeout: Interval(PATIENCE),
            rate: None,
            // What the journal did with an entry that it did not confirm is unknown: only a new process can find out.
            retry: Retries { max_attempts: 1, ..Retries::default() },
            ..Limits::default()
        };
        let schema = self.output(&context.inputs[0]);
        Ok(Operator::call(Told { place: self.clone(), schema }, limits))
    }

    fn describe(&self) -> Value {
        match &self.what {
            What::Start(..) => json!({ "runs": "begin" }),
            What::Steps(steps, _) => json!({ "steps": steps }),
            What::Mark(step, mark, _) => json!({ "step": step, "mark": mark }),
            What::Passed(_) => json!({ "runs": "passed" }),
            What::End { .. } => json!({ "runs": "end" }),
        }
    }
}

impl Journaled {
    fn output(&self, input: &SchemaRef) -> SchemaRef {
        if !matches!(self.what, What::Start(..)) {
            return input.clone();
        }
        let history = [Arc::new(json_field(HISTORY))];
        let fields = input.fields().iter().cloned().chain(history).chain(AtRest::fields());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

struct Told {
    place: Journaled,
    schema: SchemaRef,
}

impl Call for Told {
    fn accounts(&self) -> Accounts {
        // The journal knows runs by their numbers.
        Accounts { keys: Keys::Own, ..Accounts::default() }
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let journal = &self.place.journal;
        match &self.place.what {
            What::Start(wait, rest) => {
                let started = Started {
                    ids: texts(&rows, RUN_ID)?.clone(),
                    numbers: numbers(&rows)?.to_vec(),
                    inputs: texts(&rows, INPUT)?.clone(),
                    wait: *wait,
                    at: context.env.wall(),
                    deadlines: (0..rows.num_rows()).map(|row| time(&rows, DEADLINE, row)).collect(),
                    returned: journal.asked().rest().back(numbers(&rows)?),
                };
                let known = journal.start(started).await?;
                self.begun(&rows, &known, rest, context.env.wall())
            }
            What::Mark(step, mark, wait) => {
                self.keep(&rows, vec![self.marked(&rows, step, mark)?], *wait).await?;
                Ok(Reply::rows(rows))
            }
            What::Steps(steps, wait) => {
                let steps = steps.iter().map(|step| self.unkept(&rows, step)).collect::<Result<_>>()?;
                self.keep(&rows, steps, *wait).await?;
                Ok(Reply::rows(rows))
            }
            What::Passed(told) => self.passed(rows, told).await.map(Reply::rows),
            What::End { steps, told, ends } => {
                let mut states = states(&rows, steps)?;
                for (row, state) in states.iter_mut().enumerate().filter(|(_, s)| **s == RunState::Completed) {
                    if let Some(config) = ends {
                        *state = document(config, &run_of(config, &rows, row)?).status;
                    }
                }
                let ends = Ends { numbers: numbers(&rows)?.to_vec(), states };
                let steps = told.iter().map(|step| self.unkept(&rows, step)).collect::<Result<_>>()?;
                journal.append(Entries { steps, ends, ..Entries::default() }, Wait::Durable).await?;
                Ok(Reply::rows(rows))
            }
        }
    }
}

impl Told {
    /// Appends what is not there yet.
    async fn keep(&self, rows: &RecordBatch, mut steps: Vec<Steps>, wait: Wait) -> Result<()> {
        steps.retain(|steps| !steps.numbers.is_empty());
        if steps.is_empty() {
            return Ok(());
        }
        let may_overlap = passage(rows, 0).is_some();
        let of =
            |steps: &Steps| (0..steps.numbers.len()).map(|at| (steps.numbers[at], steps.name(at).to_owned())).collect();
        let kept: Vec<Vec<(u64, String)>> = steps.iter().filter(|_| may_overlap).map(of).collect();
        let journal = &self.place.journal;
        journal.append(Entries { steps, ..Entries::default() }, wait).await?;
        journal.asked().rest().kept(kept.iter().flatten().map(|(run, step)| (*run, step.as_str())));
        Ok(())
    }

    /// The rows of runs that leave a document.
    async fn passed(&self, rows: RecordBatch, told: &[Arc<str>]) -> Result<RecordBatch> {
        let (asked, runs) = (self.place.journal.asked(), numbers(&rows)?);
        let rest = asked.rest();
        let leaves: BooleanArray = runs.iter().map(|run| Some(rest.leave(*run))).collect();
        if leaves.true_count() == runs.len() {
            return Ok(rows);
        }
        let others = filter_record_batch(&rows, &not(&leaves)?)?;
        let steps = told.iter().map(|step| self.unkept(&others, step)).collect::<Result<_>>()?;
        self.keep(&others, steps, Wait::No).await?;
        numbers(&others)?.iter().for_each(|run| rest.gone(*run));
        Ok(filter_record_batch(&rows, &leaves)?)
    }

    /// Whether what this row has of a step is for its passage to keep.
    fn keeps(&self, rows: &RecordBatch, row: usize, name: &str) -> Result<bool> {
        let Some(passed) = passed(rows, row)? else { return Ok(true) };
        Ok(self.place.journal.asked().rest().keep(passed, name))
    }

    /// The records of a step that the journal does not have yet.
    fn unkept(&self, rows: &RecordBatch, step: &Arc<str>) -> Result<Steps> {
        let (all, records, history) = (numbers(rows)?, texts(rows, step)?, texts(rows, HISTORY)?);
        let (are_items, is_within) = (rows.column_by_name(ITEM).is_some(), rows.column_by_name(SCOPE).is_some());
        let admission = texts(rows, ADMISSION)?;
        let mut open = false;
        for record in records.iter().flatten() {
            open |= is_open(record)?;
        }
        let may_overlap = passage(rows, 0).is_some();
        if history.null_count() == history.len() && !are_items && !is_within && !open && !may_overlap {
            return Ok(Steps { step: step.clone(), numbers: all.to_vec(), names: None, records: records.clone() });
        }
        let mut kept = Vec::new();
        for row in 0..all.len() {
            let place = item(rows, row)?;
            // The one row of a run without items is kept with the step as a whole.
            let is_new = match place {
                None => !are_items && known(rows, row, step)?.is_none(),
                Some(place) => known(rows, row, &place.of(step))?.is_none(),
            };
            // A workflow within another one that was not started has no steps.
            let has_begun = !is_within || admission.is_null(row);
            let name = place.map_or_else(|| step.to_string(), |place| place.of(step));
            let name = format!("{}{name}", scope(rows, row)?);
            if is_new && has_begun && !(open && is_open(records.value(row))?) && self.keeps(rows, row, &name)? {
                kept.push((row, name));
            }
        }
        let steps = part(step, (all, records), kept)?;
        Ok(Steps { names: steps.names.filter(|_| are_items || is_within), ..steps })
    }

    /// The records of a step whose gates are asked, as far as the journal has neither them nor the last word on the step.
    fn marked(&self, rows: &RecordBatch, step: &Arc<str>, mark: &str) -> Result<Steps> {
        let (all, records) = (numbers(rows)?, texts(rows, step)?);
        let mut kept = Vec::new();
        for row in 0..all.len() {
            let own = item(rows, row)?.map_or_else(|| step.to_string(), |place| place.of(step));
            let name = format!("{own}{mark}");
            let is_wanted = records.is_valid(row) && super::gate::is_to_be_kept(records.value(row))?;
            let is_new = is_wanted && known(rows, row, &own)?.is_none() && known(rows, row, &name)?.is_none();
            let name = format!("{}{name}", scope(rows, row)?);
            if is_new && self.keeps(rows, row, &name)? {
                kept.push((row, name));
            }
        }
        part(step, (all, records), kept)
    }

    /// Runs with what is known of them from before.
    fn begun(&self, rows: &RecordBatch, known: &[Option<Earlier>], rest: &AtRest, now: Timestamp) -> Result<Reply> {
        let rows = &named(&timed(rows, known)?, known)?;
        let (ids, runs, refused) = (texts(rows, RUN_ID)?, numbers(rows)?, texts(rows, ADMISSION)?);
        let (mut histories, mut documents, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for (row, earlier) in known.iter().enumerate() {
            let of_run = (runs[row], ids.value(row), refused.is_valid(row).then(|| refused.value(row)));
            // One under way is not at rest, however it stood before.
            let is_passed_again = passage(rows, row).is_some_and(|passage| passage > 0);
            let at_rest = earlier.as_ref().filter(|_| !is_passed_again);
            let document = at_rest.map(|earlier| rest.document(earlier, of_run, now)).transpose()?.flatten();
            if document.as_ref().is_none_or(|document| !document.status.has_ended())
                && let Some(deadline) = time(rows, DEADLINE, row).filter(|deadline| *deadline > now)
            {
                // Wherever it waits by then: it comes back to end.
                rest.asked.rest().waits(runs[row], Some(deadline.0));
            }
            // Nobody reads the history of one that is at rest.
            let goes_on = earlier.as_ref().filter(|_| document.is_none());
            if let Some((purses, earlier)) = rest.purses.as_ref().zip(goes_on.filter(|_| !is_passed_again)) {
                purses.begin(runs[row], earlier.spent);
            }
            histories.push(goes_on.map(|earlier| serde_json::to_string(&earlier.history)).transpose()?);
            states.push(document.as_ref().map(|document| document.status.name()));
            documents.push(document.map(|document| serde_json::to_string(&document)).transpose()?);
        }
        let more: [ArrayRef; 3] = [
            Arc::new(StringArray::from(histories)),
            Arc::new(StringArray::from(documents)),
            Arc::new(StringArray::from(states)),
        ];
        let columns = rows.columns().iter().cloned().chain(more).collect();
        Ok(Reply::rows(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

/// The rows with the ids of runs that began before.
fn named(rows: &RecordBatch, known: &[Option<Earlier>]) -> Result<RecordBatch> {
    if known.iter().all(Option::is_none) {
        return Ok(rows.clone());
    }
    let ids = texts(rows, RUN_ID)?.iter().zip(known).map(|(id, earlier)| earlier.as_ref().map(|e| &*e.id).or(id));
    let mut columns = rows.columns().to_vec();
    columns[rows.schema_ref().index_of(RUN_ID)?] = Arc::new(ids.collect::<StringArray>());
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// The rows with the times of runs that began before.
fn timed(rows: &RecordBatch, known: &[Option<Earlier>]) -> Result<RecordBatch> {
    if rows.column_by_name(SINCE).is_none() || known.iter().all(Option::is_none) {
        return Ok(rows.clone());
    }
    let mut columns = rows.columns().to_vec();
    for (name, of) in [(SINCE, Earlier::since as fn(&Earlier) -> Option<Timestamp>), (DEADLINE, Earlier::deadline)] {
        let at = |(row, earlier): (usize, &Option<Earlier>)| {
            earlier.as_ref().and_then(of).or_else(|| time(rows, name, row)).map(|time| time.0)
        };
        columns[rows.schema_ref().index_of(name)?] = Arc::new(known.iter().enumerate().map(at).collect::<Int64Array>());
    }
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

/// The records of these rows, under these names.
fn part(step: &Arc<str>, (all, records): (&[u64], &StringArray), kept: Vec<(usize, String)>) -> Result<Steps> {
    let places: UInt64Array = kept.iter().map(|(row, _)| *row as u64).collect();
    let numbers = kept.iter().map(|(row, _)| all[*row]).collect();
    let records = take(records, &places, None)?;
    let records = records.as_any().downcast_ref::<StringArray>().cloned();
    let records = records.ok_or_else(|| Error::engine("records are texts"))?;
    let names = kept.into_iter().map(|(_, name)| name).collect();
    Ok(Steps { step: step.clone(), numbers, names: Some(names), records })
}

/// How each run ended.
fn states(rows: &RecordBatch, steps: &[Arc<str>]) -> Result<Vec<RunState>> {
    let admission = texts(rows, ADMISSION)?;
    let columns = steps.iter().map(|step| texts(rows, step)).collect::<Result<Vec<_>>>()?;
    let mut all = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        let mut steps = Vec::with_capacity(columns.len());
        for column in &columns {
            let record = column.value(row);
            let status = status(record)?;
            steps.push(match status {
                // Of most the status says it all, and results may be large.
                Status::Pending | Status::Canceled => serde_json::from_str::<Record>(record)?.standing(),
                status => status.of_run(),
            });
        }
        all.push(state(admission.is_valid(row), steps.into_iter()));
    }
    Ok(all)
}
