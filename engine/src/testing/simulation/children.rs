//! Scripted programs that stay and are talked to over their pipes.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};

use super::timers::{Sleep, Timers};
use super::{Shared, lock};
use crate::env::{Child, End, Exit, Launch};
use crate::error::{Error, Kind, Result};

/// What a scripted child does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Lets time pass before what follows.
    Wait(Duration),
    /// Writes to its standard output.
    Say(String),
    /// Writes to its standard error.
    Complain(String),
    /// Closes its standard output, and goes on.
    Close,
    /// Ends with this status.
    End(i32),
}

/// What a child does when it has read a line, which is given without its end.
pub type Script = Box<dyn FnMut(&str) -> Vec<Act> + Send>;

type Start = Arc<dyn Fn(&Launch) -> (Vec<Act>, Script) + Send + Sync>;

#[derive(Default)]
pub(super) struct Children {
    scripts: Mutex<BTreeMap<String, Start>>,
    alive: Arc<Mutex<usize>>,
}

impl Children {
    pub(super) fn add(&self, name: &str, start: impl Fn(&Launch) -> (Vec<Act>, Script) + Send + Sync + 'static) {
        lock(&self.scripts).insert(name.to_owned(), Arc::new(start));
    }

    /// How many run.
    pub(super) fn alive(&self) -> usize {
        *lock(&self.alive)
    }

    pub(super) fn start(&self, launch: &Launch, timers: &Timers) -> Result<Child> {
        let Some(name) = launch.argv.first() else {
            return Err(Error::validation("the argument list is empty: there is no program to run"));
        };
        let start = lock(&self.scripts).get(name).cloned();
        let not_there = || Error::new(Kind::NotFound, format!("starting `{name}`: no such program"));
        let (acts, script) = start.ok_or_else(not_there)?(launch);
        *lock(&self.alive) += 1;
        let running = Running { acts: acts.into(), timers: timers.clone(), script, ..Running::default() };
        let running = Arc::new(Mutex::new(running));
        let pipe = || running.clone();
        Ok(Child {
            end: Box::new(Killed { running: pipe(), alive: self.alive.clone() }),
            input: Box::new(Input(pipe())),
            output: Box::new(Output(pipe(), |r| &mut r.output)),
            errors: Box::new(Output(pipe(), |r| &mut r.errors)),
        })
    }
}

struct Running {
    timers: Timers,
    script: Script,
    acts: VecDeque<Act>,
    pause: Option<Sleep>,
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    output: Stream,
    errors: Stream,
    exit: Option<Exit>,
    /// Who waits for something to happen.
    waiting: Vec<Waker>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            timers: Timers::default(),
            script: Box::new(|_| Vec::new()),
            acts: VecDeque::new(),
            pause: None,
            line: Vec::new(),
            output: Stream::default(),
            errors: Stream::default(),
            exit: None,
            waiting: Vec::new(),
        }
    }
}

#[derive(Default)]
struct Stream {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Running {
    /// Does what is due.
    fn advance(&mut self, cx: &mut Context<'_>) {
        while self.exit.is_none() {
            if let Some(pause) = &mut self.pause {
                if Pin::new(pause).poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.acts.pop_front() {
                Some(Act::Wait(time)) => self.pause = Some(self.timers.sleep(time)),
                Some(Act::Say(text)) => self.output.bytes.extend(text.bytes()),
                Some(Act::Complain(text)) => self.errors.bytes.extend(text.bytes()),
                Some(Act::Close) => self.output.closed = true,
                Some(Act::End(status)) => self.exit = Some(Exit { status: Some(status), signal: None }),
                None => return,
            }
            self.waiting.drain(..).for_each(Waker::wake);
        }
    }
}

struct Input(Shared<Running>);

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut running = lock(&self.0);
        running.advance(cx);
        if running.exit.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        for byte in bytes {
            if *byte != b'\n' {
                running.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut running.line);
            let acts = (running.script)(&String::from_utf8_lossy(&line));
            running.acts.extend(acts);
        }
        running.waiting.drain(..).for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Output(Shared<Running>, fn(&mut Running) -> &mut Stream);

impl AsyncRead for Output {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut running = lock(&self.0);
        running.advance(cx);
        let ended = running.exit.is_some();
        let stream = (self.1)(&mut running);
        let count = stream.bytes.len().min(buffer.len());
        if count == 0 && !ended && !stream.closed {
            running.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.iter_mut().zip(stream.bytes.drain(..count)).for_each(|(to, byte)| *to = byte);
        Poll::Ready(Ok(count))
    }
}

struct Killed {
    running: Shared<Running>,
    alive: Arc<Mutex<usize>>,
}

impl End for Killed {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Exit>> {
        let mut running = lock(&self.running);
        running.advance(cx);
        if let Some(exit) = running.exit {
            return Poll::Ready(Ok(exit));
        }
        running.waiting.push(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        *lock(&self.alive) -= 1;
        let mut running = lock(&self.running);
        // Whoever still holds its pipes reads to their ends.
        running.exit.get_or_insert(Exit { status: None, signal: Some(9) });
        running.waiting.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::simulation::Simulation;
    use futures::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_child_answers_each_line_in_its_time_and_ends_when_it_is_dropped() {
        let simulation = Simulation::new(1).child("echo", |_| {
            let answer = |line: &str| vec![Act::Wait(Duration::from_secs(2)), Act::Say(format!("<{line}>\n"))];
            (vec![Act::Complain("ready".into())], Box::new(answer))
        });
        let env = simulation.env();
        let launch = |name: &str| Launch { argv: vec![name.into()], variables: vec![], clear_variables: false };
        let mut child = simulation.run(env.start(launch("echo"))).done().unwrap();
        assert_eq!(simulation.children(), 1);
        let talked = simulation.run(async {
            child.input.write_all(b"a\nb\n").await.unwrap();
            let (mut said, mut complained) = ([0; 8], [0; 5]);
            child.output.read_exact(&mut said).await.unwrap();
            child.errors.read_exact(&mut complained).await.unwrap();
            (said, complained)
        });
        assert_eq!(talked.done(), (*b"<a>\n<b>\n", *b"ready"));
        assert_eq!(simulation.elapsed(), Duration::from_secs(4));
        drop(child);
        assert_eq!(simulation.children(), 0);
        assert_eq!(simulation.run(env.start(launch("none"))).done().err().map(|e| e.kind()), Some(Kind::NotFound));
    }
}
