//! `SeaweedFS`, an S3 server which keeps objects over a restart and checks who asks.
#![expect(clippy::disallowed_methods, reason = "a real server in the real world")]

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::program::{Server, free_port, installed};

/// The secret of `writer`, who may do everything with the bucket `data`.
pub const SECRET: &str = "the-secret-of-the-writer";

/// A server with the buckets `data` and `other`.
pub struct Weed {
    pub server: Server,
    pub address: SocketAddr,
    filer: u16,
    _folder: TempDir,
}

impl Weed {
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let who = |name: &str, secret: &str, actions: &[&str]| json!({"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions});
        let writer = who("writer", SECRET, &["Read", "Write", "List"]);
        let identities = json!({"identities": [writer, who("guest", "guest", &["Read:other", "List:other"])]});
        std::fs::write(at("s3.json"), identities.to_string()).unwrap();
        let mut ports = Vec::new();
        for _ in 0..8 {
            ports.push(free_port().await);
        }
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc] = ports[..] else { panic!() };
        let arguments = [
            format!("-logdir={}", folder.path().display()),
            "-logtostderr=false".to_owned(),
            "server".to_owned(),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-master.telemetry=false".to_owned(),
            "-master.electionTimeout=1s".to_owned(),
            "-master.volumeSizeLimitMB=64".to_owned(),
            "-volume.max=50".to_owned(),
            // Else it takes no object while less than one in a hundred of the whole disk is free, however large that is.
            "-volume.minFreeSpace=16MiB".to_owned(),
            "-filer".to_owned(),
            "-s3".to_owned(),
            "-s3.iam=false".to_owned(),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            format!("-dir={}", folder.path().display()),
            format!("-s3.config={}", at("s3.json")),
            format!("-filer.localSocket={}", at("filer.sock")),
            format!("-s3.localSocket={}", at("s3.sock")),
            format!("-master.port={master}"),
            format!("-master.port.grpc={master_grpc}"),
            format!("-volume.port={volume}"),
            format!("-volume.port.grpc={volume_grpc}"),
            format!("-filer.port={filer}"),
            format!("-filer.port.grpc={filer_grpc}"),
            format!("-s3.port={s3}"),
            format!("-s3.port.grpc={s3_grpc}"),
        ];
        let mut server = Server::start(installed("weed"), arguments.to_vec(), s3).await;
        // A bucket is a folder of its own, and it listens before it can store anything.
        for (method, path) in [("POST", "/buckets/data/"), ("POST", "/buckets/other/"), ("PUT", "/buckets/data/ready")]
        {
            let is_done =
                async || asked(filer, method, path, "x").await.is_some_and(|answer| answer.starts_with("HTTP/1.0 2"));
            server.until(&format!("answered {method} {path}"), is_done).await;
        }
        let address = server.address();
        Self { server, address, filer, _folder: folder }
    }

    /// How many uploads are under way: each is a folder of the filer.
    pub async fn uploads(&self) -> usize {
        let answer = asked(self.filer, "GET", "/buckets/data/.uploads/", "").await.unwrap();
        answer.matches("\"FullPath\":").count()
    }
}

impl Weed {
    /// The keys of all objects of the bucket `data`, and the folders of its uploads.
    pub async fn keys(&self) -> Vec<String> {
        let (mut found, mut folders) = (Vec::new(), vec!["/buckets/data".to_owned()]);
        while let Some(folder) = folders.pop() {
            let answer = asked(self.filer, "GET", &format!("{folder}/?limit=10000"), "").await.unwrap();
            let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            for entry in body["Entries"].as_array().into_iter().flatten() {
                let path = entry["FullPath"].as_str().unwrap().to_owned();
                // As Go says that it is a folder.
                let is_folder = entry["Mode"].as_u64().unwrap() & (1 << 31) != 0;
                if is_folder { folders.push(path) } else { found.push(path) }
            }
        }
        found.iter().map(|path| path.trim_start_matches("/buckets/data/").to_owned()).collect()
    }
}

/// What the filer answers.
async fn asked(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let head = format!("{method} {path} HTTP/1.0\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
