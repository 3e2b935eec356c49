//! Real programs, each in a process group of its own, so that what it starts ends with it.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this file is the fence around them")]

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures::io as polled;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::process::Command;

use crate::env::{Child, End, Exit, Finished, Heard, Launch, Program};
use crate::error::{Error, Kind, Result};

/// The programs that run, by the numbers of their groups. A clone shares them.
#[derive(Clone, Default)]
pub struct Programs(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    groups: HashSet<Pid>,
    /// No other one begins.
    is_over: bool,
}

impl Programs {
    /// Kills all of them, and each that is started from now on.
    pub fn end(&self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.is_over = true;
        running.groups.drain().for_each(kill);
    }

    fn began(&self, id: Pid) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_over {
            kill(id);
        } else {
            running.groups.insert(id);
        }
    }

    /// Nothing is killed by a number that another group may have by then.
    fn ended(&self, id: Pid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).groups.remove(&id);
    }
}

fn kill(group: Pid) {
    // It may have ended by itself.
    let _gone = kill_process_group(group, Signal::KILL);
}

/// A child that is killed with its group when it is dropped.
struct Group {
    child: tokio::process::Child,
    id: Option<Pid>,
    exit: Option<Exit>,
    programs: Programs,
}

impl Group {
    fn spawn(
        programs: &Programs,
        argv: &[String],
        variables: Vec<(String, String)>,
        clear_variables: bool,
    ) -> Result<Self> {
        let Some((name, arguments)) = argv.split_first() else {
            return Err(Error::validation("the argument list is empty: there is no program to run"));
        };
        let mut command = Command::new(name);
        if clear_variables {
            command.env_clear();
        }
        let child = command
            .args(arguments)
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::from(e).context(format!("starting `{name}`")))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            programs.began(id);
        }
        Ok(Self { id, child, exit: None, programs: programs.clone() })
    }

    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            self.programs.ended(id);
            kill(id);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl End for Group {
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Exit>> {
        if self.exit.is_none() {
            let status = ready!(pin!(self.child.wait()).poll(context))?;
            // What it has left behind ends too; its number is given to no other group as long as one of them runs.
            self.kill();
            self.exit = Some(Exit { status: status.code(), signal: status.signal() });
        }
        Poll::Ready(self.exit.ok_or_else(|| Error::engine("a child that ended has an exit")))
    }
}

/// Starts a program that stays.
pub fn start(programs: &Programs, launch: &Launch) -> Result<Child> {
    let mut group = Group::spawn(programs, &launch.argv, launch.variables.clone(), launch.clear_variables)?;
    let (input, output, errors) = (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let (Some(input), Some(output), Some(errors)) = (input, output, errors) else {
        return Err(Error::engine("a child was started without its pipes"));
    };
    Ok(Child {
        end: Box::new(group),
        input: Box::new(Pipe(input)),
        output: Box::new(Pipe(output)),
        errors: Box::new(Pipe(errors)),
    })
}

/// One of tokio's pipes, as [`Child`] shows it.
struct Pipe<T>(T);

impl<T: AsyncRead + Unpin> polled::AsyncRead for Pipe<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut filled))?;
        Poll::Ready(Ok(filled.filled().len()))
    }
}

impl<T: AsyncWrite + Unpin> polled::AsyncWrite for Pipe<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Runs a program to its end. When the future is dropped, or the time is over, the program is killed.
pub async fn run(programs: Programs, program: Program) -> Result<Finished> {
    let mut group = Group::spawn(&programs, &program.argv, program.variables, program.clear_variables)?;
    let child = &mut group.child;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin.take() {
            // A program may end without reading all of its input; that is its right.
            let _unread = stdin.write_all(&program.input).await;
        }
    };
    let (name, max) = (program.argv.first().cloned().unwrap_or_default(), program.output_max);
    let work = async {
        // The first output that is too long ends the program, whatever the other one does.
        let feed = async {
            feed.await;
            Ok(())
        };
        let outputs =
            tokio::try_join!(feed, collect(stdout, max, &program.heard), collect(stderr, max, &program.heard));
        let ((), output, errors) = outputs?;
        let status = child.wait().await?;
        Ok(Finished { status: status.code(), signal: status.signal(), output, errors })
    };
    match tokio::time::timeout(program.timeout, work).await {
        Ok(finished) => finished,
        Err(_) => {
            Err(Error::new(Kind::Timeout, format!("`{name}` ran longer than {:?} and was ended", program.timeout)))
        }
    }
}

async fn collect(stream: Option<impl AsyncRead + Unpin>, max: usize, heard: &Heard) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut stream = stream.take(max as u64 + 1);
        while stream.read_buf(&mut bytes).await? > 0 {
            heard.tell();
        }
    }
    if bytes.len() > max {
        return Err(Error::new(
            Kind::Budget,
            format!("the program wrote more than {max} bytes, its `output_max`, and was ended"),
        ));
    }
    Ok(bytes)
}
