//! A server of websockets on loopback whose connections a test serves itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::{WebSocketStream, accept_async};

use super::drive::pass;

/// A server whose connections a test serves itself; it ends with all of them when it is dropped.
pub struct Served {
    pub address: SocketAddr,
    pub tasks: JoinSet<()>,
    /// How many connections came.
    pub count: Arc<AtomicUsize>,
}

async fn listener(address: Option<SocketAddr>) -> TcpListener {
    let address = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        pass(Duration::from_millis(5)).await;
    }
}

impl Served {
    /// On plain connections.
    pub async fn plain<F>(at: Option<SocketAddr>, serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = listener(at).await;
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (mut tasks, counted) = (JoinSet::new(), count.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, counted.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { address, tasks, count }
    }

    /// On websockets.
    pub async fn start<F>(
        serve: impl Fn(WebSocketStream<TcpStream>, usize) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(None, serve).await
    }

    pub async fn start_at<F>(
        at: Option<SocketAddr>,
        serve: impl Fn(WebSocketStream<TcpStream>, usize) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::plain(at, move |stream, n| {
            let serve = serve.clone();
            async move {
                if let Ok(socket) = accept_async(stream).await {
                    serve(socket, n).await;
                }
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("ws://{}/a?token=SECRET", self.address)
    }
}
