//! A stream of Arrow from a pipe.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{Chunk, Source};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::Env;
use serde::Serialize;

use super::aside::Aside;
use crate::codec::ipc::Stream;
use crate::codec::table::{Cutter, columns};

/// The rows of a stream.
pub struct ArrowSource {
    env: Env,
    stream: Aside<Stream, Result<Option<(RecordBatch, u64)>>>,
    /// What is left of the last batch.
    cutter: Cutter,
    row: u64,
    split: Split,
}

/// How many rows were read.
#[derive(Serialize)]
struct RowPosition {
    row: u64,
}

impl ArrowSource {
    /// The columns of `schema` in a stream.
    ///
    /// # Errors
    /// When it has not all of them.
    pub fn new(env: Env, stream: Stream, split: Split, schema: SchemaRef) -> Result<Self> {
        let columns = columns(stream.schema(), &schema)?;
        let stream = Aside::new(stream.with_columns(&columns, 0));
        Ok(Self { env, stream, cutter: Cutter::new(schema), row: 0, split })
    }
}

impl Source for ArrowSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            let row = self.row;
            let named = |e: bourn_engine::Error| e.context(format!("stdin, behind row {row}"));
            if let Some(rows) = self.cutter.cut().map_err(named)? {
                self.row += rows.num_rows() as u64;
                let position = Position::of(&RowPosition { row: self.row })?;
                return Ok(Some(Chunk::new(rows, self.split.clone(), position)));
            }
            let (batch, _) = self.stream.run(&self.env, Stream::read).await?;
            let Some((batch, skip)) = batch.map_err(named)? else { return Ok(None) };
            self.cutter.put(batch, skip);
        }
    }
}
