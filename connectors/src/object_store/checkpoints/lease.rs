//! A lease: an object that says who is at work, and is renewed as long as that one lives.
#![expect(clippy::disallowed_methods, reason = "nobody polls a store between two checkpoints")]

use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bourn_engine::api::Lock;
use bourn_engine::data::units::Interval;
use bourn_engine::time::Timestamp;
use bourn_engine::{Error, Result};
use futures::FutureExt;
use futures::future::{Either, select};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::object_store::files::{Objects, lock};

/// The name of the object.
pub const NAME: &str = "lock";
/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 4;
/// How long the end of a job takes to give it back at most.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often our own earlier writes may be met when one is written.
const TURNS: u32 = 5;

/// What the object says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    /// Who is at work; nobody when it was given back.
    owner: Option<String>,
    /// Until when it lasts unless it is renewed, by the clock of its owner.
    until: Timestamp,
    /// For how long it is given, in seconds.
    lasts: f64,
    /// How often it was renewed: no two contents of one owner are the same.
    renewed: u64,
}

impl Content {
    fn bytes(&self) -> object_store::Result<PutPayload> {
        let generic = |e: serde_json::Error| object_store::Error::Generic { store: "lease", source: e.into() };
        Ok(PutPayload::from(serde_json::to_vec(self).map_err(generic)?))
    }
}

/// A lease that was ours when it was taken.
pub struct Lease {
    objects: Objects,
    key: Key,
    owner: String,
    lasts: Duration,
    /// One write at a time.
    written: tokio::sync::Mutex<Written>,
    /// Until when nobody takes it, by our monotonic clock; none once it is lost.
    until: Mutex<Option<Duration>>,
}

struct Written {
    version: UpdateVersion,
    renewed: u64,
}

impl Lease {
    /// How long it lasts without being renewed.
    pub fn left(&self) -> Duration {
        lock(&self.until).map_or(Duration::ZERO, |until| until.saturating_sub(self.objects.env().monotonic()))
    }

    /// Whether nobody can have taken it.
    pub fn is_held(&self) -> bool {
        !self.left().is_zero()
    }

    /// Renews it. False when another has taken it, for good.
    pub async fn renew(&self) -> object_store::Result<bool> {
        let (began, held) = (self.objects.env().monotonic(), self.write(true).await?);
        let mut until = lock(&self.until);
        // What was lost stays lost.
        *until = until.filter(|_| held).map(|_| began + self.lasts);
        Ok(held)
    }

