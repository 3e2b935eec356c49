//! Sinks that break one promise each, and that the suite must catch.

use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::api::{BoxSink, Capabilities, ConnectContext, Outcome, Receipt, Rejected, Sink, SinkContext, Written};
use crate::data::message::Epoch;
use crate::diagnostic::{Problem, Problems};
use crate::error::Error;
use crate::testing::conformance::{NO_PANIC, each_is_caught};
use crate::testing::harness::rows_of;
use crate::testing::simulation::Simulation;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Fault {
    None,
    Plain,
    RefusesOdd,
    Undeclared,
    NoReceipt,
    Hangs,
    LosesTail,
    RefusesTooMuch,
    EmptyFails,
    IdleRepeats,
    CommitsAgain,
    ForgetsOnOpen,
    EarlyRows,
    KeepsStaged,
    AllTypes,
    Panics,
}

/// A table in memory: rows are staged under the number of their epoch and become visible on commit.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    fault: Fault,
    #[serde(skip)]
    content: Content,
}

type Content = Arc<Mutex<Rows>>;

#[derive(Default)]
struct Rows {
    visible: Vec<Value>,
    staged: Vec<(Epoch, Vec<Value>)>,
}

struct TableSink {
    env: Env,
    fault: Fault,
    open: Vec<Value>,
    content: Content,
    last: Vec<Value>,
}

impl Sink for TableSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        assert!(self.fault != Fault::Panics, "unreachable");
        if rows.column_by_name("id").is_none() {
            return if self.fault == Fault::AllTypes { Err(Error::validation("no id")) } else { Ok(Written::all()) };
        }
        if self.fault == Fault::RefusesTooMuch {
            let foreign = rows![{"id": 99}];
            return Ok(Written { rejected: vec![Rejected::rows(foreign, Error::validation("no"))] });
        }
        let mut written = Written::all();
        for n in 0..rows.num_rows() {
            let row = rows.slice(n, 1);
            if self.fault == Fault::RefusesOdd && rows_of(&row)[0]["id"] == json!(3) {
                written.rejected.push(Rejected::rows(row, Error::validation("three")));
            } else {
                self.open.append(&mut rows_of(&row));
            }
        }
        if matches!(self.fault, Fault::Plain | Fault::EarlyRows) {
            self.content.lock().unwrap().visible.append(&mut self.open);
        }
        Ok(written)
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        match self.fault {
            Fault::Hangs => self.env.sleep(Duration::from_hours(1)).await,
            Fault::LosesTail if epoch == 2 => self.open.truncate(1),
            Fault::EmptyFails if self.open.is_empty() && epoch == 1 => return Err(Error::validation("no file")),
            Fault::IdleRepeats if self.open.is_empty() && epoch > 1 => self.open = self.last.clone(),
            Fault::NoReceipt | Fault::Plain => {
                self.content.lock().unwrap().visible.append(&mut self.open);
                return Ok(None);
            }
            _ => {}
        }
        self.last.clone_from(&self.open);
        self.content.lock().unwrap().staged.push((epoch, std::mem::take(&mut self.open)));
        Receipt::of(&epoch).map(Some)
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        let epoch: Epoch = receipt.read()?;
        let mut content = self.content.lock().unwrap();
        let Some(staged) = content.staged.iter().position(|(e, _)| *e == epoch) else {
            return Ok(if content.visible.is_empty() { Outcome::Aborted } else { Outcome::Committed });
        };
        let rows = content.staged[staged].1.clone();
        if self.fault != Fault::CommitsAgain {
            content.staged.remove(staged);
        }
        content.visible.extend(rows);
        Ok(Outcome::Committed)
    }
}

impl Connector for Table {
    const NAME: &'static str = "table";
    fn capabilities(&self) -> Capabilities {
        match self.fault {
            Fault::Undeclared => Capabilities { source: None, sink: None },
            Fault::Plain => Capabilities::sink(Delivery::Plain),
            _ => Capabilities::sink(Delivery::Transactional),
        }
    }
    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        let fits = schema.fields().iter().all(|f| *f.data_type() != DataType::Float16);
        if fits { Ok(()) } else { Err(Problem::new("the type is not known here").into()) }
    }
    async fn sink(&self, SinkContext { env, epochs, .. }: SinkContext) -> Result<BoxSink> {
        let (fault, content) = (self.fault, self.content.clone());
        let behind = epochs.map_or(0, |e| e.behind);
        if fault != Fault::KeepsStaged {
            content.lock().unwrap().staged.retain(|(epoch, _)| *epoch <= behind);
        }
        if fault == Fault::ForgetsOnOpen {
            content.lock().unwrap().staged.clear();
        }
        Ok(BoxSink::new(TableSink { env, fault, open: Vec::new(), content, last: Vec::new() }))
    }
}

fn table(fault: Fault) -> Check {
    let simulation = Simulation::new(1);
    let suite = sink(|_| {
        let content = Content::default();
        let target = Target::new(Table { fault, content: content.clone() });
        target.read_back(move || std::future::ready(Ok(content.lock().unwrap().visible.clone())))
    });
    simulation.run(suite.verify(&simulation.env())).done()
}

#[test]
fn good_sinks_keep_every_promise() {
    assert_eq!(table(Fault::None), Ok(()));
    assert_eq!(table(Fault::Plain), Ok(()));
    assert_eq!(table(Fault::RefusesOdd), Ok(()));
}

#[test]
fn each_broken_promise_of_a_sink_is_caught() {
    let caught = [
        (DECLARED, table(Fault::Undeclared)),
        (DECLARED, table(Fault::NoReceipt)),
        (ENDS, table(Fault::Hangs)),
        (WRITES, table(Fault::LosesTail)),
        (REJECTS, table(Fault::RefusesTooMuch)),
        (EMPTY, table(Fault::EmptyFails)),
        (IDLE_EPOCH, table(Fault::IdleRepeats)),
        (COMMIT_TWICE, table(Fault::CommitsAgain)),
        (COMMIT_ELSEWHERE, table(Fault::ForgetsOnOpen)),
        (INVISIBLE, table(Fault::EarlyRows)),
        (FORGETS, table(Fault::KeepsStaged)),
        (TYPES, table(Fault::AllTypes)),
        (NO_PANIC, table(Fault::Panics)),
    ];
    each_is_caught(PROMISES, &caught);
}
