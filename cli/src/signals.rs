//! Ctrl-C and SIGTERM: the first stops the job gracefully, the second ends it at once, a deadline bounds both.

use std::io;
use std::pin::pin;
use std::thread::Builder;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Exit;
use crate::screen::Screen;

/// Watches for signals on a thread of its own, so that busy stages never hold them up. Call it before the job starts:
/// from then on the first signal calls `stop`.
///
/// # Errors
/// When the system refuses a handler or a thread.
pub fn watch(stop: impl Fn() + Send + 'static, deadline: Duration, screen: Screen) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? }
    };
    Builder::new().name("bourn-signals".into()).spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            stop();
            screen.notice("stopping; press Ctrl-C again to end at once");
            if !signals.comes_within(deadline).await {
                screen.say(&format!("error: the job did not drain within {deadline:?}; see --drain-timeout"));
            }
        });
        screen.bar().finish_and_clear();
        std::process::exit(Exit::Interrupted as i32)
    })?;
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        select(pin!(self.interrupt.recv()), pin!(self.terminate.recv())).await;
    }

    async fn comes_within(&mut self, deadline: Duration) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the deadline holds for the real world, which this process ends")]
        let over = tokio::time::sleep(deadline);
        matches!(select(pin!(self.next()), pin!(over)).await, Either::Left(_))
    }
}
