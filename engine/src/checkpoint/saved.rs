//! What tasks hand over at a barrier, before it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::data::position::{Position, Split};
use crate::error::Result;
use crate::state::visitor::{Piece, Scope, Snapshot, StateVisitor};

/// What a task hands over at a barrier.
#[derive(Debug, Default)]
pub struct Saved {
    /// Of a source: how far each of its splits has been read.
    pub splits: BTreeMap<Split, Position>,
    /// Of a source: whether there is nothing more to read.
    pub finished: bool,
    /// Of a chain: the pieces of its stages.
    pub pieces: Vec<SavedPiece>,
}

/// A piece of state, not yet in the form that it has at rest.
#[derive(Debug)]
pub struct SavedPiece {
    /// The stage.
    pub node: Arc<str>,
    /// Its lane.
    pub lane: usize,
    /// The name that the stage gives it.
    pub name: String,
    /// What it belongs to.
    pub scope: Scope,
    /// Its chunks.
    pub content: Snapshot,
}

/// Takes a snapshot of every piece of one stage.
pub struct Saver<'a> {
    /// The stage.
    pub node: &'a Arc<str>,
    /// Its lane.
    pub lane: usize,
    /// What was taken.
    pub into: &'a mut Vec<SavedPiece>,
}

impl StateVisitor for Saver<'_> {
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()> {
        let (scope, content) = (piece.scope(), piece.snapshot(false)?);
        let (node, lane) = (self.node.clone(), self.lane);
        self.into.push(SavedPiece { node, lane, name: name.to_owned(), scope, content });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Value;

    #[test]
    fn each_piece_is_saved_under_its_stage_its_lane_and_its_name() {
        let (node, mut into) = (Arc::from("one"), Vec::new());
        let mut saver = Saver { node: &node, lane: 3, into: &mut into };
        saver.piece("a", &mut Value::new(7)).unwrap();
        saver.piece("b", &mut Value::new(8)).unwrap();
        let of = |p: &SavedPiece| (p.node.to_string(), p.lane, p.name.clone(), p.scope, p.content.0.len());
        let lane = |name: &str| ("one".to_owned(), 3, name.to_owned(), Scope::Lane, 1);
        assert_eq!(into.iter().map(of).collect::<Vec<_>>(), [lane("a"), lane("b")]);
    }
}
