//! A source of messages: through a durable consumer, or by their sequence in the stream.

use std::pin::Pin;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{Context, Message as Received, context::GetStreamErrorKind, stream::Stream};
use bourn_engine::api::{BoxSource, Chunk, Outage, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use futures::future::{Either, select};
use futures::stream::Stream as MessageStream;
use futures::{FutureExt, StreamExt};

use super::connect::{PATIENCE, connect, connect_for, passing, place, shown};
use super::decode::{Decode, Message, line};
use super::keep::Keeper;
use super::{From, IN_FLIGHT_MAX, Nats, NatsFormat};
use crate::codec::json::infer::{BYTES_MAX, ROWS_MAX};
use crate::codec::json::{Inference, Inferred};

/// The most messages in a chunk, and the bytes after which it ends.
const MESSAGES: usize = 1_024;
const BYTES: usize = 4 << 20;
/// How long the server holds a request for messages, and how often it says that it is still there.
const HOLDS: Duration = Duration::from_secs(20);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// The stream, or why it is not there.
async fn stream(context: &Context, name: &str) -> Result<Stream> {
    context.get_stream(name).await.map_err(|e| match e.kind() {
        GetStreamErrorKind::JetStream(e) if e.code() == 404 => {
            Error::new(Kind::NotFound, format!("there is no stream `{name}`"))
        }
        GetStreamErrorKind::Request => passing("asking for the stream", &e),
        other => Error::new(Kind::Other, format!("stream `{name}`: {other}")),
    })
}

/// Connects, and asks for the stream.
pub(super) async fn reach(nats: &Nats) -> Result<(), Problems> {
    let context = connect(nats).await.map_err(|e| Problem::new(e.message().to_owned()).under("servers"))?;
    let found = stream(&context, nats.stream()?).await;
    found.map(drop).map_err(|e| Problem::new(format!("{}: {}", place(nats), e.message())).under("stream").into())
}

/// The columns of the first messages, looked at without taking them from anybody.
pub(super) async fn infer(nats: &Nats, env: &Env) -> Result<Inferred, Problems> {
    let name = nats.stream()?;
    let context = connect(nats).await.map_err(|e| Problem::new(e.message().to_owned()).under("servers"))?;
    let stream = stream(&context, name).await.map_err(|e| Problem::new(e.message().to_owned()).under("stream"))?;
    let at_fault = |e: &dyn std::fmt::Display| Problem::new(format!("looking at the messages of `{name}`: {e}"));
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        filter_subjects: nats.subjects.clone(),
        memory_storage: true,
        inactive_threshold: HOLDS,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|e| at_fault(&e))?;
    let fetched = consumer.fetch().max_messages(ROWS_MAX).messages().await.map_err(|e| at_fault(&e))?;
    let look = async {
        let mut fetched = fetched;
        let (mut inference, mut seen, mut bytes) = (Inference::default(), 0, 0);
        while let Some(message) = fetched.next().await {
            let payload = message.map_err(|e| at_fault(&e))?.message.payload;
            seen += 1;
            bytes += payload.len();
            let wants_more = line(&payload).map_or(true, |line| inference.look(&line));
            if !wants_more || bytes >= BYTES_MAX {
                break;
            }
        }
        Ok::<_, Problem>((inference, seen))
    };
    let (inference, seen) = match select(Box::pin(look), env.sleep(PATIENCE)).await {
        Either::Left((looked, _)) => looked?,
        Either::Right(_) => return Err(at_fault(&"no answer in time").into()),
    };
    // Its deletion is a courtesy: an unused consumer goes by itself.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    let inferred = inference.finish();
    if inferred.schema.fields().is_empty() {
        let what = if seen == 0 { "has no messages" } else { "has no message that is a JSON object" };
        let problem = Problem::new(format!("stream `{name}` {what}, so its columns can't be inferred")).under("stream");
        return Err(problem.help("declare them: `schema: { id: bigint, name: text }`").into());
    }
    Ok(inferred)
}

/// A source for the lane that has the stream; another lane has none of it.
pub(super) async fn source(nats: &Nats, context: SourceContext) -> Result<BoxSource> {
    let SourceContext { env, id, splits, schema } = context;
    let outage = Outage::of(&id, &env);
    let Some((split, position)) = splits.into_iter().next() else { return Ok(BoxSource::new(Nothing)) };
    let named = nats
        .metadata
        .as_ref()
        .map_or(0, |m| [&m.subject, &m.sequence, &m.time, &m.headers].into_iter().filter(|n| n.is_some()).count());
    let decode = match nats.format {
        NatsFormat::Json => Decode::json(&schema, schema.fields().len() - named, &nats.mixed())?,
        NatsFormat::Text => Decode::Text,
    };
    let last = position.map(|p| p.read::<u64>()).transpose()?.unwrap_or(0);
    let jetstream = connect_for(nats, outage).await?;
    let stream = stream(&jetstream, split.name()).await?;
    let first = stream.cached_info().state.first_sequence;
    if nats.from == From::Position && last > 0 && first > last + 1 {
        let message = format!(
            "stream `{split}` has dropped the messages from {} to {}, which were not read yet: start anew without them",
            last + 1,
            first - 1
        );
        return Err(Error::new(Kind::NotFound, message));
    }
    let wanted = Wanted {
        subjects: nats.subjects.clone(),
        durable: nats.consumer.clone(),
        ack_wait: nats.ack_wait.0,
        in_flight: nats.in_flight.clamp(1, IN_FLIGHT_MAX),
        servers: shown(&nats.servers),
    };
    let keeper = (nats.from == From::Unacknowledged).then(|| Keeper::start(jetstream.client(), nats.ack_wait.0, env));
    let messages = Some(open(&stream, &wanted, last).await?);
    Ok(BoxSource::new(NatsSource { stream, wanted, decode, schema, split, last, keeper, messages }))
}

