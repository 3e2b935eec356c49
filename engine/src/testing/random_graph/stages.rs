//! The stages of random graphs: each does one thing that bends a stream, and a row is a number.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::{Does, hit};
use crate::api::limits::Retries;
use crate::api::{
    BuildContext, Call, CallContext, Cardinality, Distribution, Inputs, Join, Limits, Operator, Order, Output,
    Progress, Rejected, Reply, Stage, StageConfig,
};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::state::{Buffer, StateVisitor, Table, Value};

/// The column of all rows.
pub(super) static SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)])));

/// A stage of a random graph.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) does: Does,
}

impl StageConfig for Step {
    const NAME: &'static str = "step";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn distribution(&self) -> Distribution {
        match self.does {
            Does::Pass { keyed: true } | Does::Unique | Does::Join => Distribution::Keyed(vec!["id".into()]),
            _ => Distribution::Any,
        }
    }

    fn ports(&self) -> Vec<String> {
        if matches!(self.does, Does::Part { .. }) { vec!["rest".into()] } else { Vec::new() }
    }

    fn inputs(&self) -> Inputs {
        if self.does == Does::Join { Inputs::Two } else { Inputs::Merged }
    }

    fn cardinality(&self) -> Cardinality {
        match self.does {
            Does::Keep { .. } | Does::Unique => Cardinality::AtMostOne,
            Does::Repeat { .. } => Cardinality::Many,
            _ => Cardinality::One,
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(match &self.does {
            Does::Repeat { times } => Operator::stage(Repeat { times: *times, rows: None, left: 0 }),
            Does::Hold { rows } => Operator::stage(Hold { until: *rows, held: Buffer::default() }),
            Does::Unique => Operator::stage(Unique(Table::new([DataType::Int64])?)),
            Does::Join => Operator::join(Both::default()),
            Does::Call { ordered, rows, in_flight, .. } => {
                let retry = Retries { max_attempts: 3, ..Retries::default() };
                let order = if *ordered { Order::Kept } else { Order::Free };
                let limits = Limits { rows: *rows, in_flight: *in_flight, order, retry, ..Limits::default() };
                Operator::call(Ask(self.does.clone()), limits)
            }
            row_by_row => Operator::stage(RowByRow(row_by_row.clone())),
        })
    }
}

/// The numbers of a batch.
pub(super) fn ids(rows: &RecordBatch) -> &[i64] {
    rows.column(0).as_primitive::<Int64Type>().values()
}

/// The rows that are hit, and the others.
pub(super) fn part(rows: &RecordBatch, of: i64) -> Result<(RecordBatch, RecordBatch)> {
    let hits: BooleanArray = ids(rows).iter().map(|id| Some(hit(*id, of))).collect();
    let others: BooleanArray = ids(rows).iter().map(|id| Some(!hit(*id, of))).collect();
    Ok((filter_record_batch(rows, &hits)?, filter_record_batch(rows, &others)?))
}

struct RowByRow(Does);

impl Stage for RowByRow {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        match self.0 {
            Does::Keep { of } => {
                let (dropped, kept) = part(rows, of)?;
                out.filtered(dropped.num_rows());
                out.emit(kept);
            }
            Does::Part { of } => {
                let (rest, main) = part(rows, of)?;
                out.emit_to(1, rest);
                out.emit(main);
            }
            Does::Reject { of } => {
                let (refused, good) = part(rows, of)?;
                out.reject(refused, Error::validation("refused"));
                out.emit(good);
            }
            Does::Fail { of } => {
                // Said before the failure: the engine must drop it.
                out.emit(rows.clone());
                if ids(rows).iter().any(|id| hit(*id, of)) {
                    return Err(Error::validation("a bad row is among them"));
                }
            }
            _ => out.emit(rows.clone()),
        }
        Ok(Progress::Done)
    }
}

struct Repeat {
    times: u64,
    rows: Option<RecordBatch>,
    left: u64,
}

impl Stage for Repeat {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        (self.rows, self.left) = (Some(rows.clone()), self.times);
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        if let Some(rows) = self.rows.as_ref().filter(|_| self.left > 0) {
            out.emit(rows.clone());
            self.left -= 1;
        }
        if self.left > 0 {
            return Ok(Progress::More);
        }
        self.rows = None;
        Ok(Progress::Done)
    }
}

struct Hold {
    until: usize,
    held: Buffer,
}

impl Stage for Hold {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.held.push(rows.clone());
        if self.held.rows() < self.until {
            return Ok(Progress::Done);
        }
        self.finish(out)
    }

    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        for rows in self.held.take(usize::MAX) {
            out.emit(rows);
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("held", &mut self.held)
    }
}

/// Remembers which rows have been here.
struct Unique(Table<()>);

impl Stage for Unique {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let new: BooleanArray = self.0.slots(rows.columns())?.into_iter().map(|(_, new)| Some(new)).collect();
        out.filtered(rows.num_rows() - new.true_count());
        out.emit(filter_record_batch(rows, &new)?);
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("seen", &mut self.0)
    }
}

/// Hands both inputs on, and counts them, so that it has state.
#[derive(Default)]
struct Both(Value<u64>);

impl Join for Both {
    fn left(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.0.update(|n| *n += 1);
        out.emit(rows.clone());
        Ok(Progress::Done)
    }

    fn right(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.left(rows, out)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("batches", &mut self.0)
    }
}

struct Ask(Does);

impl Call for Ask {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let Does::Call { slow_ms, refused_of, flaky, .. } = self.0 else { return Ok(Reply::rows(rows)) };
        if slow_ms > 0 {
            context.env.sleep(Duration::from_millis(context.env.random() % slow_ms)).await;
        }
        if flaky && context.attempt == 1 && ids(&rows).iter().any(|id| hit(*id, 5)) {
            return Err(Error::new(crate::Kind::Io, "the connection was reset").transient());
        }
        let (refused, good) = part(&rows, refused_of)?;
        let rejected = match refused.num_rows() {
            0 => Vec::new(),
            _ => vec![Rejected::rows(refused, Error::validation("refused"))],
        };
        Ok(Reply { rejected, ..Reply::rows(good) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance;
    use crate::testing::harness::batch_of;
    use crate::testing::simulation::Simulation;
    use serde_json::json;

    #[test]
    fn every_stage_keeps_its_promises() {
        let rows = batch_of(&SCHEMA, &(1..20).map(|id| json!({"id": id})).collect::<Vec<_>>());
        let steps = [
            Does::Pass { keyed: true },
            Does::Keep { of: 3 },
            Does::Repeat { times: 1 },
            Does::Part { of: 3 },
            Does::Reject { of: 3 },
            Does::Fail { of: 3 },
            Does::Hold { rows: 4 },
        ];
        conformance::stage(Step { does: Does::Unique }, rows.clone()).check();
        for does in steps {
            conformance::stage(Step { does }, rows.clone()).check();
        }
        conformance::stage(Step { does: Does::Repeat { times: 3 } }, rows.clone()).chunking_matters().check();
        conformance::join(Step { does: Does::Join }, rows.clone(), rows.clone()).check();
        let does = Does::Call { slow_ms: 20, ordered: true, rows: 3, in_flight: 2, refused_of: 4, flaky: true };
        let simulation = Simulation::new(1);
        simulation.run(conformance::call(Step { does }, rows).check(&simulation.env())).done();
    }
}
