//! Finds the checkpoint that a job goes on from, and hands each task what belongs to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamReader;

use super::manifest::{self, Manifest, Piece as SavedPiece, checksum, damaged};
use super::store::Store;
use crate::api::Receipt;
use crate::data::message::Epoch;
use crate::data::position::{Position, Split};
use crate::error::{Error, Kind, Result};
use crate::state::visitor::{Owned, Piece, Scope, StateVisitor};

/// Where a job begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// Behind the newest checkpoint of a run that was cut off or stopped; anew where there is none, or the run had ended.
    #[default]
    Resume,
    /// Behind this checkpoint.
    At(Epoch),
    /// Anew, whatever is there.
    Fresh,
}

/// How a job begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Where.
    pub begin: Begin,
    /// Nodes whose state may be dropped, because they are gone from the spec or are another kind now.
    pub drop_state: BTreeSet<String>,
}

/// What is in a store.
#[derive(Debug, Default)]
pub struct Found {
    /// Complete checkpoints, oldest first.
    pub complete: Vec<Manifest>,
    /// Checkpoints that can't be read, with the reason.
    pub unreadable: Vec<(Epoch, Error)>,
    /// The epochs behind which nothing is left to commit.
    pub settled: BTreeSet<Epoch>,
    /// All other names.
    pub others: Vec<String>,
}

/// Reads every manifest of a store.
///
/// # Errors
/// When the disk or network fails: what can't be read now may be whole.
pub fn find(store: &dyn Store) -> Result<Found> {
    let mut found = Found::default();
    for name in store.names()? {
        if let Some(epoch) = manifest::epoch_of(&name) {
            let content = match store.get(&name) {
                // Removed since the names were asked for, by a job at work.
                Err(e) if e.kind() == Kind::NotFound => continue,
                content => content?,
            };
            match Manifest::decode(&content) {
                Ok(manifest) => found.complete.push(manifest),
                Err(e) => found.unreadable.push((epoch, e)),
            }
        } else if let Some(epoch) = name.strip_suffix(".settled").and_then(|n| n.parse().ok()) {
            found.settled.insert(epoch);
            found.others.push(name);
        } else {
            found.others.push(name);
        }
    }
    found.complete.sort_by_key(|m| m.epoch);
    Ok(found)
}

/// Whether an error says that a checkpoint is not what was written, rather than that it can't be read now.
pub fn is_broken(error: &Error) -> bool {
    matches!(error.kind(), Kind::Validation | Kind::NotFound)
}

/// Reads every part of a checkpoint and compares it with its checksum.
///
/// # Errors
/// Names the part that is at fault.
pub fn verify(store: &dyn Store, manifest: &Manifest) -> Result<()> {
    (0..manifest.parts.len()).try_for_each(|n| part(store, manifest, n).map(drop))
}

fn part(store: &dyn Store, manifest: &Manifest, number: usize) -> Result<Vec<u8>> {
    let part = manifest.parts.get(number).ok_or_else(damaged)?;
    let content = store.get(&part.name)?;
    if content.len() as u64 != part.bytes || checksum(&content) != part.checksum {
        return Err(damaged().context(&part.name));
    }
    Ok(content)
}

/// Bytes of parts that are held while state is restored, so that lanes need not read them each for itself.
const PARTS_HELD: usize = 64 << 20;

/// Contents of parts by their number in the manifest.
#[derive(Default)]
struct Parts(HashMap<usize, Arc<Vec<u8>>>);

impl Parts {
    /// Keeps a content, in place of all others when they are too many together.
    fn hold(&mut self, number: usize, content: Arc<Vec<u8>>) {
        if self.0.values().map(|part| part.len()).sum::<usize>() + content.len() > PARTS_HELD {
            self.0.clear();
        }
        self.0.insert(number, content);
    }
}

/// A checkpoint that a job goes on from.
pub struct Recovered {
    store: Arc<dyn Store>,
    /// What it is made of.
    pub manifest: Manifest,
    /// Whether everything of it was committed.
    pub settled: bool,
    /// The contents of its parts that are held, until everything is restored.
    parts: Mutex<Parts>,
}

