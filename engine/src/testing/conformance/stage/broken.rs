//! Stages that break one promise each, and that the suite must catch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::*;
use crate::api::{BuildContext, Cardinality, Join, Operator, Output, Progress, Stage};
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Result};
use crate::rows;
use crate::state::{Buffer, StateVisitor};
use crate::testing::conformance::each_is_caught;
use crate::testing::harness::{batch, rows_of};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Fault {
    None,
    NoPlan,
    BuildsJoin,
    OtherSchema,
    UnknownPort,
    FailsWithState,
    Counts,
    SortsBatches,
    Doubles,
    Keeps,
    RejectsOthers,
    NeverDone,
    Floods,
    WakesAtOnce,
    SameName,
    HidesState,
    FailsOnEmpty,
    Panics,
}

/// Evens leave by the main port and odds by `odd`; 0 is filtered, 13 rejected, and the last row is held back.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parted {
    fault: Fault,
    #[serde(skip)]
    built: Arc<AtomicUsize>,
}

struct PartedStage {
    fault: Fault,
    nth: usize,
    held: Buffer,
    hidden: Option<RecordBatch>,
    fed: usize,
}

impl PartedStage {
    fn route(&self, row: RecordBatch, out: &mut Output) {
        let n = rows_of(&row)[0]["n"].as_i64().unwrap();
        match (self.fault, n) {
            (Fault::OtherSchema, 4) => out.emit(rows![{"m": 4}]),
            (Fault::UnknownPort, 4) => out.emit_to(2, row),
            (Fault::Counts, 4) => out.emit(batch(&[serde_json::json!({"n": self.nth})])),
            (Fault::RejectsOthers, 13) => out.reject(rows![{"m": 13}], Error::validation("unlucky")),
            (Fault::Doubles, 4) => [row.clone(), row].into_iter().for_each(|r| out.emit(r)),
            (_, 0) => out.filtered(1),
            (_, 13) => out.reject(row, Error::validation("unlucky")),
            (_, n) => out.emit_to(usize::from(n % 2 == 1), row),
        }
    }
}

impl Stage for PartedStage {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        assert!(self.fault != Fault::Panics, "attempt to subtract with overflow");
        if self.fault == Fault::FailsWithState {
            return Err(Error::validation("no"));
        }
        let mut single: Vec<_> = (0..rows.num_rows()).map(|n| rows.slice(n, 1)).collect();
        if self.fault == Fault::SortsBatches {
            single.reverse();
        }
        for row in single {
            self.fed += 1;
            if self.fault == Fault::HidesState {
                self.hidden.replace(row).into_iter().for_each(|r| self.route(r, out));
                continue;
            }
            if let Some(before) = self.held.take(1).pop() {
                self.route(before, out);
            }
            self.held.push(row);
        }
        if self.fault == Fault::Floods && rows.num_rows() > 100 {
            (0..5).for_each(|_| out.emit(rows.clone()));
        }
        Ok(if self.fault == Fault::NeverDone { Progress::More } else { Progress::Done })
    }

    fn resume(&mut self, _: &mut Output) -> Result<Progress> {
        Ok(Progress::More)
    }

    fn wake_at(&self) -> Option<Duration> {
        (self.fault == Fault::WakesAtOnce).then_some(Duration::ZERO)
    }

    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        if self.fault == Fault::FailsOnEmpty && self.fed == 0 {
            return Err(Error::validation("no rows"));
        }
        if self.fault == Fault::Keeps {
            return Ok(Progress::Done);
        }
        if let Some(last) = self.held.take(1).into_iter().chain(self.hidden.take()).next() {
            self.route(last, out);
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        if self.fault == Fault::SameName {
            visitor.piece("held", &mut self.held.clone())?;
        }
        visitor.piece("held", &mut self.held)
    }
}

