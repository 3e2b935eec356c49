//! Connections, and what PostgreSQL says, as errors of the engine.
#![expect(clippy::disallowed_methods, reason = "a connection of tokio-postgres is a future beside its client")]

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bourn_engine::api::Outage;
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result, Retry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Postgres;

/// How long a server may take to answer when it is connected to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a server that was there is looked for again, and how long between.
const RETURNS: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// How to connect.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// The host, for messages.
    pub(super) place: String,
}

/// A connection. It ends with its owner.
pub(super) struct Link {
    client: Client,
    driving: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl Deref for Link {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Link {
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Address {
    pub(super) fn of(postgres: &Postgres) -> Result<Self> {
        // What is wrong with it is not told in its own words: a password may stand in them.
        let wrong = |_| Error::validation("`url` is no address such as `postgres://user@host:5432/database`");
        let mut config: Config = postgres.url.expose().parse().map_err(wrong)?;
        if let Some(password) = &postgres.password {
            config.password(password.expose());
        }
        config.application_name("bourn").connect_timeout(PATIENCE);
        // A server that is gone without a word is noticed within half a minute.
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(4);
        config.tcp_user_timeout(Duration::from_secs(30));
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(trusted(postgres)?)),
        };
        let place = shown(&config);
        Ok(Self { config, tls, place })
    }

    /// Connects, once.
    pub(super) async fn connect(&self) -> Result<Link> {
        let failed = |e| self.told(e);
        let (client, driving) = if let Some(tls) = self.tls.clone() {
            let (client, connection) = self.config.connect(tls).await.map_err(failed)?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (client, connection) = self.config.connect(NoTls).await.map_err(failed)?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        };
        let link = Link { client, driving };
        // Positions and texts are the same whatever the server's own settings are.
        let settings = "set time zone 'UTC'; set datestyle = 'ISO, YMD'; set extra_float_digits = 3";
        link.batch_execute(settings).await.map_err(failed)?;
        Ok(link)
    }

    /// Connects to a server that was there before, and may be starting again.
    pub(super) async fn connect_again(&self, env: &Env) -> Result<Link> {
        let outage = Outage::of(&self.place, env);
        for _ in 1..RETURNS {
            match self.connect().await {
                Err(error) if error.retry() != Retry::Never => {
                    outage.failed(&error, PAUSE);
                    env.sleep(PAUSE).await;
                }
                done => {
                    outage.passed();
                    return done;
                }
            }
        }
        self.connect().await
    }

    /// An error of the library.
    pub(super) fn told(&self, error: tokio_postgres::Error) -> Error {
        let Some(said) = error.as_db_error() else {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let mut message = format!("postgres at {}: {error}", self.place);
            if let Some(source) = source.filter(|s| !message.contains(s.as_str())) {
                message = format!("{message}: {source}");
            }
            let error = Error::new(Kind::Io, message).with_source(error);
            return error.transient();
        };
        let mut message = said.message().to_owned();
        // The detail of a constraint names the values of the row.
        if let Some(detail) = said.detail().filter(|_| said.code().code().starts_with("23")) {
            message = format!("{message}: {detail}");
        }
        let kind = kind(said.code());
        let told = Error::new(kind, format!("postgres at {}: {message}", self.place));
        let passes = kind == Kind::Io && !matches!(*said.code(), SqlState::DISK_FULL | SqlState::OUT_OF_MEMORY);
        if passes { told.transient() } else { told.permanent() }
    }
}

fn kind(code: &SqlState) -> Kind {
    match &code.code()[..2] {
        "22" | "23" => Kind::Validation,
        "28" => Kind::Permission,
        "08" | "40" | "53" | "57" | "55" => Kind::Io,
        "3D" | "3F" => Kind::NotFound,
        "42" if *code == SqlState::INSUFFICIENT_PRIVILEGE => Kind::Permission,
        "42" if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].contains(code) => Kind::NotFound,
        _ => Kind::Other,
    }
}

fn shown(config: &Config) -> String {
    let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| {
        let port = config.get_ports().get(i).or(config.get_ports().first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        }
    });
    hosts.collect::<Vec<_>>().join(", ")
}

fn trusted(postgres: &Postgres) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &postgres.certificates {
        let wrong = |e: &dyn std::fmt::Display| Error::validation(format!("certificates of `{file}`: {e}"));
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(&e))? {
            roots.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
