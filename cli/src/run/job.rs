//! A job from its start to its end, with all that watches it: signals, metrics, progress, the table at the end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bourn_engine::checkpoint::{Begin, Resume, Resumed};
use bourn_engine::metrics::JobStats;
use bourn_engine::plan::Plan;
use bourn_engine::{Engine, Error};
use futures::future::{Either, Pending, pending, select};

use super::args::{Checkpoint, Run};
use crate::args::Form;
use crate::failure::{Exit, Failure};
use crate::metrics_server::Server;
use crate::report::bottleneck::Shape;
use crate::report::progress::Progress;
use crate::report::table;
use crate::screen::Screen;
use crate::signals::Signals;

/// What ends a job before its time.
pub enum Ending<F> {
    /// A signal, or that there has been enough of it.
    Here(F),
    /// This alone: somebody else takes the signals, and goes on after it. The job has no longer to drain than after one.
    Elsewhere(F),
    /// This: the job is left where it is, so that nothing of its last epoch is committed or acknowledged. A signal ends the
    /// process.
    Left(F),
}

impl Ending<Pending<()>> {
    /// Nothing but a signal.
    pub fn signal() -> Self {
        Self::Here(pending())
    }
}

/// Starts a job and waits for its end, or stops it before.
///
/// # Errors
/// When something could not be opened, or the job failed, or it did not drain in time.
pub async fn run(
    engine: &Engine,
    plan: Plan,
    args: &Run,
    screen: &Screen,
    ending: Ending<impl Future<Output = ()>>,
) -> Result<Exit, Failure> {
    run_shown(engine, plan, args, (screen, &|_| {}), ending).await
}

/// What is given the counters of a job when it has started.
pub type OnStart<'a> = &'a dyn Fn(&Arc<JobStats>);

