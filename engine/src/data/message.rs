//! One item on a channel.

use super::records::Records;
use crate::time::Timestamp;

/// The number of an epoch, from 1.
pub type Epoch = u64;

/// One item on a channel. A channel carries `(Records | Watermark | Barrier)* End`.
#[derive(Clone, Debug)]
pub enum Message {
    /// Rows with their header.
    Records(Records),
    /// No row with an earlier event time follows, unless it is late.
    Watermark(Timestamp),
    /// Everything before this belongs to the epoch, everything after does not.
    Barrier(Epoch),
    /// Nothing follows.
    End,
}
