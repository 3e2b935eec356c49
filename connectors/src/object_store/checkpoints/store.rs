//! The checkpoints of a job as objects below a prefix.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bourn_engine::api::{Lock, Store};
use bourn_engine::data::units::Interval;
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use bytes::Bytes;
use futures::future::{Either, select};
use futures::{FutureExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::lease::{self, Lease};
use crate::object_store::IfExists;
use crate::object_store::bucket::Bucket;
use crate::object_store::files::{Objects, PATIENT, Stop, Writing, lock};
use crate::object_store::staging::Staging;
use crate::object_store::upload::Upload;

/// What is larger goes up in parts of this size, in bytes.
const PART: usize = 8 << 20;
/// How often a late write of another job is written over before that is given up.
const OVERWRITES: u32 = 3;

/// Objects below a prefix.
pub struct BucketStore {
    objects: Objects,
    /// What messages call it: the URL.
    place: String,
    lasts: Duration,
    lease: Mutex<Option<Arc<Lease>>>,
    /// The version of what was read or written last under a name, to write over it and nothing else.
    versions: Mutex<BTreeMap<String, UpdateVersion>>,
    _stop: Stop,
}

impl BucketStore {
    /// The store at `place`, a URL that begins with the bucket. Nobody is asked yet.
    ///
    /// # Errors
    /// When there is no runtime for its client.
    pub fn new(bucket: Arc<Bucket>, place: String, lasts: Duration, env: &Env) -> Result<Self> {
        let writing = Writing { part_size: PART, if_exists: IfExists::Replace, staging: Staging::None };
        let (objects, stop) = Objects::new(bucket, writing, PATIENT, env)?;
        Ok(Self { objects, place, lasts, lease: Mutex::default(), versions: Mutex::default(), _stop: stop })
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }

    fn key(&self, name: &str) -> Result<Key> {
        self.objects.key(Path::new(&self.at(name)))
    }

    /// Whoever has lost the lock writes nothing more.
    fn guard(&self) -> Result<Option<Arc<Lease>>> {
        let lease = lock(&self.lease).clone();
        if let Some(lease) = &lease
            && !lease.is_held()
        {
            self.confirm(lease)?;
        }
        Ok(lease)
    }

    /// Asks the bucket whether the lease is ours, by renewing it.
    fn confirm(&self, lease: &Arc<Lease>) -> Result<()> {
        let renewed = self.objects.ask(&self.at(lease::NAME), |_| lease.renew().boxed())?;
        if renewed { Ok(()) } else { Err(self.lost()) }
    }

    fn lost(&self) -> Error {
        let message = format!(
            "{}: another run of the job has taken over, because this one did not renew its lease of {} in time; it writes no \
             more checkpoints and commits nothing more",
            self.place,
            Interval(self.lasts)
        );
        Error::new(Kind::Io, message).permanent()
    }

    /// The version that was written; none when what is there is another than `mode` wants.
    fn write(
        &self,
        name: &str,
        content: &Bytes,
        mode: &PutMode,
        lease: Option<&Lease>,
    ) -> Result<Option<UpdateVersion>> {
        let key = self.key(name)?;
        let client = &self.objects.bucket().client;
        self.objects.ask(&self.at(name), |_| {
            let (key, payload, mode) = (key.clone(), PutPayload::from(content.clone()), mode.clone());
            async move {
                // A request that is older than the lease would be the write of a job that has lost it.
                let left = lease.map_or(Duration::MAX, Lease::left);
                let ended = |said: &str| object_store::Error::Generic { store: "lease", source: said.into() };
                if left.is_zero() {
                    return Err(ended("the lease has run out and could not be renewed"));
                }
                let put = client.put_opts(&key, payload, PutOptions::from(mode));
                let put = match select(pin!(put), self.objects.env().sleep(left)).await {
                    Either::Left((put, _)) => put,
                    Either::Right(_) => return Err(ended("no answer before the lease has run out")),
                };
                match put {
                    Ok(done) => Ok(Some(UpdateVersion::from(done))),
                    Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                        Ok(None)
                    }
                    Err(e) => Err(e),
                }
            }
            .boxed()
        })
    }

    /// What is there with its version; none if nothing is.
    fn read(&self, name: &str) -> Result<Option<(Bytes, UpdateVersion)>> {
        let key = self.key(name)?;
        let client = &self.objects.bucket().client;
        self.objects.ask(&self.at(name), |_| {
            let key = key.clone();
            async move {
                let found = match client.get(&key).await {
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    found => found?,
                };
                let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
                let size = found.meta.size;
                let content = found.bytes().await?;
                if content.len() as u64 != size {
                    let said = format!("the answer ended after {} of {size} bytes", content.len());
                    return Err(object_store::Error::Generic { store: "object", source: said.into() });
                }
                Ok(Some((content, version)))
            }
            .boxed()
        })
    }
}

