//! One reader of one port: how its rows are spread over the lanes.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};

use super::channel::Sender;
use crate::data::message::Message;
use crate::data::records::{BYTES_MAX, Credit, Header, ROWS_MAX, Records, bytes_held, bytes_needed, compact};
use crate::error::{Error, Result};
use crate::plan::Exchange;
use crate::runtime::shares::Shares;
use crate::state::key_group::{key_group, lane_of};

/// Batches above this are looked at for what they pin beside their own rows.
const PIN_CHECK: usize = 256 << 10;

/// The channels to the lanes of a reader.
pub struct Router {
    exchange: Exchange,
    /// Whether rows are dropped where a channel is full.
    drops: bool,
    senders: Vec<Sender>,
    /// For round robin: the next lane.
    next: usize,
    /// For hash: from key columns to comparable bytes; made at the first batch.
    converter: Option<RowConverter>,
    /// For hash: small parts that wait for company, by lane.
    waiting: Vec<Parts>,
}

/// Parts of several batches for one lane. They are joined when there is a batch's worth, or when the task has nothing
/// else to do: a barrier, a watermark or a wait never finds any left.
#[derive(Default)]
struct Parts {
    batches: Vec<RecordBatch>,
    rows: usize,
    header: Header,
    credits: Vec<Arc<Credit>>,
}

/// A part of so many rows goes at once, and parts are joined up to it.
const PART_ROWS: usize = ROWS_MAX / 4;

impl Parts {
    fn push(&mut self, batch: RecordBatch, header: &Header) {
        if self.batches.is_empty() {
            // Rows of several batches are mixed, so where they came from is known no more; the oldest was read first.
            self.header = Header { ingested: header.ingested, ..Header::default() };
        }
        self.credits.extend(header.credit.clone());
        self.rows += batch.num_rows();
        self.batches.push(batch);
    }

    fn take(&mut self) -> Result<Option<Records>> {
        let Self { batches, header, credits, .. } = std::mem::take(self);
        let Some(first) = batches.first() else { return Ok(None) };
        let batch = if batches.len() == 1 { first.clone() } else { concat_batches(first.schema_ref(), &batches)? };
        let credit = (!credits.is_empty()).then(|| Arc::new(Credit::new(credits)));
        Ok(Some(Records { batch, header: Header { credit, ..header } }))
    }
}

impl Router {
    /// Spreads rows so over these channels, one per lane.
    pub fn new(exchange: Exchange, senders: Vec<Sender>) -> Self {
        let waiting = senders.iter().map(|_| Parts::default()).collect();
        Self { exchange, drops: false, senders, next: 0, converter: None, waiting }
    }

    /// The same, but rows are dropped and counted where a channel is full, instead of waiting.
    #[must_use]
    pub fn dropping(self) -> Self {
        Self { drops: true, ..self }
    }

