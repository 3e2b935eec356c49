//! `bourn mock-llm`: a model server on this machine that says what a script says, and costs nothing.

pub mod args;

mod answer;
mod anthropic;
mod ask;
mod fault;
mod form;
mod limits;
mod openai;
mod refusal;
mod script;
mod server;
mod stats;
mod strict;

use std::io;
use std::net::TcpListener;
use std::pin::pin;

use bourn_engine::Error;
use futures::future::select;
use tokio::signal::unix::{SignalKind, signal};

use crate::answer::print;
use crate::failure::{Exit, Failure};
use args::MockLlm;
use script::Script;
use server::Server;

/// Takes the address, prints it, and serves until a signal comes.
///
/// # Errors
/// When the script can't be read, or the address can't be had.
pub fn run(args: &MockLlm) -> Result<Exit, Failure> {
    let script = args.script.as_deref().map(Script::read).transpose()?.unwrap_or_default();
    let started = Server::new(args, script);
    let listener = listen(args).map_err(|e| Failure::Failed(Error::from(e).context(args.listen)))?;
    let address = listener.local_addr().map_err(|e| Failure::Failed(e.into()))?;
    // Whoever started it reads this line and knows that connections are taken from here on.
    print(&format!("http://{address}"))?;
    serve(listener, started).map_err(|e| Failure::Failed(Error::from(e).context("mock-llm")))?;
    Ok(Exit::Ok)
}

fn listen(args: &MockLlm) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(args.listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(listener: TcpListener, server: Server) -> io::Result<()> {
    use axum::serve::ListenerExt as _;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
            // A refusal here costs milliseconds and nothing else.
            let _slower = stream.set_nodelay(true);
        });
        let serving = async { axum::serve(listener, server.routes()).await };
        let stopped = async {
            select(pin!(interrupt.recv()), pin!(terminate.recv())).await;
        };
        match select(pin!(serving), pin!(stopped)).await {
            futures::future::Either::Left((ended, _)) => ended,
            futures::future::Either::Right(_) => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests;
