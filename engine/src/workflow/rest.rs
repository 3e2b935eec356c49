//! Runs that a job comes to again and in which there is nothing to do: those that have ended, and those that wait for what has not come.
//! Their documents are made of what the journal has of them, where it is asked, and no step is passed.

use std::collections::BTreeSet;

use arrow::array::Array;
use arrow::compute::{filter_record_batch, is_not_null, not};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{DOCUMENT, RUN, STATE};
use super::document::{Run, document};
use super::documents::made;
use super::record::Record;
use super::result::{DocumentConfig, ResultDocument};
use super::wait::Wait;
use crate::api::{BuildContext, Cardinality, Operator, Output, Progress, Purses, Stage, StageConfig};
use crate::data::columns::json_field;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::{Asked, Earlier, History, RunState};
use crate::time::Timestamp;

/// Makes the documents of runs at rest.
#[derive(Clone, Debug)]
pub(super) struct AtRest {
    pub documents: DocumentConfig,
    /// What somebody asks of runs: one that is asked something is not at rest.
    pub asked: Asked,
    /// What each run may spend.
    pub purses: Option<Purses>,
}

impl AtRest {
    /// The columns that it adds to runs: the document and how the run stands, null for one that goes on.
    pub(super) fn fields() -> [FieldRef; 2] {
        [json_field(DOCUMENT).into(), Field::new(STATE, DataType::Utf8, true).into()]
    }

    /// The document of a run, if it is at rest; `refused` is the failed record of an input that was no good.
    pub(super) fn document(
        &self,
        earlier: &Earlier,
        (number, id, refused): (u64, &str, Option<&str>),
        now: Timestamp,
    ) -> Result<Option<ResultDocument>> {
        let waits = earlier.state == RunState::Waiting && self.asked.of(number).is_none();
        if !waits && !earlier.state.has_ended() {
            return Ok(None);
        }
        if waits && earlier.deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(None);
        }
        let Some((steps, due)) = self.steps(&earlier.history, waits, now)? else { return Ok(None) };
        let admission = refused.map(serde_json::from_str).transpose()?;
        let document = document(&self.documents, &Run { id: id.to_owned(), admission, steps });
        // Whatever else it may be is for the steps to say.
        if document.status != earlier.state {
            return Ok(None);
        }
        if waits {
            self.asked.rest().rests(number, due);
        }
        Ok(Some(document))
    }

    /// The records of its steps, and the times until which they wait; none when something is to be done.
    fn steps(&self, history: &History, waits: bool, now: Timestamp) -> Result<Option<(Vec<Record>, Vec<i64>)>> {
        let shapes = &self.documents.steps;
        // A wait within a list or another workflow is told by the step around it, and a retry that is to come by its step.
        let mut waiting: BTreeSet<&str> = BTreeSet::new();
        let is_told = |name: &&String| [History::SIGNAL, History::AGAIN].iter().any(|kind| name.starts_with(kind));
        for name in history.0.keys().filter(|name| name.starts_with('@') && !is_told(name)) {
            match name.strip_prefix(History::WAIT) {
                Some(step) if history.0.contains_key(step) => {}
                Some(step) => drop(waiting.insert(step)),
                None if waits => return Ok(None),
                None => {}
            }
        }
        if waits == waiting.is_empty() {
            return Ok(None);
        }
        let (mut records, mut due) = (Vec::with_capacity(shapes.len()), Vec::new());
        for shape in shapes {
            let is_waiting = waiting.remove(shape.id.as_str());
            records.push(match history.0.get(&shape.id) {
                Some(record) => serde_json::from_str(record.get())?,
                None if is_waiting => {
                    let Some(wait) = Wait::of(history, &shape.id)? else { return Ok(None) };
                    if wait.is_over((history, &shape.id), now) {
                        return Ok(None);
                    }
                    due.extend(wait.due());
                    wait.record(now)
                }
                None if waits => Record::pending(),
                None => return Ok(None),
            });
        }
        Ok(waiting.is_empty().then_some((records, due)))
    }
}

/// The port by which the documents of runs at rest leave.
pub(super) const PORT: &str = "rest";

/// Parts them from the runs that go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestConfig {}

/// Where in a schema these columns stand.
fn places(schema: &SchemaRef, names: &[&str]) -> Result<Vec<usize>> {
    names.iter().map(|name| schema.index_of(name).map_err(Error::from)).collect()
}

/// Where the columns stand of runs that go on.
fn going_on(schema: &SchemaRef) -> Vec<usize> {
    (0..schema.fields().len()).filter(|i| ![DOCUMENT, STATE].contains(&schema.field(*i).name().as_str())).collect()
}

impl StageConfig for RestConfig {
    const NAME: &'static str = "rest";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].project(&going_on(&inputs[0])).map_or_else(|_| inputs[0].clone(), Into::into))
    }

    fn port_schema(&self, _: &str, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(made())
    }

    fn ports(&self) -> Vec<String> {
        vec![PORT.to_owned()]
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let input = &context.inputs[0];
        Ok(Operator::stage(Parted { going_on: going_on(input), made: places(input, &[RUN, DOCUMENT, STATE])? }))
    }
}

struct Parted {
    /// The columns of runs that go on.
    going_on: Vec<usize>,
    /// Those of documents.
    made: Vec<usize>,
}

impl Stage for Parted {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let documents = rows.column(self.made[1]);
        let going_on = rows.project(&self.going_on)?;
        if documents.null_count() == documents.len() {
            out.emit(going_on);
            return Ok(Progress::Done);
        }
        let at_rest = is_not_null(documents)?;
        let made = filter_record_batch(&rows.project(&self.made)?, &at_rest)?;
        out.emit_to(1, RecordBatch::try_new(super::documents::made(), made.columns().to_vec())?);
        out.emit(filter_record_batch(&going_on, &not(&at_rest)?)?);
        Ok(Progress::Done)
    }
}
