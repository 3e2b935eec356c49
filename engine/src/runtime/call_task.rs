//! The task of a call: cuts rows into requests, keeps so many of them in flight, sends on their answers.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, poll_immediate, select_all};

use super::align::{Event, Inputs};
use super::channel::Post;
use super::dead_letter;
use super::emit::Outlets;
use super::in_flight::InFlight;
use super::narrow::panicked;
use super::requests::{Request, RequestKey, Requests};
use super::shares::Shares;
use super::supervise::{Note, Supervisor};
use crate::api::{BoxCall, Call, CallContext, Cardinality, Limits, Purse, Rejected, Reply};
use crate::call::places::{Place, Places};
use crate::checkpoint::coordinator::{Report, TaskId};
use crate::checkpoint::saved::{Saved, Saver};
use crate::data::message::{Epoch, Message};
use crate::data::records::{Records, bytes_held};
use crate::data::secret::Secrets;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::graph::OnError;
use crate::metrics::{StageStats, Tally};
use crate::plan::DEAD_LETTERS;
use crate::state::visitor::Piece;
use crate::time::Timestamp;

/// What a call task works with.
pub struct CallTask {
    /// Its number in the plan.
    pub task: TaskId,
    /// Its lane.
    pub lane: usize,
    /// Whether epochs are written: a barrier then passes requests in flight, which are kept with the epoch.
    pub saves: bool,
    /// Its id in the spec.
    pub id: Arc<str>,
    /// What it has to do; of an earlier run at first.
    pub requests: Requests,
    /// The call with its layers.
    pub call: BoxCall,
    /// What bounds it.
    pub limits: Limits,
    /// Of its requests: as many as may be in flight.
    pub places: Arc<Places>,
    /// What its requests are paid out of.
    pub purses: Vec<Arc<Purse>>,
    /// How many rows leave for one that enters.
    pub cardinality: Cardinality,
    /// What a request is made with; key and attempt are filled in for each.
    pub context: CallContext,
    /// What the keys of its requests are made from.
    pub key: RequestKey,
    /// What it reads.
    pub inputs: Inputs,
    /// What it writes to.
    pub outlets: Outlets,
    /// To the coordinator.
    pub notes: Post<Note>,
    /// What happens to rows that fail.
    pub on_error: OnError,
    /// Who runs the requests.
    pub supervisor: Arc<Supervisor>,
    /// The counters of the lane.
    pub stats: Arc<StageStats>,
    /// What dead letters must not show.
    pub secrets: Secrets,
    /// The world.
    pub env: Env,
}

/// A request that has come back.
struct Answered {
    request: Request,
    reply: Result<Reply>,
    took: Duration,
}

/// Watermarks that came while requests were in flight: none overtakes a row.
#[derive(Default)]
struct Time {
    /// The one that goes first, when the answers up to this request have left.
    held: Option<(u64, Timestamp)>,
    /// The newest that came behind it.
    then: Option<Timestamp>,
}

impl Time {
    /// Nothing waits for its request when something else than rows comes.
    fn came(&mut self, to: Timestamp, requests: &Requests) {
        match self.held {
            None => self.held = Some((requests.newest(), to)),
            Some(_) => self.then = self.then.max(Some(to)),
        }
    }

    /// The one that may go now.
    fn due(&mut self, requests: &Requests) -> Option<Timestamp> {
        let (_, to) = self.held.take_if(|(number, _)| requests.are_answered(*number))?;
        self.held = self.then.take().map(|to| (requests.newest(), to));
        Some(to)
    }
}

enum Next {
    Event(Event),
    Answer(Answered),
    /// There is nothing left to pay with.
    Spent,
    /// There is a place for one more request.
    Free,
}

impl CallTask {
    /// Runs until every input has ended and every request is answered.
    pub async fn run(mut self) -> Result<()> {
        let mut shares = Shares::new(self.env.clone());
        let mut tally = Tally::default();
        let mut in_flight = InFlight::new(self.limits.order);
        let mut time = Time::default();
        // A barrier or the end that waits until nothing is in flight.
        let mut control: Option<Event> = None;
        loop {
            while self.may_begin(&in_flight)
                && let Some(place) = self.places.take()
                && let Some(request) = self.requests.next(self.limits.rows, |r| self.key.of_request(r, &self.id))
            {
                self.submit(request, place, &mut in_flight).await;
            }
            if let Some(to) = time.due(&self.requests) {
                self.outlets.flush(&mut shares).await?;
                self.outlets.watermark(&Message::Watermark(to)).await?;
                continue;
            }
            if self.requests.is_idle() {
                match control.take() {
                    Some(Event::Barrier(epoch)) => {
                        self.barrier(epoch, &mut tally, &mut shares).await?;
                        continue;
                    }
                    Some(_) => break,
                    None => {}
                }
            }
            // What is not paid for is never answered: the last barrier would wait behind rows that are not read.
            let pauses = self.saves && self.purses.iter().any(|purse| purse.is_pausing());
            let reads = (self.requests.wants_more() || pauses) && control.is_none();
            let listens = self.saves && !pauses && !reads;
            match self.next((reads, listens), &mut in_flight, &mut shares, &mut tally).await? {
                Next::Event(Event::Records(_, records)) => {
                    tally.rows_in += records.batch.num_rows() as u64;
                    tally.bytes_in += bytes_held(&records.batch) as u64;
                    self.requests.push(records);
                }
                Next::Event(Event::Watermark(to)) => time.came(to, &self.requests),
                // What is in flight is kept with the epoch.
                Next::Event(Event::Barrier(epoch)) if self.saves => {
                    self.barrier(epoch, &mut tally, &mut shares).await?;
                }
                Next::Event(event) => control = Some(event),
                Next::Spent | Next::Free => {}
                Next::Answer(answered) => self.answer(answered, &mut tally, &mut shares).await?,
            }
        }
        self.outlets.flush(&mut shares).await?;
        shares.flush(std::iter::once((&mut tally, &self.stats)));
        self.audit()?;
        self.outlets.control(&Message::End)?;
        self.report(Report::Finished(self.task)).await;
        Ok(())
    }

