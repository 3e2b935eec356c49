//! Checkpoints that earlier versions have written are restored by this one. `engine/tests/golden` has one of each form that
//! state at rest had: a later version opens it, or says by name that it can't.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use bourn_engine::checkpoint::keeper::{Keeper, Sealed};
use bourn_engine::checkpoint::manifest::Node;
use bourn_engine::checkpoint::recovery::{Recovered, find};
use bourn_engine::checkpoint::saved::Saver;
use bourn_engine::checkpoint::{Folder, Store};
use bourn_engine::env::Env;
use bourn_engine::state::visitor::Owned;
use bourn_engine::state::{Buffer, Keyed, StateVisitor, Table, Value};
use bourn_engine::time::Timestamp;

fn folder(form: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(form)
}

/// One piece of each type.
struct Pieces {
    table: Table<(i64, f64)>,
    value: Value<u64>,
    buffer: Buffer,
    keyed: Keyed,
}

fn pieces() -> Pieces {
    let table = Table::new([DataType::Utf8, DataType::Int64]).unwrap();
    Pieces { table, value: Value::new(0), buffer: Buffer::default(), keyed: Keyed::default() }
}

impl Pieces {
    fn visit(&mut self, visitor: &mut dyn StateVisitor) {
        visitor.piece("table", &mut self.table).unwrap();
        visitor.piece("value", &mut self.value).unwrap();
        visitor.piece("buffer", &mut self.buffer).unwrap();
        visitor.piece("keyed", &mut self.keyed).unwrap();
    }
}

fn keys(texts: &[Option<&str>], numbers: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(StringArray::from(texts.to_vec())), Arc::new(Int64Array::from(numbers.to_vec()))]
}

fn four() -> Vec<ArrayRef> {
    keys(&[Some("a"), None, Some("a"), Some("b")], &[1, 1, 2, 3])
}

fn restored(form: &str) -> Pieces {
    let store: Arc<dyn Store> = Arc::new(Folder::at(Env::system(), folder(form)));
    let newest = find(&*store).unwrap().complete.pop().unwrap();
    let recovered = Recovered::open(store, newest, false).unwrap();
    let mut pieces = pieces();
    let mut loader = recovered.loader("count", Owned::ALL, true);
    pieces.visit(&mut loader);
    loader.check().unwrap();
    pieces
}

fn numbers(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_checkpoint_of_tables_in_chunks_is_restored() {
    let mut pieces = restored("1-chunks");
    let values: Vec<_> = (1..=4).map(|n| Some((n, 0.5))).collect();
    assert_eq!((pieces.table.find(&four()).unwrap(), pieces.table.len()), (values, 4));
    assert_eq!(*pieces.value.get(), 7);
    assert_eq!(pieces.buffer.take(9).iter().flat_map(numbers).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(numbers(&pieces.keyed.remove("k").unwrap()), [5, 6]);
}

#[test]
fn a_checkpoint_of_tables_with_changes_behind_the_whole_is_restored() {
    if std::env::var_os("BOURN_WRITE").is_some() && !folder("2-changes").exists() {
        write("2-changes");
    }
    let pieces = restored("2-changes");
    assert_eq!(pieces.table.find(&four()).unwrap(), [Some((1, 0.5)), None, Some((30, 3.0)), Some((4, 0.5))]);
    assert_eq!(pieces.table.find(&keys(&[Some("")], &[7])).unwrap(), [Some((0, 0.0))]);
    assert_eq!((pieces.table.len(), *pieces.value.get()), (8_203, 7));
}

/// Writes what the test above reads: two checkpoints, the second of which has what has changed.
fn write(form: &str) {
    let env = Env::system();
    let store: Arc<dyn Store> = Arc::new(Folder::at(env.clone(), folder(form)));
    let names = ("golden".into(), "00000000000000aa".into(), "00000000000000bb".into());
    let mut keeper = Keeper::new(store, names, 3, (Vec::new(), Vec::new()));
    let mut pieces = pieces();
    pieces.value.set(7);
    for (n, (slot, _)) in pieces.table.slots(&four()).unwrap().into_iter().enumerate() {
        *pieces.table.get_mut(slot) = (i64::try_from(n).unwrap() + 1, 0.5);
    }
    pieces.table.slots(&keys(&vec![Some(""); 8_200], &(0..8_200).collect::<Vec<_>>())).unwrap();
    for epoch in 1..=2 {
        if epoch == 2 {
            let slots = pieces.table.slots(&four()).unwrap();
            *pieces.table.get_mut(slots[2].0) = (30, 3.0);
            pieces.table.remove(slots[1].0);
        }
        let (node, mut into) = ("count".into(), Vec::new());
        pieces.visit(&mut Saver { node: &node, lane: 0, into: &mut into });
        let node = Node { kind: "count".into(), lanes: 1, config: "c".into(), ..Node::default() };
        let nodes = BTreeMap::from([("count".into(), node)]);
        keeper.take(Sealed { epoch, at: Timestamp(1_700_000_000_000_000), last: false, nodes, pieces: into });
        keeper.write(&env).unwrap();
    }
}
