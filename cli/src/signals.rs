//! Ctrl-C and SIGTERM: the first stops the job gracefully, the second ends it at once, a deadline bounds both.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::Builder;
use std::time::Duration;

use bourn_engine::env::Env;
use futures::channel::oneshot;
use futures::future::{Either, select};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Exit;
use crate::screen::Screen;

/// Watches for the signals of a job that is about to start.
pub struct Signals {
    send: oneshot::Sender<Box<dyn Fn() + Send>>,
    came: Arc<AtomicBool>,
}

impl Signals {
    /// Takes both signals, on a thread of its own, so that busy stages never hold them up. Call it before the job starts:
    /// a signal that comes until [`Signals::stop_with`] is not lost.
    ///
    /// # Errors
    /// When the system refuses a handler or a thread.
    pub fn take(deadline: Duration, screen: Screen, env: Env) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let mut streams = {
            let _inside = runtime.enter();
            Streams { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? }
        };
        let (send, stop) = oneshot::channel::<Box<dyn Fn() + Send>>();
        let came = Arc::new(AtomicBool::new(false));
        let noted = came.clone();
        let watch = move || {
            runtime.block_on(async {
                streams.next().await;
                noted.store(true, Relaxed);
                screen.notice("stopping; press Ctrl-C again to end at once");
                let stopping = async {
                    // A job that could not be started has nothing to stop; the process is about to end.
                    if let Ok(stop) = stop.await {
                        stop();
                    }
                    pending::<()>().await;
                };
                let again = streams.come_within(deadline);
                let Either::Left((true, _)) = select(pin!(again), pin!(stopping)).await else {
                    screen.say(&format!("error: the job did not drain within {deadline:?}; see --drain-timeout"));
                    return;
                };
            });
            screen.bar().finish_and_clear();
            // They would go on beside whoever does their steps again.
            env.end_programs();
            std::process::exit(Exit::Interrupted as i32)
        };
        Builder::new().name("bourn-signals".into()).spawn(watch)?;
        Ok(Self { send, came })
    }

    /// The first signal calls this; whether it has come.
    pub fn stop_with(self, stop: impl Fn() + Send + 'static) -> Arc<AtomicBool> {
        // The thread that listens ends with the process alone.
        let _ = self.send.send(Box::new(stop));
        self.came
    }
}

struct Streams {
    interrupt: Signal,
    terminate: Signal,
}

impl Streams {
    async fn next(&mut self) {
        select(pin!(self.interrupt.recv()), pin!(self.terminate.recv())).await;
    }

    async fn come_within(&mut self, deadline: Duration) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the deadline holds for the real world, which this process ends")]
        let over = tokio::time::sleep(deadline);
        matches!(select(pin!(self.next()), pin!(over)).await, Either::Left(_))
    }
}