    /// Whether there is room for one more: those that wait without a place are not among the ones that may be in flight.
    fn may_begin(&self, in_flight: &InFlight<Answered>) -> bool {
        in_flight.len() < self.limits.in_flight + self.places.resting()
    }

    /// Starts a request, which has its place until it is answered. One that is answered at once costs no task.
    async fn submit(&self, request: Request, place: Place, in_flight: &mut InFlight<Answered>) {
        let mut context = self.context.clone();
        context.idempotency_key = request.key.clone().unwrap_or_default();
        context.ingested = request.header.ingested;
        let (call, env, secrets) = (self.call.clone(), self.env.clone(), self.secrets.clone());
        let mut answer: BoxFuture<'static, Answered> = async move {
            let start = env.monotonic();
            let reply = AssertUnwindSafe(perform(&call, request.rows.clone(), &context)).catch_unwind().await;
            let reply = reply.unwrap_or_else(|panic| Err(panicked(&*panic)));
            let reply = match reply {
                Err(error) => {
                    // What becomes data must not show what the request was made with.
                    let error = error.reworded(|text| secrets.conceal(text));
                    match call.failed(&request.rows, &error, &context) {
                        Some(answer) => Ok(Reply::rows(answer)),
                        None => Err(error),
                    }
                }
                reply => reply,
            };
            drop(place);
            Answered { request, reply, took: env.monotonic().saturating_sub(start) }
        }
        .boxed();
        match poll_immediate(&mut answer).await {
            Some(answered) => in_flight.answered(answered),
            None => in_flight.waiting(self.supervisor.spawn_request(&self.id, answer)),
        }
    }

    async fn next(
        &mut self,
        (reads, listens): (bool, bool),
        in_flight: &mut InFlight<Answered>,
        shares: &mut Shares,
        tally: &mut Tally,
    ) -> Result<Next> {
        if reads && let Some(event) = self.inputs.try_next()? {
            return Ok(Next::Event(event));
        }
        self.outlets.flush(shares).await?;
        let waits_for_answers = !in_flight.is_empty();
        let start = self.env.monotonic();
        shares.flush(std::iter::once((&mut *tally, &self.stats)));
        let (places, most) = (self.places.clone(), self.limits.in_flight);
        let begins = !self.requests.wants_more();
        let inputs = &mut self.inputs;
        let mut input =
            std::pin::pin!(async move { if reads { inputs.next().await } else { std::future::pending().await } });
        let purses = self.purses.iter().filter(|_| listens).map(|purse| purse.paused().boxed());
        let mut spent = select_all(purses.chain([std::future::pending().boxed()]));
        let next = poll_fn(|context| {
            if spent.poll_unpin(context).is_ready() {
                return Poll::Ready(Ok(Next::Spent));
            }
            if let Poll::Ready(Some(answer)) = in_flight.poll_next(context) {
                return Poll::Ready(answer.map(Next::Answer));
            }
            if begins && places.poll_free(context).is_ready() && in_flight.len() < most + places.resting() {
                return Poll::Ready(Ok(Next::Free));
            }
            input.as_mut().poll(context).map(|event| event.map(Next::Event))
        })
        .await;
        if waits_for_answers {
            shares.add_waiting(self.env.monotonic().saturating_sub(start));
        }
        next
    }

    async fn answer(&mut self, answered: Answered, tally: &mut Tally, shares: &mut Shares) -> Result<()> {
        let Answered { request: Request { number, header, rows, .. }, reply, took } = answered;
        self.requests.answered(number);
        tally.latency.record(crate::metrics::nanos(took));
        let Reply { rows: answer, rejected, .. } = match reply {
            Ok(reply) => reply,
            // Nobody is asked any more, so whatever is done with rows that fail, none would be left.
            Err(error) if error.kind() == Kind::Budget && self.purses.iter().any(|purse| purse.has_failed()) => {
                return Err(error.at_stage(&self.id));
            }
            Err(error) => {
                Reply { rejected: vec![Rejected::rows(rows.clone(), error)], ..Reply::rows(rows.slice(0, 0)) }
            }
        };
        let refused: usize = rejected.iter().map(Rejected::count).sum();
        if self.cardinality == Cardinality::One && answer.num_rows() + refused != rows.num_rows() {
            let (sent, got) = (rows.num_rows(), answer.num_rows());
            return Err(Error::engine(format!("{sent} rows were sent, {got} came back and {refused} were refused"))
                .at_stage(&self.id));
        }
        if !rejected.is_empty() {
            tally.rows_rejected += refused as u64;
            match self.on_error {
                OnError::Fail => {
                    let error = dead_letter::first_error(rejected).at_stage(&self.id);
                    return Err(dead_letter::placed(error, header.origin.as_deref()));
                }
                OnError::Drop => {}
                OnError::DeadLetter => {
                    let batch = dead_letter::batch(
                        &self.id,
                        &rejected,
                        header.origin.as_deref(),
                        (self.env.wall(), &self.secrets),
                    )?;
                    let records = Records { batch, header: header.clone() };
                    self.outlets.send(0, DEAD_LETTERS, records, shares).await?;
                }
            }
        }
        if answer.num_rows() > 0 {
            tally.rows_out += answer.num_rows() as u64;
            tally.bytes_out += bytes_held(&answer) as u64;
            self.outlets.send(0, 0, Records { batch: answer, header }, shares).await?;
        }
        Ok(())
    }

    async fn barrier(&mut self, epoch: Epoch, tally: &mut Tally, shares: &mut Shares) -> Result<()> {
        self.outlets.flush(shares).await?;
        tally.flush(&self.stats);
        self.audit()?;
        if self.saves {
            let mut pieces = Vec::new();
            self.requests.save(Saver { node: &self.id, lane: self.lane, into: &mut pieces })?;
            let _ = self.notes.send(Note::Saved(self.task, Saved { pieces, ..Saved::default() })).await;
        }
        self.outlets.control(&Message::Barrier(epoch))?;
        self.report(Report::Aligned(self.task, epoch, None)).await;
        Ok(())
    }

    fn audit(&self) -> Result<()> {
        let get = |c: &AtomicU64| c.load(Relaxed);
        let s = &self.stats;
        let (input, output, rejected) =
            (get(&s.rows_in) + self.requests.restored(), get(&s.rows_out), get(&s.rows_rejected));
        let held = self.requests.rows_held() as u64;
        s.rows_held.store(held, Relaxed);
        if self.cardinality == Cardinality::Many || input == output + rejected + held {
            return Ok(());
        }
        let message =
            format!("rows are unaccounted for: {input} in, {output} out, {rejected} rejected, {held} in requests");
        Err(Error::engine(message).at_stage(&self.id))
    }

    async fn report(&mut self, report: Report) {
        // The owner is gone only when the job is.
        let _ = self.notes.send(Note::Report(report)).await;
    }
}

