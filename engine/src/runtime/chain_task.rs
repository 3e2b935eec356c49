//! The task of fused stages: merges its inputs, works them, sends on what leaves.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};

use super::align::{Event, Inputs};
use super::chain::{Chain, Emission};
use super::channel::Post;
use super::dead_letter;
use super::emit::Outlets;
use super::shares::Shares;
use super::supervise::Note;
use crate::checkpoint::coordinator::{Report, TaskId};
use crate::checkpoint::saved::Saved;
use crate::data::message::Message;
use crate::data::records::{Credit, Header, Records};
use crate::data::secret::Secrets;
use crate::env::Env;
use crate::error::Result;
use crate::plan::DEAD_LETTERS;

/// What a chain task works with.
pub struct ChainTask {
    /// Its number in the plan.
    pub task: TaskId,
    /// Its lane.
    pub lane: usize,
    /// Whether an earlier run had come to its end, so that nothing is left to say.
    pub finished_before: bool,
    /// Whether its state is saved at barriers.
    pub saves: bool,
    /// The stages.
    pub chain: Chain,
    /// What it reads.
    pub inputs: Inputs,
    /// What it writes to.
    pub outlets: Outlets,
    /// To the coordinator.
    pub notes: Post<Note>,
    /// What dead letters must not show.
    pub secrets: Secrets,
    /// The world.
    pub env: Env,
}

/// Admissions of rows that the stages hold back, oldest first. They are given back in the order they came: which rows
/// left does not matter for the bound, only how many.
#[derive(Default)]
struct Retained {
    credits: VecDeque<(usize, Arc<Credit>)>,
    rows: usize,
}

impl Retained {
    /// Keeps the admission of rows that came with a batch and are held now.
    fn keep(&mut self, held: usize, credit: Option<&Arc<Credit>>) {
        if let (Some(credit), true) = (credit, held > self.rows) {
            self.credits.push_back((held - self.rows, credit.clone()));
            self.rows = held;
        }
    }

    /// The admissions of rows that are held no more; they go on with the rows that leave.
    fn release(&mut self, held: usize) -> Vec<Arc<Credit>> {
        let mut released = Vec::new();
        while self.rows > held
            && let Some((rows, credit)) = self.credits.front_mut()
        {
            let gone = (*rows).min(self.rows - held);
            *rows -= gone;
            self.rows -= gone;
            released.push(credit.clone());
            if *rows == 0 {
                self.credits.pop_front();
            }
        }
        released
    }
}

impl ChainTask {
    /// Runs until every input has ended.
    pub async fn run(mut self) -> Result<()> {
        let mut shares = Shares::new(self.env.clone());
        let mut retained = Retained::default();
        // What leaves at a wake-up or at the end was held back: it inherits of the last rows that came.
        let mut last = Header::default();
        loop {
            let Some(event) = self.next(&mut shares).await? else {
                self.chain.tick();
                self.drive(&last, &mut retained, &mut shares).await?;
                continue;
            };
            match event {
                Event::Records(input, Records { batch, header }) => {
                    self.chain.rows(input, batch);
                    self.drive(&header, &mut retained, &mut shares).await?;
                    if header.credit.is_some() && self.chain.is_stateful() {
                        retained.keep(self.chain.rows_held()?, header.credit.as_ref());
                    }
                    last = Header { credit: None, ..header };
                    if shares.is_due(self.chain.now()) {
                        self.flush(&mut shares);
                    }
                }
                Event::Watermark(to) => {
                    self.chain.advance(to);
                    self.drive(&last, &mut retained, &mut shares).await?;
                    self.outlets.flush(&mut shares).await?;
                    self.outlets.watermark(&Message::Watermark(to)).await?;
                }
                Event::Barrier(epoch) => {
                    self.chain.audit()?;
                    self.outlets.flush(&mut shares).await?;
                    if self.saves {
                        let pieces = self.chain.save(self.lane)?;
                        self.note(Note::Saved(self.task, Saved { pieces, ..Saved::default() })).await;
                    }
                    self.outlets.control(&Message::Barrier(epoch))?;
                    self.report(Report::Aligned(self.task, epoch, None)).await;
                }
                Event::End => break,
            }
        }
        if !self.finished_before {
            self.chain.finish();
        }
        self.drive(&last, &mut retained, &mut shares).await?;
        self.chain.audit()?;
        self.outlets.flush(&mut shares).await?;
        self.flush(&mut shares);
        self.outlets.control(&Message::End)?;
        self.report(Report::Finished(self.task)).await;
        Ok(())
    }

    /// The next event; none when it is time to wake a stage.
    async fn next(&mut self, shares: &mut Shares) -> Result<Option<Event>> {
        let wake_at = self.chain.wake_at();
        if wake_at.is_some_and(|at| at <= self.chain.now()) {
            return Ok(None);
        }
        if let Some(event) = self.inputs.try_next()? {
            return Ok(Some(event));
        }
        self.outlets.flush(shares).await?;
        self.flush(shares);
        let Some(at) = wake_at else { return self.inputs.next().await.map(Some) };
        let wait = at.saturating_sub(self.env.monotonic()).min(Duration::from_mins(1));
        match select(pin!(self.inputs.next()), self.env.sleep(wait)).await {
            Either::Left((event, _)) => event.map(Some),
            Either::Right(_) => Ok(None),
        }
    }

    /// Works until the stages are done, sending on what leaves after each call.
    async fn drive(&mut self, header: &Header, retained: &mut Retained, shares: &mut Shares) -> Result<()> {
        let read_at = |e| dead_letter::placed(e, header.origin.as_deref());
        while self.chain.step().map_err(read_at)? {
            if self.chain.outbox.is_empty() {
                continue;
            }
            let released = if retained.rows > 0 { retained.release(self.chain.rows_held()?) } else { Vec::new() };
            let carrying;
            let header = if released.is_empty() {
                header
            } else {
                // Rows that were held back leave with their own admissions beside that of the batch that freed them.
                carrying =
                    Header { credit: Some(Arc::new(Credit::new((released, header.credit.clone())))), ..header.clone() };
                &carrying
            };
            let mut outbox = std::mem::take(&mut self.chain.outbox);
            for emission in outbox.drain(..) {
                let (node, port, batch) = match emission {
                    Emission::Rows(node, port, batch) => (node, port, batch),
                    Emission::Rejected(node, rejected) => {
                        let id = &self.chain.slots[node].id;
                        let batch = dead_letter::batch(
                            id,
                            &rejected,
                            header.origin.as_deref(),
                            (self.env.wall(), &self.secrets),
                        )?;
                        (node, DEAD_LETTERS, batch)
                    }
                };
                self.outlets.send(node, port, Records { batch, header: header.clone() }, shares).await?;
            }
            // The buffer goes back, so that a batch costs no allocation.
            self.chain.outbox = outbox;
        }
        Ok(())
    }

    fn flush(&mut self, shares: &mut Shares) {
        shares.flush(self.chain.slots.iter_mut().map(|s| (&mut s.tally, &s.stats)));
    }

    async fn report(&mut self, report: Report) {
        self.note(Note::Report(report)).await;
    }

    async fn note(&mut self, note: Note) {
        // The owner is gone only when the job is.
        let _ = self.notes.send(note).await;
    }
}
