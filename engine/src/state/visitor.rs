//! How the engine reaches the state of a stage: each piece is named once, for saving and restoring alike.

use arrow::record_batch::RecordBatch;

use crate::error::Result;

/// A piece of state: one of the types of this folder.
pub trait Piece: Send {
    /// Its content as Arrow batches; a later [`Piece::restore`] of them gives an equal piece. Columns are shared, not
    /// copied, so the cost does not grow with the bytes held.
    ///
    /// # Errors
    /// When a value has no form at rest.
    fn snapshot(&self) -> Result<Vec<RecordBatch>>;

    /// Puts a saved content in place of the present one.
    ///
    /// # Errors
    /// When the batches are not of this piece's form.
    fn restore(&mut self, content: Vec<RecordBatch>) -> Result<()>;

    /// Rows held back that have not left the stage yet.
    fn rows_held(&self) -> usize {
        0
    }

    /// Bytes held.
    fn bytes_held(&self) -> usize;
}

/// What a stage names its pieces to.
pub trait StateVisitor {
    /// One piece under a name that stays the same over versions of the stage.
    ///
    /// # Errors
    /// What saving or restoring it says; the stage passes it on.
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()>;
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
