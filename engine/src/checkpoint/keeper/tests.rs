//! Tests of the file above, with what reads again what it writes.

use super::*;
use crate::checkpoint::recovery::{self, Recovered};
use crate::checkpoint::store::Folder;
use crate::error::Kind;
use crate::state::visitor::{Owned, Piece, Snapshot, StateVisitor};
use crate::state::{Buffer, Table};
use crate::testing::simulation::Simulation;
use crate::testing::simulation::files::Fault;
use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn changed(number: u64, of: std::ops::Range<i64>) -> Chunk {
    Chunk::Changed(number, Frozen::new(move || Ok(rows(of))))
}

fn piece((name, scope): (&str, Scope), lane: usize, chunks: Vec<Chunk>) -> SavedPiece {
    SavedPiece { node: "one".into(), lane, name: name.into(), scope, content: Snapshot(chunks) }
}

struct World {
    simulation: Simulation,
    store: Arc<dyn Store>,
    keeper: Keeper,
}

impl World {
    fn new(keep: usize) -> Self {
        let simulation = Simulation::new(1);
        let store: Arc<dyn Store> = Arc::new(Folder::new(simulation.env(), Path::new("c"), "job"));
        let names = ("job".to_owned(), "r".to_owned(), "w".to_owned());
        let keeper = Keeper::new(store.clone(), names, keep, (Vec::new(), Vec::new()));
        Self { simulation, store, keeper }
    }

    fn write(&mut self, epoch: Epoch, lanes: usize, pieces: Vec<SavedPiece>) -> Result<u64> {
        let node = manifest::Node { kind: "buffer".into(), lanes, ..manifest::Node::default() };
        let nodes = [("one".to_owned(), node)].into();
        self.keeper.take(Sealed { epoch, at: Timestamp(5), last: false, nodes, pieces });
        self.keeper.write(&self.simulation.env())
    }

    fn newest(&self) -> Recovered {
        let newest = recovery::find(&*self.store).unwrap().complete.pop().unwrap();
        Recovered::open(self.store.clone(), newest, false).unwrap()
    }

    fn bytes(&self) -> u64 {
        self.store.names().unwrap().iter().map(|name| self.store.get(name).unwrap().len() as u64).sum()
    }
}

/// The rows of a piece, as a lane of so many restores them.
fn restored(from: &Recovered, name: &str, (lane, lanes): (usize, usize), keyed: bool) -> Result<Vec<i64>> {
    let mut buffer = Buffer::default();
    let mut loader = from.loader("one", Owned { lane, lanes }, keyed);
    loader.piece(name, &mut buffer)?;
    loader.check()?;
    Ok(numbers(&buffer.take(usize::MAX)))
}

const A: (&str, Scope) = ("a", Scope::Rows);

#[test]
fn what_is_written_is_read_again_whichever_checkpoint_it_was_written_with() {
    let mut world = World::new(2);
    let mut before = 0;
    for (epoch, chunks, all, parts) in [
        (1, vec![changed(0, 0..2), changed(1, 2..5)], vec![0, 1, 2, 3, 4], 1),
        (2, vec![Chunk::Unchanged(1), changed(2, 7..8)], vec![2, 3, 4, 7], 2),
        (3, vec![Chunk::Unchanged(1), Chunk::Unchanged(2)], vec![2, 3, 4, 7], 2),
        (4, vec![changed(3, 1..2)], vec![1], 1),
    ] {
        let written = world.write(epoch, 1, vec![piece(A, 0, chunks)]).unwrap();
        assert_eq!(written, world.bytes() - before, "epoch {epoch}");
        before = world.bytes();
        let newest = world.newest();
        assert_eq!((newest.manifest.epoch, newest.manifest.parts.len()), (epoch, parts));
        assert_eq!(newest.manifest.nodes["one"].pieces[0].chunks.iter().map(|c| c.rows).sum::<u64>(), all.len() as u64);
        assert_eq!(restored(&newest, "a", (0, 1), false).unwrap(), all);
    }
    world.keeper.sweep(&world.simulation.env()).unwrap();
    let (third, fourth) = ("0000000003.json", "0000000004.json");
    let parts = ["0000000001-w.arrow", "0000000002-w.arrow", "0000000004-w.arrow"];
    assert_eq!(world.store.names().unwrap(), [parts[0], parts[1], third, parts[2], fourth]);
    assert!(world.write(5, 1, vec![piece(A, 0, vec![Chunk::Unchanged(2)])]).is_err());
    assert!(!world.keeper.has_pending());
}

