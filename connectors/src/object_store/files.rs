//! The objects of a bucket, as a file system whose calls wait for the network.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bourn_engine::api::Outage;
use bourn_engine::env::{Env, FileId, Files, ReadFile, WriteFile};
use bourn_engine::{Error, Kind, Result};
use futures::future::{BoxFuture, Either, select};
use futures::{FutureExt, TryStreamExt};
use glob::{MatchOptions, Pattern};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::IfExists;
use super::bucket::Bucket;
use super::errors::told;
use super::read::ObjectFile;
use super::staging::{PART, Staging};
use super::upload::{Upload, Writer};

/// How often a request is made while a job runs, the tries of the client itself not counted: over about half a minute.
pub const PATIENT: u32 = 10;
/// The same while a job is planned, and somebody waits for an answer: over a few seconds.
pub const HASTY: u32 = 4;
/// The first wait between two of them, and the longest.
const WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];
/// The most objects that one pattern may name.
const OBJECTS_MAX: usize = 1_000_000;

/// How objects are written.
#[derive(Clone, Debug)]
pub struct Writing {
    /// How much is uploaded at once, in bytes.
    pub part_size: usize,
    /// What is done where an object is already.
    pub if_exists: IfExists,
    /// What becomes of objects before their epoch is committed.
    pub staging: Staging,
}

/// Ends the requests under way when it is dropped.
pub struct Stop(#[expect(dead_code, reason = "dropping it is what it is for")] watch::Sender<()>);

/// The objects of a bucket; a clone is the same.
#[derive(Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    bucket: Arc<Bucket>,
    writing: Writing,
    env: Env,
    attempts: u32,
    outage: Outage,
    handle: Handle,
    stopped: watch::Receiver<()>,
    /// What is being written, by its path.
    uploads: Mutex<BTreeMap<PathBuf, Arc<Mutex<Upload>>>>,
}

