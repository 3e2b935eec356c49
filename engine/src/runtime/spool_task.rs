//! The task before a lane of an isolated stage or sink: what has no room on the edge waits on the disk, in order.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};

use super::align::{Event, Inputs};
use super::channel::{Mailbox, Post, Sender};
use super::frame;
use super::spool::Spool;
use super::supervise::Note;
use crate::checkpoint::coordinator::{Command, Report, TaskId};
use crate::data::message::{Epoch, Message};
use crate::data::records::Records;
use crate::env::Env;
use crate::error::{Error, Kind, Result};

/// What a spool task works with.
pub struct SpoolTask {
    /// Its number in the plan.
    pub task: TaskId,
    /// The id of the stage or sink that it isolates.
    pub id: Arc<str>,
    /// What it reads: the lanes of the writer.
    pub inputs: Inputs,
    /// To the lane of the reader.
    pub out: Sender,
    /// What waits; none while a job on another thread has it.
    pub spool: Option<Spool>,
    /// From the coordinator.
    pub commands: Mailbox<Command>,
    /// To the coordinator.
    pub notes: Post<Note>,
    /// The world.
    pub env: Env,
}

/// Where the task is.
#[derive(Default)]
struct State {
    /// The oldest message, which leaves next.
    head: Option<Message>,
    /// Rows with their bytes that found no room on the disk; nothing is taken in until they have.
    held: Option<(Records, Vec<u8>)>,
    /// The newest epoch whose barrier may leave.
    released: Epoch,
    /// Whether the end has come in.
    ended: bool,
}

enum Heard {
    Command(Command),
    Event(Event),
    /// The head has left.
    Sent,
}

impl SpoolTask {
    /// Runs until the end has left.
    pub async fn run(mut self) -> Result<()> {
        let mut state = State::default();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(&command, &mut state)?;
            }
            if state.head.is_none() && !self.is_empty() {
                state.head = self.on_disk(Spool::pop).await?.map(|frame| frame.0);
            }
            if let Some((records, bytes)) = state.held.take() {
                self.keep(records, bytes, &mut state).await?;
            }
            match state.head.take() {
                Some(Message::End) => return self.out.control(Message::End),
                Some(message) => {
                    state.head = self.pass(message, state.released)?;
                    if state.head.is_none() {
                        continue;
                    }
                }
                None => {}
            }
            match self.hear(&state).await? {
                Heard::Command(command) => self.obey(&command, &mut state)?,
                Heard::Event(event) => self.take(event, &mut state).await?,
                Heard::Sent => state.head = None,
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    /// Works on the spool where blocking does no harm.
    async fn on_disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Spool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut spool = self.spool.take().ok_or_else(|| Error::engine("a spool is used twice at once"))?;
        let job = move || {
            let result = work(&mut spool);
            (spool, result)
        };
        let (spool, result) = self.env.blocking(job).await?;
        self.out.stats().spooled(spool.rows(), spool.bytes());
        self.spool = Some(spool);
        result.map_err(|e| e.context("the spool before it").at_stage(&self.id))
    }

    /// Sends a message on if there is room now, and gives it back if not. A barrier waits until its epoch has begun behind
    /// the spool: there is one under way at a time.
    fn pass(&self, message: Message, released: Epoch) -> Result<Option<Message>> {
        match message {
            Message::Records(records) => Ok(self.out.try_send(records)?.map(Message::Records)),
            Message::Barrier(epoch) if epoch > released => Ok(Some(message)),
            Message::Barrier(_) => self.out.control(message).map(|()| None),
            other => Ok(Some(other)),
        }
    }

    /// The next thing that happens: a command, room for the head, or something to take in.
    async fn hear(&mut self, state: &State) -> Result<Heard> {
        let takes = !state.ended && state.held.is_none();
        if takes && let Some(event) = self.inputs.try_next()? {
            return Ok(Heard::Event(event));
        }
        let (inputs, out) = (&mut self.inputs, &self.out);
        let event = pin!(async { if takes { inputs.next().await } else { pending().await } });
        let room = pin!(async {
            match &state.head {
                Some(Message::Records(records)) => out.send(records.clone()).await,
                Some(Message::Watermark(to)) => out.watermark(Message::Watermark(*to)).await,
                _ => pending().await,
            }
        });
        match select(pin!(self.commands.recv()), select(room, event)).await {
            Either::Left((command, _)) => {
                command.map(Heard::Command).map_err(|_| Error::new(Kind::Canceled, "the job's owner is gone"))
            }
            Either::Right((Either::Left((sent, _)), _)) => sent.map(|()| Heard::Sent),
            Either::Right((Either::Right((event, _)), _)) => event.map(Heard::Event),
        }
    }

    async fn take(&mut self, event: Event, state: &mut State) -> Result<()> {
        match event {
            Event::Records(_, records) => self.keep(records, Vec::new(), state).await?,
            Event::Watermark(to) => self.line_up(Message::Watermark(to), state).await?,
            Event::Barrier(epoch) => {
                self.line_up(Message::Barrier(epoch), state).await?;
                self.report(Report::Aligned(self.task, epoch, None)).await;
            }
            Event::End => {
                state.ended = true;
                self.line_up(Message::End, state).await?;
                self.report(Report::Finished(self.task)).await;
            }
        }
        Ok(())
    }

    /// Puts rows behind those that wait: past the disk when none do, on the disk when there is room; else they are held,
    /// and what writes waits. `bytes` are the rows as they stand on the disk, or nothing yet.
    async fn keep(&mut self, records: Records, bytes: Vec<u8>, state: &mut State) -> Result<()> {
        if state.head.is_none() && self.is_empty() {
            state.head = Some(Message::Records(records));
            return Ok(());
        }
        state.held = self
            .on_disk(move |spool| {
                let message = Message::Records(records.clone());
                let bytes = if bytes.is_empty() { frame::encode(&message)? } else { bytes };
                if !spool.fits(bytes.len()) {
                    return Ok(Some((records, bytes)));
                }
                spool.push(&bytes, records.batch.num_rows(), records.header.credit).map(|()| None)
            })
            .await?;
        Ok(())
    }

    /// Puts a watermark, a barrier or the end behind what waits. These few bytes always have room.
    async fn line_up(&mut self, message: Message, state: &mut State) -> Result<()> {
        if state.head.is_none() && self.is_empty() {
            state.head = Some(message);
            return Ok(());
        }
        self.on_disk(move |spool| spool.push(&frame::encode(&message)?, 0, None)).await
    }

    fn obey(&self, command: &Command, state: &mut State) -> Result<()> {
        let Command::Release(epoch) = command else {
            return Err(Error::engine("a command came to a spool that is none of its").at_stage(&self.id));
        };
        state.released = *epoch;
        Ok(())
    }

    async fn report(&mut self, report: Report) {
        // The owner is gone only when the job is.
        let _ = self.notes.send(Note::Report(report)).await;
    }
}
