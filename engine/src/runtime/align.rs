//! Barrier alignment: many inputs become one, epoch by epoch.

use std::future::poll_fn;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::channel::Receiver;
use crate::data::message::{Epoch, Message};
use crate::data::records::Records;
use crate::error::{Error, Result};
use crate::time::Timestamp;
use crate::time::watermark::Watermarks;

/// What the merged inputs say next.
#[derive(Debug)]
pub enum Event {
    /// Rows of an input, by its number.
    Records(usize, Records),
    /// The least watermark of all has risen.
    Watermark(Timestamp),
    /// Every input that has not ended has delivered this barrier.
    Barrier(Epoch),
    /// Every input has ended.
    End,
}

/// The inputs of a task. An input that has delivered a barrier is not polled again until all have: what is behind the
/// barrier stays in its channel, so there is no side buffer.
pub struct Inputs {
    channels: Vec<Input>,
    watermarks: Watermarks,
    aligning: Option<Epoch>,
    /// Where the next look begins, so that no input starves another.
    turn: usize,
    over: bool,
    /// The columns that the inputs have together, where they differ in what may be null.
    together: Option<SchemaRef>,
}

struct Input {
    /// Which input of the stage: lanes of one writer share a number.
    number: usize,
    receiver: Receiver,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Aligned,
    Ended,
}

impl Inputs {
    /// Channels with the number of the input that each belongs to.
    pub fn new(channels: Vec<(usize, Receiver)>) -> Self {
        let watermarks = Watermarks::new(channels.len());
        let inputs =
            channels.into_iter().map(|(number, receiver)| Input { number, receiver, state: State::Open }).collect();
        Self { channels: inputs, watermarks, aligning: None, turn: 0, over: false, together: None }
    }

    /// The same, with batches of this schema: that of the inputs but for what may be null, so no value is touched.
    pub fn read_as(self, schema: SchemaRef) -> Self {
        Self { together: Some(schema), ..self }
    }

