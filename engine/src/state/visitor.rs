//! How the engine reaches the state of a stage: each piece is named once, for saving and restoring alike.

use std::fmt;

use arrow::record_batch::RecordBatch;

use super::key_group::lane_of;
use super::room::Room;
use crate::error::{Error, Result};

/// A piece of state: one of the types of this folder.
pub trait Piece: Send {
    /// Its content. Columns are shared, not copied, and what takes time waits in [`Frozen`], so the cost for the task does
    /// not grow with the bytes held. Chunks that have not changed since the last snapshot are left out, unless `whole`. A
    /// chunk may have what has changed of those before it: what is restored last counts.
    ///
    /// # Errors
    /// When a value has no form at rest.
    fn snapshot(&mut self, whole: bool) -> Result<Snapshot>;

    /// Puts a saved content in place of the present one; it comes chunk by chunk, so that it need not fit into memory as a
    /// whole. Of a piece whose scope is the key it may be that of other lanes too: what `owned` does not own is left out.
    ///
    /// # Errors
    /// When the batches are not of this piece's form, and what comes with them.
    fn restore(&mut self, content: &mut dyn Iterator<Item = Result<RecordBatch>>, owned: &Owned) -> Result<()>;

    /// Says what it may hold in memory, before anything is there. One that can't keep within it has bounds of its own.
    fn confine(&mut self, room: &Room) {
        let _ = room;
    }

    /// What it belongs to.
    fn scope(&self) -> Scope;

    /// Rows held back that have not left the stage yet.
    fn rows_held(&self) -> usize {
        0
    }

    /// Bytes held.
    fn bytes_held(&self) -> usize;
}

/// What a piece of state belongs to, and so where it goes when a job is restored with another number of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The lane: it can't be divided or joined.
    Lane,
    /// Rows that any lane may work.
    Rows,
    /// Keys: each goes to the lane that owns it.
    Key,
}

/// The content of a piece at one moment: its chunks in order.
#[derive(Debug, Default)]
pub struct Snapshot(pub Vec<Chunk>);

/// A part of a piece of state, under a number that no other chunk of the piece has at that time.
#[derive(Debug)]
pub enum Chunk {
    /// As it was at the last snapshot.
    Unchanged(u64),
    /// Changed since, or new.
    Changed(u64, Frozen),
}

/// Takes rows, batch by batch.
pub type Each<'a> = dyn FnMut(RecordBatch) -> Result<()> + 'a;

