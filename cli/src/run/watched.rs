//! `bourn run --watch`: the job again, whenever something that it was made of has changed.

use std::path::PathBuf;

use bourn_engine::env::Env;
use bourn_engine::spec::model::Pipeline;
use futures::FutureExt as _;
use futures::channel::mpsc;
use futures::executor::block_on;
use futures::future::{Either, select};
use futures::{StreamExt as _, pin_mut};

use super::args::Run;
use super::job::Ending;
use super::once;
use crate::failure::{Exit, Failure};
use crate::report::diagnostics;
use crate::screen::Screen;
use crate::signals::Signals;
use crate::watch::{Watch, Watched};

/// Runs it until a signal comes, or nobody reads what it writes any more. How a job ends is told, and ends nothing.
///
/// # Errors
/// When something of the command line can't be read again, or not be watched.
pub fn run(args: &Run, screen: &Screen) -> Result<Exit, Failure> {
    let files = files(args)?;
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let invitation = format!("watching {}; Ctrl-C ends", names.join(", "));
    // One signal is enough for all jobs.
    let env = Env::system();
    let signals =
        Signals::take(args.drain_timeout, screen.clone(), env.clone()).map_err(|e| Failure::Failed(e.into()))?;
    let (interrupt, mut interrupted) = mpsc::channel::<()>(0);
    signals.stop_with(move || {
        let _again = interrupt.clone().try_send(());
    });
    let interrupted = async move { interrupted.next().await }.map(drop).boxed().shared();
    screen.tell(&invitation);
    loop {
        let watched = || Ok(Watched { files: files.clone(), folders: Vec::new() });
        let mut watch = Watch::begin(watched)?;
        let interrupted = interrupted.clone();
        // What ends a round: the name of the file that has changed, or none for a signal.
        let over = async move {
            let changed = watch.changed();
            pin_mut!(changed);
            match select(changed, interrupted).await {
                Either::Left((name, _)) => Some(name),
                Either::Right(_) => None,
            }
        };
        let over = over.boxed_local().shared();
        match once(args, screen, env.clone(), Ending::Elsewhere(over.clone().map(drop))) {
            Ok(_) => {}
            Err(Failure::Unread) => return Ok(Exit::Ok),
            Err(failure) => screen.say(&diagnostics::failure(&failure, screen)),
        }
        if over.peek().is_none() {
            screen.tell(&invitation);
        }
        match block_on(over) {
            Some(name) => screen.tell(&format!("{name} has changed: starting again")),
            None => return Ok(Exit::Ok),
        }
    }
}

/// What the command line names, without the data.
fn files(args: &Run) -> Result<Vec<PathBuf>, Failure> {
    let input = args.input.as_deref().and_then(|input| input.strip_prefix('@'));
    let named = [Some(args.spec.path.as_str()), args.spec.routing.as_deref(), input];
    let read_once = named.iter().flatten().copied().chain(args.inputs.as_deref());
    for path in read_once {
        let is_file = std::fs::metadata(path).is_ok_and(|about| about.is_file());
        if path == "-" || (std::fs::exists(path).unwrap_or_default() && !is_file) {
            return Err(Failure::invalid(format!("--watch: {path} can't be read again; name a file")));
        }
    }
    Ok(named.into_iter().flatten().map(PathBuf::from).collect())
}

/// Whoever reads stdin takes from it what the next job would have to read.
///
/// # Errors
/// When a source does.
pub fn no_stdin(spec: &Pipeline) -> Result<(), Failure> {
    match spec.sources.iter().find(|source| source.connector.kind() == "stdin") {
        Some(source) => {
            Err(Failure::invalid(format!("--watch: the source `{}` reads stdin, which can't be read again", source.id)))
        }
        None => Ok(()),
    }
}
