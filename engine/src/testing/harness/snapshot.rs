//! The state of a stage by name, as a checkpoint would save and restore it.

use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::state::visitor::Owned;
use crate::state::{Piece, StateVisitor};

/// A saved state: its pieces by name, in the order of the visit.
pub type Snapshot = Vec<(String, Vec<RecordBatch>)>;

/// Saves each piece that it is told of.
#[derive(Default)]
pub(super) struct Save(pub(super) Snapshot);

impl StateVisitor for Save {
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()> {
        self.0.push((name.to_owned(), piece.snapshot(true)?.batches().collect::<Result<_>>()?));
        Ok(())
    }
}

/// Restores each piece that it is told of.
pub(super) struct Load(pub(super) Snapshot);

impl StateVisitor for Load {
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()> {
        let saved = self.0.iter().position(|(saved, _)| saved == name);
        let saved = saved.ok_or_else(|| Error::validation(format!("no piece of state `{name}` was saved")))?;
        piece.restore(&mut self.0.swap_remove(saved).1.into_iter().map(Ok), &Owned::ALL)
    }
}