impl Recovered {
    /// The checkpoint of this manifest.
    ///
    /// # Errors
    /// When one of its parts is missing or damaged.
    pub fn open(store: Arc<dyn Store>, manifest: Manifest, settled: bool) -> Result<Self> {
        let mut parts = Parts::default();
        for number in 0..manifest.parts.len() {
            parts.hold(number, Arc::new(part(&*store, &manifest, number)?));
        }
        Ok(Self { store, manifest, settled, parts: Mutex::new(parts) })
    }

    fn node(&self, id: &str) -> Option<&manifest::Node> {
        self.manifest.nodes.get(id)
    }

    /// How far a source has read each split.
    pub fn splits(&self, id: &str) -> BTreeMap<Split, Position> {
        let splits = self.node(id).map(|n| n.splits.iter()).into_iter().flatten();
        splits.map(|(name, position)| (Split::new(name), position.clone())).collect()
    }

    /// Whether a lane had said all that it had to say; after a change of lanes, whether all of them had.
    pub fn is_finished(&self, id: &str, lane: usize, lanes: usize) -> bool {
        self.node(id).is_some_and(|n| {
            if n.lanes == lanes { n.finished.contains(&lane) } else { n.finished.len() == n.lanes && n.lanes > 0 }
        })
    }

    /// What the lanes of a sink have prepared.
    pub fn receipts(&self, id: &str) -> Vec<(usize, Receipt)> {
        self.node(id).map(|n| n.receipts.clone()).unwrap_or_default()
    }

    /// Whether a stage has state here.
    pub fn has_state(&self, id: &str) -> bool {
        self.node(id).is_some_and(|n| !n.pieces.is_empty())
    }

    /// Restores the pieces of a lane. `keyed`: whether rows are spread by key over the lanes.
    pub fn loader<'a>(&'a self, id: &'a str, owned: Owned, keyed: bool) -> Loader<'a> {
        Loader { from: self, id, owned, keyed, restored: BTreeSet::new() }
    }

    fn content(&self, chunk: &manifest::Chunk) -> Result<Vec<RecordBatch>> {
        let part = self.part(chunk.part)?;
        let (start, count) = (usize::try_from(chunk.offset)?, usize::try_from(chunk.bytes)?);
        let bytes = part.get(start..start + count).ok_or_else(damaged)?;
        StreamReader::try_new(bytes, None)?.map(|batch| Ok(batch?)).collect()
    }

    fn part(&self, number: usize) -> Result<Arc<Vec<u8>>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.0.get(&number) {
            return Ok(part.clone());
        }
        let content = Arc::new(part(&*self.store, &self.manifest, number)?);
        parts.hold(number, content.clone());
        Ok(content)
    }

    /// Frees what was read for restoring.
    pub fn forget_parts(&self) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
    }
}

/// Restores the pieces of one lane of a stage.
pub struct Loader<'a> {
    from: &'a Recovered,
    id: &'a str,
    owned: Owned,
    /// Whether each lane gets the rows of its keys, so that rows can't change lanes.
    keyed: bool,
    restored: BTreeSet<String>,
}

impl Loader<'_> {
    /// Whether everything that was saved has found its place.
    ///
    /// # Errors
    /// Names the piece that has none.
    pub fn check(&self) -> Result<()> {
        let saved = self.from.node(self.id).map(|n| n.pieces.iter()).into_iter().flatten();
        match saved.map(|p| &p.name).find(|name| !self.restored.contains(*name)) {
            Some(name) => Err(unfit(format!("it keeps no `{name}` any more, and the checkpoint has one"))),
            None => Ok(()),
        }
    }
}

/// That a saved state can't be taken over.
fn unfit(message: String) -> Error {
    Error::new(Kind::Validation, message)
}

