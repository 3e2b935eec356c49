//! Progress while a job runs: a bar for input that ends, a live line for input that does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::metrics::JobStats;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::bottleneck::Shape;

/// How often a bar moves.
const BAR: Duration = Duration::from_millis(100);
/// How often the live line changes: more often nobody can read it.
const LINE: Duration = Duration::from_secs(1);

/// Shows the progress of a job on a thread of its own, so that busy stages never hold it up, until it is dropped.
pub struct Progress {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    bar: ProgressBar,
}

impl Progress {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(bar: &ProgressBar, stats: Arc<JobStats>, shape: Shape, env: &Env) -> io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(0);
        let (env, shown) = (env.clone(), bar.clone());
        let thread = Builder::new().name("bourn-progress".into()).spawn(move || {
            let start = env.monotonic();
            let mut last = Look::default();
            shown.set_draw_target(ProgressDrawTarget::stderr());
            // The first look comes soon: a job that is over by then shows nothing.
            while stopped.recv_timeout(if last.total > 0 { BAR } else { LINE }) == Err(RecvTimeoutError::Timeout) {
                let look = Look::at(&stats, env.monotonic().saturating_sub(start));
                show(&shown, &look, &last, shape.bottleneck(&stats).as_deref());
                last = look;
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), bar: bar.clone() })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was told there, and takes nothing but the bar.
            let _panicked = thread.join();
        }
        self.bar.finish_and_clear();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// What was counted at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    time: Duration,
    rows: u64,
    done: u64,
    /// 0 when nobody knows how much there is.
    total: u64,
}

impl Look {
    fn at(stats: &JobStats, time: Duration) -> Self {
        let (done, total) = (stats.input_done.load(Relaxed), stats.input_total.load(Relaxed));
        Self { time, rows: stats.rows_read(), done, total }
    }

    /// Rows a second since `before`.
    fn rate(&self, before: &Self) -> f64 {
        let seconds = self.time.saturating_sub(before.time).as_secs_f64();
        if seconds > 0.0 { self.rows.saturating_sub(before.rows) as f64 / seconds } else { 0.0 }
    }

    /// How long the rest takes if it goes on like this; none when there is nothing to go by.
    fn left(&self) -> Option<Duration> {
        let share = self.done as f64 / self.total as f64;
        (share > 0.0 && share <= 1.0).then(|| self.time.mul_f64((1.0 - share) / share))
    }
}

fn show(bar: &ProgressBar, look: &Look, last: &Look, slowest: Option<&str>) {
    if look.total > 0 {
        if last.total != look.total {
            bar.set_style(style("[{bar:32}] {percent:>3}% {msg}"));
            bar.set_length(look.total);
        }
        bar.set_position(look.done);
        // Over the whole time: ten times a second a shorter rate would flicker.
        bar.set_message(told(look, look.rate(&Look::default()), look.left(), slowest));
    } else {
        bar.set_style(style("{msg}"));
        bar.set_message(told(look, look.rate(last), None, slowest));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file can be read").progress_chars("=> ")
}

/// `1,200 rows, 600 rows/s, 3 seconds left, slowest: shape`
fn told(look: &Look, rate: f64, left: Option<Duration>, slowest: Option<&str>) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive, and shown whole")]
    let mut parts = vec![format!("{} rows", HumanCount(look.rows)), format!("{} rows/s", HumanCount(rate as u64))];
    parts.extend(left.map(|left| format!("{} left", HumanDuration(left))));
    parts.extend(slowest.map(|id| format!("slowest: {id}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rows_rate_rest_and_who_holds_the_others_up() {
        let look = Look { time: Duration::from_secs(2), rows: 1_200, done: 40, total: 100 };
        let line = told(&look, look.rate(&Look::default()), look.left(), Some("shape"));
        assert_eq!(line, "1,200 rows, 600 rows/s, 3 seconds left, slowest: shape");
        let endless = Look { total: 0, done: 0, ..look };
        assert_eq!(told(&endless, 600.0, None, None), "1,200 rows, 600 rows/s");
    }

    #[test]
    fn nothing_is_foretold_before_anything_is_read() {
        let look = Look { time: Duration::from_secs(2), rows: 0, done: 0, total: 100 };
        assert_eq!(look.left(), None);
    }
}
