//! A TCP proxy on loopback that a test cuts, stalls, or lets trickle.
#![expect(clippy::disallowed_methods, reason = "it stands outside of the engine")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Everything passes.
    Open,
    /// Bytes pass one at a time.
    Trickles,
    /// Connections stay, and nothing passes.
    Stalls,
    /// Connections are closed, new ones as soon as they come.
    Cut,
}

/// Passes bytes between whoever connects and a server, as far as the network lets it.
pub struct Proxy {
    address: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `to`.
    pub async fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::new(watch::Sender::new(Network::Open));
        let watched = network.clone();
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let network = watched.subscribe();
                if *network.borrow() == Network::Cut {
                    continue;
                }
                tokio::spawn(pass(client, to, network));
            }
        });
        Self { address, network, listening }
    }

    /// Where to connect instead.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the network, for open connections too.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.network.send_replace(Network::Cut);
    }
}

async fn pass(client: TcpStream, to: SocketAddr, mut network: watch::Receiver<Network>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let there = half(client_in, server_out, network.clone());
    let back = half(server_in, client_out, network.clone());
    let cut = network.wait_for(|n| *n == Network::Cut);
    tokio::select! {
        _ = async { tokio::join!(there, back) } => {}
        _ = cut => {}
    }
}

/// One direction, until its end.
async fn half(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let size = if *network.borrow() == Network::Trickles { 1 } else { buffer.len() };
        let Ok(read @ 1..) = from.read(&mut buffer[..size]).await else { break };
        if network.wait_for(|n| *n != Network::Stalls).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other side hears of the end; what it still says passes.
    let _ = to.shutdown().await;
}

#[tokio::test]
async fn a_proxy_passes_trickles_stalls_and_cuts() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::before(server.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut accepted, _) = server.accept().await.unwrap();
    let mut word = [0; 4];
    client.write_all(b"open").await.unwrap();
    accepted.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"open");
    proxy.set(Network::Stalls);
    client.write_all(b"late").await.unwrap();
    let stalled = tokio::time::timeout(std::time::Duration::from_millis(50), accepted.read_exact(&mut word)).await;
    assert!(stalled.is_err(), "nothing passes a network that stalls");
    proxy.set(Network::Trickles);
    accepted.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"late");
    proxy.set(Network::Cut);
    assert_eq!(accepted.read(&mut word).await.unwrap_or(0), 0, "a cut closes the connection");
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(next.read(&mut word).await.unwrap_or(0), 0, "and every new one");
}
