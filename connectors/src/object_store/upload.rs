//! An object that is being written: parts on their way, and the one that fills.

use std::future::poll_fn;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bourn_engine::env::WriteFile;
use bourn_engine::{Error, Kind, Result};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use object_store::multipart::PartId;
use object_store::path::Path as Key;
use object_store::{GetOptions, MultipartId, ObjectStore as _, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::errors::{as_io, said, told};
use super::files::{Objects, lock};

/// How many parts are on their way at once.
const IN_FLIGHT: usize = 4;
/// The most parts that stores take.
const PARTS_MAX: usize = 10_000;
/// How long throwing an upload away may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// An object that is not there yet.
pub struct Upload {
    objects: Objects,
    /// For messages.
    place: String,
    key: Key,
    buffer: Vec<u8>,
    size: u64,
    id: Option<MultipartId>,
    /// Every part that was begun, in order.
    parts: Vec<Part>,
    /// It has appeared or was thrown away.
    is_over: bool,
    /// If it is staged, what it is written as.
    staged: Option<PathBuf>,
}

enum Part {
    Running(Bytes, BoxFuture<'static, object_store::Result<PartId>>),
    /// It failed in a way that may pass.
    Failed(Bytes),
    Done(PartId),
}

impl Upload {
    /// An empty object; nothing is asked of the store yet.
    pub fn new(objects: Objects, place: String, key: Key) -> Self {
        Self {
            objects,
            place,
            key,
            buffer: Vec::new(),
            size: 0,
            id: None,
            parts: Vec::new(),
            is_over: false,
            staged: None,
        }
    }

    /// The same for what is written at `path` and staged: it is whole and safe when it is synced, and replaces what is there.
    #[must_use]
    pub fn staged(self, path: &Path) -> Self {
        Self { staged: Some(path.to_owned()), ..self }
    }

    /// Adds bytes. Full parts are on their way when this returns, and no more than a few are held.
    ///
    /// # Errors
    /// When a part can't be sent.
    pub fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.is_over {
            return Err(Error::engine(format!("{} is finished", self.place)));
        }
        let part_size = self.objects.writing().part_size;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(part_size - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.size += now.len() as u64;
            bytes = rest;
            if self.buffer.len() == part_size {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Sends the buffer off as a part.
    fn send(&mut self) -> Result<()> {
        if self.parts.len() == PARTS_MAX {
            let message = format!("{}: an object has {PARTS_MAX} parts at most: make `part_size` larger", self.place);
            return Err(Error::new(Kind::Budget, message));
        }
        self.objects.settle_others()?;
        self.settle(IN_FLIGHT - 1)?;
        let room = Vec::with_capacity(self.buffer.len());
        let data = Bytes::from(std::mem::replace(&mut self.buffer, room));
        let id = if let Some(id) = &self.id {
            id.clone()
        } else {
            let client = &self.objects.bucket().client;
            let id = self.objects.ask(&self.place, |_| client.create_multipart(&self.key))?;
            self.objects.note(&self.key, &id)?;
            self.id.insert(id).clone()
        };
        let mut part = self.request(&id, self.parts.len(), data.clone());
        // Asked for once, so that it is on its way while rows are encoded.
        let part = match self.objects.wait(poll_fn(|cx| Poll::Ready(part.poll_unpin(cx))))? {
            Poll::Ready(Ok(done)) => Part::Done(done),
            Poll::Ready(Err(_)) => Part::Failed(data),
            Poll::Pending => Part::Running(data, part),
        };
        self.parts.push(part);
        Ok(())
    }

    fn request(&self, id: &MultipartId, index: usize, data: Bytes) -> BoxFuture<'static, object_store::Result<PartId>> {
        let (bucket, key, id) = (self.objects.clone(), self.key.clone(), id.clone());
        async move { bucket.bucket().client.put_part(&key, &id, index, PutPayload::from(data)).await }.boxed()
    }

    /// Waits until at most `most` parts are on their way, and sends those again that failed.
    ///
    /// # Errors
    /// When one can't be sent.
    pub fn settle(&mut self, most: usize) -> Result<()> {
        let parts = &mut self.parts;
        self.objects.wait(poll_fn(|cx| {
            let mut running = 0;
            for part in parts.iter_mut() {
                if let Part::Running(data, request) = part {
                    match request.poll_unpin(cx) {
                        Poll::Ready(Ok(id)) => *part = Part::Done(id),
                        Poll::Ready(Err(_)) => *part = Part::Failed(std::mem::take(data)),
                        Poll::Pending => running += 1,
                    }
                }
            }
            if running <= most { Poll::Ready(()) } else { Poll::Pending }
        }))?;
        let Some(id) = self.id.clone() else { return Ok(()) };
        for index in 0..self.parts.len() {
            if let Part::Failed(data) = &self.parts[index] {
                let data = data.clone();
                let done = self.objects.ask(&self.place, |_| self.request(&id, index, data.clone()))?;
                self.parts[index] = Part::Done(done);
            }
        }
        Ok(())
    }

    /// Lets the object appear.
    ///
    /// # Errors
    /// When the store refuses it; it does not appear then.
    pub fn complete(&mut self) -> Result<()> {
        if self.is_over {
            return Ok(());
        }
        if self.id.is_none() {
            let create = self.staged.is_none() && !self.objects.may_replace(&self.place, &self.key)?;
            self.put(create)?;
        } else {
            if !self.buffer.is_empty() {
                self.send()?;
            }
            self.settle(0)?;
            if self.staged.is_none() && !self.objects.may_replace(&self.place, &self.key)? {
                self.objects.refuse_existing(&self.place, &self.key)?;
            }
            self.join()?;
        }
        self.is_over = true;
        self.forget_note()?;
        if let Some(path) = &self.staged {
            self.objects.uploads().remove(path);
        }
        Ok(())
    }

    fn forget_note(&self) -> Result<()> {
        let Some(id) = &self.id else { return Ok(()) };
        let Some(note) = self.objects.note_of(id)? else { return Ok(()) };
        self.objects.ask(&self.place, |_| self.objects.bucket().client.delete(&note).boxed())
    }

    /// A small object, in one request.
    fn put(&self, create: bool) -> Result<()> {
        let data = Bytes::copy_from_slice(&self.buffer);
        let client = &self.objects.bucket().client;
        let key = &self.key;
        self.objects.ask(&self.place, |attempt| {
            let mode = if create { PutMode::Create } else { PutMode::Overwrite };
            let (payload, data) = (PutPayload::from(data.clone()), data.clone());
            async move {
                match client.put_opts(key, payload, PutOptions::from(mode)).await {
                    // The answer to an earlier attempt may have been lost: it is ours if it holds what we sent.
                    Err(object_store::Error::AlreadyExists { path, source }) if attempt > 1 => {
                        match client.get(key).await?.bytes().await? {
                            found if found == data => Ok(()),
                            _ => Err(object_store::Error::AlreadyExists { path, source }),
                        }
                    }
                    put => put.map(drop),
                }
            }
            .boxed()
        })
    }

    /// A large object, of its parts.
    fn join(&self) -> Result<()> {
        let Some(id) = &self.id else { return Ok(()) };
        let done = |part: &Part| match part {
            Part::Done(id) => Some(id.clone()),
            Part::Running(..) | Part::Failed(_) => None,
        };
        let parts: Vec<PartId> = self.parts.iter().filter_map(done).collect();
        if parts.len() < self.parts.len() {
            return Err(Error::engine("an object is joined of all of its parts"));
        }
        let (client, key, size) = (&self.objects.bucket().client, &self.key, self.size);
        let look = || client.get_opts(key, GetOptions { head: true, ..GetOptions::default() });
        // What is there before, so that it is not taken for what we wrote.
        let before = self.objects.wait(look())?.ok().map(|found| found.meta);
        self.objects.ask(&self.place, |_| {
            let (parts, before) = (parts.clone(), before.clone());
            async move {
                match client.complete_multipart(key, id, parts).await {
                    // The upload may be over: an earlier attempt was heard, or still is, and its answer was lost. A server says
                    // that in several ways.
                    Err(error) => match look().await {
                        Ok(found) if found.meta.size == size && before.as_ref() != Some(&found.meta) => Ok(()),
                        _ => Err(may_be_joined(error)),
                    },
                    joined => joined.map(drop),
                }
            }
            .boxed()
        })
    }

    /// Throws away what was uploaded. It is tried once, and told in the log if that fails.
    pub fn abort(&mut self) {
        self.parts.clear();
        self.buffer = Vec::new();
        let Some(id) = self.id.take().filter(|_| !std::mem::replace(&mut self.is_over, true)) else { return };
        let (objects, key) = (self.objects.clone(), self.key.clone());
        let place = self.place.clone();
        // The job may have ended, so this does not ask whether it has.
        let aborted = self.objects.handle().block_on(async move {
            let abort = async {
                objects.bucket().client.abort_multipart(&key, &id).await?;
                match objects.note_of(&id) {
                    Ok(Some(note)) => objects.bucket().client.delete(&note).await,
                    _ => Ok(()),
                }
            };
            let abort = pin!(abort);
            match select(abort, objects.env().sleep(FAREWELL)).await {
                Either::Left((aborted, _)) => aborted.map_err(|e| told(&place, &e)),
                Either::Right(_) => Err(Error::new(Kind::Timeout, format!("{place}: no answer within {FAREWELL:?}"))),
            }
        });
        if let Err(e) = aborted {
            tracing::warn!("throwing an upload away: {e}; its parts stay until the bucket removes them");
        }
    }
}

/// Where an upload is not known or its parts are gone, an earlier attempt may be at work still: it is asked again.
fn may_be_joined(error: object_store::Error) -> object_store::Error {
    let is_gone = matches!(error, object_store::Error::NotFound { .. }) || said(&error).starts_with("InvalidPart");
    if is_gone { object_store::Error::Generic { store: "object", source: said(&error).into() } } else { error }
}

/// That an object is there, and must stay.
pub fn exists(place: &str) -> Error {
    Error::new(Kind::Io, format!("{place}: is there already, and `if_exists: fail` keeps it"))
}

/// What a sink writes to.
pub struct Writer(pub Arc<Mutex<Upload>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).add(bytes).map_err(|e| as_io(&e))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Writer {
    /// An object is safe when it has appeared, and not before; one that is staged may appear at once.
    fn sync(&mut self) -> io::Result<()> {
        let mut upload = lock(&self.0);
        if upload.staged.is_some() { upload.complete().map_err(|e| as_io(&e)) } else { Ok(()) }
    }
}