impl Join for PartedStage {
    fn left(&mut self, _: &RecordBatch, _: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn right(&mut self, _: &RecordBatch, _: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn visit_state(&mut self, _: &mut dyn StateVisitor) -> Result<()> {
        Ok(())
    }
}

impl StageConfig for Parted {
    const NAME: &'static str = "parted";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        if self.fault == Fault::NoPlan { Err(Problem::new("no").into()) } else { Ok(inputs[0].clone()) }
    }
    fn ports(&self) -> Vec<String> {
        vec!["odd".into()]
    }
    fn cardinality(&self) -> Cardinality {
        match self.fault {
            Fault::HidesState | Fault::Floods => Cardinality::Many,
            _ => Cardinality::AtMostOne,
        }
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let nth = self.built.fetch_add(1, Ordering::SeqCst);
        let stage = PartedStage { fault: self.fault, nth, held: Buffer::default(), hidden: None, fed: 0 };
        Ok(if self.fault == Fault::BuildsJoin { Operator::join(stage) } else { Operator::stage(stage) })
    }
}

fn numbers() -> RecordBatch {
    batch(&(0..16).map(|n| serde_json::json!({"n": n})).collect::<Vec<Value>>())
}

fn parted(fault: Fault) -> Check {
    stage(Parted { fault, built: Arc::default() }, numbers()).verify()
}

/// A stage without state that fails on 99, and then, if it is broken, remembers the batch.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Brittle {
    broken: bool,
}

struct BrittleStage(bool, Option<RecordBatch>);

impl Stage for BrittleStage {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.1.take().into_iter().for_each(|rows| out.emit(rows));
        out.emit(rows.clone());
        if rows_of(rows).iter().any(|row| row["n"] == 99) {
            self.1 = self.0.then(|| rows.clone());
            return Err(Error::validation("99"));
        }
        Ok(Progress::Done)
    }
}

impl StageConfig for Brittle {
    const NAME: &'static str = "brittle";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(BrittleStage(self.broken, None)))
    }
}

fn brittle(broken: bool) -> Check {
    stage(Brittle { broken }, numbers()).failing(rows![{"n": 98}, {"n": 99}]).verify()
}

/// A join that says how many rows came before from the other side.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sides {}

#[derive(Default)]
struct SidesJoin(crate::state::Value<i64>);

impl Join for SidesJoin {
    fn left(&mut self, rows: &RecordBatch, _: &mut Output) -> Result<Progress> {
        self.0.update(|n| *n += i64::try_from(rows.num_rows()).unwrap());
        Ok(Progress::Done)
    }
    fn right(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let row = serde_json::json!({"left": self.0.get()});
        (0..rows.num_rows()).for_each(|_| out.emit(batch(std::slice::from_ref(&row))));
        Ok(Progress::Done)
    }
    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("left", &mut self.0)
    }
}

impl StageConfig for Sides {
    const NAME: &'static str = "sides";
    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(rows![{"left": 1}].schema())
    }
    fn inputs(&self) -> Inputs {
        Inputs::Two
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::join(SidesJoin::default()))
    }
}

#[test]
fn good_stages_and_joins_keep_every_promise() {
    assert_eq!(parted(Fault::None), Ok(()));
    assert_eq!(brittle(false), Ok(()));
    assert_eq!(join(Sides {}, numbers(), rows![{"x": "a"}, {"x": "b"}]).verify(), Ok(()));
}

#[test]
fn a_stage_whose_chunks_matter_can_say_so() {
    let sorting = || stage(Parted { fault: Fault::SortsBatches, built: Arc::default() }, numbers());
    assert_eq!(sorting().verify().unwrap_err().promise, CHUNKING);
    assert_eq!(sorting().chunking_matters().verify(), Ok(()));
}

#[test]
fn each_broken_promise_of_a_stage_is_caught() {
    let caught = [
        (PLANNED, parted(Fault::NoPlan)),
        (BUILDS, parted(Fault::BuildsJoin)),
        (SCHEMA, parted(Fault::OtherSchema)),
        (PORTS, parted(Fault::UnknownPort)),
        (WORKS, parted(Fault::FailsWithState)),
        (REPEATABLE, parted(Fault::Counts)),
        (CHUNKING, parted(Fault::SortsBatches)),
        (CARDINALITY, parted(Fault::Doubles)),
        (LEAVES, parted(Fault::Keeps)),
        (REJECTS, parted(Fault::RejectsOthers)),
        (NO_TRACE, brittle(true)),
        (MORE_ENDS, parted(Fault::NeverDone)),
        (BOUNDED, parted(Fault::Floods)),
        (WAKES, parted(Fault::WakesAtOnce)),
        (PIECES, parted(Fault::SameName)),
        (SNAPSHOT, parted(Fault::HidesState)),
        (EMPTY, parted(Fault::FailsOnEmpty)),
        (NO_PANIC, parted(Fault::Panics)),
    ];
    each_is_caught(PROMISES, &caught);
}
