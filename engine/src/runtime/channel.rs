//! An edge: a row semaphore, a byte semaphore and a channel. Permits first, then a send that can't fail.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::task::{Context, Poll};

use async_channel::TrySendError;
use futures::Stream;
use tokio::sync::{Semaphore, TryAcquireError};

use crate::data::message::Message;
use crate::data::records::{Records, bytes_held};
use crate::error::{Error, Kind, Result};
use crate::metrics::EdgeStats;
use crate::time::Timestamp;

/// The most batches in a channel: small ones count as a share of the rows, so that the channel itself stays small.
const SLOTS_MAX: usize = 64;
/// Slots beside the data's: a barrier and the end. There is one epoch under way, and one end. Before either, a watermark
/// for which an edge that drops had no room.
const CONTROL_SLOTS: usize = 4;

/// The writing end. One task owns it.
pub struct Sender {
    queue: async_channel::Sender<Item>,
    gate: Arc<Gate>,
    /// The newest watermark that found no room; only where rows are dropped instead of waiting.
    late_watermark: AtomicI64,
}

/// The reading end. One task owns it.
pub struct Receiver {
    queue: Pin<Box<async_channel::Receiver<Item>>>,
    gate: Arc<Gate>,
}

struct Gate {
    rows: Semaphore,
    bytes: Semaphore,
    rows_cap: u32,
    bytes_cap: u32,
    /// What the smallest batch costs in rows.
    floor: u32,
    stats: Arc<EdgeStats>,
}

struct Item {
    message: Message,
    cost: Cost,
}

/// Permits that a batch takes, and what it really is.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    row_permits: u32,
    byte_permits: u32,
    rows: u64,
    bytes: u64,
}

/// A channel of so many rows and bytes, whichever is reached first. A batch beyond the whole capacity passes alone, so
/// one batch always fits.
pub fn channel(rows: usize, stats: Arc<EdgeStats>) -> (Sender, Receiver) {
    let slots = rows.clamp(1, SLOTS_MAX);
    let (sender, receiver) = async_channel::bounded(slots + CONTROL_SLOTS);
    let rows_cap = clamp_u32(rows.max(1));
    let bytes_cap = clamp_u32(usize::try_from(stats.capacity_bytes).unwrap_or(usize::MAX).max(1));
    let gate = Arc::new(Gate {
        rows: Semaphore::new(rows_cap as usize),
        bytes: Semaphore::new(bytes_cap as usize),
        rows_cap,
        bytes_cap,
        floor: rows_cap.div_ceil(clamp_u32(slots)),
        stats,
    });
    (
        Sender { queue: sender, gate: gate.clone(), late_watermark: AtomicI64::new(Timestamp::MIN.0) },
        Receiver { queue: Box::pin(receiver), gate },
    )
}

fn clamp_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX).min(u32::MAX >> 1)
}

/// A neighbour has gone: the consequence of a failure elsewhere, never its cause.
#[derive(Debug)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the other end of an edge is gone")
    }
}

impl std::error::Error for Closed {}

/// Whether an error only says that a neighbour has gone.
pub fn is_closed(error: &Error) -> bool {
    error.source().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Closed>)
}

fn closed() -> Error {
    Error::from(Closed).with_kind(Kind::Canceled)
}

/// A mailbox for notes between tasks: bounded, many writers, one reader.
pub fn mailbox<T>(capacity: usize) -> (Post<T>, Mailbox<T>) {
    async_channel::bounded(capacity)
}

/// The writing end of a mailbox.
pub type Post<T> = async_channel::Sender<T>;
/// The reading end of a mailbox.
pub type Mailbox<T> = async_channel::Receiver<T>;

impl Sender {
    /// The counters of the channel.
    pub fn stats(&self) -> &EdgeStats {
        &self.gate.stats
    }

    /// Bytes that the channel holds.
    pub fn bytes_cap(&self) -> usize {
        self.gate.bytes_cap as usize
    }

    /// Sends rows if there is room now; gives them back if not.
    pub fn try_send(&self, records: Records) -> Result<Option<Records>> {
        let cost = self.cost(&records);
        let taken = |s: &Semaphore, n| match s.try_acquire_many(n) {
            Ok(permit) => {
                permit.forget();
                Ok(true)
            }
            Err(TryAcquireError::NoPermits) => Ok(false),
            Err(TryAcquireError::Closed) => Err(closed()),
        };
        if !taken(&self.gate.rows, cost.row_permits)? {
            return Ok(Some(records));
        }
        if !taken(&self.gate.bytes, cost.byte_permits)? {
            self.gate.rows.add_permits(cost.row_permits as usize);
            return Ok(Some(records));
        }
        self.put(Message::Records(records), cost).map(|()| None)
    }

    /// Sends rows as soon as there is room.
    ///
    /// Cancel safety: dropped before its end, it has sent nothing and holds nothing.
    pub async fn send(&self, records: Records) -> Result<()> {
        let cost = self.cost(&records);
        let rows = self.gate.rows.acquire_many(cost.row_permits).await.map_err(|_| closed())?;
        let bytes = self.gate.bytes.acquire_many(cost.byte_permits).await.map_err(|_| closed())?;
        rows.forget();
        bytes.forget();
        self.put(Message::Records(records), cost)
    }

