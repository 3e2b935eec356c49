//! Writes checkpoints: parts, then the manifest, then nothing of what no checkpoint needs any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_ipc::writer::StreamWriter;

use super::manifest::{self, FORMAT, Manifest, Part, checksum};
use super::saved::SavedPiece;
use super::store::{Lock, Store};
use crate::data::message::Epoch;
use crate::env::{Env, points};
use crate::error::{Error, Result};
use crate::state::Room;
use crate::state::visitor::{Chunk, Frozen, Scope};
use crate::time::Timestamp;

/// What a checkpoint is made of.
pub struct Sealed {
    /// The epoch.
    pub epoch: Epoch,
    /// When it was complete.
    pub at: Timestamp,
    /// Whether every task had ended.
    pub last: bool,
    /// Everything but state.
    pub nodes: BTreeMap<String, manifest::Node>,
    /// State.
    pub pieces: Vec<SavedPiece>,
}

/// Where the newest content of a chunk stands.
#[derive(Clone, Debug)]
struct Place {
    part: Arc<Part>,
    /// Its place in that part; the number of the part is another in each manifest.
    chunk: manifest::Chunk,
}

type PieceName = (String, usize, String);

/// Where the chunks of each piece stand, by number.
type Places = HashMap<PieceName, HashMap<u64, Place>>;

/// The chunks of a piece by number.
type FoundPiece = (PieceName, Scope, Vec<(u64, Found)>);

/// A checkpoint on its way into the store.
struct Pending {
    /// Without its pieces, and with the parts that it is the first to have.
    manifest: Manifest,
    /// What has no form at rest yet.
    pieces: VecDeque<SavedPiece>,
    found: Vec<FoundPiece>,
    /// The part under way.
    bytes: Vec<u8>,
    /// Bytes that are in the store.
    stored: u64,
}

/// Where a chunk is.
enum Found {
    /// In a part of this checkpoint: which of them, and where in it.
    Here(usize, manifest::Chunk),
    /// In an older one.
    There(Place),
}

/// Bytes of a part, about: what is written at once, and kept as room for the next one.
const PART: usize = 8 << 20;

/// The writer of a job's checkpoints.
pub struct Keeper {
    store: Arc<dyn Store>,
    job: String,
    run: String,
    /// In the names of its parts, so that nobody else ever puts one of the same name.
    writer: String,
    /// How many complete checkpoints stay.
    keep: usize,
    places: Places,
    /// Room for a part: to get some of this size anew each time costs as much as to fill it.
    buffer: Vec<u8>,
    /// One that could not be written yet.
    pending: Option<Pending>,
    /// Complete checkpoints with the parts that they need, oldest first.
    complete: Vec<(Epoch, BTreeSet<String>)>,
    /// What an earlier run has left, which goes when the first checkpoint of this one is complete.
    left: Vec<String>,
    /// Where the job has state that memory can't hold.
    state: Option<(Env, PathBuf)>,
    lock: Option<Box<dyn Lock>>,
}

impl Keeper {
    /// A writer for this run of a job, under a name that no writer had before. `left` are the names of an earlier run, `complete` the checkpoints of this one.
    pub fn new(
        store: Arc<dyn Store>,
        (job, run, writer): (String, String, String),
        keep: usize,
        (complete, left): (Vec<(Epoch, BTreeSet<String>)>, Vec<String>),
    ) -> Self {
        Self {
            store,
            job,
            run,
            writer,
            keep: keep.max(1),
            places: HashMap::new(),
            buffer: Vec::new(),
            pending: None,
            complete,
            left,
            state: None,
            lock: None,
        }
    }

    /// The same with what keeps other jobs out.
    #[must_use]
    pub fn locked(mut self, lock: Box<dyn Lock>) -> Self {
        self.lock = Some(lock);
        self
    }

    /// The same with a folder for state that memory can't hold. It is emptied now and at the end: what is there is of no use to
    /// another run.
    ///
    /// # Errors
    /// What the disk says.
    pub fn with_state(mut self, env: Env, folder: PathBuf) -> Result<Self> {
        match Room::clear(&env, &folder) {
            Ok(()) => {
                self.state = Some((env, folder));
                Ok(self)
            }
            Err(e) => {
                self.close();
                Err(e)
            }
        }
    }

    /// What messages call the store.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// Writes nothing more, and lets other jobs in. May block.
    pub fn close(mut self) {
        if let Some((env, folder)) = self.state.take() {
            // What can't be removed now goes when the next run begins.
            let _ = Room::clear(&env, &folder);
        }
        if let Some(lock) = self.lock.take() {
            lock.release();
        }
    }

