//! A job from its start to its end, with all that watches it: signals, metrics, progress, the table at the end.

use std::pin::pin;
use std::time::Duration;

use bourn_engine::metrics::JobStats;
use bourn_engine::plan::Plan;
use bourn_engine::{Engine, Error};
use futures::future::{Either, Pending, pending, select};

use crate::args::{Form, Run};
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
    let server = args.metrics.map(|address| bind(address, screen)).transpose()?;
    let (shape, writes_on_terminal) = (Shape::of(&plan), screen.shares_terminal() && prints(&plan));
    let (signals, deadline, enough) = match ending {
        Ending::Here(enough) => {
            (Some(Signals::take(args.drain_timeout, screen.clone()).map_err(failed)?), None, enough)
        }
        Ending::Elsewhere(enough) => (None, Some(args.drain_timeout), enough),
    };
    let start = engine.env().monotonic();
    let job = engine.start(plan).await.map_err(Failure::Failed)?;
    if let Some(signals) = signals {
        signals.stop_with(job.stopper());
    }
    let stats = job.stats().clone();
    let serving = server.map(|server| server.serve(stats.clone(), engine.env().clone()));
    let _serving = serving.transpose().map_err(failed)?;
    let shows = screen.shows_progress() && !writes_on_terminal;
    let progress = shows.then(|| Progress::start(screen.bar(), stats.clone(), shape, engine.env())).transpose();
    let progress = progress.map_err(failed)?;
    let stop = job.stopper();
    let ended = match select(pin!(job.wait()), pin!(enough)).await {
        Either::Left((ended, _)) => ended,
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
    Ok(Exit::Ok)
}

fn not_drained(within: Duration) -> Error {
    Error::engine(format!("the job did not drain within {within:?}; see --drain-timeout"))
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