    /// Sends rows if there is room now, and drops and counts them if not.
    pub fn send_or_drop(&self, records: Records) -> Result<()> {
        if let Some(dropped) = self.try_send(records)? {
            self.gate.stats.dropped(dropped.batch.num_rows() as u64);
            return Ok(());
        }
        self.try_watermark(Timestamp(self.late_watermark.load(Relaxed)))
    }

    /// Sends a watermark if there is room now. If not, it goes with the next rows for which there is, or before the next
    /// barrier or the end: a watermark may be late, and one that says less is never needed.
    pub fn try_watermark(&self, to: Timestamp) -> Result<()> {
        if to == Timestamp::MIN {
            return Ok(());
        }
        match self.gate.rows.try_acquire_many(self.gate.floor) {
            Ok(permit) => {
                permit.forget();
                self.late_watermark.store(Timestamp::MIN.0, Relaxed);
                let cost = Cost { row_permits: self.gate.floor, ..Cost::default() };
                self.put(Message::Watermark(to), cost)
            }
            Err(TryAcquireError::NoPermits) => {
                self.late_watermark.store(to.0, Relaxed);
                Ok(())
            }
            Err(TryAcquireError::Closed) => Err(closed()),
        }
    }

    /// Sends a watermark; it takes the place of a smallest batch.
    ///
    /// Cancel safety: dropped before its end, it has sent nothing and holds nothing.
    pub async fn watermark(&self, message: Message) -> Result<()> {
        let cost = Cost { row_permits: self.gate.floor, ..Cost::default() };
        self.gate.rows.acquire_many(cost.row_permits).await.map_err(|_| closed())?.forget();
        self.put(message, cost)
    }

    /// Sends a barrier or the end, for which there is always room.
    pub fn control(&self, message: Message) -> Result<()> {
        let late = self.late_watermark.swap(Timestamp::MIN.0, Relaxed);
        if late != Timestamp::MIN.0 {
            self.put(Message::Watermark(Timestamp(late)), Cost::default())?;
        }
        self.put(message, Cost::default())
    }

    fn cost(&self, records: &Records) -> Cost {
        let (rows, bytes) = (records.batch.num_rows(), bytes_held(&records.batch));
        Cost {
            row_permits: clamp_u32(rows).clamp(self.gate.floor, self.gate.rows_cap),
            byte_permits: clamp_u32(bytes).min(self.gate.bytes_cap),
            rows: rows as u64,
            bytes: bytes as u64,
        }
    }

    fn put(&self, message: Message, cost: Cost) -> Result<()> {
        if cost.rows != 0 {
            self.gate.stats.sent(cost.rows, cost.bytes);
        }
        match self.queue.try_send(Item { message, cost }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(closed()),
            Err(TrySendError::Full(_)) => Err(Error::engine("an edge had no slot for what its permits allowed")),
        }
    }
}

impl Receiver {
    /// What is there now.
    pub fn try_receive(&mut self) -> Option<Message> {
        self.queue.try_recv().ok().map(|item| self.open(item))
    }

