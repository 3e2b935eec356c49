//! One request: from its head to its answer.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::Error;
use bourn_engine::env::Env;
use bourn_http::Inflate;
use bourn_http::body::is_gzip;
use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{Either, select};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::answer::{Leaving, Refusal, Text, taken};
use super::rows::{Reading, Rows};

/// What all connections share.
pub struct Door {
    pub env: Env,
    pub path: String,
    pub token: Option<String>,
    pub timeout: Duration,
    pub body_max: usize,
    pub reading: Reading,
    /// Whether an answer waits for the commit.
    pub committed: bool,
    /// How many bytes may still wait for the job.
    pub room: Arc<Semaphore>,
    pub queue: mpsc::Sender<Delivery>,
    pub stopping: watch::Receiver<bool>,
}

/// The rows of one request on their way to the job.
pub struct Delivery {
    pub rows: Rows,
    /// Told that the rows are safe; dropped when they will not be.
    pub answer: Option<oneshot::Sender<Safe>>,
    /// Its share of the room.
    _held: OwnedSemaphorePermit,
}

/// The rows are safe; whoever sends it hears when the answer has left.
pub struct Safe(pub oneshot::Sender<()>);

impl Door {
    /// Answers a request of the connection whose answers are `leaving`.
    pub async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        leaving: Leaving,
    ) -> Result<Response<Text>, Infallible> {
        Ok(self.take(request, leaving).await.unwrap_or_else(Refusal::answer))
    }

    async fn take(&self, request: Request<Incoming>, leaving: Leaving) -> Result<Response<Text>, Refusal> {
        if request.uri().path() != self.path {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "rows are not sent to this path"));
        }
        if request.method() != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "rows are sent by POST"));
        }
        self.check_token(request.headers())?;
        if *self.stopping.borrow() {
            return Err(stopped());
        }
        let (body, held) = self.body(request).await?;
        let rows = self.reading.rows(body)?;
        let count = rows.count();
        if count == 0 {
            return Ok(taken(0, None));
        }
        let (answer, safe) = oneshot::channel();
        let answer = self.committed.then_some(answer);
        // There is a place for each connection, so it is refused only when the job is gone.
        self.queue.try_send(Delivery { rows, answer, _held: held }).map_err(|_| stopped())?;
        if !self.committed {
            return Ok(taken(count, None));
        }
        match safe.await {
            Ok(Safe(waits)) => Ok(taken(count, Some((waits, leaving)))),
            Err(_) => Err(stopped()),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
        if given.is_some_and(|given| same(given, token.as_bytes())) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "send the header `Authorization: Bearer TOKEN`"))
    }

    /// The whole body, and its share of the room.
    async fn body(&self, request: Request<Incoming>) -> Result<(Vec<u8>, OwnedSemaphorePermit), Refusal> {
        let unknown = |e: Error| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, e.message().to_owned());
        let mut inflate = is_gzip(request.headers()).map_err(unknown)?.then(Inflate::default);
        let mut body = request.into_body();
        let said = body.size_hint().lower();
        if said > self.body_max as u64 {
            return Err(self.too_large());
        }
        let mut whole = Whole { door: self, bytes: Vec::new(), held: None };
        whole.make_room(usize::try_from(said).unwrap_or(usize::MAX))?;
        let read = async {
            while let Some(frame) = body.frame().await {
                let broken = |_| Refusal::new(StatusCode::BAD_REQUEST, "the body breaks off");
                let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
                whole.add(&piece, &mut inflate)?;
            }
            if let Some(inflate) = &mut inflate {
                let rest = inflate.finish().map_err(|e| bad(&e))?;
                whole.append(&rest)?;
            }
            whole.finish()
        };
        match select(pin!(read), self.env.sleep(self.timeout)).await {
            Either::Left((read, _)) => read,
            Either::Right(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        }
    }

    fn too_large(&self) -> Refusal {
        let why = format!("a body has at most {} bytes", self.body_max);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    }
}

/// A body that is being read.
struct Whole<'a> {
    door: &'a Door,
    bytes: Vec<u8>,
    held: Option<OwnedSemaphorePermit>,
}

impl Whole<'_> {
    fn add(&mut self, piece: &Bytes, inflate: &mut Option<Inflate>) -> Result<(), Refusal> {
        let Some(inflate) = inflate else { return self.append(piece) };
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let out = inflate.step(&mut rest).map_err(|e| bad(&e))?;
            self.append(&out)?;
        }
        Ok(())
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let length = self.bytes.len() + piece.len();
        if length > self.door.body_max {
            return Err(self.door.too_large());
        }
        self.make_room(length)?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Takes what is missing for so many bytes.
    fn make_room(&mut self, length: usize) -> Result<(), Refusal> {
        let had = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(length.saturating_sub(had)).unwrap_or(u32::MAX);
        if more == 0 && self.held.is_some() {
            return Ok(());
        }
        let full = |_| Refusal::busy("more rows wait for the job than it may hold (`buffer`)");
        let permit = self.door.room.clone().try_acquire_many_owned(more).map_err(full)?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(Vec<u8>, OwnedSemaphorePermit), Refusal> {
        self.make_room(0)?;
        match self.held.take() {
            Some(held) => Ok((std::mem::take(&mut self.bytes), held)),
            None => Err(stopped()),
        }
    }
}

fn bad(error: &Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("the body {}", error.message()))
}

fn stopped() -> Refusal {
    Refusal::busy("the job has stopped, and these rows are not safe: send them again")
}

/// Compares without telling by its time how much is right.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && differs == 0
}
