//! What a call task has to do: rows that wait for a request, and requests that are under way. A checkpoint keeps them all.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::api::Keys;
use crate::checkpoint::recovery::Loader;
use crate::checkpoint::saved::Saver;
use crate::data::records::{Header, KeptHeader, Records};
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::plan::PlannedNode;
use crate::state::visitor::{Chunk, Frozen, Owned, Piece, Scope, Snapshot, StateVisitor};

/// Rows that are sent together.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counts the requests of a task, from 1.
    pub number: u64,
    /// The key under which an earlier run had sent it.
    pub key: Option<Arc<str>>,
    /// Of its rows.
    pub header: Header,
    /// What is sent.
    pub rows: RecordBatch,
}

/// What the idempotency keys of a stage's requests are made from, beside the row itself.
pub struct RequestKey {
    /// Its id, kind and configuration. `None`: it asks under keys of its own.
    pub stage: Option<String>,
    /// Different for each job and lane: for rows that can't be told apart by where they were read.
    pub unique: u64,
}

impl RequestKey {
    /// Its kind and configuration are part of it, so that a changed stage asks anew.
    pub fn of(node: &PlannedNode, unique: u64) -> Self {
        let stage = match &node.role {
            Role::Stage(config) if node.accounts.keys == Keys::Row => {
                Some(format!("{} {} {}", node.id, config.0.kind(), config.0.describe()))
            }
            _ => None,
        };
        Self { stage, unique }
    }

    /// Of a request of the stage `id`: the same for a replayed row; without an origin or with keys of its own, unique in the job.
    pub fn of_request(&self, request: &Request, id: &str) -> Arc<str> {
        let (Some(stage), Some(origin)) = (&self.stage, request.header.origin.as_deref()) else {
            return format!("{id}-{:x}-{}", self.unique, request.number).into();
        };
        let row = crate::data::json::row_value(&request.rows, 0).map(|v| serde_json::Value::Object(v).to_string());
        let mut hash = blake3::Hasher::new();
        hash.update(stage.as_bytes()).update(b"\0").update(origin.split.name().as_bytes()).update(b"\0");
        hash.update(origin.position.to_string().as_bytes()).update(b"\0");
        hash.update(row.unwrap_or_default().as_bytes());
        hash.finalize().to_hex()[..32].into()
    }
}

/// The requests of a task, from the rows that came until their answers have left.
#[derive(Debug)]
pub struct Requests {
    /// What the rows of a request look like.
    schema: SchemaRef,
    /// Rows of an earlier run, to be sent as they were, oldest first.
    again: VecDeque<Request>,
    /// Rows that are in no request yet.
    pending: VecDeque<Records>,
    under_way: BTreeMap<u64, Request>,
    /// How many have begun.
    begun: u64,
    /// Rows that an earlier run has left to this one.
    restored: u64,
}

/// The name of this piece of state.
const NAME: &str = "requests";

impl Requests {
    /// None yet.
    pub fn new(schema: SchemaRef) -> Self {
        let (again, pending, under_way) = (VecDeque::new(), VecDeque::new(), BTreeMap::new());
        Self { schema, again, pending, under_way, begun: 0, restored: 0 }
    }

    /// Takes over what an earlier run has left.
    ///
    /// # Errors
    /// When that can't be read, or the rows have other columns now.
    pub fn load(&mut self, mut from: Loader<'_>) -> Result<()> {
        let loaded = from.piece(NAME, self).and_then(|()| from.check());
        loaded.map_err(|e| e.context("its saved state"))
    }

    /// Saves what is to be done, if there is anything.
    ///
    /// # Errors
    /// None of its own.
    pub fn save(&mut self, mut into: Saver<'_>) -> Result<()> {
        if self.is_idle() { Ok(()) } else { into.piece(NAME, self) }
    }

    /// Rows that an earlier run has left to this one.
    pub fn restored(&self) -> u64 {
        self.restored
    }

