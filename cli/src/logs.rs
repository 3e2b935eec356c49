//! Logs: to stderr, at the level that `BOURN_LOG` says.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::screen::Screen;

/// Starts them. A level that can't be read is told, and the usual one is taken.
pub fn start(screen: &Screen, is_test: bool) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let written = std::env::var_os("BOURN_LOG").unwrap_or_default().to_string_lossy().into_owned();
    // What the stage `log` says is said on purpose, and nobody else knows where a server listens.
    let told = if screen.is_quiet() { "warn" } else { "info" };
    // A case lets services fail on purpose.
    let outages = if is_test { "off" } else { "warn" };
    let written = if written.is_empty() {
        format!("warn,bourn_log=info,bourn_listens={told},bourn_outages={outages}")
    } else {
        written
    };
    let filter = filter.parse(&written).unwrap_or_else(|e| {
        screen.warn(&format!("BOURN_LOG: {e}"));
        EnvFilter::new("warn")
    });
    let writer = screen.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(screen.is_drawn)
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    // Another subscriber can only be there in a test, which reads its own.
    let _taken = tracing::subscriber::set_global_default(subscriber);
}