struct Nothing;

impl Source for Nothing {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        Ok(None)
    }
}

struct Wanted {
    subjects: Vec<String>,
    durable: Option<String>,
    ack_wait: Duration,
    in_flight: usize,
    servers: String,
}

type Messages = Pin<Box<dyn MessageStream<Item = Result<Received>> + Send>>;

struct NatsSource {
    stream: Stream,
    wanted: Wanted,
    decode: Decode,
    schema: SchemaRef,
    split: Split,
    /// The sequence of the last message that was read.
    last: u64,
    /// For messages that must be acknowledged.
    keeper: Option<Keeper>,
    /// Opened again after an error.
    messages: Option<Messages>,
}

/// The messages behind `last`.
async fn open(stream: &Stream, wanted: &Wanted, last: u64) -> Result<Messages> {
    match &wanted.durable {
        Some(name) => durable(stream, wanted, name).await,
        None => ordered(stream, wanted, last).await,
    }
}

async fn durable(stream: &Stream, wanted: &Wanted, name: &str) -> Result<Messages> {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: wanted.ack_wait,
        max_ack_pending: i64::try_from(wanted.in_flight).unwrap_or(i64::MAX),
        filter_subjects: wanted.subjects.clone(),
        ..pull::Config::default()
    };
    let made = stream.get_or_create_consumer(name, config).await;
    let consumer = made.map_err(|e| passing(&format!("consumer `{name}`"), &e))?;
    let found = consumer.cached_info();
    if found.config.ack_policy != AckPolicy::Explicit || found.config.deliver_subject.is_some() {
        let message = format!("consumer `{name}` is there, and is none to pull from with explicit acknowledgements");
        return Err(Error::validation(message));
    }
    let builder = consumer.stream().max_messages_per_batch(wanted.in_flight.min(MESSAGES));
    let messages = builder.expires(HOLDS).heartbeat(HEARTBEAT).messages().await;
    let messages = messages.map_err(|e| passing(&format!("consumer `{name}`"), &e))?;
    let servers = wanted.servers.clone();
    Ok(Box::pin(messages.map(move |m| m.map_err(|e| passing(&format!("nats at {servers}"), &e)))))
}

async fn ordered(stream: &Stream, wanted: &Wanted, last: u64) -> Result<Messages> {
    let deliver_policy = match last {
        0 => DeliverPolicy::All,
        last => DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
    };
    let config = pull::OrderedConfig { deliver_policy, filter_subjects: wanted.subjects.clone(), ..Default::default() };
    let consumer = stream.create_consumer(config).await.map_err(|e| passing("making a consumer", &e))?;
    let messages = consumer.messages().await.map_err(|e| passing("asking for messages", &e))?;
    let servers = wanted.servers.clone();
    Ok(Box::pin(messages.map(move |m| m.map_err(|e| passing(&format!("nats at {servers}"), &e)))))
}

impl Source for NatsSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let mut messages = match self.messages.take() {
            Some(messages) => messages,
            None => open(&self.stream, &self.wanted, self.last).await?,
        };
        // An error drops the stream of messages, and the next read opens another.
        let first = messages.next().await.ok_or_else(|| passing("messages", &"the subscription has ended"))??;
        let (mut received, mut bytes) = (vec![first], 0);
        let mut failed = false;
        while received.len() < MESSAGES && bytes < BYTES {
            match messages.next().now_or_never() {
                Some(Some(Ok(message))) => {
                    bytes += message.message.payload.len();
                    received.push(message);
                }
                // What came before it is handed on first.
                Some(Some(Err(_)) | None) => {
                    failed = true;
                    break;
                }
                None => break,
            }
        }
        if !failed {
            self.messages = Some(messages);
        }
        self.chunk(received).map(Some)
    }
}

impl NatsSource {
    fn chunk(&mut self, received: Vec<Received>) -> Result<Chunk> {
        let (mut read, mut replies) = (Vec::with_capacity(received.len()), Vec::with_capacity(received.len()));
        for received in received {
            let info = received.info().map_err(|e| Error::engine(format!("a message without its place: {e}")))?;
            let (sequence, published) = (info.stream_sequence, info.published.unix_timestamp_nanos());
            let async_nats::Message { subject, reply, payload, headers, .. } = received.message;
            replies.extend(reply);
            read.push(Message { sequence, published, subject: subject.to_string(), payload, headers });
        }
        self.last = read.last().map_or(self.last, |m| m.sequence);
        let (records, rejected) = self.decode.decode(&read, self.split.name(), &self.schema)?;
        let chunk = Chunk::new(records, self.split.clone(), Position::of(&self.last)?).with_rejected(rejected);
        Ok(match &self.keeper {
            Some(keeper) => chunk.with_ack(keeper.ack(replies)),
            None => chunk,
        })
    }
}
