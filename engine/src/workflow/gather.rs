//! The join of two branches of a run.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::whole_key;
use crate::api::{BuildContext, Distribution, Inputs, Join, Operator, Output, Progress, StageConfig};
use crate::data::columns::RUN_ID;
use crate::data::records::compact;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::state::{Keyed, StateVisitor};

/// Puts together what two branches made of the same run: the columns of both, each once. The half that comes first waits
/// for the other.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GatherConfig {}

impl StageConfig for GatherConfig {
    const NAME: &'static str = "gather";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(Columns::of(&inputs[0], &inputs[1]).schema)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Keyed(vec![RUN_ID.to_owned()])
    }

    fn inputs(&self) -> Inputs {
        Inputs::Two
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let columns = Columns::of(&context.inputs[0], &context.inputs[1]);
        Ok(Operator::join(Gather { columns, left: Keyed::default(), right: Keyed::default() }))
    }
}

/// The columns of both sides, each once.
struct Columns {
    schema: SchemaRef,
    /// Those of the right side that the left one does not have.
    more: Vec<usize>,
}

impl Columns {
    fn of(left: &SchemaRef, right: &SchemaRef) -> Self {
        let is_new = |i: &usize| left.index_of(right.field(*i).name()).is_err();
        let more: Vec<usize> = (0..right.fields().len()).filter(is_new).collect();
        let fields = left.fields().iter().chain(more.iter().map(|i| &right.fields()[*i]));
        let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        Self { schema, more }
    }

    fn join(&self, left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
        let more = self.more.iter().map(|i| right.column(*i));
        let columns: Vec<ArrayRef> = left.columns().iter().chain(more).cloned().collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

struct Gather {
    columns: Columns,
    left: Keyed,
    right: Keyed,
}

fn whole(rows: &RecordBatch, row: usize) -> Result<String> {
    Ok(whole_key(rows, row)?.into_owned())
}

/// The rows whose other half was there, that half in the same order; the rest waits.
pub(super) fn pair(
    rows: &RecordBatch,
    own: &mut Keyed,
    other: &mut Keyed,
    key: impl Fn(&RecordBatch, usize) -> Result<String>,
) -> Result<Option<(RecordBatch, RecordBatch)>> {
    let (mut places, mut halves) = (Vec::new(), Vec::new());
    for row in 0..rows.num_rows() {
        let key = key(rows, row)?;
        if let Some(half) = other.remove(&key) {
            places.push(row as u64);
            halves.push(half);
        } else if own.insert(&key, compact(&rows.slice(row, 1))?).is_some() {
            return Err(Error::engine(format!("run `{key}` came twice on one branch")));
        }
    }
    let Some(first) = halves.first() else { return Ok(None) };
    let halves = concat_batches(first.schema_ref(), &halves)?;
    Ok(Some((take_record_batch(rows, &UInt64Array::from(places))?, halves)))
}

impl Join for Gather {
    fn left(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if let Some((left, right)) = pair(rows, &mut self.left, &mut self.right, whole)? {
            out.emit(self.columns.join(&left, &right)?);
        }
        Ok(Progress::Done)
    }

    fn right(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        if let Some((right, left)) = pair(rows, &mut self.right, &mut self.left, whole)? {
            out.emit(self.columns.join(&left, &right)?);
        }
        Ok(Progress::Done)
    }

    fn finish(&mut self, _: &mut Output) -> Result<Progress> {
        let alone = self.left.len() + self.right.len();
        if alone > 0 {
            return Err(Error::engine(format!("{alone} runs have lost a branch")));
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("left", &mut self.left)?;
        visitor.piece("right", &mut self.right)
    }
}