#[test]
fn a_large_checkpoint_is_written_in_parts_of_about_one_size() {
    let mut world = World::new(1);
    // Each is a quarter of a part, but for the last one.
    let quarter = 1 << 18;
    let chunks = (0..9).map(|n| changed(n, 0..quarter)).chain([changed(9, 0..1)]).collect();
    world.write(1, 1, vec![piece(A, 0, chunks), piece(("b", Scope::Rows), 0, vec![changed(0, 5..7)])]).unwrap();
    let newest = world.newest();
    let parts: Vec<u64> = newest.manifest.parts.iter().map(|p| p.bytes).collect();
    let part = PART as u64;
    assert!(
        parts.len() == 3 && parts[..2].iter().all(|bytes| (part..part * 5 / 4 + 9_000).contains(bytes)),
        "{parts:?}"
    );
    assert_eq!(restored(&newest, "b", (0, 1), false).unwrap_err().kind(), Kind::Validation);
    let mut loader = newest.loader("one", Owned::ALL, false);
    let (mut a, mut b) = (Buffer::default(), Buffer::default());
    loader.piece("a", &mut a).unwrap();
    loader.piece("b", &mut b).unwrap();
    loader.check().unwrap();
    assert_eq!((a.rows(), numbers(&b.take(9))), ((9 << 18) + 1, vec![5, 6]));
    // Its room is kept for the next one, but not that of what is much larger.
    assert!(world.keeper.buffer.capacity() >= PART);
    world.write(2, 1, vec![piece(A, 0, vec![changed(0, 0..quarter * 13)])]).unwrap();
    assert_eq!(world.keeper.buffer.capacity(), 0);
}

#[test]
fn rows_go_to_other_lanes_where_they_may_and_are_refused_where_not() {
    let mut world = World::new(1);
    let lanes = |of| (0..3).zip(0..).map(|(lane, n)| piece(of, lane, vec![changed(0, n..n + 1)])).collect();
    world.write(1, 3, lanes(A)).unwrap();
    let newest = world.newest();
    let all = |lanes| (0..lanes).map(|lane| restored(&newest, "a", (lane, lanes), false).unwrap()).collect::<Vec<_>>();
    assert_eq!(all(3), [[0], [1], [2]]);
    assert_eq!(all(2), [vec![0, 2], vec![1]]);
    assert_eq!(all(4), [vec![0], vec![1], vec![2], vec![]]);
    let said = restored(&newest, "a", (0, 2), true).unwrap_err();
    assert_eq!(said.message(), "`a` is kept by lane, so it can't go from 3 lanes to 2");
    // With as many lanes it is nobody's question.
    assert_eq!(restored(&newest, "a", (1, 3), true).unwrap(), [1]);
    assert_eq!(
        restored(&newest, "b", (0, 3), false).unwrap_err().message(),
        "it keeps no `a` any more, and the checkpoint has one"
    );
    world.write(2, 3, lanes(("a", Scope::Lane))).unwrap();
    let said = restored(&world.newest(), "a", (0, 3), false).unwrap_err();
    assert_eq!(said.message(), "`a` is kept in another way now");
}

#[test]
fn keys_go_to_the_lanes_that_own_them() {
    let mut world = World::new(1);
    let table = || Table::<i64>::new([DataType::Int64]).unwrap();
    let mut whole = table();
    let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..100))];
    for (slot, _) in whole.slots(&keys).unwrap() {
        *whole.get_mut(slot) = 7;
    }
    world.write(1, 1, vec![piece(("keys", Scope::Key), 0, whole.snapshot(true).unwrap().0)]).unwrap();
    let newest = world.newest();
    let counts = (0..3).map(|lane| {
        let mut part = table();
        newest.loader("one", Owned { lane, lanes: 3 }, true).piece("keys", &mut part).unwrap();
        part.len()
    });
    let counts: Vec<usize> = counts.collect();
    assert!(counts.iter().sum::<usize>() == 100 && counts.iter().all(|n| *n > 10), "{counts:?}");
}

