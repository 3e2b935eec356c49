//! What is said of something outside that is down: once when it goes, now and then while it stays away, once when it is back.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::data::secret::Secrets;
use crate::data::units::Interval;
use crate::env::Env;
use crate::error::Error;

/// What the log calls these lines, for who wants none of them.
const OUTAGES: &str = "bourn_outages";
/// How long nothing more is said after a line.
const QUIET: Duration = Duration::from_secs(10);
/// A wait as long as this is worth a word, also after the first failure.
const LONG: Duration = Duration::from_secs(1);

/// The outages of what a stage, source or sink talks to, told to the log. A clone tells of the same ones.
///
/// Whoever tries again says [`failed`](Self::failed) before each wait and [`passed`](Self::passed) after each success. A failure
/// that is over with the second attempt is not worth a line; what goes on is told at once, and then each ten seconds.
#[derive(Clone)]
pub struct Outage(Arc<Inner>);

struct Inner {
    id: String,
    env: Env,
    secrets: Secrets,
    is_down: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the outage has begun.
    since: Option<Duration>,
    failures: u32,
    /// Whether anything was said of this outage, and when of any.
    told: bool,
    spoke: Option<Duration>,
}

impl Outage {
    /// None so far. `id` is that of the stage, source or sink.
    pub fn of(id: &str, env: &Env) -> Self {
        Self::hiding(id, env, Secrets::default())
    }

    /// The same, where errors may hold secrets.
    pub fn hiding(id: &str, env: &Env, secrets: Secrets) -> Self {
        let (is_down, state) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Inner { id: id.to_owned(), env: env.clone(), secrets, is_down, state }))
    }

    /// Another one of the same id, told on its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::hiding(&self.0.id, &self.0.env, self.0.secrets.clone())
    }

    /// Something has failed, and is tried again after `wait`.
    pub fn failed(&self, error: &Error, wait: Duration) {
        let Inner { id, env, secrets, is_down, state } = &*self.0;
        is_down.store(true, Relaxed);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = env.monotonic();
        let lasted = now.saturating_sub(*state.since.get_or_insert(now));
        state.failures += 1;
        let is_worth = state.failures > 1 || wait >= LONG;
        if is_worth && state.spoke.is_none_or(|spoke| now.saturating_sub(spoke) >= QUIET) {
            let so_far = if state.told { format!(", for {} now", shown(lasted)) } else { String::new() };
            (state.told, state.spoke) = (true, Some(now));
            drop(state);
            tracing::warn!(target: OUTAGES, "`{id}`: {}; trying again{so_far}", secrets.conceal(error.message()));
        }
    }

    /// Something has worked.
    pub fn passed(&self) {
        let Inner { id, env, is_down, state, .. } = &*self.0;
        if !is_down.load(Relaxed) {
            return;
        }
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        is_down.store(false, Relaxed);
        let over = std::mem::take(&mut *state);
        state.spoke = over.spoke;
        drop(state);
        if over.told {
            let lasted = env.monotonic().saturating_sub(over.since.unwrap_or_default());
            tracing::warn!(target: OUTAGES, "`{id}`: works again, after {}", shown(lasted));
        }
    }
}

/// A length of time, to a tenth of a second.
fn shown(time: Duration) -> Interval {
    Interval(Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / 100 * 100))
}

impl fmt::Debug for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outage({})", self.0.id)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::testing::simulation::Simulation;

    /// What is written to a log.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are told of what `script` does, in virtual time.
    fn told<F: Future<Output = ()> + Send + 'static>(script: impl FnOnce(Outage, Env) -> F) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        let log = log.with_writer(move || writer.clone()).finish();
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let script = script(Outage::of("api", &env), env);
        tracing::subscriber::with_default(log, || simulation.run(script).done());
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn down() -> Error {
        Error::new(crate::Kind::Io, "connection refused").transient()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_is_told_at_once_and_each_ten_seconds_and_when_it_is_over() {
        let lines = told(|outage, env| async move {
            for _ in 0..25 {
                outage.failed(&down(), SECOND);
                env.sleep(SECOND).await;
            }
            outage.passed();
            outage.passed();
        });
        let expected = [
            "WARN `api`: connection refused; trying again",
            "WARN `api`: connection refused; trying again, for 10s now",
            "WARN `api`: connection refused; trying again, for 20s now",
            "WARN `api`: works again, after 25s",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_failure_that_the_second_attempt_mends_is_not_worth_a_line() {
        let lines = told(|outage, env| async move {
            for _ in 0..100 {
                outage.failed(&down(), SECOND / 5);
                env.sleep(SECOND / 5).await;
                outage.passed();
            }
        });
        assert_eq!(lines, Vec::<String>::new());
    }

    #[test]
    fn what_comes_and_goes_does_not_flood_the_log() {
        let lines = told(|outage, env| async move {
            for _ in 0..100 {
                outage.failed(&down(), SECOND / 5);
                outage.failed(&down(), SECOND / 5);
                env.sleep(SECOND / 5).await;
                outage.passed();
            }
        });
        // Twenty seconds: a beginning each ten, and its end.
        assert_eq!(lines.len(), 4, "{lines:#?}");
    }
}