type Thaw = dyn FnOnce(&mut Each<'_>) -> Result<()> + Send;

/// The content of a chunk at one moment, not yet in the form that it has at rest.
pub struct Frozen(Box<Thaw>);

impl Frozen {
    /// What `thaw` returns, which is called on another thread.
    pub fn new(thaw: impl FnOnce() -> Result<RecordBatch> + Send + 'static) -> Self {
        Self::in_batches(move |each| each(thaw()?))
    }

    /// The batches that `thaw` makes, at least one and all of one schema: it needs no room for all of them.
    pub fn in_batches(thaw: impl FnOnce(&mut Each<'_>) -> Result<()> + Send + 'static) -> Self {
        Self(Box::new(thaw))
    }

    /// Hands over the content as rows.
    ///
    /// # Errors
    /// When a value has no form at rest, and what `each` says.
    pub fn thaw(self, each: &mut Each<'_>) -> Result<()> {
        (self.0)(each)
    }

    /// The content as rows, all at once.
    ///
    /// # Errors
    /// When a value has no form at rest.
    pub fn batches(self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        self.thaw(&mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Frozen")
    }
}

impl Snapshot {
    /// These batches, each a chunk that has changed.
    pub fn of(batches: impl IntoIterator<Item = RecordBatch>) -> Self {
        let chunk = |(number, batch)| Chunk::Changed(number, Frozen::new(move || Ok(batch)));
        Self((0..).zip(batches).map(chunk).collect())
    }

    /// The chunks of a whole snapshot: an error where a value has no form at rest, or a chunk was left out.
    pub fn batches(self) -> impl Iterator<Item = Result<RecordBatch>> {
        let batches = |chunk| match chunk {
            Chunk::Changed(_, frozen) => frozen.batches(),
            Chunk::Unchanged(_) => Err(Error::engine("a whole snapshot has all chunks")),
        };
        self.0.into_iter().flat_map(move |chunk| match batches(chunk) {
            Ok(batches) => batches.into_iter().map(Ok).collect(),
            Err(e) => vec![Err(e)],
        })
    }
}

/// Which keys a lane owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The lane.
    pub lane: usize,
    /// Of how many.
    pub lanes: usize,
}

impl Owned {
    /// Every key.
    pub const ALL: Self = Self { lane: 0, lanes: 1 };

    /// Whether it owns the keys of this part; see [`key_group`](super::key_group::key_group).
    pub fn owns(&self, group: u32) -> bool {
        self.lanes == 1 || lane_of(group, self.lanes) == self.lane
    }
}

/// What a stage names its pieces to.
pub trait StateVisitor {
    /// One piece under a name that stays the same over versions of the stage.
    ///
    /// # Errors
    /// What saving or restoring it says; the stage passes it on.
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()>;
}

/// Says to each piece of a stage what it may hold in memory.
pub struct Confine(pub Room);

impl StateVisitor for Confine {
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()> {
        piece.confine(&Room { name: format!("{}-{name}", self.0.name), ..self.0.clone() });
        Ok(())
    }
}

/// Adds up what is held, and counts the pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Pieces of state.
    pub pieces: usize,
    /// Rows held back.
    pub rows: usize,
    /// Bytes held.
    pub bytes: usize,
}

impl StateVisitor for Held {
    fn piece(&mut self, _name: &str, piece: &mut dyn Piece) -> Result<()> {
        self.pieces += 1;
        self.rows += piece.rows_held();
        self.bytes += piece.bytes_held();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Buffer, Keyed, Table, Value};
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::DataType;
    use std::sync::Arc;

    /// Knows the name of its room.
    struct Named(String);

    impl Piece for Named {
        fn snapshot(&mut self, _: bool) -> Result<Snapshot> {
            Ok(Snapshot::default())
        }
        fn restore(&mut self, _: &mut dyn Iterator<Item = Result<RecordBatch>>, _: &Owned) -> Result<()> {
            Ok(())
        }
        fn confine(&mut self, room: &Room) {
            self.0 = format!("{} of {}", room.name, room.memory);
        }
        fn scope(&self) -> Scope {
            Scope::Lane
        }
        fn bytes_held(&self) -> usize {
            0
        }
    }

    #[test]
    fn the_pieces_of_a_stage_have_files_of_their_own() {
        let env = crate::testing::simulation::Simulation::new(1).env();
        let (folder, name) = ("state".into(), "0-0".into());
        let mut confine = Confine(Room { memory: 7, env, folder, name, file: 1 });
        let (mut one, mut other) = (Named(String::new()), Named(String::new()));
        confine.piece("one", &mut one).unwrap();
        confine.piece("other", &mut other).unwrap();
        assert_eq!((one.0.as_str(), other.0.as_str()), ("0-0-one of 7", "0-0-other of 7"));
    }

    #[test]
    fn what_is_held_is_added_up_and_is_nothing_when_all_has_left() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let rows = RecordBatch::try_from_iter([("n", column.clone())]).unwrap();
        let (mut buffer, mut keyed) = (Buffer::default(), Keyed::default());
        let (mut value, mut table) = (Value::new(7u64), Table::<i64>::new([DataType::Int64]).unwrap());
        buffer.push(rows.clone());
        keyed.insert("a", rows.clone());
        keyed.insert("b", rows.clone());
        // In place of what was there. A slice holds all that it points into.
        keyed.insert("a", rows.slice(0, 10));
        table.slots(&[column]).unwrap();
        let held = |piece: &mut dyn Piece| {
            let mut held = Held::default();
            held.piece("p", piece).unwrap();
            held.piece("p", piece).unwrap();
            (held.pieces, held.rows / 2, held.bytes / 2)
        };
        assert_eq!(held(&mut buffer), (2, 1_000, 8_000));
        assert_eq!(held(&mut keyed), (2, 1_010, 16_000));
        assert_eq!(held(&mut value), (2, 0, 8));
        let (_, rows, bytes) = held(&mut table);
        assert!(rows == 0 && (1_000 * 18..1_000 * 40).contains(&bytes), "{bytes} bytes");
        assert_eq!(buffer.take(300).iter().map(RecordBatch::num_rows).sum::<usize>(), 300);
        assert_eq!(held(&mut buffer), (2, 700, 8_000));
        buffer.take(700);
        assert!(!keyed.is_empty());
        keyed.remove("a");
        keyed.remove("b");
        assert_eq!((held(&mut buffer), held(&mut keyed)), ((2, 0, 0), (2, 0, 0)));
        assert!(keyed.is_empty());
    }
}