    /// Sends rows on; waits where a channel is full.
    pub async fn send(&mut self, records: Records, shares: &mut Shares) -> Result<()> {
        match &self.exchange {
            Exchange::Forward => deliver(&self.senders[0], records, self.drops, shares).await,
            Exchange::RoundRobin => {
                let lane = self.next;
                self.next = (lane + 1) % self.senders.len();
                deliver(&self.senders[lane], records, self.drops, shares).await
            }
            Exchange::Broadcast => {
                for sender in &self.senders {
                    deliver(sender, records.clone(), self.drops, shares).await?;
                }
                Ok(())
            }
            Exchange::Hash(columns) => {
                let parts = partition(&records.batch, columns, self.senders.len(), &mut self.converter)?;
                for (lane, batch) in parts {
                    self.waiting[lane].push(batch, &records.header);
                    if self.waiting[lane].rows >= PART_ROWS
                        && let Some(part) = self.waiting[lane].take()?
                    {
                        deliver(&self.senders[lane], part, self.drops, shares).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Sends the parts that wait for company: before a barrier, a watermark, the end and every wait of the task.
    pub async fn flush(&mut self, shares: &mut Shares) -> Result<()> {
        for (parts, sender) in self.waiting.iter_mut().zip(&self.senders) {
            if let Some(part) = parts.take()? {
                deliver(sender, part, self.drops, shares).await?;
            }
        }
        Ok(())
    }

    /// Sends a barrier or the end to every lane; there is always room.
    pub fn control(&self, message: &Message) -> Result<()> {
        self.senders.iter().try_for_each(|s| s.control(message.clone()))
    }

    /// Sends a watermark to every lane.
    pub async fn watermark(&self, message: &Message) -> Result<()> {
        for sender in &self.senders {
            match message {
                Message::Watermark(to) if self.drops => sender.try_watermark(*to)?,
                _ => sender.watermark(message.clone()).await?,
            }
        }
        Ok(())
    }
}

/// Sends rows over one channel, cut into batches that fit.
async fn deliver(sender: &Sender, records: Records, drops: bool, shares: &mut Shares) -> Result<()> {
    let bytes_max = sender.bytes_cap().min(BYTES_MAX);
    let (rows, held) = (records.batch.num_rows(), bytes_held(&records.batch));
    if rows <= ROWS_MAX && (held <= PIN_CHECK.min(bytes_max) || rows <= 1 && held <= PIN_CHECK) {
        return put(sender, records, drops, shares).await;
    }
    for batch in cut(&records.batch, held, bytes_max)? {
        put(sender, Records { batch, header: records.header.clone() }, drops, shares).await?;
    }
    Ok(())
}

/// Cuts a batch into pieces of at most [`ROWS_MAX`] rows and `bytes_max` bytes, single rows excepted, none of which pins
/// much more than it needs.
pub fn cut(batch: &RecordBatch, held: usize, bytes_max: usize) -> Result<Vec<RecordBatch>> {
    let rows = batch.num_rows();
    let needed = bytes_needed(batch);
    let pieces = rows.div_ceil(ROWS_MAX).max(needed.div_ceil(bytes_max)).clamp(1, rows.max(1));
    let piece = rows.div_ceil(pieces);
    let mut cut = Vec::with_capacity(pieces);
    for start in (0..rows).step_by(piece) {
        let part = batch.slice(start, piece.min(rows - start));
        // Rows of very different size: the mean deceives, so a piece that is still too large is cut again.
        let part_needed = if pieces == 1 { needed } else { bytes_needed(&part) };
        if part_needed > bytes_max && part.num_rows() > 1 && part.num_rows() < rows {
            cut.extend(cut_again(&part, bytes_max)?);
        } else if held > 2 * part_needed + PIN_CHECK / 4 {
            cut.push(compact(&part)?);
        } else {
            cut.push(part);
        }
    }
    Ok(cut)
}

fn cut_again(part: &RecordBatch, bytes_max: usize) -> Result<Vec<RecordBatch>> {
    let own = compact(part)?;
    cut(&own, bytes_held(&own), bytes_max)
}

async fn put(sender: &Sender, records: Records, drops: bool, shares: &mut Shares) -> Result<()> {
    if drops {
        return sender.send_or_drop(records);
    }
    match sender.try_send(records)? {
        None => Ok(()),
        Some(records) => shares.backpressured(sender.send(records)).await,
    }
}

/// Splits a whole batch by the lane that owns each row's key. Lanes without rows get nothing.
pub fn partition(
    batch: &RecordBatch,
    columns: &[String],
    lanes: usize,
    converter: &mut Option<RowConverter>,
) -> Result<Vec<(usize, RecordBatch)>> {
    let keys: Vec<ArrayRef> = columns
        .iter()
        .map(|c| batch.column_by_name(c).cloned().ok_or_else(|| Error::engine(format!("no key column `{c}`"))))
        .collect::<Result<_>>()?;
    if converter.is_none() {
        *converter = Some(RowConverter::new(keys.iter().map(|k| SortField::new(k.data_type().clone())).collect())?);
    }
    let Some(converter) = converter else { return Err(Error::engine("no key converter")) };
    let keys = converter.convert_columns(&keys)?;
    let mut indices: Vec<Vec<u32>> = vec![Vec::with_capacity(batch.num_rows() / lanes + 16); lanes];
    for (row, key) in (0u32..).zip(keys.iter()) {
        indices[lane_of(key_group(key.as_ref()), lanes)].push(row);
    }
    let full = indices.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    full.map(|(lane, rows)| {
        let whole = rows.len() == batch.num_rows();
        Ok((lane, if whole { batch.clone() } else { take_record_batch(batch, &UInt32Array::from(rows))? }))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    fn batch(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    #[test]
    fn a_key_always_goes_to_the_same_lane_and_no_row_is_lost() {
        let mut converter = None;
        let whole = partition(&batch(1_000), &["n".into()], 3, &mut converter).unwrap();
        assert_eq!(whole.iter().map(|(_, b)| b.num_rows()).sum::<usize>(), 1_000);
        for (lane, part) in &whole {
            for row in 0..part.num_rows() {
                let single = partition(&part.slice(row, 1), &["n".into()], 3, &mut converter).unwrap();
                assert_eq!(single[0].0, *lane);
            }
        }
    }

    #[test]
    fn a_large_batch_is_cut_and_its_pieces_pin_nothing_else() {
        let big = batch(100_000);
        let pieces = cut(&big, bytes_held(&big), 64 << 10).unwrap();
        let numbers: Vec<i64> =
            pieces.iter().flat_map(|p| p.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(numbers, (0..100_000).collect::<Vec<_>>());
        assert!(pieces.iter().all(|p| p.num_rows() <= ROWS_MAX && bytes_held(p) <= 128 << 10));
    }

    #[test]
    fn rows_of_very_different_size_are_cut_until_they_fit() {
        let texts: Vec<String> = (0..64).map(|i| "x".repeat(if i < 60 { 10 } else { 1 << 20 })).collect();
        let wide = RecordBatch::try_from_iter([("t", Arc::new(StringArray::from(texts)) as ArrayRef)]).unwrap();
        let pieces = cut(&wide, bytes_held(&wide), 2 << 20).unwrap();
        assert_eq!(pieces.iter().map(RecordBatch::num_rows).sum::<usize>(), 64);
        assert!(
            pieces.iter().all(|p| bytes_held(p) < 3 << 20),
            "{:?}",
            pieces.iter().map(bytes_held).collect::<Vec<_>>()
        );
    }
}