    /// Whether every input has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What is there now, without waiting.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.settle() {
                return Ok(Some(event));
            }
            let count = self.channels.len();
            let found = (0..count).map(|i| (self.turn + i) % count).find_map(|i| {
                let input = &mut self.channels[i];
                if input.state != State::Open {
                    return None;
                }
                input.receiver.try_receive().map(|m| (i, m))
            });
            let Some((i, message)) = found else { return Ok(None) };
            if let Some(event) = self.take(i, message)? {
                return Ok(Some(event));
            }
        }
    }

    /// Waits for what comes next.
    ///
    /// Cancel safety: dropped before its end, it has taken nothing.
    pub async fn next(&mut self) -> Result<Event> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Event>> {
        loop {
            if let Some(event) = self.settle() {
                return Poll::Ready(Ok(event));
            }
            let count = self.channels.len();
            let mut found = None;
            for i in (0..count).map(|i| (self.turn + i) % count) {
                if self.channels[i].state == State::Open
                    && let Poll::Ready(message) = self.channels[i].receiver.poll_receive(context)
                {
                    found = Some((i, message?));
                    break;
                }
            }
            let Some((i, message)) = found else { return Poll::Pending };
            match self.take(i, message) {
                Ok(Some(event)) => return Poll::Ready(Ok(event)),
                Ok(None) => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Notes a message of input `i`; returns what it means for the whole, if anything yet.
    fn take(&mut self, i: usize, message: Message) -> Result<Option<Event>> {
        self.turn = i + 1;
        let input = &mut self.channels[i];
        match message {
            Message::Records(mut records) => {
                if let Some(schema) = self.together.as_ref().filter(|s| *s != records.batch.schema_ref()) {
                    records.batch = relabeled(&records.batch, schema)?;
                }
                return Ok(Some(Event::Records(input.number, records)));
            }
            Message::Watermark(to) => return Ok(self.watermarks.advance(i, to).map(Event::Watermark)),
            Message::Barrier(epoch) => {
                if self.aligning.is_some_and(|e| e != epoch) {
                    return Err(Error::engine(format!("barrier {epoch} came while another was aligned")));
                }
                input.state = State::Aligned;
                self.aligning = Some(epoch);
            }
            Message::End => {
                input.state = State::Ended;
                // An input that has ended holds time back no more.
                return Ok(self.watermarks.advance(i, Timestamp::MAX).map(Event::Watermark));
            }
        }
        Ok(None)
    }

    /// The barrier or the end, once every input has come to it. An ended input counts as aligned.
    fn settle(&mut self) -> Option<Event> {
        if self.channels.iter().any(|i| i.state == State::Open) {
            return None;
        }
        if let Some(epoch) = self.aligning.take() {
            self.channels.iter_mut().filter(|i| i.state == State::Aligned).for_each(|i| i.state = State::Open);
            return Some(Event::Barrier(epoch));
        }
        (!std::mem::replace(&mut self.over, true)).then_some(Event::End)
    }
}

/// The same columns under another schema.
fn relabeled(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::records::Header;
    use crate::metrics::EdgeStats;
    use crate::runtime::channel::{Sender, channel};
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    fn edge() -> (Sender, Receiver) {
        channel(4, Arc::new(EdgeStats::of(1 << 20)))
    }

    fn row(sender: &Sender) {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        assert!(sender.try_send(Records { batch, header: Header::default() }).unwrap().is_none());
    }

    fn words(inputs: &mut Inputs) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(event) = inputs.try_next().unwrap() {
            words.push(match event {
                Event::Records(n, _) => format!("rows of {n}"),
                Event::Watermark(w) => format!("watermark {}", w.0),
                Event::Barrier(e) => format!("barrier {e}"),
                Event::End => "end".into(),
            });
        }
        words
    }

    #[test]
    fn what_is_behind_a_barrier_waits_until_every_input_has_delivered_it() {
        let ((a, ra), (b, rb)) = (edge(), edge());
        let mut inputs = Inputs::new(vec![(0, ra), (1, rb)]);
        a.control(Message::Barrier(1)).unwrap();
        row(&a);
        row(&b);
        assert_eq!(words(&mut inputs), ["rows of 1"]);
        b.control(Message::Barrier(1)).unwrap();
        assert_eq!(words(&mut inputs), ["barrier 1", "rows of 0"]);
    }

    #[test]
    fn an_input_that_has_ended_counts_as_aligned() {
        let ((a, ra), (b, rb)) = (edge(), edge());
        let mut inputs = Inputs::new(vec![(0, ra), (1, rb)]);
        a.control(Message::Barrier(1)).unwrap();
        assert_eq!(words(&mut inputs), [] as [&str; 0]);
        b.control(Message::End).unwrap();
        assert_eq!(words(&mut inputs), ["barrier 1"]);
        a.control(Message::End).unwrap();
        assert_eq!(words(&mut inputs), [format!("watermark {}", i64::MAX), "end".into()]);
        assert_eq!(words(&mut inputs), [] as [&str; 0]);
    }

    #[test]
    fn inputs_that_all_have_rows_take_turns_and_a_barrier_is_no_other() {
        for waits in [false, true] {
            let edges: Vec<_> = (0..3).map(|_| edge()).collect();
            let (senders, receivers): (Vec<_>, Vec<_>) = edges.into_iter().unzip();
            let mut inputs = Inputs::new(receivers.into_iter().enumerate().collect());
            (0..2).for_each(|_| senders.iter().for_each(row));
            let turns = (0..6).map(|_| {
                let event = if waits {
                    futures::executor::block_on(inputs.next()).unwrap()
                } else {
                    inputs.try_next().unwrap().unwrap()
                };
                let Event::Records(input, _) = event else { panic!("{event:?}") };
                input
            });
            assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2], "{waits}");
            senders[0].control(Message::Barrier(1)).unwrap();
            senders[1].control(Message::Barrier(2)).unwrap();
            assert!(!inputs.is_over() && inputs.try_next().is_err());
        }
    }

    #[test]
    fn an_input_is_found_wherever_the_last_look_has_ended() {
        for waits in [false, true] {
            let edges: Vec<_> = (0..3).map(|_| edge()).collect();
            let (senders, receivers): (Vec<_>, Vec<_>) = edges.into_iter().unzip();
            let mut inputs = Inputs::new(receivers.into_iter().enumerate().collect());
            for input in [2, 1, 1, 0, 2] {
                row(&senders[input]);
                let event = if waits {
                    futures::executor::block_on(inputs.next()).unwrap()
                } else {
                    inputs.try_next().unwrap().unwrap()
                };
                assert!(matches!(event, Event::Records(of, _) if of == input), "{event:?} of {input}");
            }
        }
    }

    #[test]
    fn rows_are_read_under_the_schema_that_the_inputs_have_together() {
        let (a, ra) = edge();
        let field = arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int64, true);
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let mut inputs = Inputs::new(vec![(0, ra)]).read_as(schema.clone());
        row(&a);
        let Some(Event::Records(0, records)) = inputs.try_next().unwrap() else { panic!("no rows") };
        assert_eq!((records.batch.schema(), records.batch.num_rows()), (schema, 1));
        a.control(Message::End).unwrap();
        assert_eq!(words(&mut inputs), [format!("watermark {}", i64::MAX), "end".into()]);
        assert!(inputs.is_over());
    }

    #[test]
    fn a_writer_that_goes_without_an_end_is_an_error() {
        let (a, ra) = edge();
        drop(a);
        let mut inputs = Inputs::new(vec![(0, ra)]);
        let error = futures::executor::block_on(inputs.next()).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Canceled);
    }
}