/// A panic elsewhere must not hide behind a poisoned lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Objects {
    /// Those of `bucket`, on the runtime that this is called on. Each request is made `attempts` times at most.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(bucket: Arc<Bucket>, writing: Writing, attempts: u32, env: &Env) -> Result<(Self, Stop)> {
        let handle = Handle::try_current()
            .map_err(|_| Error::unsupported("objects are reached by a client that needs a tokio runtime"))?;
        let (stop, stopped) = watch::channel(());
        let outage = Outage::of(bucket.base.trim_end_matches('/'), env);
        let env = env.clone();
        let inner = Inner { bucket, writing, env, attempts, outage, handle, stopped, uploads: Mutex::default() };
        Ok((Self(Arc::new(inner)), Stop(stop)))
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.0.bucket
    }

    /// How objects are written.
    pub fn writing(&self) -> &Writing {
        &self.0.writing
    }

    /// The world that the objects are part of.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// The runtime of the client.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Waits for `work`, on a thread that may.
    ///
    /// # Errors
    /// When the job ends meanwhile.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut stopped = self.0.stopped.clone();
        self.0.handle.block_on(async move {
            match select(pin!(work), pin!(stopped.changed())).await {
                Either::Left((done, _)) => Ok(done),
                Either::Right(_) => Err(Error::new(Kind::Canceled, "the job has ended")),
            }
        })
    }

    /// Makes a request about `place`, again while that may help. The second argument of `request` is the attempt, from 1.
    ///
    /// # Errors
    /// The last one; never one that is to be tried again.
    pub fn ask<'a, T>(
        &self,
        place: &str,
        request: impl FnMut(u32) -> BoxFuture<'a, object_store::Result<T>>,
    ) -> Result<T> {
        self.wait(self.asking(place, request))?
    }

    async fn asking<'a, T>(
        &self,
        place: &str,
        mut request: impl FnMut(u32) -> BoxFuture<'a, object_store::Result<T>>,
    ) -> Result<T> {
        let mut pause = WAITS[0];
        for attempt in 1.. {
            let error = match request(attempt).await {
                Ok(answer) => {
                    self.0.outage.passed();
                    return Ok(answer);
                }
                Err(error) => told(place, &error),
            };
            if error.retry() == bourn_engine::Retry::Never || attempt == self.0.attempts {
                return Err(error.permanent());
            }
            // Spread, so that many lanes do not come back at once.
            let wait = pause.mul_f64(0.5 + (self.0.env.random() % 1_000) as f64 / 2_000.0);
            // Who only looks is told at once, by the error.
            if self.0.attempts > HASTY {
                self.0.outage.failed(&error, wait);
            }
            self.0.env.sleep(wait).await;
            pause = (pause * 2).min(WAITS[1]);
        }
        Err(Error::engine("attempts are counted to their end"))
    }

    /// The key of a path that begins with the bucket.
    ///
    /// # Errors
    /// When it does not, or can't be a key.
    pub fn key(&self, path: &Path) -> Result<Key> {
        let path = self.writing().staging.place_of(path);
        let key = path.strip_prefix(&self.bucket().base);
        let key = key.ok_or_else(|| Error::validation(format!("{path} is not in {}", self.bucket().base)))?;
        Key::parse(key).map_err(|e| Error::validation(format!("{path} can't be a key: {e}")))
    }

    /// Of what is being written.
    pub fn uploads(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Mutex<Upload>>>> {
        lock(&self.0.uploads)
    }

    /// Lets every object appear that is still being written.
    ///
    /// # Errors
    /// When one can't be finished.
    pub fn complete_all(&self) -> Result<()> {
        loop {
            let Some((path, upload)) = self.uploads().iter().next().map(|(p, u)| (p.clone(), u.clone())) else {
                return Ok(());
            };
            lock(&upload).complete()?;
            self.uploads().remove(&path);
        }
    }

    /// Whether something was written that has not appeared.
    pub fn is_unfinished(&self) -> bool {
        !self.uploads().is_empty()
    }

    /// Throws away whatever has not appeared.
    pub fn abort_all(&self) {
        let uploads = std::mem::take(&mut *self.uploads());
        for upload in uploads.into_values() {
            lock(&upload).abort();
        }
    }

    /// Asks for one page of what is beside the objects of a sink: the bucket is there and lets us in. One that lets us write
    /// and not list is taken as it is.
    ///
    /// # Errors
    /// When it can't be reached.
    pub fn reach(&self, url: &str) -> Result<()> {
        let base = &self.bucket().base;
        let key = url.strip_prefix(base.as_str()).unwrap_or(url);
        let folder = &key[..key[..key.find('{').unwrap_or(key.len())].rfind('/').unwrap_or(0)];
        let prefix = Key::parse(folder).map_err(|e| Error::validation(format!("{url} can't be a key: {e}")))?;
        let client = &self.bucket().client;
        let listed = self.ask(url, |_| {
            let prefix = prefix.clone();
            Box::pin(async move { client.list(Some(&prefix)).try_next().await })
        });
        match listed {
            Err(e) if e.kind() == Kind::Permission && e.message().contains("AccessDenied") => Ok(()),
            listed => listed.map(drop),
        }
    }

    /// Waits until no part of another object is on its way, so that those of all open objects together are few.
    ///
    /// # Errors
    /// When one can't be sent.
    pub fn settle_others(&self) -> Result<()> {
        let uploads: Vec<_> = self.uploads().values().cloned().collect();
        // One that is locked is the one that asks: a sink writes to one object at a time.
        let mut others = uploads.iter().filter_map(|upload| upload.try_lock().ok());
        others.try_for_each(|mut upload| upload.settle(0))
    }

    fn list(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        let base = &self.bucket().base;
        let staging = &self.writing().staging;
        let pattern = &*staging.place_of(Path::new(pattern));
        let key = pattern.strip_prefix(base.as_str()).unwrap_or(pattern);
        let is_folder = key.ends_with('/');
        let wild = key.find(['*', '?', '[']);
        if wild.is_none() && !is_folder {
            return Ok(vec![pattern.into()]);
        }
        let folder = &key[..key[..wild.unwrap_or(key.len())].rfind('/').unwrap_or(0)];
        let wanted = if is_folder { format!("{key}**") } else { key.to_owned() };
        let wanted =
            Pattern::new(&wanted).map_err(|e| Error::validation(format!("`{pattern}` is no pattern: {}", e.msg)))?;
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
        let prefix = Key::parse(folder).map_err(|e| Error::validation(format!("{pattern} can't be a key: {e}")))?;
        let client = &self.bucket().client;
        let found: Vec<ObjectMeta> = self.ask(pattern, |_| {
            let (prefix, wanted) = (prefix.clone(), wanted.clone());
            Box::pin(async move {
                let mut found = Vec::new();
                let mut listed = client.list(Some(&prefix));
                while let Some(meta) = listed.try_next().await? {
                    // What writers leave beside the data: `_SUCCESS`, `.crc`, what is staged.
                    let (all, above): (&str, &str) = (meta.location.as_ref(), prefix.as_ref());
                    let below = all.strip_prefix(above).unwrap_or_default();
                    let is_hidden =
                        is_folder && below.split('/').any(|n| n.starts_with(['_', '.']) && !n.contains('='));
                    if !is_hidden && wanted.matches_with(meta.location.as_ref(), options) {
                        found.push(meta);
                    }
                    if found.len() > OBJECTS_MAX {
                        break;
                    }
                }
                Ok(found)
            })
        })?;
        if found.len() > OBJECTS_MAX {
            return Err(Error::new(Kind::Budget, format!("more than {OBJECTS_MAX} objects match {pattern}")));
        }
        let path = |meta: &ObjectMeta| staging.path_of(format!("{base}{}", meta.location));
        let mut paths: Vec<_> = found.iter().map(path).collect();
        if *staging == Staging::None {
            let mut known = lock(&self.bucket().known);
            known.extend(found.into_iter().map(|meta| (meta.location.to_string(), meta)));
        }
        paths.sort();
        Ok(paths)
    }
}

