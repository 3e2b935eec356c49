//! A sink: a message for each row, and an acknowledgement for each message.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_nats::jetstream::context::{GetStreamByNameErrorKind, PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode, message::PublishMessage};
use bourn_engine::api::template::Template;
use bourn_engine::api::{BoxSink, Outage, Receipt, Rejected, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use bytes::Bytes;
use futures::FutureExt;

use super::connect::{connect, connect_for, place};
use super::decode::TEXT;
use super::{IN_FLIGHT_MAX, Nats, NatsFormat};
use crate::codec::json::Encoder;

/// How often a message is tried, and the wait before the second time; each further one is twice as long.
const ATTEMPTS: u32 = 7;
const WAIT: Duration = Duration::from_millis(100);

/// What is published.
#[derive(Debug)]
pub(super) struct Publication {
    subject: Template,
    id: Option<Template>,
    content: Content,
    in_flight: usize,
}

#[derive(Debug)]
enum Content {
    Json(Box<Encoder>),
    /// The column of this number.
    Text(usize),
}

impl Publication {
    pub(super) fn of(nats: &Nats, schema: &SchemaRef) -> Result<Self, Problems> {
        let Some(subject) = &nats.subject else {
            return Err(Problem::new("a sink needs `subject`, the one to publish to").into());
        };
        let mut problems = Vec::new();
        let mut template = |key: &str, text: &str| {
            let parsed = Template::parse(text).map_err(|p| Problems(vec![p])).and_then(|t| {
                Problems::check(t.check(schema.fields().iter().map(|f| f.name().as_str())))?;
                Ok(t)
            });
            parsed.map_err(|p| problems.extend(p.under(key).0)).ok()
        };
        let parsed = template("subject", subject);
        let id = nats.id.as_ref().and_then(|id| template("id", id));
        if parsed.as_ref().is_some_and(|s| s.references().next().is_none()) && !is_subject(subject) {
            let problem = Problem::new(format!("`{subject}` is no subject to publish to")).under("subject");
            problems.push(problem.help("a subject is words between dots, without spaces, `*` and `>`"));
        }
        let content = match nats.format {
            NatsFormat::Json => Encoder::new(schema).map(|e| Content::Json(Box::new(e))),
            NatsFormat::Text => text_column(schema).map(Content::Text),
        };
        let content = content.map_err(|e| problems.push(Problem::new(e.message().to_owned()))).ok();
        Problems::check(problems)?;
        match (parsed, content) {
            (Some(subject), Some(content)) => {
                Ok(Self { subject, id, content, in_flight: nats.in_flight.clamp(1, IN_FLIGHT_MAX) })
            }
            _ => Err(Problem::new("nothing can be published").into()),
        }
    }
}

fn text_column(schema: &SchemaRef) -> Result<usize> {
    let found = schema.index_of(TEXT).ok().filter(|i| *schema.field(*i).data_type() == DataType::Utf8);
    found.ok_or_else(|| {
        Error::validation(format!("`format: text` publishes the text column `{TEXT}`, which is not there"))
    })
}

/// The text of a template for a row; a null would be the word `null`.
fn filled(template: &Template, rows: &RecordBatch, row: usize) -> Result<String> {
    let null = |name: &str| rows.column_by_name(name).is_some_and(|c| c.is_null(row));
    if let Some(place) = template.references().find(|r| null(&r.root)) {
        return Err(Error::validation("a null names no subject and no message").at_field(place.root.clone()));
    }
    template.render(rows, row)
}

/// Whether it can be published to.
fn is_subject(text: &str) -> bool {
    let word =
        |w: &str| !w.is_empty() && w != "*" && w != ">" && !w.contains(|c: char| c.is_whitespace() || c.is_control());
    text.split('.').all(word)
}

pub(super) async fn sink(nats: &Nats, publication: Publication, context: SinkContext) -> Result<BoxSink> {
    let SinkContext { env, id, .. } = context;
    let context = connect_for(nats, Outage::of(&id, &env)).await?;
    let (place, random) = (place(nats), env.random());
    Ok(BoxSink::new(NatsSink { context, publication, env, place, random, published: 0 }))
}

/// Connects, and asks for a stream that takes the subject, if there is one for all rows.
pub(super) async fn reach(nats: &Nats, publication: &Publication) -> Result<(), Problems> {
    let context = connect(nats).await.map_err(|e| Problem::new(e.message().to_owned()).under("servers"))?;
    let told = |what: String| Problem::new(format!("{}: {what}", place(nats)));
    match &nats.subject {
        Some(subject) if publication.subject.references().next().is_none() => {
            let found = context.stream_by_subject(subject.as_str()).await;
            found.map(drop).map_err(|e| match e.kind() {
                GetStreamByNameErrorKind::NotFound => {
                    told(format!("no stream takes the subject `{subject}`")).under("subject").into()
                }
                _ => told(e.to_string()).under("servers").into(),
            })
        }
        _ => context.query_account().await.map(drop).map_err(|e| told(e.to_string()).under("servers").into()),
    }
}

struct NatsSink {
    context: Context,
    publication: Publication,
    env: Env,
    place: String,
    /// What tells the messages of this sink from those of others.
    random: u64,
    published: u64,
}

/// A row as a message.
struct Outgoing {
    row: usize,
    subject: String,
    id: String,
    payload: Bytes,
}

/// What became of a message that was not taken.
enum Refusal {
    /// Another attempt may help.
    Passing(Error),
    /// Not this row.
    Row(Error),
    /// No stream wants the subject, or `JetStream` is not up yet.
    NoStream(Error),
}

impl Sink for NatsSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let mut written = Written::all();
        let mut reject = |row: usize, error: Error| {
            written.rejected.push(Rejected::rows(rows.slice(row, 1), error.at_row(row)));
        };
        let mut outgoing = self.outgoing(rows, &mut reject)?;
        for attempt in 0..ATTEMPTS {
            let mut again = Vec::new();
            let mut why = None;
            for (message, refusal) in self.publish(outgoing).await {
                match refusal {
                    Refusal::Row(error) => reject(message.row, error),
                    refusal => {
                        again.push(message);
                        why = Some(refusal);
                    }
                }
            }
            let Some(why) = why else { return Ok(written) };
            if attempt + 1 < ATTEMPTS {
                self.env.sleep(WAIT * 2_u32.pow(attempt)).await;
                outgoing = again;
                continue;
            }
            return match why {
                // A subject of one row's own making is that row's fault, where the server is well.
                Refusal::NoStream(_) if self.is_drawn() && self.context.query_account().await.is_ok() => {
                    for message in again {
                        let error = Error::validation(format!("no stream takes the subject `{}`", message.subject));
                        reject(message.row, error);
                    }
                    Ok(written)
                }
                Refusal::NoStream(error) | Refusal::Passing(error) | Refusal::Row(error) => Err(error),
            };
        }
        Ok(written)
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        // Every message was acknowledged before its `write` returned.
        Ok(None)
    }
}