#[test]
fn what_the_store_refuses_is_written_by_the_next_attempt() {
    let calls = {
        let mut world = World::new(1);
        world.write(1, 1, vec![piece(A, 0, vec![changed(0, 0..3)])]).unwrap();
        world.simulation.files().calls()
    };
    for call in 1..=calls {
        let mut world = World::new(1);
        world.simulation.files().fail(call, Fault::Full);
        let mut written = world.write(1, 1, vec![piece(A, 0, vec![changed(0, 0..3)])]);
        if written.is_err() {
            assert!(world.keeper.has_pending(), "call {call}");
            written = world.keeper.write(&world.simulation.env());
        }
        assert_eq!(written.unwrap(), world.bytes(), "call {call}");
        assert_eq!(restored(&world.newest(), "a", (0, 1), false).unwrap(), [0, 1, 2]);
    }
}

/// A lock that says whether it was released.
struct Held(Arc<AtomicBool>);

impl Lock for Held {
    fn release(self: Box<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn state_that_a_run_has_left_on_the_disk_goes_when_the_next_begins_and_its_own_when_it_ends() {
    let released = Arc::new(AtomicBool::new(false));
    let World { simulation, keeper, .. } = World::new(1);
    let files = simulation.files();
    for path in ["s/0-0-a-0.state", "s/0-0-a-1.state", "s/notes", "other/0-0-a-0.state"] {
        files.put(path, "x");
    }
    let others = ["other/0-0-a-0.state", "s/notes"].map(PathBuf::from);
    let keeper = keeper.locked(Box::new(Held(released.clone()))).with_state(simulation.env(), "s".into()).unwrap();
    assert_eq!((files.paths(), released.load(Relaxed)), (others.to_vec(), false));
    files.put("s/0-0-a-0.state", "x");
    keeper.close();
    assert_eq!((files.paths(), released.load(Relaxed)), (others.to_vec(), true));
}

#[test]
fn a_keeper_whose_folder_for_state_cannot_be_emptied_lets_other_jobs_in() {
    let released = Arc::new(AtomicBool::new(false));
    let World { simulation, keeper, .. } = World::new(1);
    simulation.files().put("s/0-0-a-0.state", "x");
    simulation.files().fail(simulation.files().calls() + 1, Fault::Io);
    let refused = keeper.locked(Box::new(Held(released.clone()))).with_state(simulation.env(), "s".into());
    assert!(refused.is_err_and(|e| e.kind() == Kind::Io) && released.load(Relaxed));
}

#[test]
fn what_an_earlier_run_has_left_goes_with_the_next_checkpoint_unless_this_one_needs_it() {
    let World { simulation, store, .. } = World::new(1);
    let left = ["0000000001.json", "0000000001.settled", "0000000009.json", "mine", "theirs"].map(str::to_owned);
    for name in &left {
        store.put(name, b"x").unwrap();
    }
    let complete = vec![(1, ["mine".to_owned()].into())];
    let names = ("job".to_owned(), "r".to_owned(), "w".to_owned());
    let keeper = Keeper::new(store.clone(), names, 2, (complete, left.into()));
    assert_eq!(keeper.place(), "c/job");
    let mut world = World { simulation, store, keeper };
    world.write(2, 1, vec![piece(A, 0, vec![changed(0, 0..1)])]).unwrap();
    world.keeper.sweep(&world.simulation.env()).unwrap();
    let stay = ["0000000001.json", "0000000001.settled", "0000000002-w.arrow", "0000000002.json", "mine"];
    assert_eq!(world.store.names().unwrap(), stay);
    // The newest is settled; with an older one goes what says so of it.
    world.keeper.settle().unwrap();
    world.write(3, 1, vec![piece(A, 0, vec![Chunk::Unchanged(0)])]).unwrap();
    world.keeper.sweep(&world.simulation.env()).unwrap();
    let stay = ["0000000002-w.arrow", "0000000002.json", "0000000002.settled", "0000000003.json"];
    assert_eq!(world.store.names().unwrap(), stay);
}

#[test]
fn before_there_is_a_checkpoint_nothing_is_settled() {
    let world = World::new(1);
    world.keeper.settle().unwrap();
    assert_eq!(world.store.names().unwrap(), [] as [&str; 0]);
}