impl StateVisitor for Loader<'_> {
    fn piece(&mut self, name: &str, piece: &mut dyn Piece) -> Result<()> {
        self.restored.insert(name.to_owned());
        let Some(node) = self.from.node(self.id) else { return Ok(()) };
        let mut saved: Vec<&SavedPiece> = node.pieces.iter().filter(|p| p.name == name).collect();
        saved.sort_by_key(|p| p.lane);
        // New in this version of the stage: it begins empty.
        let Some(first) = saved.first() else { return Ok(()) };
        if first.scope != piece.scope() {
            return Err(unfit(format!("`{name}` is kept in another way now")));
        }
        let Owned { lane, lanes } = self.owned;
        let mine: Vec<&SavedPiece> = match piece.scope() {
            _ if node.lanes == lanes => saved.into_iter().filter(|p| p.lane == lane).collect(),
            Scope::Key => saved,
            Scope::Rows if !self.keyed => saved.into_iter().filter(|p| p.lane % lanes == lane).collect(),
            Scope::Lane | Scope::Rows => {
                let message = format!("`{name}` is kept by lane, so it can't go from {} lanes to {lanes}", node.lanes);
                return Err(unfit(message));
            }
        };
        if mine.is_empty() {
            return Ok(());
        }
        let chunks = mine.into_iter().flat_map(|saved| &saved.chunks);
        let mut content = chunks.flat_map(|chunk| match self.from.content(chunk) {
            Ok(batches) => batches.into_iter().map(Ok).collect(),
            Err(e) => vec![Err(e)],
        });
        // With as many lanes as before, all that is there is its own.
        let owned = if node.lanes == lanes { Owned::ALL } else { self.owned };
        piece.restore(&mut content, &owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest::tests::example;
    use crate::checkpoint::store::Folder;
    use crate::testing::simulation::Simulation;
    use std::path::Path;

    #[test]
    fn each_task_is_told_what_belongs_to_it() {
        let simulation = Simulation::new(1);
        let store: Arc<dyn Store> = Arc::new(Folder::new(simulation.env(), Path::new("c"), "job"));
        store.put("p", b"0123456789").unwrap();
        let mut manifest = example();
        let one = manifest.nodes["one"].clone();
        manifest.nodes.insert("ended".into(), manifest::Node { finished: vec![0, 1], ..one });
        manifest.nodes.insert("none".into(), manifest::Node::default());
        let recovered = Recovered::open(store.clone(), manifest.clone(), false).unwrap();
        let split = (Split::new("a.csv"), Position::of(&7).unwrap());
        assert_eq!((recovered.splits("one"), recovered.splits("none")), ([split].into(), BTreeMap::new()));
        assert_eq!(recovered.receipts("one"), [(0, Receipt::of(&"x").unwrap())]);
        assert_eq!((recovered.receipts("none"), recovered.receipts("other")), (vec![], vec![]));
        assert_eq!(["one", "none", "other"].map(|id| recovered.has_state(id)), [true, false, false]);
        // After a change of lanes, nothing has ended that had not ended as a whole.
        let ended = |id, lanes| (0..lanes).map(|lane| recovered.is_finished(id, lane, lanes)).collect::<Vec<_>>();
        assert_eq!((ended("one", 2), ended("ended", 2)), (vec![true, false], vec![true, true]));
        assert_eq!((ended("one", 1), ended("ended", 3)), (vec![false], vec![true; 3]));
        assert_eq!((ended("none", 1), ended("other", 1)), (vec![false], vec![false]));

        assert!(verify(&*store, &manifest).is_ok());
        store.put("p", b"0123456780").unwrap();
        for content in ["0123456780", "01234567890"] {
            store.put("p", content.as_bytes()).unwrap();
            assert_eq!(verify(&*store, &manifest).unwrap_err().message(), "p: it is damaged: its checksum is another");
        }
        // What was read once is read no more, until it is forgotten.
        assert_eq!(*recovered.part(0).unwrap(), b"0123456789");
        recovered.forget_parts();
        assert!(recovered.part(0).is_err_and(|e| is_broken(&e)));
    }

    #[test]
    fn parts_are_held_as_long_as_they_are_not_too_many_together() {
        let mut parts = Parts::default();
        let half = Arc::new(vec![0; PARTS_HELD / 2]);
        let mut hold = |number, content| {
            parts.hold(number, content);
            let mut held: Vec<_> = parts.0.keys().copied().collect();
            held.sort_unstable();
            held
        };
        assert_eq!((hold(0, half.clone()), hold(1, half.clone())), (vec![0], vec![0, 1]));
        assert_eq!((hold(2, Arc::new(vec![0])), hold(3, half)), (vec![2], vec![2, 3]));
    }
}