impl NatsSink {
    /// Whether the subject depends on the row.
    fn is_drawn(&self) -> bool {
        self.publication.subject.references().next().is_some()
    }

    fn outgoing(&mut self, rows: &RecordBatch, reject: &mut impl FnMut(usize, Error)) -> Result<Vec<Outgoing>> {
        let payloads = self.payloads(rows)?;
        let mut outgoing = Vec::with_capacity(rows.num_rows());
        for (row, payload) in payloads.into_iter().enumerate() {
            let subject = filled(&self.publication.subject, rows, row);
            let subject = subject.and_then(|s| {
                let wrong = || Error::validation(format!("`{}` is no subject to publish to", s.escape_debug()));
                if is_subject(&s) { Ok(s) } else { Err(wrong()) }
            });
            self.published += 1;
            let id = match &self.publication.id {
                Some(id) => filled(id, rows, row).and_then(|id| {
                    let is_id = !id.is_empty() && !id.contains(char::is_control);
                    if is_id { Ok(id) } else { Err(Error::validation(format!("`{}` is no id", id.escape_debug()))) }
                }),
                None => Ok(format!("{:016x}-{:x}", self.random, self.published)),
            };
            match (subject, id, payload) {
                (Ok(subject), Ok(id), Some(payload)) => outgoing.push(Outgoing { row, subject, id, payload }),
                (Err(error), ..) | (_, Err(error), _) => reject(row, error),
                (.., None) => reject(row, Error::validation("a null has no text").at_field(TEXT)),
            }
        }
        Ok(outgoing)
    }