    /// Writes over what we wrote before, and nothing else.
    async fn write(&self, at_work: bool) -> object_store::Result<bool> {
        let client = &self.objects.bucket().client;
        let mut written = self.written.lock().await;
        written.renewed += 1;
        let content = Content {
            owner: at_work.then(|| self.owner.clone()),
            until: later(self.objects.env().wall(), self.lasts),
            lasts: self.lasts.as_secs_f64(),
            renewed: written.renewed,
        };
        for _ in 0..TURNS {
            let mode = PutMode::Update(written.version.clone());
            match client.put_opts(&self.key, content.bytes()?, PutOptions::from(mode)).await {
                Ok(done) => {
                    written.version = done.into();
                    return Ok(true);
                }
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
                Err(e) => return Err(e),
            }
            match read(&self.objects, &self.key).await? {
                // The answer to this or an earlier write was lost.
                Some((found, version)) if found == content => {
                    written.version = version;
                    return Ok(true);
                }
                Some((found, version)) if found.owner.as_ref() == Some(&self.owner) => written.version = version,
                _ => return Ok(false),
            }
        }
        Err(object_store::Error::Generic { store: "lease", source: "it changes faster than it can be written".into() })
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

/// What the object says with its version. One that nobody can read says nothing of anybody.
async fn read(objects: &Objects, key: &Key) -> object_store::Result<Option<(Content, UpdateVersion)>> {
    let found = match objects.bucket().client.get(key).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        found => found?,
    };
    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
    let nobody = Content { owner: None, until: Timestamp(0), lasts: 0., renewed: 0 };
    Ok(Some((serde_json::from_slice(&found.bytes().await?).unwrap_or(nobody), version)))
}

/// A lease that is renewed until this is dropped or released.
pub struct Held {
    lease: Arc<Lease>,
    renewing: JoinHandle<()>,
}

impl Held {
    /// The lease.
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Lock for Held {
    /// Gives the lease back, so that the next one need not wait for its end.
    fn release(self: Box<Self>) {
        self.renewing.abort();
        let lease = self.lease.clone();
        let objects = lease.objects.clone();
        // The job has ended, so this does not ask whether it has.
        let given = objects.handle().block_on(async {
            match select(pin!(lease.write(false)), objects.env().sleep(FAREWELL)).await {
                Either::Left((given, _)) => given.map(drop).map_err(|e| e.to_string()),
                Either::Right(_) => Err(format!("no answer within {}", Interval(FAREWELL))),
            }
        });
        if let Err(e) = given {
            tracing::warn!("giving a lease back: {e}; the next run waits {} for its end", Interval(lease.lasts));
        }
    }
}

/// Takes the lease when nobody has it, or whoever had it has not renewed it for as long as it lasts; none when it is renewed.
/// The clocks of two machines may differ by that time as well.
///
/// # Errors
/// When the bucket can't be asked, or heeds no conditions.
pub fn take(objects: &Objects, place: String, key: Key, lasts: Duration) -> Result<Option<Held>> {
    let owner = format!("{:016x}", objects.env().random());
    let mut seen: Option<(UpdateVersion, Duration)> = None;
    loop {
        let found = objects.ask(&place, |_| read(objects, &key).boxed())?;
        let now = objects.env().monotonic();
        let mode = match found {
            None => PutMode::Create,
            Some((content, version)) => {
                let given = Duration::try_from_secs_f64(content.lasts).unwrap_or(lasts);
                let is_long_over = objects.env().wall() > later(content.until, given);
                match &seen {
                    _ if content.owner.is_none() || is_long_over => PutMode::Update(version),
                    Some((before, since)) if *before == version && now >= *since + given => PutMode::Update(version),
                    Some((before, since)) if *before == version => {
                        let rest = (*since + given).saturating_sub(now);
                        objects.wait(objects.env().sleep(rest.min(given / RENEWALS)))?;
                        continue;
                    }
                    // Renewed while we looked.
                    Some(_) => return Ok(None),
                    None => {
                        let lasts = Interval(given);
                        tracing::warn!(
                            "{place}: another run of the job is at work here or was cut off; waiting {lasts} for it to renew its lease"
                        );
                        seen = Some((version, now));
                        continue;
                    }
                }
            }
        };
        let until = Mutex::new(Some(Duration::ZERO));
        let written =
            tokio::sync::Mutex::new(Written { version: UpdateVersion { e_tag: None, version: None }, renewed: 0 });
        let (objects_of, key) = (objects.clone(), key.clone());
        let lease = Lease { objects: objects_of, key, owner: owner.clone(), lasts, written, until };
        if objects.ask(&place, |_| lease.begin(mode.clone()).boxed())? {
            lease.try_out(&place)?;
            let lease = Arc::new(lease);
            let renewing = tokio::spawn(keep(lease.clone()));
            return Ok(Some(Held { lease, renewing }));
        }
        // Another was faster: what it says is read again.
    }
}

impl Lease {
    /// Writes it for the first time. False when another has been faster.
    async fn begin(&self, mode: PutMode) -> object_store::Result<bool> {
        let (began, until) = (self.objects.env().monotonic(), later(self.objects.env().wall(), self.lasts));
        let content = Content { owner: Some(self.owner.clone()), until, lasts: self.lasts.as_secs_f64(), renewed: 0 };
        let put = self.objects.bucket().client.put_opts(&self.key, content.bytes()?, PutOptions::from(mode)).await;
        let version = match put {
            Ok(done) => done.into(),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                match read(&self.objects, &self.key).await? {
                    // The answer to an earlier attempt was lost.
                    Some((found, version)) if found.owner.as_ref() == Some(&self.owner) => version,
                    _ => return Ok(false),
                }
            }
            Err(e) => return Err(e),
        };
        self.written.lock().await.version = version;
        *lock(&self.until) = Some(began + self.lasts);
        Ok(true)
    }

    /// Whether the bucket refuses what must not be written: one that heeds no conditions keeps nobody apart.
    fn try_out(&self, place: &str) -> Result<()> {
        let ask = |mode: PutMode| {
            self.objects.ask(place, |_| {
                let mode = mode.clone();
                async move {
                    let content = Content {
                        owner: Some(self.owner.clone()),
                        until: later(self.objects.env().wall(), self.lasts),
                        lasts: self.lasts.as_secs_f64(),
                        renewed: 0,
                    };
                    match self
                        .objects
                        .bucket()
                        .client
                        .put_opts(&self.key, content.bytes()?, PutOptions::from(mode))
                        .await
                    {
                        Ok(_) => Ok(false),
                        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                            Ok(true)
                        }
                        Err(e) => Err(e),
                    }
                }
                .boxed()
            })
        };
        let first = self.objects.wait(self.written.lock())?.version.clone();
        // So that `first` is the version of something that is no more.
        let renewed = self.objects.ask(place, |_| self.renew().boxed())?;
        if !renewed || !ask(PutMode::Create)? || !ask(PutMode::Update(first))? {
            let message = format!(
                "{place}: the bucket does not heed `If-Match` and `If-None-Match`, so nothing keeps two runs of a job apart; keep checkpoints elsewhere"
            );
            return Err(Error::unsupported(message));
        }
        Ok(())
    }
}

/// Renews a lease until it is lost. While the bucket can't be reached, it tries again and again.
async fn keep(lease: Arc<Lease>) {
    let env = lease.objects.env().clone();
    let usual = lease.lasts / RENEWALS;
    let mut pause = usual;
    loop {
        env.sleep(pause).await;
        pause = match lease.renew().await {
            Ok(true) => usual,
            Ok(false) => return,
            Err(e) => {
                tracing::debug!("renewing a lease: {e}; trying again");
                usual / RENEWALS
            }
        };
    }
}
