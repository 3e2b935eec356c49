//! A step for each element of a list: a run is a row for each of them, and one again when all have ended.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::columns::{ADMISSION, DEADLINE, DONE, HISTORY, ITEM, ITEMS, PASSAGE, RUN, SCOPE, SINCE, scope};
use super::course::{Begin, Course, cell_of};
use super::fail_fast::FailFast;
use super::record::{self, Record, Status};
use super::recorded::Recorded;
use super::start::Start;
use super::wait::Wait;
use crate::api::erased::ErasedStage;
use crate::api::template::Template;
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage};
use crate::data::columns::{INPUT, RUN_ID, json_field};
use crate::data::records::ROWS_MAX;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::{Asked, History};
use crate::state::StateVisitor;

/// Bytes of a batch of items, as far as they are known before it is made.
const BYTES: usize = 1 << 20;

/// Makes the rows of the items. It can't be read from a spec, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(super) struct ItemsConfig {
    /// The step.
    pub id: Arc<str>,
    pub start: Start,
    /// What gives the list.
    pub list: Template,
    /// The name of the column with the element.
    pub name: String,
    /// Columns of the run that the step may read.
    pub carried: Vec<String>,
    /// What somebody asks of runs meanwhile.
    pub asked: Asked,
    /// What ends runs that have failed.
    pub fails: FailFast,
    /// The history of a run that is decided again.
    pub recorded: Option<Recorded>,
}

impl ItemsConfig {
    fn output(&self, input: &SchemaRef) -> SchemaRef {
        let engine = [RUN_ID, RUN, ADMISSION, HISTORY, INPUT, PASSAGE, SCOPE, SINCE, DEADLINE];
        let wanted = |name: &str| engine.contains(&name) || self.carried.iter().any(|c| c == name);
        let kept = input.fields().iter().filter(|f| wanted(f.name())).cloned();
        let own = [
            Field::new(ITEM, DataType::UInt64, true),
            Field::new(ITEMS, DataType::UInt64, false),
            json_field(DONE),
            json_field(&self.name),
        ];
        Arc::new(Schema::new(kept.chain(own.map(Arc::new)).collect::<Vec<_>>()))
    }
}

impl ErasedStage for ItemsConfig {
    fn kind(&self) -> &'static str {
        "for_each"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.output(&inputs[0]))
    }

    fn distribution(&self) -> Distribution {
        Distribution::Any
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::Many
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let course = Course {
            id: self.id.clone(),
            schema: self.output(&context.inputs[0]),
            env: context.env.clone(),
            begin: Begin {
                start: self.start.clone(),
                fallback: 0,
                default: None,
                marks: Arc::default(),
                asked: self.asked.clone(),
                fails: self.fails.clone(),
                recorded: self.recorded.clone(),
            },
        };
        Ok(Operator::stage(Items { config: self.clone(), course, left: None }))
    }

    fn describe(&self) -> Value {
        json!({ "step": &*self.id, "as": self.name })
    }
}

struct Items {
    config: ItemsConfig,
    course: Course,
    /// What of the last batch is still to be said. Nothing is, whenever state is looked at.
    left: Option<Left>,
}

/// Runs whose items are not all out.
struct Left {
    rows: RecordBatch,
    row: usize,
    /// The elements of that run's list, and the next one.
    list: Vec<Value>,
    next: usize,
    known: Known,
}

/// What is known of a list from before: of each of its elements its own part, and signals, which any step may wait for.
#[derive(Default)]
struct Known {
    parts: HashMap<u64, History>,
    signals: History,
}

impl Known {
    /// What is known of an element, as text.
    fn of(&mut self, item: u64) -> Result<Option<String>> {
        let mut known = self.parts.remove(&item).unwrap_or_default();
        known.0.extend(self.signals.0.iter().map(|(name, data)| (name.clone(), data.clone())));
        Ok((!known.0.is_empty()).then(|| serde_json::to_string(&known)).transpose()?)
    }
}

/// The rows of a batch that is being made.
#[derive(Default)]
struct Made {
    of: Vec<u64>,
    item: Vec<Option<u64>>,
    items: Vec<u64>,
    done: Vec<Option<String>>,
    element: Vec<Option<String>>,
    history: Vec<Option<String>>,
    bytes: usize,
}

