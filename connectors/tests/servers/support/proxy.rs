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
    /// The connection on which the client says this is closed before the server hears it; then everything passes.
    CutBefore(&'static [u8]),
    /// The same once the server has heard it, and before it answers.
    CutBehind(&'static [u8]),
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
                tokio::spawn(pass(client, to, network, watched.clone()));
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

async fn pass(
    client: TcpStream,
    to: SocketAddr,
    mut network: watch::Receiver<Network>,
    set: Arc<watch::Sender<Network>>,
) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let (said, mut heard) = watch::channel(false);
    let there = half(client_in, server_out, network.clone(), Some(said));
    let back = half(server_in, client_out, network.clone(), None);
    let cut = network.wait_for(|n| *n == Network::Cut);
    tokio::select! {
        biased;
        Ok(_) = heard.wait_for(|said| *said) => drop(set.send_replace(Network::Open)),
        _ = cut => {}
        _ = async { tokio::join!(there, back) } => {}
    }
}

/// One direction, until its end, or until what was waited for has been said.
async fn half(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    said: Option<watch::Sender<bool>>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let size = if *network.borrow() == Network::Trickles { 1 } else { buffer.len() };
        let Ok(read @ 1..) = from.read(&mut buffer[..size]).await else { break };
        let now = *network.borrow();
        if let (Network::CutBefore(words) | Network::CutBehind(words), Some(said)) = (now, &said)
            && buffer[..read].windows(words.len()).any(|w| w == words)
        {
            if matches!(now, Network::CutBehind(_)) {
                let _ = to.write_all(&buffer[..read]).await;
            }
            said.send_replace(true);
            // The other side of it is closed meanwhile.
            return std::future::pending().await;
        }
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

#[tokio::test]
async fn a_proxy_cuts_a_connection_at_a_word() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::before(server.local_addr().unwrap()).await;
    for (network, heard) in [(Network::CutBefore(b"now"), ""), (Network::CutBehind(b"now"), "do it now")] {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        proxy.set(network);
        client.write_all(b"do it now").await.unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, heard);
        assert_eq!(client.read(&mut [0; 4]).await.unwrap_or(0), 0, "no answer comes");
        assert_eq!(*proxy.network.borrow(), Network::Open, "the next one passes");
    }
}
