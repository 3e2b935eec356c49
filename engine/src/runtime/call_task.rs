//! The task of a call: cuts rows into requests, keeps so many of them in flight, sends on their answers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, poll_immediate};

use super::align::{Event, Inputs};
use super::chain::first_error;
use super::channel::Post;
use super::dead_letter;
use super::emit::Outlets;
use super::in_flight::InFlight;
use super::narrow::panicked;
use super::shares::Shares;
use super::supervise::{Note, Supervisor};
use crate::api::{BoxCall, Call, CallContext, Cardinality, Limits, Rejected, Reply};
use crate::checkpoint::coordinator::{Report, TaskId};
use crate::checkpoint::saved::Saved;
use crate::data::message::Message;
use crate::data::records::{Header, Records, bytes_held};
use crate::data::secret::Secrets;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::graph::{OnError, Role};
use crate::metrics::{StageStats, Tally};
use crate::plan::{DEAD_LETTERS, PlannedNode};

/// What a call task works with.
pub struct CallTask {
    /// Its number in the plan.
    pub task: TaskId,
    /// Whether epochs are written.
    pub saves: bool,
    /// Its id in the spec, and the lane.
    pub id: Arc<str>,
    /// The call with its layers.
    pub call: BoxCall,
    /// What bounds it.
    pub limits: Limits,
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

/// What the idempotency keys of a stage's requests are made from, beside the row itself.
pub struct RequestKey {
    /// Its id, kind and configuration.
    pub stage: String,
    /// Different for each job and lane: for rows that can't be told apart by where they were read.
    pub unique: u64,
}

impl RequestKey {
    /// Its kind and configuration are part of it, so that a changed stage asks anew.
    pub fn of(node: &PlannedNode, unique: u64) -> Self {
        let Role::Stage(config) = &node.role else { return Self { stage: String::new(), unique } };
        Self { stage: format!("{} {} {}", node.id, config.0.kind(), config.0.describe()), unique }
    }
}

/// A request that has come back.
struct Answered {
    header: Header,
    rows: RecordBatch,
    reply: Result<Reply>,
    took: Duration,
}

enum Next {
    Event(Event),
    Answer(Answered),
}

impl CallTask {
    /// Runs until every input has ended and every request is answered.
    pub async fn run(mut self) -> Result<()> {
        let mut shares = Shares::new(self.env.clone());
        let mut tally = Tally::default();
        let mut in_flight = InFlight::new(self.limits.order);
        let mut pending: VecDeque<Records> = VecDeque::new();
        let mut requests = 0u64;
        // A barrier, watermark or end that waits until nothing is in flight: it never overtakes a row.
        let mut control: Option<Event> = None;
        loop {
            while in_flight.len() < self.limits.in_flight
                && let Some(records) = cut(&mut pending, self.limits.rows)
            {
                requests += 1;
                self.submit(records, requests, &mut in_flight).await;
            }
            if in_flight.is_empty() && pending.is_empty() {
                match control.take() {
                    Some(Event::End) => break,
                    Some(event) => {
                        self.outlets.flush(&mut shares).await?;
                        self.pass(event, &mut tally).await?;
                        continue;
                    }
                    None => {}
                }
            }
            let reads = pending.is_empty() && control.is_none();
            match self.next(reads, &mut in_flight, &mut shares, &mut tally).await? {
                Next::Event(Event::Records(_, records)) => {
                    tally.rows_in += records.batch.num_rows() as u64;
                    tally.bytes_in += bytes_held(&records.batch) as u64;
                    pending.push_back(records);
                }
                Next::Event(event) => control = Some(event),
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

    /// Starts a request. One that is answered at once costs no task.
    async fn submit(&self, records: Records, number: u64, in_flight: &mut InFlight<Answered>) {
        let mut context = self.context.clone();
        context.idempotency_key = self.key_of(&records, number);
        let (call, env, secrets) = (self.call.clone(), self.env.clone(), self.secrets.clone());
        let mut request: BoxFuture<'static, Answered> = async move {
            let Records { batch: rows, header } = records;
            let start = env.monotonic();
            let reply = AssertUnwindSafe(perform(&call, rows.clone(), &context)).catch_unwind().await;
            let reply = reply.unwrap_or_else(|panic| Err(panicked(&*panic)));
            let reply = match reply {
                Err(error) => {
                    // What becomes data must not show what the request was made with.
                    let error = error.reworded(|text| secrets.conceal(text));
                    match call.failed(&rows, &error, &context) {
                        Some(answer) => Ok(Reply::rows(answer)),
                        None => Err(error),
                    }
                }
                reply => reply,
            };
            Answered { header, rows, reply, took: env.monotonic().saturating_sub(start) }
        }
        .boxed();
        match poll_immediate(&mut request).await {
            Some(answered) => in_flight.answered(answered),
            None => in_flight.waiting(self.supervisor.spawn_request(&self.id, request)),
        }
    }

    /// The same for a replayed row; without an origin, unique in the job.
    fn key_of(&self, records: &Records, number: u64) -> Arc<str> {
        match records.header.origin.as_deref() {
            Some(origin) => {
                let rows =
                    crate::data::json::row_value(&records.batch, 0).map(|v| serde_json::Value::Object(v).to_string());
                let mut hash = blake3::Hasher::new();
                hash.update(self.key.stage.as_bytes())
                    .update(b"\0")
                    .update(origin.split.name().as_bytes())
                    .update(b"\0");
                hash.update(origin.position.to_string().as_bytes()).update(b"\0");
                hash.update(rows.unwrap_or_default().as_bytes());
                hash.finalize().to_hex()[..32].into()
            }
            None => format!("{}-{:x}-{number}", self.id, self.key.unique).into(),
        }
    }

    async fn next(
        &mut self,
        reads: bool,
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
        let inputs = &mut self.inputs;
        let mut input =
            std::pin::pin!(async move { if reads { inputs.next().await } else { std::future::pending().await } });
        let next = poll_fn(|context| {
            if let Poll::Ready(Some(answer)) = in_flight.poll_next(context) {
                return Poll::Ready(answer.map(Next::Answer));
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
        let Answered { header, rows, reply, took } = answered;
        tally.latency.record(crate::metrics::nanos(took));
        let Reply { rows: answer, rejected, .. } = match reply {
            Ok(reply) => reply,
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
                    let error = first_error(rejected).at_stage(&self.id);
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

    async fn pass(&mut self, event: Event, tally: &mut Tally) -> Result<()> {
        match event {
            Event::Watermark(to) => self.outlets.watermark(&Message::Watermark(to)).await,
            Event::Barrier(epoch) => {
                // Nothing is saved of requests in flight: the barrier has waited for them.
                tally.flush(&self.stats);
                self.audit()?;
                if self.saves {
                    // Nothing is in flight, so nothing but the barrier's place is kept.
                    let _ = self.notes.send(Note::Saved(self.task, Saved::default())).await;
                }
                self.outlets.control(&Message::Barrier(epoch))?;
                self.report(Report::Aligned(self.task, epoch, None)).await;
                Ok(())
            }
            Event::Records(..) | Event::End => Err(Error::engine("rows and the end are not passed on as control")),
        }
    }

    fn audit(&self) -> Result<()> {
        let get = |c: &AtomicU64| c.load(Relaxed);
        let s = &self.stats;
        let (input, output, rejected) = (get(&s.rows_in), get(&s.rows_out), get(&s.rows_rejected));
        if self.cardinality == Cardinality::Many || input == output + rejected {
            return Ok(());
        }
        Err(Error::engine(format!("rows are unaccounted for: {input} in, {output} out, {rejected} rejected"))
            .at_stage(&self.id))
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
    first.usage.input_tokens += second.usage.input_tokens;
    first.usage.output_tokens += second.usage.output_tokens;
    first.usage.usd += second.usage.usd;
    first.limits = second.limits.or(first.limits);
    Ok(first)
}

/// The next request's rows: up to `rows` of the oldest batch.
fn cut(pending: &mut VecDeque<Records>, rows: usize) -> Option<Records> {
    let front = pending.front_mut()?;
    let count = front.batch.num_rows();
    if count <= rows {
        return pending.pop_front();
    }
    let batch = front.batch.slice(0, rows);
    front.batch = front.batch.slice(rows, count - rows);
    Some(Records { batch, header: front.header.clone() })
}