impl Items {
    /// The list of a run, or the record of the step when no item is to be started.
    fn list(&self, rows: &RecordBatch, row: usize) -> Result<Result<Vec<Value>, String>> {
        let failed = |error: Error| Ok(Err(serde_json::to_string(&Record::failed(&error, 1))?));
        match self.course.ended_as_whole(rows, row) {
            Ok(None) => {}
            Ok(Some(record)) => return Ok(Err(record)),
            Err(error) => return failed(error),
        }
        match self.config.list.value(rows, row) {
            Ok(Value::Array(list)) if list.is_empty() => {
                let empty = Record {
                    status: Status::Completed,
                    results: Some(Value::Array(Vec::new())),
                    reason: None,
                    items: Some(record::Items::default()),
                    ..Record::skipped(String::new())
                };
                Ok(Err(serde_json::to_string(&empty)?))
            }
            Ok(Value::Array(list)) => Ok(Ok(list)),
            Ok(other) => failed(Error::validation(format!("there is no list to go through, but {other}"))),
            Err(error) => failed(error),
        }
    }

    /// What is known of the elements of a run from before. A list may be long, and each of its rows is looked up again and again.
    fn known(&self, rows: &RecordBatch, row: usize) -> Result<Known> {
        let mut known = Known::default();
        let Some(history) = cell_of(rows, HISTORY, row)? else { return Ok(known) };
        let all: History = serde_json::from_str(history)?;
        // Whose an early signal is, is seen by who else waits for it.
        known.signals.0.extend(Wait::takers(&all)?);
        let begin = format!("{}{}[", scope(rows, row)?, self.config.id);
        for (name, record) in all.0 {
            let bare =
                [History::WAIT, History::BACKOFF].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(&name);
            match bare.strip_prefix(&begin).and_then(|rest| rest.split_once(']')?.0.parse().ok()) {
                Some(item) => drop(known.parts.entry(item).or_default().0.insert(name, record)),
                None if [History::SIGNAL, History::AGAIN].iter().any(|kind| name.starts_with(kind)) => {
                    known.signals.0.insert(name, record);
                }
                None => {}
            }
        }
        Ok(known)
    }

    fn say(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(mut left) = self.left.take() else { return Ok(Progress::Done) };
        let mut made = Made::default();
        while left.row < left.rows.num_rows() && made.of.len() < ROWS_MAX && made.bytes < BYTES {
            if left.next == left.list.len() {
                match self.list(&left.rows, left.row)? {
                    Ok(list) => {
                        (left.list, left.next) = (list, 0);
                        left.known = self.known(&left.rows, left.row)?;
                    }
                    Err(record) => {
                        made.push(left.row, None, 0, (Some(record), None), None);
                        left.row += 1;
                        continue;
                    }
                }
            }
            let element = left.list[left.next].to_string();
            let item = left.next as u64;
            let known = left.known.of(item)?;
            let beside = known.as_ref().map_or(0, String::len);
            made.bytes += element.len() + beside + left.rows.get_array_memory_size() / left.rows.num_rows();
            made.push(left.row, Some(item), left.list.len() as u64, (None, known), Some(element));
            left.next += 1;
            if left.next == left.list.len() {
                (left.list, left.next) = (Vec::new(), 0);
                left.row += 1;
            }
        }
        out.emit(made.batch(&left.rows, &self.course.schema)?);
        if left.row < left.rows.num_rows() {
            self.left = Some(left);
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }
}

impl Made {
    fn push(
        &mut self,
        row: usize,
        item: Option<u64>,
        items: u64,
        (done, history): (Option<String>, Option<String>),
        element: Option<String>,
    ) {
        self.history.push(history);
        self.of.push(row as u64);
        self.item.push(item);
        self.items.push(items);
        self.done.push(done);
        self.element.push(element);
    }

    fn batch(self, rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let of = UInt64Array::from(self.of);
        let kept = &schema.fields()[..schema.fields().len() - 4];
        let history: ArrayRef = Arc::new(StringArray::from(self.history));
        let columns = kept.iter().map(|field| {
            if field.name() == HISTORY {
                return Ok(history.clone());
            }
            let column = rows.column_by_name(field.name());
            let column = column.ok_or_else(|| Error::engine(format!("a run has no column `{}`", field.name())))?;
            Ok(take(column, &of, None)?)
        });
        let own: [ArrayRef; 4] = [
            Arc::new(UInt64Array::from(self.item)),
            Arc::new(UInt64Array::from(self.items)),
            Arc::new(StringArray::from(self.done)),
            Arc::new(StringArray::from(self.element)),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns.chain(own.map(Ok)).collect::<Result<_>>()?)?)
    }
}

impl Stage for Items {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.left = Some(Left { rows: rows.clone(), row: 0, list: Vec::new(), next: 0, known: Known::default() });
        self.say(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.say(out)
    }

    fn visit_state(&mut self, _: &mut dyn StateVisitor) -> Result<()> {
        if self.left.is_some() {
            return Err(Error::engine("items of a run were not all out"));
        }
        Ok(())
    }
}
