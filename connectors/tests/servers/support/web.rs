//! An HTTP server on loopback whose every byte a test writes itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// A piece of an answer.
pub enum Say {
    Bytes(Vec<u8>),
    /// The same again and again, until the other side goes.
    Endless(Vec<u8>),
    /// Nothing more, and the connection stays.
    Hang,
}

type Script = dyn Fn(&Asked, usize) -> Vec<Say> + Send + Sync;

/// A server that answers each connection once.
pub struct Web {
    address: SocketAddr,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Asked>>>,
    written: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Web {
    /// Starts one; `script` is told what was asked, and how many requests came before.
    pub async fn start(script: impl Fn(&Asked, usize) -> Vec<Say> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut web = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(script),
            seen: Arc::default(),
            written: Arc::default(),
            tasks: JoinSet::new(),
        };
        web.listen(listener);
        web
    }

    fn listen(&mut self, listener: TcpListener) {
        let (script, seen, written) = (self.script.clone(), self.seen.clone(), self.written.clone());
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                connections.spawn(serve(stream, script.clone(), seen.clone(), written.clone()));
            }
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests that came so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    /// How many bytes were written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Ends it with all its connections, as a crash does.
    pub async fn kill(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Starts it again where it was.
    pub async fn start_again(&mut self) {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                return self.listen(listener);
            }
            tick.tick().await;
        }
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Vec<Asked>>>, written: Arc<AtomicU64>) {
    let Some(asked) = read(&mut stream).await else { return };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        seen.len() - 1
    };
    for say in script(&asked, before) {
        match say {
            Say::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
                written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Say::Endless(bytes) => {
                while stream.write_all(&bytes).await.is_ok() {
                    written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                return;
            }
            Say::Hang => {
                let _until_it_goes = stream.read(&mut [0; 1]).await;
                return;
            }
        }
    }
    let _gone = stream.shutdown().await;
    // A connection that is closed with bytes unread is reset, and the answer with it.
    let mut rest = vec![0; 4 << 10];
    while let Ok(1..) = stream.read(&mut rest).await {}
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let mut piece = vec![0; 16 << 10];
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = bytes.split_off(head + 4);
    let begun = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[begun..]).await.ok()?;
    Some(Asked { method, path, headers, body })
}

/// A whole answer.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Say> {
    let body = body.as_ref();
    let length = body.len().to_string();
    let mut all = vec![("Content-Length", length.as_str())];
    all.extend_from_slice(headers);
    vec![head(status, &all), Say::Bytes(body.to_vec())]
}

/// 200 with a body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<Say> {
    answer(200, &[], body)
}

/// The beginning of an answer.
pub fn head(status: u16, headers: &[(&str, &str)]) -> Say {
    let mut lines = format!("HTTP/1.1 {status} Some\r\nConnection: close\r\n");
    for (name, value) in headers {
        lines = lines + name + ": " + value + "\r\n";
    }
    Say::Bytes((lines + "\r\n").into_bytes())
}
