//! The sink: each row a message, and each batch confirmed by a pong.

use bourn_engine::api::limits::Retries;
use bourn_engine::api::{Outage, Receipt, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::{Error, Kind, Result};
use bourn_http::Attempts;
use bytes::Bytes;
use futures::future::try_join;
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::Websocket;
use super::connect::{Door, Socket};
use crate::codec::json::Encoder;
use crate::http::ask::within;
use arrow::record_batch::RecordBatch;

/// Sends the rows of one lane.
pub struct WebsocketSink {
    door: Door,
    retry: Retries,
    outage: Outage,
    encoder: Encoder,
    socket: Option<Socket>,
    /// How many batches were sent: what a ping carries.
    batches: u64,
    lines: Vec<u8>,
}

impl WebsocketSink {
    pub fn new(config: &Websocket, door: Door, context: SinkContext) -> Result<Self> {
        let encoder = Encoder::new(&context.schema)?;
        let (retry, outage) = (config.retry.0.clone(), Outage::of(&context.id, &context.env));
        Ok(Self { door, retry, outage, encoder, socket: None, batches: 0, lines: Vec::new() })
    }

    /// Sends all messages, and waits for the pong behind them.
    async fn send(&mut self, messages: &[Utf8Bytes]) -> Result<()> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.door.open().await?,
        };
        self.batches += 1;
        let mark = Bytes::copy_from_slice(&self.batches.to_be_bytes());
        self.exchange(&mut socket, messages, &mark).await?;
        self.socket = Some(socket);
        Ok(())
    }

    async fn exchange(&self, socket: &mut Socket, messages: &[Utf8Bytes], mark: &Bytes) -> Result<()> {
        let (mut to, mut from) = socket.split();
        let sending = async {
            for message in messages {
                to.feed(Message::Text(message.clone())).await?;
            }
            to.send(Message::Ping(mark.clone())).await
        };
        let sending = async { sending.await.map_err(|fault| self.door.error(fault)) };
        // What the other side says is read meanwhile, lest both wait for each other.
        let confirmed = async {
            loop {
                match from.next().await {
                    Some(Ok(Message::Pong(pong))) if pong == *mark => return Ok(()),
                    Some(Ok(Message::Close(_))) | None => {
                        let message = format!("{}: the server has closed the connection", self.door.shown);
                        return Err(Error::new(Kind::Io, message).transient());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(fault)) => return Err(self.door.error(fault)),
                }
            }
        };
        within(&self.door.env, self.door.timeout, &self.door.shown, try_join(sending, confirmed)).await??;
        Ok(())
    }
}

impl Sink for WebsocketSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.lines.clear();
        self.encoder.encode(rows, &mut self.lines)?;
        let lines = std::str::from_utf8(&self.lines)?.lines();
        let messages: Vec<Utf8Bytes> = lines.map(Into::into).collect();
        let mut attempts = Attempts::new(&self.retry, self.door.env.random(), &self.outage);
        while let Err(error) = self.send(&messages).await {
            let wait = attempts.after(error)?;
            self.door.env.sleep(wait).await;
        }
        self.outage.passed();
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}
