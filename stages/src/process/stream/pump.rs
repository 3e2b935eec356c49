//! Drives one program for all rows that wait: hands them over in order, gives them their answers, starts it again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bourn_engine::env::{Env, Exit, Launch};
use bourn_engine::{Error, Kind, Result};
use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, select};
use futures::task::AtomicWaker;
use serde_json::Value;

use super::complaints::Complaints;
use super::talk::{Heard, Talk};
use crate::process::Parse;
use crate::process::run::{how_it_ended, read};

/// How long a program that has closed its output may take to end by itself, so that its status is known.
const GRACE: Duration = Duration::from_secs(1);

/// What holds for every program of a stage.
pub struct Rules {
    /// The program, for messages.
    pub name: String,
    /// The stage, for the log.
    pub stage: String,
    /// How an answer is read.
    pub parse: Parse,
    /// The longest answer, in bytes.
    pub line_max: usize,
    /// How long an answer may take, from the answer before it.
    pub timeout: Duration,
    /// How long the first answer of a program may take.
    pub start_timeout: Duration,
}

/// A row on its way to the program.
pub struct Line {
    /// What is written, with its end.
    pub text: Vec<u8>,
    /// Whether no other row may be with the program meanwhile.
    pub alone: bool,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Value>>,
}

/// Rows that were not handed over yet: at most as many as the stage has in flight.
#[derive(Default)]
pub struct Queue {
    lines: Mutex<VecDeque<Line>>,
    /// Whoever drives the pump.
    driver: AtomicWaker,
}