    /// Takes rows that have come.
    pub fn push(&mut self, records: Records) {
        self.pending.push_back(records);
    }

    /// The next request, of at most so many rows; it is under way from now on, under the key that `key` makes for it.
    pub fn next(&mut self, rows: usize, key: impl FnOnce(&Request) -> Arc<str>) -> Option<Request> {
        let mut request = if let Some(request) = self.again.pop_front() {
            request
        } else {
            let Records { batch, header } = cut(&mut self.pending, rows)?;
            Request { number: 0, key: None, header, rows: batch }
        };
        self.begun += 1;
        request.number = self.begun;
        request.key = request.key.take().or_else(|| Some(key(&request)));
        self.under_way.insert(request.number, request.clone());
        Some(request)
    }

    /// The answer of a request leaves.
    pub fn answered(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    /// Whether no row waits for its request, so that more may come.
    pub fn wants_more(&self) -> bool {
        self.again.is_empty() && self.pending.is_empty()
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.wants_more() && self.under_way.is_empty()
    }

    /// The newest request that has begun.
    pub fn newest(&self) -> u64 {
        self.begun
    }

    /// Whether the answers of all requests up to this one have left.
    pub fn are_answered(&self, number: u64) -> bool {
        self.under_way.first_key_value().is_none_or(|(oldest, _)| *oldest > number)
    }
}

/// The next request's rows: up to `rows` of the oldest batch.
fn cut(pending: &mut VecDeque<Records>, rows: usize) -> Option<Records> {
    let front = pending.front_mut()?;
    let count = front.batch.num_rows();
    if count <= rows {
        return pending.pop_front();
    }
    let batch = front.batch.slice(0, rows);
    front.batch = front.batch.slice(rows, count - rows);
    Some(Records { batch, header: front.header.clone() })
}

/// At rest each request is one batch; its header, and the key if it has one, are metadata of its schema.
const HEADER: &str = "header";
const KEY: &str = "key";

fn at_rest(key: Option<&Arc<str>>, header: &KeptHeader, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut known: HashMap<String, String> = HashMap::from([(HEADER.into(), serde_json::to_string(header)?)]);
    known.extend(key.map(|key| (KEY.into(), key.to_string())));
    let schema = rows.schema().as_ref().clone().with_metadata(known);
    Ok(RecordBatch::try_new(schema.into(), rows.columns().to_vec())?)
}

fn from_rest(saved: &RecordBatch, schema: &SchemaRef) -> Result<Request> {
    let saved_schema = saved.schema();
    if saved_schema.fields() != schema.fields() {
        let columns = |s: &SchemaRef| {
            let column = |f: &FieldRef| format!("{} {}", f.name(), f.data_type());
            s.fields().iter().map(column).collect::<Vec<_>>().join(", ")
        };
        let (had, has) = (columns(&saved_schema), columns(schema));
        return Err(Error::validation(format!(
            "the rows of its requests in flight had the columns ({had}), and have ({has}) now"
        )));
    }
    let known = saved_schema.metadata();
    let header: KeptHeader = serde_json::from_str(known.get(HEADER).map_or("null", String::as_str))?;
    let rows = RecordBatch::try_new(schema.clone(), saved.columns().to_vec())?;
    let key = known.get(KEY).map(|key| key.as_str().into());
    Ok(Request { number: 0, key, header: header.into(), rows })
}

impl Piece for Requests {
    fn snapshot(&mut self, _: bool) -> Result<Snapshot> {
        let begun = self.under_way.values().chain(&self.again);
        let begun = begun.map(|r| (r.key.clone(), KeptHeader::from(&r.header), r.rows.clone()));
        let waiting = self.pending.iter().map(|r| (None, KeptHeader::from(&r.header), r.batch.clone()));
        let freeze = |(number, (key, header, rows)): (u64, (Option<Arc<str>>, KeptHeader, RecordBatch))| {
            Chunk::Changed(number, Frozen::new(move || at_rest(key.as_ref(), &header, &rows)))
        };
        Ok(Snapshot((0..).zip(begun.chain(waiting)).map(freeze).collect()))
    }

