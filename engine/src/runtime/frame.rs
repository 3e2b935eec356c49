//! One message as bytes on the disk: a kind, a length, a checksum, then the header of the rows and an Arrow IPC stream.

use std::sync::Arc;

use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use xxhash_rust::xxh3::Xxh3;

use crate::data::message::Message;
use crate::data::records::{Credit, KeptHeader, Records};
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;

/// Bytes before the body: the kind, the length of the body, the checksum of both and of the body.
pub const HEADER: usize = 1 + 8 + 8;

const ROWS: u8 = 1;
const WATERMARK: u8 = 2;
const BARRIER: u8 = 3;
const END: u8 = 4;

/// A message that was read back.
#[derive(Debug)]
pub struct Frame(pub Message);

/// The bytes of a message.
///
/// # Errors
/// When the rows can't be written as Arrow IPC.
pub fn encode(message: &Message) -> Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    frame[0] = match message {
        Message::Records(Records { batch, header }) => {
            let kept = serde_json::to_vec(&KeptHeader::from(header))?;
            frame.extend_from_slice(&(kept.len() as u64).to_le_bytes());
            frame.extend_from_slice(&kept);
            let mut writer = StreamWriter::try_new(&mut frame, batch.schema_ref())?;
            writer.write(batch)?;
            writer.finish()?;
            ROWS
        }
        Message::Watermark(to) => {
            frame.extend_from_slice(&to.0.to_le_bytes());
            WATERMARK
        }
        Message::Barrier(epoch) => {
            frame.extend_from_slice(&epoch.to_le_bytes());
            BARRIER
        }
        Message::End => END,
    };
    let length = (frame.len() - HEADER) as u64;
    frame[1..9].copy_from_slice(&length.to_le_bytes());
    let check = checksum(&frame[..9], &frame[HEADER..]);
    frame[9..HEADER].copy_from_slice(&check.to_le_bytes());
    Ok(frame)
}

/// The length of the body behind a header.
pub fn length(header: &[u8; HEADER]) -> u64 {
    number(&header[1..9])
}

/// The message of a header and its body.
///
/// # Errors
/// When these are not the bytes that were written.
pub fn decode(header: &[u8; HEADER], body: &[u8]) -> Result<Frame> {
    if number(&header[9..]) != checksum(&header[..9], body) {
        return Err(damaged());
    }
    Ok(Frame(match header[0] {
        ROWS => Message::Records(rows(body)?),
        WATERMARK => Message::Watermark(Timestamp(i64::from_le_bytes(body.try_into()?))),
        BARRIER => Message::Barrier(number(body)),
        END => Message::End,
        _ => return Err(damaged()),
    }))
}

fn rows(body: &[u8]) -> Result<Records> {
    let (length, rest) = body.split_at_checked(8).ok_or_else(damaged)?;
    let (kept, stream) = rest.split_at_checked(usize::try_from(number(length))?).ok_or_else(damaged)?;
    let header: KeptHeader = serde_json::from_slice(kept)?;
    let batch = StreamReader::try_new(stream, None)?.next().ok_or_else(damaged)??;
    Ok(Records { batch, header: header.into() })
}

/// That the disk gave back something else than was written.
pub fn damaged() -> Error {
    Error::new(Kind::Io, "what was spooled here is damaged")
}

fn checksum(head: &[u8], body: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(body);
    hash.digest()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

impl Frame {
    /// Gives rows back their admission.
    pub fn carry(&mut self, credit: Arc<Credit>) {
        if let Message::Records(records) = &mut self.0 {
            records.header.credit = Some(credit);
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        if let Message::Records(records) = &self.0 { records.batch.num_rows() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::position::{Position, Split};
    use crate::data::records::{Header, Origin};
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringViewArray};
    use arrow::datatypes::Int8Type;
    use arrow::record_batch::RecordBatch;
    use proptest::prelude::*;

    fn batch() -> RecordBatch {
        let words: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            ("view", Arc::new(StringViewArray::from(vec!["short", "a text that is longer than twelve bytes", ""]))),
            ("word", Arc::new(words)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
    }

    fn message() -> Message {
        let origin = Origin { split: Split::new("a.csv"), position: Position::of(&7).unwrap() };
        let header = Header { ingested: Timestamp(5), origin: Some(Arc::new(origin)), credit: None };
        Message::Records(Records { batch: batch().slice(1, 2), header })
    }

    fn back(bytes: &[u8]) -> Result<Message> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
        decode(header.try_into()?, body).map(|f| f.0)
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        for message in [message(), Message::Watermark(Timestamp(-3)), Message::Barrier(9), Message::End] {
            assert_eq!(format!("{:?}", back(&encode(&message).unwrap()).unwrap()), format!("{message:?}"));
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_or_a_missing_end_is_told(at in 0usize..2_000, flip in 1u8..=255) {
            let mut bytes = encode(&message()).unwrap();
            let at = at % bytes.len();
            prop_assert!(back(&bytes[..at]).is_err());
            bytes[at] ^= flip;
            // A wrong length shows when the body is cut to it.
            let header: [u8; HEADER] = bytes[..HEADER].try_into().unwrap();
            let wrong_length = length(&header) != (bytes.len() - HEADER) as u64;
            prop_assert!(wrong_length || back(&bytes).is_err());
        }
    }
}