    fn payloads(&mut self, rows: &RecordBatch) -> Result<Vec<Option<Bytes>>> {
        match &mut self.publication.content {
            Content::Json(encoder) => {
                let mut text = Vec::new();
                encoder.encode(rows, &mut text)?;
                let text = Bytes::from(text);
                let mut begin = 0;
                Ok(memchr::memchr_iter(b'\n', &text)
                    .map(|end| {
                        let line = text.slice(begin..end);
                        begin = end + 1;
                        Some(line)
                    })
                    .collect())
            }
            Content::Text(column) => {
                let texts = rows.column(*column).as_string::<i32>();
                let text = |i| texts.is_valid(i).then(|| Bytes::copy_from_slice(texts.value(i).as_bytes()));
                Ok((0..rows.num_rows()).map(text).collect())
            }
        }
    }

    /// Publishes in order, so many at a time as may wait; returns those that were not taken.
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<(Outgoing, Refusal)> {
        let mut waiting: VecDeque<(Outgoing, PublishAckFuture)> = VecDeque::new();
        let (mut refused, mut late) = (Vec::new(), false);
        for message in messages {
            if waiting.len() >= self.publication.in_flight
                && let Some(oldest) = waiting.pop_front()
            {
                refused.extend(self.acknowledged(oldest, &mut late).await);
            }
            let content = PublishMessage::build().payload(message.payload.clone()).message_id(&message.id);
            match self.context.send_publish(message.subject.clone(), content).await {
                Ok(ack) => waiting.push_back((message, ack)),
                Err(e) => {
                    let refusal = self.refusal(e);
                    refused.push((message, refusal));
                }
            }
        }
        for oldest in waiting {
            refused.extend(self.acknowledged(oldest, &mut late).await);
        }
        refused
    }

    /// Waits for an acknowledgement; after one came too `late`, for no other: thousands would be waited for in turn.
    async fn acknowledged(
        &self,
        (message, ack): (Outgoing, PublishAckFuture),
        late: &mut bool,
    ) -> Option<(Outgoing, Refusal)> {
        let ack = ack.into_future();
        let done = if *late { ack.now_or_never() } else { Some(ack.await) };
        match done.unwrap_or_else(|| Err(PublishError::new(PublishErrorKind::TimedOut))) {
            Ok(_) => None,
            Err(e) => {
                *late |= e.kind() == PublishErrorKind::TimedOut;
                Some((message, self.refusal(e)))
            }
        }
    }

    fn refusal(&self, error: PublishError) -> Refusal {
        let told = std::error::Error::source(&error).map(ToString::to_string);
        let code = std::error::Error::source(&error)
            .and_then(|e| e.downcast_ref::<jetstream::Error>())
            .map(jetstream::Error::error_code);
        let message = told.map_or_else(|| error.kind().to_string(), |told| format!("{}: {told}", error.kind()));
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Refusal::Row(Error::validation(message)),
            PublishErrorKind::Other if code == Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => {
                Refusal::Row(Error::validation(message))
            }
            PublishErrorKind::StreamNotFound => {
                Refusal::NoStream(Error::new(Kind::NotFound, format!("{}: {message}", self.place)))
            }
            _ => Refusal::Passing(Error::new(Kind::Io, format!("{}: {message}", self.place)).transient()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_from_data_is_one_that_can_be_published_to() {
        for good in ["orders", "orders.new", "orders.a*b"] {
            assert!(is_subject(good), "{good}");
        }
        for bad in ["", ".", "orders.", "orders.*", ">", "a b", "a\r\nPUB x", "a..b"] {
            assert!(!is_subject(bad), "{bad}");
        }
    }
}
