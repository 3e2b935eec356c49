//! Sources that break one promise each, and that the suite must catch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::api::{Ack, BoxSource, Capabilities, Chunk, Source, SourceContext};
use crate::data::position::Position;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::rows;
use crate::testing::conformance::{NO_PANIC, each_is_caught};
use crate::testing::harness::{batch, batch_of};
use crate::testing::simulation::Simulation;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Fault {
    None,
    Endless,
    Undeclared,
    OtherSchema,
    Guesses,
    NewSplits,
    AllSplits,
    Huge,
    NoEnd,
    Fails,
    LosesAlone,
    Overlaps,
    StaysBusy,
    AckFails,
    Panics,
}

/// Ten numbers in each of two splits, three to a chunk.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Numbers {
    fault: Fault,
    #[serde(skip)]
    shared: Arc<AtomicUsize>,
}

struct NumbersSource {
    context: SourceContext,
    fault: Fault,
    shared: Arc<AtomicUsize>,
    places: Vec<(Split, usize)>,
    turn: usize,
}

impl Source for NumbersSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.fault == Fault::StaysBusy && self.shared.swap(1, Ordering::SeqCst) == 1 {
            return Err(Error::new(crate::Kind::Other, "another reader has the lock"));
        }
        self.context.env.sleep(Duration::from_millis(1)).await;
        self.shared.store(0, Ordering::SeqCst);
        assert!(self.fault != Fault::Panics, "an index out of bounds");
        if self.fault == Fault::Fails {
            return Err(Error::validation("no such table"));
        }
        let end = if self.fault == Fault::Endless { usize::MAX } else { 10 };
        let lanes = self.places.len();
        let open = (self.turn..self.turn + lanes).map(|t| t % lanes).find(|lane| self.places[*lane].1 < end);
        let Some(lane) = open else {
            return if self.fault == Fault::NoEnd { std::future::pending().await } else { Ok(None) };
        };
        self.turn = lane + 1;
        let (split, from) = self.places[lane].clone();
        let lost = usize::from(self.fault == Fault::LosesAlone && lanes == 1);
        let to = (from + 3).min(end);
        self.places[lane].1 = to;
        let count = if self.fault == Fault::Huge { 70_000 } else { to - from - lost };
        let rows: Vec<_> = (from..from + count).map(|n| json!({"n": n, "split": split.name()})).collect();
        let mut records = batch_of(&self.context.schema, &rows);
        if self.fault == Fault::OtherSchema {
            records = RecordBatch::try_from_iter([("m", records.column(0).clone())])?;
        }
        let place = to - usize::from(self.fault == Fault::Overlaps && to < end);
        let failing = self.fault == Fault::AckFails;
        let ack = Ack::new(move || async move { if failing { Err(Error::validation("gone")) } else { Ok(()) } });
        Ok(Some(Chunk::new(records, split, Position::of(&place)?).with_ack(ack)))
    }
}

impl Connector for Numbers {
    const NAME: &'static str = "numbers";
    fn capabilities(&self) -> Capabilities {
        match self.fault {
            Fault::Undeclared => Capabilities { source: None, sink: None },
            fault => Capabilities::source(Replay::FromPosition, fault != Fault::Endless),
        }
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(rows![{"n": 1, "split": "a"}].schema())
    }
    async fn known(&self, context: &ConnectContext) -> Result<Known, Problems> {
        match self.fault {
            Fault::Guesses => Ok(Known::Schema(rows![{"n": 1}].schema())),
            _ => self.schema(context).await.map(Known::Schema),
        }
    }
    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        let asked = self.shared.fetch_add(usize::from(self.fault == Fault::NewSplits), Ordering::SeqCst);
        Ok(vec![Split::new(format!("a{asked}")), Split::new("b")])
    }
    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let mut places = Vec::new();
        for (split, position) in &context.splits {
            places.push((split.clone(), position.as_ref().map_or(Ok(0), Position::read)?));
        }
        if self.fault == Fault::AllSplits {
            places = vec![(Split::new("a0"), 0), (Split::new("b"), 0)];
        }
        let (fault, shared) = (self.fault, self.shared.clone());
        Ok(BoxSource::new(NumbersSource { context, fault, shared, places, turn: 0 }))
    }
}

fn numbers(fault: Fault) -> Check {
    let simulation = Simulation::new(1);
    let suite = source(Numbers { fault, shared: Arc::default() });
    simulation.run(suite.verify(&simulation.env())).done()
}

/// Five rows in a queue that gives back what was not acknowledged; one that is broken forgets them.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Queue {
    forgets: bool,
    #[serde(skip)]
    waiting: Arc<Mutex<VecDeque<i64>>>,
}

struct QueueSource {
    forgets: bool,
    waiting: Arc<Mutex<VecDeque<i64>>>,
    taken: VecDeque<i64>,
}

impl Source for QueueSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(next) = self.taken.pop_front() else { return std::future::pending().await };
        let waiting = self.waiting.clone();
        if self.forgets {
            waiting.lock().unwrap().retain(|n| *n != next);
        }
        let ack = Ack::new(move || async move {
            waiting.lock().unwrap().retain(|n| *n != next);
            Ok(())
        });
        Ok(Some(Chunk::new(batch(&[json!({"n": next})]), Split::new("queue"), Position::of(&())?).with_ack(ack)))
    }
}

impl Connector for Queue {
    const NAME: &'static str = "queue";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Unacknowledged, false)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(rows![{"n": 1}].schema())
    }
    async fn source(&self, _: SourceContext) -> Result<BoxSource> {
        let (forgets, waiting) = (self.forgets, self.waiting.clone());
        let taken = waiting.lock().unwrap().clone();
        Ok(BoxSource::new(QueueSource { forgets, waiting, taken }))
    }
}

fn queue(forgets: bool) -> Check {
    let simulation = Simulation::new(1);
    let suite = source(Queue { forgets, waiting: Arc::new(Mutex::new((0..5).collect())) }).rows(5);
    simulation.run(suite.verify(&simulation.env())).done()
}

#[test]
fn good_sources_keep_every_promise() {
    assert_eq!(numbers(Fault::None), Ok(()));
    assert_eq!(numbers(Fault::Endless), Ok(()));
    assert_eq!(queue(false), Ok(()));
}

#[test]
fn a_wrong_count_is_noticed() {
    let simulation = Simulation::new(1);
    let suite = |rows| source(Numbers { fault: Fault::None, shared: Arc::default() }).rows(rows);
    assert_eq!(simulation.run(suite(20).verify(&simulation.env())).done(), Ok(()));
    assert_eq!(simulation.run(suite(21).verify(&simulation.env())).done().unwrap_err().promise, COUNT);
}

#[test]
fn each_broken_promise_of_a_source_is_caught() {
    let caught = [
        (DECLARED, numbers(Fault::Undeclared)),
        (SCHEMA, numbers(Fault::OtherSchema)),
        (KNOWN, numbers(Fault::Guesses)),
        (SPLITS, numbers(Fault::NewSplits)),
        (OWN_SPLITS, numbers(Fault::AllSplits)),
        (BOUNDED, numbers(Fault::Huge)),
        (ENDS, numbers(Fault::NoEnd)),
        (READS, numbers(Fault::Fails)),
        (COUNT, numbers(Fault::LosesAlone)),
        (REPLAY, numbers(Fault::Overlaps)),
        (DROPPED, numbers(Fault::StaysBusy)),
        (ACKS, numbers(Fault::AckFails)),
        (REDELIVERY, queue(true)),
        (NO_PANIC, numbers(Fault::Panics)),
    ];
    each_is_caught(PROMISES, &caught);
}
