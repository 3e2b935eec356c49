//! The listener and its connections: tasks, since answers must leave while the job does not read, and all of them end with
//! the source.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::answer::Leaving;
use super::request::Door;
use super::stream::Stream;

/// The most connections at once; others wait outside.
pub const CONNECTIONS_MAX: usize = 1_024;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// The most bytes of a head, and what a connection reads ahead.
const HEAD_MAX: usize = 32 << 10;
const AHEAD_MAX: usize = 64 << 10;
/// How long the one before may take to leave the address.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Listens on `address`.
///
/// # Errors
/// When that is not allowed, or somebody else does.
pub async fn bind(address: SocketAddr, env: &Env) -> Result<TcpListener> {
    let start = env.monotonic();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && env.monotonic().saturating_sub(start) < PATIENCE => {
                env.sleep(PAUSE).await;
            }
            Err(e) => return Err(Error::from(e).context(format!("listening on {address}"))),
        }
    }
}

/// The task that accepts connections, and owns theirs: dropping it ends them all.
pub fn start(listener: TcpListener, door: Arc<Door>, stopping: watch::Receiver<bool>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(accept(listener, door, stopping));
    task
}

async fn accept(listener: TcpListener, door: Arc<Door>, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        tokio::select! {
            accepted = next => match accepted {
                Some((place, Ok((stream, _)))) => {
                    connections.spawn(connection(stream, door.clone(), door.stopping.clone(), place));
                }
                // No file handles are left, perhaps: a connection that ends gives one back.
                _ => door.env.sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = stops(&mut stopping) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    door: Arc<Door>,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // An answer is small and comes alone: nothing is gained by waiting for more of it.
    let _best_effort = stream.set_nodelay(true);
    let timeout = door.timeout;
    let leaving = Leaving::default();
    let stream = Stream::new(stream, leaving.clone());
    let service = service_fn(move |request| door.clone().answer(request, leaving.clone()));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeout)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_MAX)
            .max_buf_size(AHEAD_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    // How a connection ends is its client's business.
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = stops(&mut stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ended = connection.await;
}

/// Ends when the job stops.
async fn stops(stopping: &mut watch::Receiver<bool>) {
    // An error says that the source is gone, which is the same.
    let _gone = stopping.wait_for(|stops| *stops).await.is_err();
}