/// A request; one of several rows that is refused as a whole is tried in halves, so that only the rows at fault fail.
fn perform<'a>(call: &'a BoxCall, rows: RecordBatch, context: &'a CallContext) -> BoxFuture<'a, Result<Reply>> {
    async move {
        let count = rows.num_rows();
        match call.call(rows.clone(), context).await {
            Err(error) if error.kind() == Kind::Validation && count > 1 => {
                let halves = [rows.slice(0, count / 2), rows.slice(count / 2, count - count / 2)];
                let mut whole: Option<Reply> = None;
                for (i, half) in halves.into_iter().enumerate() {
                    let key = format!("{}.{i}", context.idempotency_key).into();
                    let context = CallContext { idempotency_key: key, ..context.clone() };
                    let part = match perform(call, half.clone(), &context).await {
                        Ok(part) => part,
                        Err(error) => {
                            Reply { rejected: vec![Rejected::rows(half, error)], ..Reply::rows(rows.slice(0, 0)) }
                        }
                    };
                    whole = Some(match whole {
                        None => part,
                        Some(whole) => merge(whole, part)?,
                    });
                }
                whole.ok_or(error)
            }
            reply => reply,
        }
    }
    .boxed()
}

fn merge(mut first: Reply, mut second: Reply) -> Result<Reply> {
    first.rows = match (first.rows.num_rows(), second.rows.num_rows()) {
        (_, 0) => first.rows,
        (0, _) => second.rows,
        _ => arrow::compute::concat_batches(&first.rows.schema(), [&first.rows, &second.rows])?,
    };
    first.rejected.append(&mut second.rejected);
    first.usage += second.usage;
    first.limits = second.limits.or(first.limits);
    Ok(first)
}
