//! Where the commands of a page run: a folder with what the page speaks of, and the servers that it needs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::blocks::top;

/// The binary under test.
const BOURN: &str = env!("CARGO_BIN_EXE_bourn");

/// A folder that goes with the test.
pub struct Surroundings {
    folder: TempDir,
    /// Has the command alone: beside it in `target` there are others, of names that a page may mean otherwise (`tail`).
    bin: TempDir,
    variables: Vec<(&'static str, String)>,
    servers: Vec<(Runtime, MockServer)>,
}

impl Surroundings {
    /// Those of a page: a recipe of the cookbook runs in a copy of its own folder, every other page where `examples` is.
    pub fn of(page: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::os::unix::fs::symlink(top().join("examples"), folder.path().join("examples")).unwrap();
        if let Some(recipe) = page.strip_prefix("docs/cookbook/").and_then(|name| name.strip_suffix(".md")) {
            let files = top().join("examples/cookbook").join(recipe);
            if files.is_dir() {
                copy(&files, folder.path());
            }
        }
        let bin = TempDir::new().unwrap();
        std::os::unix::fs::symlink(BOURN, bin.path().join("bourn")).unwrap();
        let mut around = Self { folder, bin, variables: Vec::new(), servers: Vec::new() };
        match page {
            "docs/cookbook/03-enrich.md" => around.serve("API", customers()),
            "docs/cookbook/13-poll.md" => around.serve("API", orders()),
            // Whoever sends tries until somebody listens there.
            "docs/cookbook/14-webhooks.md" => around.variables.push(("LISTEN", format!("127.0.0.1:{}", free_port()))),
            _ => {}
        }
        around
    }

    /// Starts a server on a free port, and puts its address where commands find it.
    fn serve(&mut self, variable: &'static str, answers: Vec<Mock>) {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(async {
            let server = MockServer::start().await;
            for answer in answers {
                answer.mount(&server).await;
            }
            server
        });
        self.variables.push((variable, server.uri()));
        self.servers.push((runtime, server));
    }

    /// Where the commands run.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a line or a script of the shell: whether it ended well, and what it said on stdout and stderr.
    pub fn run(&self, script: &str) -> (bool, String) {
        let path = format!("{}:{}", self.bin.path().display(), std::env::var("PATH").unwrap_or_default());
        // One pipe for both, so that they come in the order in which they were said.
        let script = format!("exec 2>&1\n{script}");
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &script]).current_dir(self.path()).env("PATH", path).stdin(Stdio::null());
        command.env_remove("BOURN_LOG").env("COLUMNS", "100").envs(self.variables.iter().map(|(k, v)| (k, v)));
        let ended = command.output().unwrap();
        (ended.status.success(), String::from_utf8(ended.stdout).unwrap())
    }
}

/// A port that is free and stays so: below those that systems give to whoever asks for any, such as the other tests.
fn free_port() -> u16 {
    let start = std::process::id() % 10_000;
    let mut ports = (0..10_000).filter_map(|n| u16::try_from(20_000 + (start + n) % 10_000).ok());
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port of ten thousand")
}

/// Knows two customers, and the second one only when it is asked again.
fn customers() -> Vec<Mock> {
    let get = |id: &str| Mock::given(method("GET")).and(path(format!("/customers/{id}")));
    let named = |name: &str| ResponseTemplate::new(200).set_body_json(serde_json::json!({ "name": name }));
    vec![
        get("c1").respond_with(named("Ada")),
        get("c2").respond_with(ResponseTemplate::new(503)).up_to_n_times(1).with_priority(1),
        get("c2").respond_with(named("Bo")),
    ]
}

/// Has three orders on two pages.
fn orders() -> Vec<Mock> {
    let page = |body| ResponseTemplate::new(200).set_body_json(body);
    let get = || Mock::given(method("GET")).and(path("/orders"));
    let order = |id: u32, total: f64| serde_json::json!({ "id": id, "total": total });
    vec![
        get()
            .and(query_param("after", "2"))
            .respond_with(page(serde_json::json!({ "data": [order(3, 7.0)] })))
            .with_priority(1),
        get().respond_with(page(serde_json::json!({ "data": [order(1, 12.5), order(2, 8.0)], "next": "2" }))),
    ]
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            fs::create_dir_all(to.join(entry.file_name())).unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
