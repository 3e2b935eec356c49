//! One running program: lines into it, lines out of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bourn_engine::Result;
use bourn_engine::env::{Child, Exit};
use futures::io::{AsyncRead, AsyncWrite};

use super::complaints::Complaints;

/// How much is read at once, in bytes.
const BLOCK: usize = 64 << 10;
/// How much may wait in front of a program that reads slowly, in bytes, beside the last line.
const UNWRITTEN_MAX: usize = 256 << 10;

/// A program and what was begun with it. Every poll may be given up, and nothing is lost.
pub struct Talk {
    child: Child,
    unwritten: Vec<u8>,
    written: usize,
    /// Whether it has stopped reading. It may still answer what it has read.
    is_deaf: bool,
    output: Vec<u8>,
    /// How far `output` was searched for the end of a line.
    searched: usize,
    has_closed: bool,
    /// What it complained about.
    pub complaints: Complaints,
    /// Whether it has answered yet.
    pub has_answered: bool,
}

/// What was read.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A line without its end.
    Line(Vec<u8>),
    /// More than a line may have.
    TooLong,
    /// Its output has ended.
    Closed,
}

impl Talk {
    /// With a program that was just started.
    pub fn with(child: Child, complaints: Complaints) -> Self {
        Self {
            child,
            unwritten: Vec::new(),
            written: 0,
            is_deaf: false,
            output: Vec::new(),
            searched: 0,
            has_closed: false,
            complaints,
            has_answered: false,
        }
    }

    /// Whether another line should wait.
    pub fn is_full(&self) -> bool {
        self.unwritten.len() - self.written > UNWRITTEN_MAX
    }

    /// Takes a line with its end, to be written.
    pub fn send(&mut self, line: &[u8]) {
        if self.written == self.unwritten.len() {
            self.unwritten.clear();
            self.written = 0;
        }
        self.unwritten.extend_from_slice(line);
    }

    /// Writes what the program takes.
    pub fn write(&mut self, cx: &mut Context<'_>) {
        while self.written < self.unwritten.len() && !self.is_deaf {
            match Pin::new(&mut self.child.input).poll_write(cx, &self.unwritten[self.written..]) {
                Poll::Ready(Ok(count @ 1..)) => self.written += count,
                Poll::Ready(_) => self.is_deaf = true,
                Poll::Pending => return,
            }
        }
    }

    /// Reads what it complains about.
    pub fn listen(&mut self, cx: &mut Context<'_>) {
        let mut block = [0; 4 << 10];
        // So much at once and no more: one that never stops must not keep its answers from being read.
        for _ in 0..64 {
            match Pin::new(&mut self.child.errors).poll_read(cx, &mut block) {
                Poll::Ready(Ok(count @ 1..)) => self.complaints.take(&block[..count]),
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    /// The next line of its output, of at most `max` bytes.
    pub fn poll_line(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Heard> {
        loop {
            if let Some(i) = self.output[self.searched..].iter().position(|b| *b == b'\n') {
                let rest = self.output.split_off(self.searched + i + 1);
                let mut line = std::mem::replace(&mut self.output, rest);
                self.searched = 0;
                line.pop();
                line.pop_if(|end| *end == b'\r');
                return Poll::Ready(if line.len() > max { Heard::TooLong } else { Heard::Line(line) });
            }
            self.searched = self.output.len();
            if self.output.len() > max {
                return Poll::Ready(Heard::TooLong);
            }
            if self.has_closed {
                return Poll::Ready(Heard::Closed);
            }
            let had = self.output.len();
            self.output.resize(had + BLOCK, 0);
            let read = Pin::new(&mut self.child.output).poll_read(cx, &mut self.output[had..]);
            self.output.truncate(had + if let Poll::Ready(Ok(count)) = read { count } else { 0 });
            match read {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => self.has_closed = true,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// How it ended, once it has by itself.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Exit>> {
        self.child.end.poll_end(cx)
    }
}
