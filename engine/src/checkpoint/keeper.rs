//! Writes checkpoints: parts, then the manifest, then nothing of what no checkpoint needs any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use arrow_ipc::writer::StreamWriter;

use super::manifest::{self, FORMAT, Manifest, Part, checksum};
use super::saved::SavedPiece;
use super::store::{Lock, Store};
use crate::data::message::Epoch;
use crate::env::{Env, points};
use crate::error::{Error, Result};
use crate::state::visitor::{Chunk, Scope};
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
    offset: u64,
    bytes: u64,
    rows: u64,
}

type PieceName = (String, usize, String);

/// The chunks of a piece by number.
type FoundPiece = (PieceName, Scope, Vec<(u64, Found)>);

/// A checkpoint in the form that it has at rest, until it is in the store.
struct Encoded {
    manifest: Manifest,
    part: Option<(String, Vec<u8>)>,
    places: HashMap<PieceName, HashMap<u64, Place>>,
}

/// The writer of a job's checkpoints.
pub struct Keeper {
    store: Arc<dyn Store>,
    job: String,
    run: String,
    /// In the names of its parts, so that nobody else ever puts one of the same name.
    writer: String,
    /// How many complete checkpoints stay.
    keep: usize,
    places: HashMap<PieceName, HashMap<u64, Place>>,
    /// One that could not be written yet.
    pending: Option<Encoded>,
    /// Complete checkpoints with the parts that they need, oldest first.
    complete: Vec<(Epoch, BTreeSet<String>)>,
    /// What an earlier run has left, which goes when the first checkpoint of this one is complete.
    left: Vec<String>,
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
            pending: None,
            complete,
            left,
            lock: None,
        }
    }

    /// The same with what keeps other jobs out.
    #[must_use]
    pub fn locked(mut self, lock: Box<dyn Lock>) -> Self {
        self.lock = Some(lock);
        self
    }

    /// What messages call the store.
    pub fn place(&self) -> String {
        self.store.place()
    }

    /// Writes nothing more, and lets other jobs in. May block.
    pub fn close(mut self) {
        if let Some(lock) = self.lock.take() {
            lock.release();
        }
    }

    /// Takes what the next [`Keeper::write`] writes.
    ///
    /// # Errors
    /// When a value has no form at rest.
    pub fn take(&mut self, sealed: Sealed) -> Result<()> {
        let Sealed { epoch, at, last, mut nodes, pieces } = sealed;
        let mut bytes = Vec::new();
        let mut found: Vec<FoundPiece> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let key = (piece.node.to_string(), piece.lane, piece.name);
            let mut chunks = Vec::with_capacity(piece.content.0.len());
            for chunk in piece.content.0 {
                chunks.push(match chunk {
                    Chunk::Changed(number, frozen) => {
                        let (offset, batch) = (bytes.len(), frozen.thaw()?);
                        encode(&batch, &mut bytes)?;
                        let (start, length, rows) = (offset, bytes.len() - offset, batch.num_rows());
                        (number, Found::Here(start as u64, length as u64, rows as u64))
                    }
                    Chunk::Unchanged(number) => {
                        let known = self.places.get(&key).and_then(|places| places.get(&number));
                        let known =
                            known.ok_or_else(|| Error::engine("a chunk that was never saved has not changed"))?;
                        (number, Found::There(known.clone()))
                    }
                });
            }
            found.push((key, piece.scope, chunks));
        }
        let part = (!bytes.is_empty()).then(|| {
            let name = format!("{epoch:010}-{}.arrow", self.writer);
            (Arc::new(Part { name: name.clone(), bytes: bytes.len() as u64, checksum: checksum(&bytes) }), name)
        });
        let (mut parts, mut numbers) = (Vec::new(), HashMap::new());
        let mut places = HashMap::new();
        for (key, scope, chunks) in found {
            let place = |(number, found)| match (found, &part) {
                (Found::There(place), _) => Ok((number, place)),
                (Found::Here(offset, bytes, rows), Some((part, _))) => {
                    Ok((number, Place { part: part.clone(), offset, bytes, rows }))
                }
                (Found::Here(..), None) => Err(Error::engine("a chunk has no part")),
            };
            let chunks: Vec<(u64, Place)> = chunks.into_iter().map(place).collect::<Result<_>>()?;
            let number = |(_, place): &(u64, Place)| {
                let next = parts.len();
                let part = *numbers.entry(place.part.name.clone()).or_insert(next);
                if part == next {
                    parts.push(place.part.as_ref().clone());
                }
                manifest::Chunk { part, offset: place.offset, bytes: place.bytes, rows: place.rows }
            };
            let saved = manifest::Piece {
                lane: key.1,
                name: key.2.clone(),
                scope,
                chunks: chunks.iter().map(number).collect(),
            };
            nodes.entry(key.0.clone()).or_default().pieces.push(saved);
            places.insert(key, chunks.into_iter().collect());
        }
        let (job, run, engine) = (self.job.clone(), self.run.clone(), env!("CARGO_PKG_VERSION").to_owned());
        let manifest = Manifest { format: FORMAT, engine, job, run, epoch, written: at, last, nodes, parts };
        self.pending = Some(Encoded { manifest, part: part.map(|(_, name)| (name, bytes)), places });
        Ok(())
    }

    /// Writes what was taken. After an error it may be called again.
    ///
    /// # Errors
    /// What the store says.
    pub fn write(&mut self, env: &Env) -> Result<u64> {
        let Some(mut encoded) = self.pending.take() else {
            return Err(Error::engine("nothing was taken that could be written"));
        };
        let written = self.put(&mut encoded, env);
        match written {
            Ok(bytes) => {
                let needs = encoded.manifest.parts.iter().map(|p| p.name.clone()).collect();
                self.complete.push((encoded.manifest.epoch, needs));
                self.places = encoded.places;
                Ok(bytes)
            }
            Err(e) => {
                self.pending = Some(encoded);
                Err(e)
            }
        }
    }

    fn put(&self, encoded: &mut Encoded, env: &Env) -> Result<u64> {
        let mut bytes = 0;
        if let Some((name, content)) = &encoded.part {
            env.reached(points::STORE_PART);
            self.store.put(name, content)?;
            env.reached(points::PART_STORED);
            bytes += content.len() as u64;
        }
        let manifest = encoded.manifest.encode()?;
        env.reached(points::STORE_MANIFEST);
        self.store.complete(&manifest::name(encoded.manifest.epoch), &manifest)?;
        // From here on the checkpoint is complete.
        env.reached(points::MANIFEST_STORED);
        Ok(bytes + manifest.len() as u64)
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

enum Found {
    Here(u64, u64, u64),
    There(Place),
}

fn encode(batch: &RecordBatch, into: &mut Vec<u8>) -> Result<()> {
    let mut writer = StreamWriter::try_new(into, batch.schema_ref())?;
    writer.write(batch)?;
    Ok(writer.finish()?)
}