impl Queue {
    /// Adds a row.
    pub fn push(&self, line: Line) {
        self.lines().push_back(line);
        self.driver.wake();
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next row whose caller still waits, if `may` allows it.
    fn pop(&self, may: impl FnOnce(&Line) -> bool) -> Option<Line> {
        let mut lines = self.lines();
        while lines.front().is_some_and(|line| line.answer.is_canceled()) {
            lines.pop_front();
        }
        if lines.front().is_some_and(may) { lines.pop_front() } else { None }
    }

    /// Waits for a row.
    fn poll_filled(&self, cx: &Context<'_>) -> Poll<()> {
        self.driver.register(cx.waker());
        if self.lines().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// A row that the program has.
struct Sent {
    alone: bool,
    answer: oneshot::Sender<Result<Value>>,
}

/// Why a program is ended.
enum Ended {
    /// It has closed its output.
    Closed,
    /// Its answer is too long.
    TooLong,
    /// It gave no answer in this time.
    Late(Duration),
    /// What it says can't be told apart any more; the reason was told to the row.
    Astray,
    /// It wrote a line that no row was waiting for.
    Unasked,
}

/// A program, started when there is a row for it.
pub struct Pump {
    env: Env,
    launch: Launch,
    rules: Rules,
    queue: Arc<Queue>,
    talk: Option<Talk>,
    /// In the order in which they were handed over.
    sent: VecDeque<Sent>,
    /// When the first of them became the first.
    since: Duration,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Pump {
    /// No program yet.
    pub fn new(launch: Launch, rules: Rules, queue: Arc<Queue>, env: Env) -> Self {
        let (talk, sent, since, timer) = (None, VecDeque::new(), Duration::ZERO, None);
        Self { env, launch, rules, queue, talk, sent, since, timer }
    }

    /// Serves rows for ever. It may be dropped at any await: whoever drives it next goes on.
    pub async fn drive(&mut self) -> Infallible {
        loop {
            if self.talk.is_none() {
                poll_fn(|cx| self.queue.poll_filled(cx)).await;
                match self.env.start(self.launch.clone()).await {
                    Ok(child) => self.talk = Some(Talk::with(child, Complaints::of(&self.rules.stage, &self.env))),
                    Err(error) => {
                        if let Some(line) = self.queue.pop(|_| true) {
                            let _gone = line.answer.send(Err(error));
                        }
                        continue;
                    }
                }
            }
            let ended = poll_fn(|cx| self.turn(cx)).await;
            self.end(ended).await;
        }
    }

    /// Does what can be done now; ready when the program must be ended.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            // First, so that a row that comes from now on wakes us.
            let _may_be_empty = self.queue.poll_filled(cx);
            self.hand_over();
            let Some(talk) = &mut self.talk else { return Poll::Ready(Ended::Closed) };
            talk.write(cx);
            talk.listen(cx);
            match talk.poll_line(cx, self.rules.line_max) {
                Poll::Ready(Heard::Line(line)) => {
                    if let Some(ended) = self.answer(line, cx) {
                        return Poll::Ready(ended);
                    }
                }
                Poll::Ready(Heard::TooLong) => return Poll::Ready(Ended::TooLong),
                Poll::Ready(Heard::Closed) => return Poll::Ready(Ended::Closed),
                Poll::Pending if self.is_late(cx) => return Poll::Ready(Ended::Late(self.allowed())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Hands rows over, as far as the program takes them.
    fn hand_over(&mut self) {
        let Some(talk) = &mut self.talk else { return };
        while !talk.is_full() {
            let (is_idle, is_taken) = (self.sent.is_empty(), self.sent.back().is_some_and(|s| s.alone));
            let Some(line) = self.queue.pop(|line| is_idle || !line.alone && !is_taken) else { return };
            if is_idle {
                self.since = self.env.monotonic();
            }
            talk.send(&line.text);
            self.sent.push_back(Sent { alone: line.alone, answer: line.answer });
        }
    }

    /// Gives the first row its answer. Says when the lines of the program can't be told apart from now on.
    fn answer(&mut self, line: Vec<u8>, cx: &mut Context<'_>) -> Option<Ended> {
        let Some(first) = self.sent.pop_front() else { return Some(Ended::Unasked) };
        let talk = self.talk.as_mut()?;
        talk.has_answered = true;
        self.since = self.env.monotonic();
        let name = &self.rules.name;
        let mut answer = read(name, line, self.rules.parse);
        // A line that is no JSON may be a banner or a debug line, and then every answer behind it is another row's.
        let mut is_astray = answer.is_err() && self.rules.parse == Parse::Json;
        let is_last = !is_astray && self.sent.is_empty();
        if is_last && matches!(talk.poll_line(cx, self.rules.line_max), Poll::Ready(Heard::Line(_))) {
            is_astray = true;
            let message = "wrote more lines than it was sent rows, so this may be another one's answer";
            answer = Err(Error::validation(format!("`{name}` {message}")));
        }
        let _gone = first.answer.send(answer);
        is_astray.then_some(Ended::Astray)
    }

    /// How long the first row may wait.
    fn allowed(&self) -> Duration {
        let has_answered = self.talk.as_ref().is_some_and(|t| t.has_answered);
        if has_answered { self.rules.timeout } else { self.rules.start_timeout }
    }

    /// Whether the first row has waited for too long; wakes us when it has.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.sent.is_empty() {
            self.timer = None;
            return false;
        }
        loop {
            let left = (self.since + self.allowed()).saturating_sub(self.env.monotonic());
            if left.is_zero() {
                return true;
            }
            // A timer that was set for an earlier row fires early, and is set anew then.
            let timer = self.timer.get_or_insert_with(|| self.env.sleep(left));
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.timer = None;
        }
    }

    /// Ends the program, and tells the rows that it had.
    async fn end(&mut self, why: Ended) {
        let exit = match why {
            Ended::Closed => self.exit().await,
            _ => None,
        };
        let said = self.talk.as_mut().map(|t| t.complaints.last()).unwrap_or_default();
        self.talk = None;
        self.timer = None;
        let name = &self.rules.name;
        let reason = if said.is_empty() { said } else { format!(": {said}") };
        let over_another = || Error::new(Kind::Other, format!("`{name}` was ended over another row")).transient();
        let (first, others): (Error, Option<Error>) = match why {
            Ended::Closed => {
                let how = exit.map_or_else(|| "closed its output and was ended".to_owned(), how_it_ended);
                let error = Error::new(Kind::Other, format!("`{name}` {how} before it answered{reason}")).transient();
                (error.summary(), Some(error))
            }
            Ended::TooLong => {
                let message = format!("`{name}` wrote a line of more than {} bytes and was ended", self.rules.line_max);
                (Error::new(Kind::Budget, message), None)
            }
            Ended::Late(time) => {
                let message = format!("`{name}` gave no answer within {time:?} and was ended{reason}");
                (Error::new(Kind::Timeout, message), None)
            }
            Ended::Astray => (over_another(), None),
            Ended::Unasked => {
                let message = format!("`{name}` wrote a line that no row was waiting for and was ended");
                (Error::new(Kind::Other, message).transient(), None)
            }
        };
        if self.sent.is_empty() {
            tracing::warn!("{}: {}; the next row starts it again", self.rules.stage, first.message());
        }
        let mut error = Some(first);
        for row in self.sent.drain(..) {
            let error = error.take().unwrap_or_else(|| others.as_ref().map_or_else(over_another, Error::summary));
            let _gone = row.answer.send(Err(error));
        }
    }

    /// How a program that has closed its output ended, if it does so soon.
    async fn exit(&mut self) -> Option<Exit> {
        let talk = self.talk.as_mut()?;
        let ended = poll_fn(|cx| {
            talk.listen(cx);
            talk.poll_end(cx)
        });
        match select(pin!(ended), self.env.sleep(GRACE)).await {
            Either::Left((exit, _)) => {
                // What it said last may still lie in the pipe.
                poll_fn(|cx| {
                    talk.listen(cx);
                    Poll::Ready(())
                })
                .await;
                exit.ok()
            }
            Either::Right(_) => None,
        }
    }
}
