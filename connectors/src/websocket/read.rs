//! The source: messages of one connection after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::StringArray;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::limits::Retries;
use bourn_engine::api::{Chunk, Outage, Rejected, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::error::Retry;
use bourn_engine::{Error, Kind, Result};
use bourn_http::Attempts;
use futures::future::{Either, select};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::Websocket;
use super::connect::{Door, Socket};
use crate::codec::json::{Columns, messages};
use crate::codec::lines::not_utf8;
use crate::http::ask::within;

/// The most messages of one chunk, and about the most bytes.
const MESSAGES_MAX: usize = 1_024;
const BYTES_MAX: usize = 1 << 20;

/// Reads messages.
pub struct WebsocketSource {
    door: Door,
    ping: Duration,
    retry: Retries,
    until_closed: bool,
    columns: Option<Columns>,
    schema: SchemaRef,
    split: Split,
    socket: Option<Socket>,
    attempts: Option<Attempts>,
    outage: Outage,
    /// Whether there was a connection before.
    again: bool,
    /// What is told behind the messages that came before it.
    failure: Option<Error>,
    /// How many messages came.
    count: u64,
    waiting: VecDeque<RecordBatch>,
    over: bool,
}

/// What a connection gave.
enum Heard {
    Messages(Vec<Vec<u8>>),
    Closed,
}

impl WebsocketSource {
    pub fn new(config: &Websocket, door: Door, context: SourceContext, split: Split) -> Self {
        let SourceContext { schema, env, id, .. } = context;
        Self {
            door,
            ping: config.ping.0,
            retry: config.retry.0.clone(),
            until_closed: config.until_closed,
            columns: config.schema.is_some().then(|| Columns::new(schema.clone(), &[])),
            schema,
            split,
            socket: None,
            attempts: None,
            outage: Outage::of(&id, &env),
            again: false,
            failure: None,
            count: 0,
            waiting: VecDeque::new(),
            over: false,
        }
    }

    /// The messages that are there, at least one.
    async fn hear(&mut self) -> Result<Heard> {
        let Some(socket) = &mut self.socket else { return Ok(Heard::Closed) };
        let (mut messages, mut bytes, mut asked) = (Vec::new(), 0, false);
        while messages.len() < MESSAGES_MAX && bytes < BYTES_MAX {
            let next = if messages.is_empty() {
                let patience = if asked { self.door.timeout } else { self.ping };
                match select(socket.next(), self.door.env.sleep(patience)).await {
                    Either::Left((next, _)) => next,
                    Either::Right(_) if asked => {
                        let message = format!("{}: no answer to a ping", self.door.shown);
                        return Err(Error::new(Kind::Timeout, message));
                    }
                    Either::Right(_) => {
                        asked = true;
                        let sent = socket.send(Message::Ping(bytes::Bytes::new()));
                        let sent = within(&self.door.env, self.door.timeout, &self.door.shown, sent).await?;
                        sent.map_err(|fault| self.door.error(fault))?;
                        continue;
                    }
                }
            } else {
                let Some(next) = socket.next().now_or_never() else { break };
                next
            };
            match next {
                Some(Ok(Message::Text(text))) => {
                    bytes += text.len();
                    messages.push(text.as_bytes().to_vec());
                }
                Some(Ok(Message::Binary(data))) => {
                    bytes += data.len();
                    messages.push(data.to_vec());
                }
                // A sign of life; a ping is answered by the next read.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => asked = false,
                // What came before an end goes first, and the end is met again.
                Some(Ok(Message::Close(_)) | Err(_)) | None if !messages.is_empty() => {
                    let error = match next {
                        Some(Err(fault)) => Some(self.door.error(fault)),
                        _ => None,
                    };
                    self.ended(error);
                    break;
                }
                Some(Ok(Message::Close(_))) | None => return Ok(Heard::Closed),
                Some(Err(fault)) => return Err(self.door.error(fault)),
            }
        }
        Ok(Heard::Messages(messages))
    }

    /// The connection is over, in good order or by an error, behind messages that came.
    fn ended(&mut self, error: Option<Error>) {
        self.socket = None;
        self.over = error.is_none() && self.until_closed;
        self.failure = error.filter(|e| e.retry() == Retry::Never);
    }

    fn rows(&mut self, heard: Vec<Vec<u8>>) -> Result<(Vec<RecordBatch>, Vec<Rejected>)> {
        let first = self.count;
        self.count += heard.len() as u64;
        let place = |n: u64| format!("{}, message {}", self.split, n + 1);
        if let Some(columns) = &self.columns {
            return messages::rows(columns, (first..).zip(heard).map(|(n, message)| (message, place(n))));
        }
        let (mut texts, mut rejected) = (Vec::new(), Vec::new());
        for (n, message) in (first..).zip(heard) {
            match String::from_utf8(message) {
                Ok(text) => texts.push(text),
                Err(e) => {
                    let error = not_utf8(e.as_bytes(), e.utf8_error()).at_input(place(n));
                    rejected.push(Rejected::text(String::from_utf8_lossy(e.as_bytes()), error));
                }
            }
        }
        let column = Arc::new(StringArray::from(texts));
        Ok((vec![RecordBatch::try_new(self.schema.clone(), vec![column])?], rejected))
    }

    fn chunk(&mut self, rejected: Vec<Rejected>) -> Result<Chunk> {
        let records = self.waiting.pop_front().unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone()));
        Ok(Chunk::new(records, self.split.clone(), Position::of(&self.count)?).with_rejected(rejected))
    }

    /// Waits before the next attempt, or gives up.
    async fn failed(&mut self, error: Error) -> Result<()> {
        let (policy, env) = (&self.retry, &self.door.env);
        let attempts = self.attempts.get_or_insert_with(|| Attempts::new(policy, env.random(), &self.outage));
        let wait = attempts.after(error)?;
        env.sleep(wait).await;
        Ok(())
    }
}

impl Source for WebsocketSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            if !self.waiting.is_empty() {
                return self.chunk(Vec::new()).map(Some);
            }
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            if self.over {
                return Ok(None);
            }
            if self.socket.is_none() {
                if std::mem::replace(&mut self.again, true) && self.attempts.is_none() {
                    self.door.env.sleep(self.retry.initial_interval.0).await;
                }
                match self.door.open().await {
                    Ok(socket) => {
                        self.socket = Some(socket);
                        self.outage.passed();
                    }
                    Err(error) => self.failed(error).await?,
                }
                continue;
            }
            match self.hear().await {
                Ok(Heard::Messages(messages)) => {
                    self.attempts = None;
                    let (batches, rejected) = self.rows(messages)?;
                    self.waiting.extend(batches);
                    if !self.waiting.is_empty() || !rejected.is_empty() {
                        return self.chunk(rejected).map(Some);
                    }
                }
                Ok(Heard::Closed) => {
                    self.socket = None;
                    self.over = self.until_closed;
                    self.attempts = None;
                }
                // A connection that breaks is made anew however often; rubbish must come to an end.
                Err(error) => {
                    self.socket = None;
                    if error.kind() == Kind::Validation || error.retry() == Retry::Never {
                        self.failed(error).await?;
                    } else {
                        self.attempts = None;
                    }
                }
            }
        }
    }
}