    /// Takes what the next [`Keeper::write`] writes.
    pub fn take(&mut self, sealed: Sealed) {
        let Sealed { epoch, at, last, nodes, pieces } = sealed;
        let (job, run, engine) = (self.job.clone(), self.run.clone(), env!("CARGO_PKG_VERSION").to_owned());
        let parts = Vec::new();
        let manifest = Manifest { format: FORMAT, engine, job, run, epoch, written: at, last, nodes, parts };
        let (found, bytes) = (Vec::with_capacity(pieces.len()), std::mem::take(&mut self.buffer));
        self.pending = Some(Pending { manifest, pieces: pieces.into(), found, bytes, stored: 0 });
    }

    /// Writes what was taken, part by part; returns how many bytes. After an error it may be called again as long as it
    /// [has](Keeper::has_pending) something to write.
    ///
    /// # Errors
    /// What the store says, and when something has no form at rest: then it has nothing to write any more.
    pub fn write(&mut self, env: &Env) -> Result<u64> {
        let Some(mut pending) = self.pending.take() else {
            return Err(Error::engine("nothing was taken that could be written"));
        };
        loop {
            pending.encode(&self.places)?;
            if let Err(e) = self.put_part(&mut pending, env) {
                self.pending = Some(pending);
                return Err(e);
            }
            if pending.pieces.is_empty() {
                break;
            }
        }
        let (manifest, places) = pending.named()?;
        match self.put_manifest(&manifest, env) {
            Ok(bytes) => pending.stored += bytes,
            Err(e) => {
                self.pending = Some(pending);
                return Err(e);
            }
        }
        // A part with its last chunk is somewhat larger than it should be, and its room up to twice that. What is much larger
        // is the exception.
        if pending.bytes.capacity() <= 3 * PART {
            self.buffer = pending.bytes;
        }
        let needs = manifest.parts.iter().map(|p| p.name.clone()).collect();
        self.complete.push((manifest.epoch, needs));
        self.places = places;
        Ok(pending.stored)
    }

    /// Whether something was taken that is not written yet.
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    fn put_part(&self, pending: &mut Pending, env: &Env) -> Result<()> {
        if pending.bytes.is_empty() {
            return Ok(());
        }
        let (epoch, number) = (pending.manifest.epoch, pending.manifest.parts.len());
        let further = if number == 0 { String::new() } else { format!("-{number}") };
        let name = format!("{epoch:010}-{}{further}.arrow", self.writer);
        let bytes = &pending.bytes;
        env.reached(points::STORE_PART);
        self.store.put(&name, bytes)?;
        env.reached(points::PART_STORED);
        pending.stored += bytes.len() as u64;
        pending.manifest.parts.push(Part { name, bytes: bytes.len() as u64, checksum: checksum(bytes) });
        pending.bytes.clear();
        Ok(())
    }

    fn put_manifest(&self, manifest: &Manifest, env: &Env) -> Result<u64> {
        let content = manifest.encode()?;
        env.reached(points::STORE_MANIFEST);
        self.store.complete(&manifest::name(manifest.epoch), &content)?;
        // From here on the checkpoint is complete.
        env.reached(points::MANIFEST_STORED);
        Ok(content.len() as u64)
    }

    /// Notes that everything of the newest checkpoint is committed, and nothing comes behind it. Epochs in which nothing has
    /// happened have none, so it may be older than the last epoch.
    ///
    /// # Errors
    /// What the store says.
    pub fn settle(&self) -> Result<()> {
        match self.complete.last() {
            Some((newest, _)) => self.store.put(&manifest::settled_name(*newest), b""),
            None => Ok(()),
        }
    }