impl Store for BucketStore {
    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        self.guard()?;
        if content.len() <= PART {
            return self.write(name, &Bytes::copy_from_slice(content), &PutMode::Overwrite, None).map(drop);
        }
        let mut upload = Upload::new(self.objects.clone(), self.at(name), self.key(name)?);
        let put = upload.add(content).and_then(|()| upload.complete());
        if put.is_err() {
            upload.abort();
        }
        put
    }

    /// Under a lock, what completes a checkpoint is written over nothing but what was there before, and counts once the lease is
    /// found to be ours still. Who has lost it hears so; what it wrote late is written over by whoever has it.
    fn complete(&self, name: &str, content: &[u8]) -> Result<()> {
        let Some(lease) = self.guard()? else { return self.put(name, content) };
        let content = Bytes::copy_from_slice(content);
        let known = lock(&self.versions).get(name).cloned();
        let mut mode = known.map_or(PutMode::Create, PutMode::Update);
        for _ in 0..=OVERWRITES {
            let written = match self.write(name, &content, &mode, Some(&lease)) {
                Err(e) if !lease.is_held() => return self.confirm(&lease).and(Err(e)),
                written => written?,
            };
            let version = if let Some(version) = written {
                version
            } else {
                match self.read(name)? {
                    // The answer to an earlier attempt was lost.
                    Some((found, version)) if found == content => version,
                    found => {
                        self.confirm(&lease)?;
                        tracing::warn!("{}: written by a run that has lost its lease; writing over it", self.at(name));
                        mode = found.map_or(PutMode::Create, |(_, version)| PutMode::Update(version));
                        continue;
                    }
                }
            };
            lock(&self.versions).insert(name.to_owned(), version);
            return self.confirm(&lease);
        }
        Err(Error::new(Kind::Io, format!("{}: another job keeps writing it", self.at(name))))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let Some((content, version)) = self.read(name)? else {
            return Err(Error::new(Kind::NotFound, format!("{}: there is no such object", self.at(name))));
        };
        lock(&self.versions).insert(name.to_owned(), version);
        Ok(content.into())
    }

    fn names(&self) -> Result<Vec<String>> {
        let prefix = self.objects.key(Path::new(&self.place))?;
        let client = &self.objects.bucket().client;
        let found = self.objects.ask(&self.place, |_| {
            let prefix = prefix.clone();
            async move { client.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect::<Vec<Key>>().await }
                .boxed()
        })?;
        let below = format!("{prefix}/");
        let name = |key: &Key| key.as_ref().strip_prefix(&below).map(str::to_owned);
        let mut names: Vec<String> =
            found.iter().filter_map(name).filter(|n| !n.contains('/') && n != lease::NAME).collect();
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.guard()?;
        let key = self.key(name)?;
        let client = &self.objects.bucket().client;
        let removed = self.objects.ask(&self.at(name), |_| client.delete(&key).boxed());
        match removed {
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => {}
        }
        lock(&self.versions).remove(name);
        Ok(())
    }

    fn lock(&self) -> Result<Option<Box<dyn Lock>>> {
        let (place, key) = (self.at(lease::NAME), self.key(lease::NAME)?);
        let Some(held) = lease::take(&self.objects, place, key, self.lasts)? else { return Ok(None) };
        *lock(&self.lease) = Some(held.lease().clone());
        lock(&self.versions).clear();
        Ok(Some(Box::new(held)))
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}
