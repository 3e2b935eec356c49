//! A server as a child process that a test starts, kills and starts again.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a real server in the real world")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running server. Killed when it is dropped.
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    /// The user and group that it runs as, if not those of the test.
    user: Option<u32>,
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a program and waits until it listens on `port` of loopback.
    pub async fn start(program: PathBuf, arguments: Vec<String>, port: u16) -> Self {
        Self::start_as(None, program, arguments, port).await
    }

    /// The same as a user and group of this number, which only root can choose.
    pub async fn start_as(user: Option<u32>, program: PathBuf, arguments: Vec<String>, port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = spawn(&program, &arguments, user);
        let mut server = Self { program, arguments, user, address, child };
        server.wait().await;
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once, as a crash does.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again where it was.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.program, &self.arguments, self.user);
        self.wait().await;
    }

    async fn wait(&mut self) {
        let address = self.address;
        self.until(&format!("listens on {address}"), async || TcpStream::connect(address).await.is_ok()).await;
    }

    /// Waits until something holds, and panics where the server ends before it does or takes too long.
    pub async fn until(&mut self, what: &str, holds: impl AsyncFn() -> bool) {
        let start = tokio::time::Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let program = self.program.display();
            if let Ok(true) = tokio::time::timeout(PATIENCE, holds()).await {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{program} ended with {status} before it {what}");
            }
            assert!(start.elapsed() < PATIENCE, "{program} never {what}");
        }
    }
}

fn spawn(program: &Path, arguments: &[String], user: Option<u32>) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    // What it logs would bury what a test says.
    if std::env::var_os("BOURN_SERVER_LOGS").is_none() {
        command.stderr(Stdio::null());
    }
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.spawn().unwrap_or_else(|e| panic!("{} can't be started: {e}", program.display()))
}

/// The path of a program that `./test` installs.
pub fn installed(name: &str) -> PathBuf {
    let path = folder().join("bin").join(name);
    assert!(path.exists(), "{} is not there: `./test` installs the servers that tests need", path.display());
    path
}

/// The folder that `./test` installs servers into.
pub fn folder() -> PathBuf {
    std::env::var_os("BOURN_SERVERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers"), PathBuf::from)
}

/// A port of loopback that nobody listens on, and that is handed out once: it lies below those that the system gives to
/// connections and to whoever asks for any, so that none of these takes it before the server does.
pub async fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 97 * 200).unwrap();
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return port;
        }
    }
}