    /// Removes what no checkpoint that stays needs. Called behind the commits, so that what they need is there until then.
    ///
    /// # Errors
    /// What the store says: nothing is lost by it.
    pub fn sweep(&mut self, env: &Env) -> Result<()> {
        let surplus = self.complete.len().saturating_sub(self.keep);
        let reached = |point| {
            if surplus > 0 {
                env.reached(point);
            }
        };
        reached(points::SWEEP);
        let (gone, stay) = self.complete.split_at(surplus);
        let needed: BTreeSet<&String> = stay.iter().flat_map(|(_, parts)| parts).collect();
        let parts: BTreeSet<&String> =
            gone.iter().flat_map(|(_, parts)| parts).filter(|p| !needed.contains(p)).collect();
        // Manifests first: one without its parts would look damaged.
        for (epoch, _) in gone {
            self.store.remove(&manifest::settled_name(*epoch))?;
            self.store.remove(&manifest::name(*epoch))?;
        }
        reached(points::MANIFESTS_SWEPT);
        for name in parts {
            self.store.remove(name)?;
        }
        reached(points::SWEPT);
        self.complete.drain(..surplus);
        let used: BTreeSet<String> = self
            .complete
            .iter()
            .flat_map(|(epoch, parts)| {
                parts.iter().cloned().chain([manifest::name(*epoch), manifest::settled_name(*epoch)])
            })
            .collect();
        self.left.retain(|name| !used.contains(name));
        while let Some(name) = self.left.pop() {
            if let Err(e) = self.store.remove(&name) {
                self.left.push(name);
                return Err(e);
            }
        }
        Ok(())
    }
}

impl Pending {
    /// Brings chunks into their form at rest, until there are enough for a part, or no more.
    fn encode(&mut self, places: &Places) -> Result<()> {
        let here = self.manifest.parts.len();
        while self.bytes.len() < PART
            && let Some(piece) = self.pieces.front_mut()
        {
            let key = (piece.node.to_string(), piece.lane, piece.name.clone());
            let is_begun = self.found.last().is_some_and(|(begun, ..)| *begun == key);
            if !is_begun {
                piece.content.0.reverse();
                self.found.push((key.clone(), piece.scope, Vec::with_capacity(piece.content.0.len())));
            }
            let chunks = self.found.last_mut().map(|(.., chunks)| chunks);
            let (Some(chunk), Some(chunks)) = (piece.content.0.pop(), chunks) else {
                self.pieces.pop_front();
                continue;
            };
            chunks.push(match chunk {
                Chunk::Changed(number, frozen) => {
                    let offset = self.bytes.len();
                    let rows = encode(frozen, &mut self.bytes)?;
                    let bytes = (self.bytes.len() - offset) as u64;
                    (number, Found::Here(here, manifest::Chunk { part: 0, offset: offset as u64, bytes, rows }))
                }
                Chunk::Unchanged(number) => {
                    let known = places.get(&key).and_then(|places| places.get(&number));
                    let known = known.ok_or_else(|| Error::engine("a chunk that was never saved has not changed"))?;
                    (number, Found::There(known.clone()))
                }
            });
        }
        Ok(())
    }

    /// The manifest with its pieces and all parts that they need, and where each chunk stands.
    fn named(&self) -> Result<(Manifest, Places)> {
        let mut manifest = self.manifest.clone();
        let mine: Vec<Arc<Part>> = std::mem::take(&mut manifest.parts).into_iter().map(Arc::new).collect();
        let (mut numbers, mut places) = (HashMap::new(), HashMap::new());
        for (key, scope, found) in &self.found {
            let (mut chunks, mut stands) = (Vec::with_capacity(found.len()), HashMap::with_capacity(found.len()));
            for (number, found) in found {
                let place = match found {
                    Found::There(place) => place.clone(),
                    Found::Here(part, chunk) => {
                        let part = mine.get(*part).ok_or_else(|| Error::engine("a chunk has no part"))?;
                        Place { part: part.clone(), chunk: chunk.clone() }
                    }
                };
                let next = manifest.parts.len();
                let part = *numbers.entry(place.part.name.clone()).or_insert(next);
                if part == next {
                    manifest.parts.push(place.part.as_ref().clone());
                }
                chunks.push(manifest::Chunk { part, ..place.chunk.clone() });
                stands.insert(*number, place);
            }
            let saved = manifest::Piece { lane: key.1, name: key.2.clone(), scope: *scope, chunks };
            manifest.nodes.entry(key.0.clone()).or_default().pieces.push(saved);
            places.insert(key.clone(), stands);
        }
        Ok((manifest, places))
    }
}

/// Writes a chunk as a stream of its own; returns its rows.
fn encode(chunk: Frozen, into: &mut Vec<u8>) -> Result<u64> {
    let (mut stream, mut into, mut rows) = (None, Some(into), 0);
    chunk.thaw(&mut |batch| {
        if let Some(into) = into.take() {
            stream = Some(StreamWriter::try_new(into, batch.schema_ref())?);
        }
        rows += batch.num_rows() as u64;
        match &mut stream {
            Some(stream) => Ok(stream.write(&batch)?),
            None => Err(Error::engine("a chunk has no stream")),
        }
    })?;
    let mut stream = stream.ok_or_else(|| Error::engine("a chunk has no batch"))?;
    stream.finish()?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
