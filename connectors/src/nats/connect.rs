//! Connections, and what goes wrong with them, without the secrets in it.

use std::future::ready;
use std::time::Duration;

use async_nats::jetstream::{Context, context::ContextBuilder};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use bourn_engine::api::Outage;
use bourn_engine::{Error, Kind, Result};

use super::{IN_FLIGHT_MAX, Nats};

/// How long a server may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to one of the servers, to look.
pub(super) async fn connect(nats: &Nats) -> Result<Context> {
    connect_with(nats, options(nats)?).await
}

/// Connects for a job. The client connects again by itself when the connection is lost, which `outage` tells.
pub(super) async fn connect_for(nats: &Nats, outage: Outage) -> Result<Context> {
    let lost = format!("{}: the connection is lost", place(nats));
    let tell = move |event| {
        match event {
            Event::Disconnected => outage.failed(&Error::new(Kind::Io, lost.clone()), PATIENCE),
            Event::Connected => outage.passed(),
            _ => {}
        }
        ready(())
    };
    connect_with(nats, options(nats)?.event_callback(tell)).await
}

async fn connect_with(nats: &Nats, options: ConnectOptions) -> Result<Context> {
    let mut servers = Vec::new();
    for server in nats.servers.split(',').map(str::trim) {
        // The text is not shown whole: a password may stand in it.
        let address: ServerAddr = server.parse().map_err(|_| {
            Error::validation(format!("`{}` is no address such as `nats://127.0.0.1:4222`", shown(server)))
        })?;
        servers.push(address);
    }
    let named = shown(&nats.servers);
    let client = options.connect(servers).await.map_err(|e| {
        let (kind, what) = match e.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                (Kind::Permission, "the server refuses the user, token or key")
            }
            ConnectErrorKind::ServerParse => (Kind::Validation, "no address"),
            ConnectErrorKind::Dns => (Kind::Io, "there is no such host"),
            ConnectErrorKind::TimedOut => (Kind::Timeout, "no answer in time"),
            ConnectErrorKind::Tls => {
                (Kind::Io, "no encrypted connection: the server's certificate is not trusted, or it has none")
            }
            ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => (Kind::Io, "nobody answers there"),
        };
        let error = Error::new(kind, format!("nats at {named}: {what}"));
        if matches!(kind, Kind::Io | Kind::Timeout) { error.transient() } else { error }
    })?;
    // The library's own bound on what waits for an acknowledgement lies above ours, also when what was lost is sent again.
    let context = ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).max_ack_inflight(4 * IN_FLIGHT_MAX);
    Ok(context.build(client))
}

fn options(nats: &Nats) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::new().name("bourn").connection_timeout(PATIENCE);
    if let Some(user) = &nats.user {
        let password = nats.password.as_ref().map(|p| p.expose().to_owned()).unwrap_or_default();
        options = options.user_and_password(user.clone(), password);
    }
    if let Some(token) = &nats.token {
        options = options.token(token.expose().to_owned());
    }
    if let Some(nkey) = &nats.nkey {
        options = options.nkey(nkey.expose().to_owned());
    }
    if let Some(credentials) = &nats.credentials {
        options = options.credentials(credentials.expose()).map_err(|_| {
            Error::validation("`credentials` is no content of a credentials file: a JWT and a seed between their marks")
        })?;
    }
    if let Some(file) = &nats.certificates {
        options = options.add_root_certificates(file.into());
    }
    Ok(options)
}

/// The servers, for messages.
pub(super) fn place(nats: &Nats) -> String {
    format!("nats at {}", shown(&nats.servers))
}

/// Addresses without what stands before an `@`.
pub(super) fn shown(servers: &str) -> String {
    let one = |server: &str| {
        let server = server.trim();
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default())
    };
    servers.split(',').map(one).collect::<Vec<_>>().join(", ")
}

/// An error of the library that may pass.
pub(super) fn passing(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Io, format!("{what}: {error}")).transient()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        assert_eq!(shown("nats://me:p@ss@a:4222, b:4222"), "nats://a:4222, nats://b:4222");
    }
}
