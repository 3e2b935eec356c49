//! The messages of Arrow IPC, checked before the arrow crate allocates what they claim.

use arrow::buffer::{Buffer, MutableBuffer};
use arrow_ipc::{Message, MessageHeader, RecordBatch};
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Kind, Result};

use super::broken;

/// The most bytes of one message, its columns decompressed.
const BYTES_MAX: u64 = 1 << 30;
/// How much a message may claim before it must be in proportion to its bytes, in bytes or rows.
const FLOOR: u64 = 16 << 20;
/// The most decompressed bytes, or rows, for each byte of a message.
const RATIO: u64 = 200;
/// What stands before the length of a message since format version 5.
const CONTINUATION: [u8; 4] = [0xFF; 4];

/// Reads `length` bytes at `offset` of a file that is said to hold `end` bytes.
pub fn bytes_at(file: &dyn ReadFile, end: u64, offset: u64, length: u64) -> Result<Buffer> {
    if offset.checked_add(length).is_none_or(|e| e > end) {
        return Err(broken(format!("{length} bytes at {offset} lie beyond its end, {end}")));
    }
    check_length(length)?;
    let mut buffer = MutableBuffer::from_len_zeroed(usize::try_from(length).unwrap_or(usize::MAX));
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer.as_slice_mut()[filled..])? {
            0 => return Err(broken(format!("it was cut off at {} while it was read", offset + filled as u64))),
            count => filled += count,
        }
    }
    Ok(buffer.into())
}

/// Checks that a message of `length` bytes is not too long to be held.
///
/// # Errors
/// When it is.
pub fn check_length(length: u64) -> Result<()> {
    if length <= BYTES_MAX {
        return Ok(());
    }
    let message = format!("a message of {length} bytes, and 1 GiB is the most: write smaller batches");
    Err(Error::new(Kind::Budget, message))
}

/// The metadata of a message whose first `length` bytes they are, without what stands before them.
///
/// # Errors
/// When they are none.
pub fn metadata(bytes: &[u8], length: usize) -> Result<Message<'_>> {
    let skipped = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
    let metadata = bytes.get(skipped..length).ok_or_else(|| broken("a message without metadata"))?;
    arrow_ipc::root_as_message(metadata).map_err(|e| broken(format!("the metadata of a message: {e}")))
}

/// How many rows the batch in a message has; none if there is no batch in it.
pub fn rows_in(message: Message<'_>) -> Result<u64> {
    let Some(batch) = message.header_as_record_batch() else { return Ok(0) };
    u64::try_from(batch.length()).map_err(|_| broken("a batch of fewer than no rows"))
}

/// Checks that the batch in a message asks for no more memory than its body justifies.
///
/// # Errors
/// When it does.
pub fn check(message: Message<'_>, body: &[u8]) -> Result<()> {
    let dictionary = message.header_as_dictionary_batch().and_then(|d| d.data());
    match message.header_as_record_batch().or(dictionary) {
        Some(batch) => check_batch(batch, body),
        None if message.header_type() == MessageHeader::DictionaryBatch => Err(broken("a dictionary without values")),
        None => Ok(()),
    }
}

fn check_batch(batch: RecordBatch<'_>, body: &[u8]) -> Result<()> {
    let (mut held, mut claimed) = (0_u64, 0_u64);
    for buffer in batch.buffers().into_iter().flatten() {
        let part = || {
            let (offset, length) = (usize::try_from(buffer.offset()).ok()?, usize::try_from(buffer.length()).ok()?);
            body.get(offset..offset.checked_add(length)?)
        };
        let part = part().ok_or_else(|| broken("a column lies beyond its message"))?;
        held += part.len() as u64;
        let unpacked = match part.first_chunk() {
            Some(prefix) if batch.compression().is_some() => match i64::from_le_bytes(*prefix) {
                -1 => part.len() as u64,
                length => u64::try_from(length).map_err(|_| broken("a column of fewer than no bytes"))?,
            },
            _ => part.len() as u64,
        };
        claimed = claimed.saturating_add(unpacked);
    }
    if held > body.len() as u64 {
        return Err(broken("columns that lie one over the other"));
    }
    let allowed = FLOOR.max(RATIO * body.len() as u64);
    if claimed > allowed.min(BYTES_MAX) {
        let (size, most) = (body.len(), allowed.min(BYTES_MAX));
        let message = format!("a message of {size} bytes claims to hold {claimed}, and {most} are the most");
        return Err(Error::new(Kind::Budget, message));
    }
    let rows = u64::try_from(batch.length()).map_err(|_| broken("a batch of fewer than no rows"))?;
    if rows > allowed {
        let message =
            format!("a message of {} bytes claims to hold {rows} rows, and {allowed} are the most", body.len());
        return Err(Error::new(Kind::Budget, message));
    }
    Ok(())
}