    fn restore(&mut self, content: &mut dyn Iterator<Item = Result<RecordBatch>>, _: &Owned) -> Result<()> {
        *self = Self::new(self.schema.clone());
        for saved in content {
            let request = from_rest(&saved?, &self.schema)?;
            if request.key.is_some() {
                self.again.push_back(request);
            } else {
                self.pending.push_back(Records { batch: request.rows, header: request.header });
            }
        }
        self.restored = self.rows_held() as u64;
        Ok(())
    }

    fn scope(&self) -> Scope {
        Scope::Rows
    }

    fn rows_held(&self) -> usize {
        let begun = self.under_way.values().chain(&self.again).map(|r| r.rows.num_rows());
        begun.chain(self.pending.iter().map(|r| r.batch.num_rows())).sum()
    }

    fn bytes_held(&self) -> usize {
        let begun = self.under_way.values().chain(&self.again).map(|r| &r.rows);
        begun.chain(self.pending.iter().map(|r| &r.batch)).map(crate::data::records::bytes_held).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::position::{Position, Split};
    use crate::data::records::Origin;
    use crate::time::Timestamp;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    fn records(numbers: &[i64], line: Option<u64>) -> Records {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef)]);
        let position = |line| Position::of(&serde_json::json!({ "line": line })).unwrap();
        let origin = line.map(|line| Arc::new(Origin { split: Split::new("a.jsonl"), position: position(line) }));
        Records { batch: batch.unwrap(), header: Header { ingested: Timestamp(7), origin, credit: None } }
    }

    fn requests() -> Requests {
        Requests::new(records(&[], None).batch.schema())
    }

    fn numbers(rows: &RecordBatch) -> Vec<i64> {
        rows.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn what_is_under_way_is_sent_again_as_it_was_and_what_waited_comes_behind_it() {
        let mut before = requests();
        before.push(records(&[1, 2, 3, 4, 5], Some(9)));
        let key = |r: &Request| format!("key {}", r.number).into();
        (0..2).for_each(|_| drop(before.next(2, key)));
        assert_eq!((before.rows_held(), before.wants_more(), before.are_answered(0)), (5, false, true));
        before.answered(1);
        assert_eq!((before.rows_held(), before.are_answered(1), before.are_answered(2)), (3, true, false));

        let mut after = requests();
        after.restore(&mut before.snapshot(false).unwrap().batches(), &Owned::ALL).unwrap();
        assert_eq!(after.rows_held(), 3);
        let again = after.next(1, |_| "another".into()).unwrap();
        assert_eq!((numbers(&again.rows), again.key.as_deref()), (vec![3, 4], Some("key 2")));
        assert_eq!(
            (again.header.ingested, again.header.origin.as_ref().unwrap().to_string()),
            (Timestamp(7), "a.jsonl, line 9 or before".into())
        );
        let next = after.next(1, |_| "another".into()).unwrap();
        assert_eq!((numbers(&next.rows), next.key.as_deref()), (vec![5], Some("another")));
        assert!(after.next(1, |_| "none".into()).is_none() && after.wants_more() && !after.is_idle());
        (1..3).for_each(|n| after.answered(n));
        assert!(after.is_idle() && after.snapshot(false).unwrap().0.is_empty());
    }

    #[test]
    fn rows_of_other_columns_are_refused() {
        let mut before = requests();
        before.push(records(&[1], None));
        let other = RecordBatch::try_from_iter([("m", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let mut after = Requests::new(other.schema());
        let error = after.restore(&mut before.snapshot(false).unwrap().batches(), &Owned::ALL).unwrap_err();
        assert_eq!(
            error.message(),
            "the rows of its requests in flight had the columns (n Int64), and have (m Int64) now"
        );
    }
}