    /// The next message; `Canceled` when the writer is gone without an end.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Message>> {
        match self.queue.as_mut().poll_next(context) {
            Poll::Ready(Some(item)) => Poll::Ready(Ok(self.open(item))),
            Poll::Ready(None) => Poll::Ready(Err(closed())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn open(&self, Item { message, cost }: Item) -> Message {
        if cost.row_permits != 0 {
            self.gate.rows.add_permits(cost.row_permits as usize);
        }
        if cost.byte_permits != 0 {
            self.gate.bytes.add_permits(cost.byte_permits as usize);
        }
        if cost.rows != 0 {
            self.gate.stats.taken(cost.rows, cost.bytes);
        }
        message
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A writer that waits for permits must learn that none will come.
        self.gate.rows.close();
        self.gate.bytes.close();
        self.queue.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::record_batch::RecordBatch;
    use futures::FutureExt;

    fn records(rows: i64) -> Records {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        Records {
            batch: RecordBatch::try_from_iter([("n", column)]).unwrap(),
            header: crate::data::records::Header::default(),
        }
    }

    fn edge(rows: usize, bytes: u64) -> (Sender, Receiver) {
        channel(rows, Arc::new(EdgeStats::of(bytes)))
    }

    #[test]
    fn a_full_edge_takes_control_messages_and_no_rows() {
        let (sender, mut receiver) = edge(1, 1 << 20);
        assert!(sender.try_send(records(100)).unwrap().is_none());
        assert!(sender.try_send(records(1)).unwrap().is_some());
        assert_eq!(sender.stats().queued_rows(), 100);
        assert!(sender.send(records(1)).now_or_never().is_none());
        sender.control(Message::Barrier(1)).unwrap();
        sender.control(Message::End).unwrap();
        assert!(matches!(receiver.try_receive(), Some(Message::Records(_))));
        assert!(sender.gate.stats.queued_rows() == 0);
        assert!(matches!(receiver.try_receive(), Some(Message::Barrier(1))));
    }

    #[test]
    fn bytes_bound_an_edge_as_rows_do_and_one_batch_always_fits() {
        let (sender, mut receiver) = edge(100_000, 1_000);
        assert_eq!(sender.bytes_cap(), 1_000);
        assert!(sender.try_send(records(5_000)).unwrap().is_none());
        assert!(sender.try_send(records(1)).unwrap().is_some());
        receiver.try_receive().unwrap();
        // 125 rows of 8 bytes are all that fits; what was refused for its bytes holds no place among the rows.
        assert!(sender.try_send(records(100)).unwrap().is_none());
        assert!(sender.try_send(records(26)).unwrap().is_some());
        assert!(sender.try_send(records(25)).unwrap().is_none());
        let free = |gate: &Gate| (gate.rows.available_permits(), gate.bytes.available_permits());
        assert_eq!(free(&sender.gate).1, 0);
        while receiver.try_receive().is_some() {}
        assert_eq!(free(&sender.gate), (100_000, 1_000));
    }

    #[test]
    fn a_watermark_takes_the_place_of_a_smallest_batch_and_gives_it_back() {
        let (sender, mut receiver) = edge(8_192, 1 << 20);
        assert_eq!(sender.gate.floor, 128);
        let mark = || sender.watermark(Message::Watermark(Timestamp(1)));
        for n in 1..=SLOTS_MAX {
            assert!(mark().now_or_never().is_some(), "{n}");
        }
        assert!(mark().now_or_never().is_none());
        // It is late, and goes before what comes next.
        sender.try_watermark(Timestamp(9)).unwrap();
        receiver.try_receive().unwrap();
        sender.send_or_drop(records(1)).unwrap();
        assert_eq!(sender.stats().rows_dropped(), 0);
        sender.control(Message::End).unwrap();
        let mut last = Vec::new();
        while let Some(message) = receiver.try_receive() {
            last.push(message);
        }
        let last: Vec<_> = last.iter().rev().take(2).map(|m| format!("{m:?}")).collect();
        assert_eq!(last, ["End", "Watermark(Timestamp(9))"]);
        assert_eq!((sender.gate.rows.available_permits(), sender.gate.stats.queued_rows()), (8_192, 0));
    }

    #[test]
    fn an_edge_that_drops_counts_the_rows_and_loses_no_watermark() {
        let (sender, mut receiver) = edge(1, 1 << 20);
        sender.send_or_drop(records(1)).unwrap();
        sender.send_or_drop(records(7)).unwrap();
        sender.try_watermark(Timestamp(5)).unwrap();
        sender.try_watermark(Timestamp(6)).unwrap();
        sender.control(Message::Barrier(1)).unwrap();
        sender.try_watermark(Timestamp(7)).unwrap();
        sender.control(Message::End).unwrap();
        let words: Vec<_> = std::iter::from_fn(|| receiver.try_receive())
            .map(|m| match m {
                Message::Records(r) => format!("{} rows", r.batch.num_rows()),
                other => format!("{other:?}"),
            })
            .collect();
        let said = ["1 rows", "Watermark(Timestamp(6))", "Barrier(1)", "Watermark(Timestamp(7))", "End"];
        assert_eq!((words, sender.stats().rows_dropped()), (said.map(str::to_owned).to_vec(), 7));
    }

    #[test]
    fn a_watermark_on_an_edge_that_drops_holds_no_place_when_it_was_taken() {
        let (sender, mut receiver) = edge(8_192, 1 << 20);
        sender.try_watermark(Timestamp::MIN).unwrap();
        sender.try_watermark(Timestamp(3)).unwrap();
        assert_eq!(sender.gate.rows.available_permits(), 8_192 - 128);
        assert!(matches!(receiver.try_receive(), Some(Message::Watermark(Timestamp(3)))));
        assert!(receiver.try_receive().is_none());
        assert_eq!(sender.gate.rows.available_permits(), 8_192);
        assert_eq!([7, usize::MAX].map(clamp_u32), [7, u32::MAX >> 1]);
    }

    #[test]
    fn small_batches_are_bounded_in_number() {
        let (sender, _receiver) = edge(8_192 * 8, 1 << 30);
        let sent = (0..1_000).take_while(|_| sender.try_send(records(1)).unwrap().is_none()).count();
        assert_eq!(sent, SLOTS_MAX);
    }

    #[test]
    fn a_writer_that_waits_learns_that_its_reader_is_gone() {
        let (sender, receiver) = edge(1, 1 << 20);
        sender.try_send(records(1)).unwrap();
        let mut waiting = Box::pin(sender.send(records(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(receiver);
        let gone = waiting.now_or_never().unwrap().unwrap_err();
        assert_eq!((gone.kind(), is_closed(&gone)), (Kind::Canceled, true));
        assert!(!is_closed(&Error::new(Kind::Canceled, "asked for")));
        assert!(sender.try_watermark(Timestamp(1)).is_err_and(|e| is_closed(&e)));
    }
}