/// The same of a job that somebody else may look at.
///
/// # Errors
/// As for [`run`].
pub async fn run_shown(
    engine: &Engine,
    plan: Plan,
    args: &Run,
    (screen, on_start): (&Screen, OnStart<'_>),
    ending: Ending<impl Future<Output = ()>>,
) -> Result<Exit, Failure> {
    let server = args.metrics.map(|address| bind(address, screen)).transpose()?;
    let (shape, writes_on_terminal) = (Shape::of(&plan), screen.shares_terminal() && prints(&plan));
    let is_left = matches!(ending, Ending::Left(_));
    let (signals, deadline, enough) = match ending {
        Ending::Here(enough) => (
            Some(Signals::take(args.drain_timeout, screen.clone(), engine.env().clone()).map_err(failed)?),
            None,
            enough,
        ),
        Ending::Elsewhere(enough) => (None, Some(args.drain_timeout), enough),
        Ending::Left(enough) => (None, None, enough),
    };
    let start = engine.env().monotonic();
    let resume = resume(args, &plan)?;
    let (is_tolerated, keeps) = (plan.options.tolerated.is_some(), plan.checkpoints.is_some());
    let dead_letters = plan.options.dead_letters.clone();
    let folder = plan.checkpoints.as_ref().map(|c| c.place(&plan.name));
    let job = engine.start_from(plan, resume).await.map_err(Failure::Failed)?;
    if let (Some(resumed), Some(folder)) = (job.resumed(), &folder) {
        tell_resumed(resumed, folder, screen);
    }
    let signaled = signals.map(|signals| signals.stop_with(job.stopper()));
    let stats = job.stats().clone();
    on_start(&stats);
    let serving = server.map(|server| server.serve(stats.clone(), engine.env().clone()));
    let _serving = serving.transpose().map_err(failed)?;
    let shows = screen.shows_progress() && !writes_on_terminal;
    let progress = shows.then(|| Progress::start(screen.bar(), stats.clone(), shape, engine.env())).transpose();
    let progress = progress.map_err(failed)?;
    let stop = job.stopper();
    let mut is_whole = false;
    let ended = match select(pin!(job.wait()), pin!(enough)).await {
        Either::Left((ended, _)) => {
            is_whole = signaled.as_ref().is_none_or(|signaled| !signaled.load(Relaxed));
            ended
        }
        Either::Right(((), _)) if is_left => Ok(()),
        Either::Right(((), ending)) => {
            stop();
            match deadline {
                None => ending.await,
                Some(deadline) => match select(ending, pin!(engine.env().sleep(deadline))).await {
                    Either::Left((ended, _)) => ended,
                    Either::Right(_) => Err(not_drained(deadline)),
                },
            }
        }
    };
    drop(progress);
    tell(&stats, engine.env().monotonic().saturating_sub(start), args, screen);
    ended.map_err(Failure::ended)?;
    let told = table::nothing_but_rejected(&stats, dead_letters.as_deref()).filter(|_| is_whole && !is_tolerated);
    if let Some(told) = told {
        return Err(Failure::Failed(Error::validation(told)));
    }
    if args.fail_on_degraded && stats.rows_degraded() > 0 {
        return Ok(Exit::Degraded);
    }
    if !is_whole && signaled.is_some_and(|signaled| signaled.load(Relaxed)) {
        screen.tell(&told_stopped(keeps));
    }
    Ok(Exit::Ok)
}

/// What is said of a job that a signal has ended before its input did, or may have.
fn told_stopped(keeps_checkpoints: bool) -> String {
    let next = if keeps_checkpoints {
        "what was read and not written yet is in its last checkpoint, from where the next run goes on"
    } else {
        "what had not been read is missing, and the next run begins anew"
    };
    format!("stopped by a signal: {next}")
}

fn not_drained(within: Duration) -> Error {
    Error::engine(format!("the job did not drain within {within:?}; see --drain-timeout"))
}

/// Where the command line lets a job begin.
fn resume(args: &Run, plan: &Plan) -> Result<Resume, Failure> {
    let begin = match (args.begin.fresh, &args.begin.from_checkpoint) {
        (true, _) => Begin::Fresh,
        (_, Some(Checkpoint::Epoch(epoch))) => Begin::At(*epoch),
        _ => Begin::Resume,
    };
    if plan.checkpoints.is_none() && (args.begin.from_checkpoint.is_some() || !args.begin.drop_state.is_empty()) {
        let flag = if args.begin.from_checkpoint.is_some() { "--from-checkpoint" } else { "--drop-state" };
        let message =
            format!("{flag}: {} keeps no checkpoints; say `checkpoint: {{ every: 10s }}` in it", args.spec.path);
        return Err(Failure::invalid(message));
    }
    Ok(Resume { begin, drop_state: args.begin.drop_state.iter().cloned().collect() })
}

fn tell_resumed(resumed: &Resumed, folder: &str, screen: &Screen) {
    for (epoch, reason) in &resumed.unreadable {
        screen.warn(&format!("checkpoint {epoch} in {folder}: {reason}; the one before it is taken"));
    }
    screen.tell(&format!(
        "goes on behind checkpoint {} of {} ({folder}); `--fresh` begins anew",
        resumed.epoch, resumed.written
    ));
    for (id, change) in &resumed.changes {
        screen.tell(&format!("  `{id}` {change}"));
    }
}

fn failed(e: std::io::Error) -> Failure {
    Failure::Failed(e.into())
}

fn bind(address: std::net::SocketAddr, screen: &Screen) -> Result<Server, Failure> {
    let at = |e: std::io::Error| Failure::Failed(Error::from(e).context(format!("--metrics {address}")));
    let server = Server::bind(address).map_err(at)?;
    let bound = server.address().map_err(at)?;
    if !bound.ip().is_loopback() {
        screen.warn(&format!(
            "--metrics {bound}: whoever can reach this address can read the metrics, which nothing protects"
        ));
    }
    let where_to = format!("metrics: http://{bound}/metrics");
    // Nobody else knows which port the system chose.
    if address.port() == 0 {
        screen.say(&where_to);
    } else {
        screen.notice(&where_to);
    }
    Ok(server)
}

/// Whether a sink prints rows where the progress would be.
fn prints(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| node.outputs.is_empty() && ["stdout", "console", "tap"].contains(&node.kind()))
}

fn tell(stats: &JobStats, time: Duration, args: &Run, screen: &Screen) {
    if args.stats || screen.shows_progress() {
        screen.say(&match screen.form {
            Form::Text => table::text(stats, time),
            Form::Json => table::json(stats, time).to_string(),
        });
    }
    if let Some(rejected) = table::rejected(stats) {
        screen.warn(&rejected);
    }
    for remark in table::remarks(stats) {
        screen.warn(&remark);
    }
}