impl Files for Objects {
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>> {
        let key = self.key(path)?;
        let known = lock(&self.bucket().known).get(key.as_ref()).cloned();
        let meta = match known {
            Some(meta) if self.writing().staging == Staging::None => meta,
            _ => {
                let client = &self.bucket().client;
                let meta = self.ask(&path.to_string_lossy(), |_| client.head(&key).boxed())?;
                if self.writing().staging == Staging::None {
                    lock(&self.bucket().known).insert(key.to_string(), meta.clone());
                }
                meta
            }
        };
        Ok(Arc::new(ObjectFile::new(self.clone(), path.display().to_string(), meta)))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>> {
        let text = path.to_string_lossy();
        // A file that is written beside its place is put there by `rename`; an object is not there before that anyway.
        let whole = text.strip_suffix(PART).unwrap_or(&text).to_owned();
        let staging = &self.writing().staging;
        let is_staged = staging.is_staged(path);
        if !matches!(staging, Staging::Rows { .. }) {
            self.refuse_existing(&whole, &self.key(Path::new(&whole))?)?;
        }
        let place = if is_staged { text.into_owned() } else { whole };
        let upload = Upload::new(self.clone(), place.clone(), self.key(Path::new(&place))?);
        let upload = Arc::new(Mutex::new(if is_staged { upload.staged(path) } else { upload }));
        let earlier = self.uploads().insert(path.into(), upload.clone());
        if let Some(earlier) = earlier {
            lock(&earlier).abort();
        }
        Ok(Box::new(Writer(upload)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let upload = self.uploads().get(from).cloned();
        if upload.is_none() && self.writing().staging.is_staged(from) {
            return self.put_in_place(from, to);
        }
        let upload = upload
            .ok_or_else(|| Error::unsupported(format!("{} is not renamed to {}", from.display(), to.display())))?;
        lock(&upload).complete()?;
        self.uploads().remove(from);
        Ok(())
    }

    fn is_special(&self, _: &Path) -> bool {
        false
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn Send + Sync>>> {
        Err(Error::unsupported(format!("{} can't be locked", path.display())))
    }

    fn is_same(&self, one: &Path, other: &Path) -> bool {
        one == other
    }

    /// An object is replaced and never renamed: nothing tells one from its successor but its version.
    fn identify(&self, path: &Path) -> Result<Option<FileId>> {
        let Some(meta) = self.look(&path.to_string_lossy(), &self.key(path)?)? else { return Ok(None) };
        let version = meta.e_tag.unwrap_or_else(|| format!("{} {}", meta.last_modified, meta.size));
        Ok(Some(FileId { device: 0, number: xxh3_64(version.as_bytes()) }))
    }

    /// A name is there as soon as its object is.
    fn sync_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let key = self.key(path)?;
        self.ask(&path.to_string_lossy(), |_| self.bucket().client.delete(&key).boxed())
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        self.list(pattern)
    }
}
