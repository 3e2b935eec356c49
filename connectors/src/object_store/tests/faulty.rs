//! A bucket in memory whose requests fail as a test says, and a world in which time runs fast.
#![expect(clippy::disallowed_methods, reason = "the clock of the tests is driven beside them")]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bourn_engine::Result;
use bourn_engine::env::{Child, Env, Files, Finished, Launch, Program, World};
use bourn_engine::time::Timestamp;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::{oneshot, watch};

type Answer<T> = object_store::Result<T>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done.
    Refused,
    /// It is done, and nobody hears of it.
    Unheard,
}

/// A bucket in memory.
#[derive(Debug, Default)]
pub struct Faulty {
    pub inner: InMemory,
    calls: AtomicUsize,
    fault: Mutex<Option<(usize, Fault)>>,
    /// Whether conditions of a put are ignored.
    pub heedless: AtomicBool,
    /// The next put below this ending waits until it is let go.
    held: Mutex<Option<(&'static str, oneshot::Receiver<()>)>>,
}

impl Faulty {
    /// How many requests there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Lets a request fail: the first is 1.
    pub fn fail(&self, call: usize, fault: Fault) {
        *self.fault.lock().unwrap() = Some((call, fault));
    }

    /// Holds the next put of a key with this ending until what is returned is used or dropped.
    pub fn hold(&self, ending: &'static str) -> oneshot::Sender<()> {
        let (go, gone) = oneshot::channel();
        *self.held.lock().unwrap() = Some((ending, gone));
        go
    }

    /// Whether the put that is to be held has not come yet.
    pub fn waits_for_one_to_hold(&self) -> bool {
        self.held.lock().unwrap().is_some()
    }

    fn fault(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.fault.lock().unwrap().filter(|(of, _)| *of == call).map(|(_, fault)| fault)
    }

    async fn pass<T>(&self, request: impl Future<Output = Answer<T>>) -> Answer<T> {
        let fault = self.fault();
        if fault == Some(Fault::Refused) {
            return Err(broken());
        }
        let answer = request.await;
        if fault == Some(Fault::Unheard) { answer.and(Err(broken())) } else { answer }
    }
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "connection reset".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut options: PutOptions) -> Answer<PutResult> {
        let held = self.held.lock().unwrap().take_if(|(ending, _)| at.as_ref().ends_with(*ending));
        if let Some((_, gone)) = held {
            let _ = gone.await;
        }
        if self.heedless.load(Ordering::SeqCst) {
            options.mode = object_store::PutMode::Overwrite;
        }
        self.pass(self.inner.put_opts(at, payload, options)).await
    }
    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Answer<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> Answer<GetResult> {
        self.pass(self.inner.get_opts(at, options)).await
    }
    fn delete_stream(&self, at: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        match self.fault() {
            Some(Fault::Refused) => stream::once(async { Err(broken()) }).boxed(),
            Some(Fault::Unheard) => self.inner.delete_stream(at).map(|_| Err(broken())).boxed(),
            None => self.inner.delete_stream(at),
        }
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        match self.fault() {
            None => self.inner.list(prefix),
            // A part of it is heard.
            Some(_) => self.inner.list(prefix).take(1).chain(stream::once(async { Err(broken()) })).boxed(),
        }
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        self.pass(self.inner.copy_opts(from, to, options)).await
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, at: &Path) -> Answer<MultipartId> {
        self.pass(self.inner.create_multipart(at)).await
    }
    async fn put_part(&self, at: &Path, id: &MultipartId, index: usize, data: PutPayload) -> Answer<PartId> {
        self.pass(self.inner.put_part(at, id, index, data)).await
    }
    async fn complete_multipart(&self, at: &Path, id: &MultipartId, parts: Vec<PartId>) -> Answer<PutResult> {
        self.pass(self.inner.complete_multipart(at, id, parts)).await
    }
    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Answer<()> {
        self.pass(self.inner.abort_multipart(at, id)).await
    }
}

/// A world in which a millisecond is a tenth of a second. It runs as long as this lives.
pub struct Fast {
    now: Arc<watch::Sender<Duration>>,
    driven: tokio::task::JoinHandle<()>,
}

impl Fast {
    pub fn start() -> Self {
        let now = Arc::new(watch::Sender::new(Duration::from_secs(1)));
        let clock = now.clone();
        let driven = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(1));
            loop {
                tick.tick().await;
                clock.send_modify(|now| *now += Duration::from_millis(100));
            }
        });
        Self { now, driven }
    }

    pub fn env(&self) -> Env {
        Env::new(FastWorld { env: Env::system(), now: self.now.clone() })
    }
}

impl Drop for Fast {
    fn drop(&mut self) {
        self.driven.abort();
    }
}

struct FastWorld {
    env: Env,
    now: Arc<watch::Sender<Duration>>,
}

impl World for FastWorld {
    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(self.monotonic().as_micros()).unwrap())
    }
    fn monotonic(&self) -> Duration {
        *self.now.borrow()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (until, mut now) = (self.monotonic().saturating_add(duration), self.now.subscribe());
        // Time that stands still for ever never comes.
        async move {
            if now.wait_for(|now| *now >= until).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
    fn random(&self) -> u64 {
        self.env.random()
    }
    fn spawn(&self, name: &str, task: BoxFuture<'static, ()>) {
        World::spawn(&*self.env, name, task);
    }
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.env.spawn_blocking(job)
    }
    fn files(&self) -> &dyn Files {
        self.env.files()
    }
    fn variable(&self, name: &str) -> Option<String> {
        self.env.variable(name)
    }
    fn run(&self, program: Program) -> BoxFuture<'static, Result<Finished>> {
        self.env.run(program)
    }
    fn start(&self, launch: Launch) -> BoxFuture<'static, Result<Child>> {
        self.env.start(launch)
    }
}
