//! What a checkpoint is made of: one document that names everything, and is whole or not there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::api::Receipt;
use crate::data::message::Epoch;
use crate::data::position::Position;
use crate::error::{Error, Result};
use crate::state::visitor::Scope;
use crate::time::Timestamp;

/// The form of manifests and parts that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// A complete checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this document and of its parts.
    pub format: u32,
    /// The version of the engine that wrote it.
    pub engine: String,
    /// The job.
    pub job: String,
    /// Which run of the job: the same for all that go on from each other, another after a new beginning.
    pub run: String,
    /// The epoch: everything up to its barrier is in here, nothing behind it.
    pub epoch: Epoch,
    /// When it was complete.
    pub written: Timestamp,
    /// Whether every task had ended, so that nothing is left to do.
    pub last: bool,
    /// Sources, stages and sinks by id.
    pub nodes: BTreeMap<String, Node>,
    /// The parts that hold state, of this checkpoint and of those before it.
    pub parts: Vec<Part>,
}

/// What belongs to a source, stage or sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its kind: `file`, `dedupe`.
    pub kind: String,
    /// How many lanes it had.
    pub lanes: usize,
    /// A hash of its configuration, to say whether it has changed.
    pub config: String,
    /// Lanes that have said all that they had to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<usize>,
    /// Of a source: how far each split has been read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub splits: BTreeMap<String, Position>,
    /// Of a sink: what its lanes have prepared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<(usize, Receipt)>,
    /// Its state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Piece>,
}

/// A piece of the state of one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// The lane.
    pub lane: usize,
    /// The name that the stage gives it.
    pub name: String,
    /// What it belongs to.
    pub scope: Scope,
    /// Its chunks, in order.
    pub chunks: Vec<Chunk>,
}

/// Where a chunk stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The part, by its place in the manifest.
    pub part: usize,
    /// Its first byte there.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many rows.
    pub rows: u64,
}

/// A content of the store that holds chunks: Arrow IPC streams, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the store.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3 of its content, 128 bits in hex.
    pub checksum: String,
}

/// The checksum of a content.
pub fn checksum(content: &[u8]) -> String {
    format!("{:032x}", xxh3_128(content))
}

/// The word at the end of a manifest, before its checksum.
const END: &str = "xxh3 ";

impl Manifest {
    /// The document with its checksum: JSON, so that a person can read it, and a line behind it.
    ///
    /// # Errors
    /// When a value has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        let check = checksum(&bytes);
        bytes.extend_from_slice(format!("{END}{check}\n").as_bytes());
        Ok(bytes)
    }

    /// The document of these bytes.
    ///
    /// # Errors
    /// When they are not what was written, or a newer version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let end = bytes.len().checked_sub(END.len() + 33).ok_or_else(damaged)?;
        let (document, line) = bytes.split_at(end);
        if line != format!("{END}{}\n", checksum(document)).as_bytes() {
            return Err(damaged());
        }
        let format = serde_json::from_slice::<Format>(document)?.format;
        if format > FORMAT {
            let message =
                format!("it was written in the form {format} by a newer version; this one reads up to {FORMAT}");
            return Err(Error::unsupported(message));
        }
        Ok(serde_json::from_slice(document)?)
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.bytes).sum()
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// That the store gave back something else than was written.
pub fn damaged() -> Error {
    Error::validation("it is damaged: its checksum is another")
}

/// The name of a manifest in the store.
pub fn name(epoch: Epoch) -> String {
    format!("{epoch:010}.json")
}

/// The epoch of a manifest by its name.
pub fn epoch_of(name: &str) -> Option<Epoch> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The name of what says that nothing is left to commit of a checkpoint.
pub fn settled_name(epoch: Epoch) -> String {
    format!("{epoch:010}.settled")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A manifest with something in every place.
    pub(crate) fn example() -> Manifest {
        let piece = Piece {
            lane: 1,
            name: "seen".into(),
            scope: Scope::Key,
            chunks: vec![Chunk { part: 0, offset: 0, bytes: 10, rows: 3 }],
        };
        let node = Node {
            kind: "dedupe".into(),
            lanes: 2,
            config: "00".into(),
            finished: vec![0],
            splits: [("a.csv".to_owned(), Position::of(&7).unwrap())].into(),
            receipts: vec![(0, Receipt::of(&"x").unwrap())],
            pieces: vec![piece],
        };
        Manifest {
            format: FORMAT,
            engine: "0.1.0".into(),
            job: "job".into(),
            run: "r".into(),
            epoch: 12,
            written: Timestamp(5),
            last: false,
            nodes: [("one".to_owned(), node)].into(),
            parts: vec![Part { name: "p".into(), bytes: 10, checksum: checksum(b"0123456789") }],
        }
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        assert_eq!(Manifest::decode(&example().encode().unwrap()).unwrap(), example());
        assert_eq!((epoch_of(&name(12)), epoch_of("12.json"), epoch_of(&settled_name(12))), (Some(12), None, None));
        // It would be a number.
        assert_eq!(epoch_of("+123456789.json"), None);
        let parts = [example().parts, example().parts].concat();
        assert_eq!(Manifest { parts, ..example() }.bytes(), 20);
    }

    #[test]
    fn a_newer_form_is_refused_by_its_name() {
        let newer = Manifest { format: FORMAT + 1, ..example() };
        let said = Manifest::decode(&newer.encode().unwrap()).unwrap_err();
        assert_eq!(said.message(), "it was written in the form 2 by a newer version; this one reads up to 1");
    }

    proptest! {
        #[test]
        fn a_changed_bit_or_a_missing_end_is_told(at in 0usize..5_000, bit in 0u32..8) {
            let mut bytes = example().encode().unwrap();
            let at = at % bytes.len();
            prop_assert!(Manifest::decode(&bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(Manifest::decode(&bytes).is_err());
        }
    }
}
