//! Lines from a pipe: a look at the first ones, then all of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bourn_engine::Result;
use bourn_engine::api::{Chunk, Source};
use bourn_engine::data::position::Split;
use bourn_engine::env::Env;
use futures::future::{Either, select};

use super::aside::Aside;
use crate::codec::compression::Text;
use crate::codec::csv::{self, Dialect};
use crate::codec::json::infer::BYTES_MAX;
use crate::codec::json::{Inference, Inferred};
use crate::codec::lines::{BYTE_ORDER_MARK, LineBuffer, Piece};
use crate::file::read_lines::{LineDecoder, next_chunk};

/// How much is read at once, in bytes.
pub const STEP: usize = 256 << 10;
/// How long planning waits for a further row once there is one.
const PAUSE: Duration = Duration::from_millis(100);

/// The input and what was read of it.
pub struct Open {
    pipe: Aside<Pipe, Result<usize>>,
    lines: LineBuffer,
    /// Columns of JSON that have several types.
    pub mixed: Vec<String>,
    /// The columns of CSV.
    pub names: Vec<String>,
}

/// The input with a buffer of its own, since a read may outlast the wait for it.
struct Pipe {
    text: Text,
    buffer: Vec<u8>,
}

/// What a look at the first rows came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is no row yet.
    NoRow,
    /// More would be better.
    More,
    /// It is enough.
    Enough,
}

impl Open {
    /// Nothing was read of `text` yet.
    pub fn new(text: Text) -> Self {
        let pipe = Aside::new(Pipe { text, buffer: vec![0; STEP] });
        Self { pipe, lines: LineBuffer::default(), mixed: Vec::new(), names: Vec::new() }
    }

    /// Reads on.
    ///
    /// Cancel safety: dropped before its end, it goes on with the same read when it is called again.
    async fn fill(&mut self, env: &Env) -> Result<()> {
        let (count, pipe) = self.pipe.run(env, |pipe| pipe.text.read(&mut pipe.buffer)).await?;
        let count = count.map_err(|e| e.context("stdin"))?;
        self.lines.space(STEP)[..count].copy_from_slice(&pipe.buffer[..count]);
        self.lines.filled(count);
        Ok(())
    }

    /// Has `look` look at the whole lines at hand, and at how many of their bytes it saw before, until it has enough; leaves
    /// them for the source.
    async fn look_ahead(&mut self, env: &Env, mut look: impl FnMut(&[u8], usize, bool) -> Result<Look>) -> Result<()> {
        let (mut looked, mut seen) = (0, Look::NoRow);
        loop {
            // Lines looked at stay in the buffer, so an unfinished one behind them must not grow without end.
            let is_read = self.lines.is_read();
            let enough = is_read || (looked > 0 && self.lines.held() >= BYTES_MAX);
            match self.lines.piece() {
                Some(Piece::Lines(text)) if text.len() > looked || (is_read && seen == Look::NoRow) => {
                    seen = look(text, looked, is_read)?;
                    looked = text.len();
                    if seen == Look::Enough || looked >= BYTES_MAX || is_read {
                        return Ok(());
                    }
                }
                Some(Piece::Overlong(long)) => {
                    self.lines.put_back(long);
                    return Ok(());
                }
                _ if enough => return Ok(()),
                _ if seen == Look::NoRow => self.fill(env).await?,
                _ => match select(pin!(self.fill(env)), env.sleep(PAUSE)).await {
                    Either::Left((filled, _)) => filled?,
                    Either::Right(_) => return Ok(()),
                },
            }
        }
    }

    /// The columns of JSON.
    pub async fn infer_json(&mut self, env: &Env) -> Result<SchemaRef> {
        let mut inference = Inference::default();
        let look =
            |text: &[u8], looked: usize, _| Ok(if inference.look(&text[looked..]) { Look::More } else { Look::Enough });
        self.look_ahead(env, look).await?;
        let Inferred { schema, mixed } = inference.finish();
        self.mixed = mixed;
        Ok(schema)
    }

    /// The columns of CSV.
    pub async fn infer_csv(&mut self, env: &Env, dialect: &Arc<Dialect>) -> Result<SchemaRef> {
        let mut found = csv::infer::Inference::new(dialect.clone());
        let look = |text: &[u8], _, last: bool| {
            let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            // Its types come from all lines together, so it begins anew each time.
            let mut inference = csv::infer::Inference::new(dialect.clone());
            let more = match inference.look(text, last) {
                // The header may end in a line to come.
                Err(_) if !last && text.len() < BYTES_MAX => return Ok(Look::NoRow),
                other => other.map_err(|e| e.context("stdin"))?,
            };
            let look = if !more {
                Look::Enough
            } else if inference.has_rows() {
                Look::More
            } else {
                Look::NoRow
            };
            found = inference;
            Ok(look)
        };
        self.look_ahead(env, look).await?;
        let (names, schema) = found.finish();
        self.names = names;
        Ok(schema)
    }
}

/// The rows of lines.
pub struct LinesSource {
    pub env: Env,
    pub open: Box<Open>,
    pub decoder: LineDecoder,
    pub split: Split,
}

impl Source for LinesSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(chunk) = next_chunk(&mut self.open.lines, &mut self.decoder, &self.split)? {
                return Ok(Some(chunk));
            }
            if self.open.lines.is_done() {
                return Ok(None);
            }
            self.open.fill(&self.env).await?;
        }
    }
}
