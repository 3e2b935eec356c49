//! Logs: to stderr, at the level that `BOURN_LOG` says, or else the spec.

use std::sync::OnceLock;

use bourn_engine::spec::monitoring::LogLevel;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::screen::Screen;

/// Changes the level; there where `BOURN_LOG` has not said it.
static LEVEL: OnceLock<Box<dyn Fn(LogLevel) + Send + Sync>> = OnceLock::new();

/// Logs at this level from now on, where `BOURN_LOG` does not say another.
pub fn at(level: LogLevel) {
    if let Some(change) = LEVEL.get() {
        change(level);
    }
}

/// Starts them. A level that can't be read is told, and the usual one is taken.
pub fn start(screen: &Screen, is_test: bool) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let written = std::env::var_os("BOURN_LOG").unwrap_or_default().to_string_lossy().into_owned();
    // What the stage `log` says is said on purpose, and nobody else knows where a server listens.
    let told = if screen.is_quiet() { "warn" } else { "info" };
    // A case lets services fail on purpose.
    let usual = move |level: &str| {
        let outages = if is_test { "off" } else { level };
        format!("{level},bourn_log=info,bourn_listens={told},bourn_outages={outages}")
    };
    let is_said = !written.is_empty();
    let written = if is_said { written } else { usual("warn") };
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
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if !is_said {
        // A filter that is gone has gone with the logs.
        let change = move |level: LogLevel| drop(handle.reload(EnvFilter::new(usual(&level.to_string()))));
        let _taken = LEVEL.set(Box::new(change));
    }
    // Another subscriber can only be there in a test, which reads its own.
    let _taken = tracing::subscriber::set_global_default(subscriber.finish());
}
