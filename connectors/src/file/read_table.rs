//! One file of columns: Parquet, Arrow or Avro.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::Chunk;
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::codec::table::{Kind, Rows, Table};

/// Batches of one file.
pub struct TableOf {
    rows: Rows,
    row: u64,
    split: Split,
}

/// How many rows of the file were read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct RowPosition {
    row: u64,
}

impl TableOf {
    /// The columns of `schema` in `file`, behind `position`.
    pub fn open(
        kind: Kind,
        file: Arc<dyn ReadFile>,
        split: Split,
        position: Option<&Position>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let RowPosition { row } = position.map(Position::read).transpose()?.unwrap_or_default();
        Ok(Self { rows: Table::open(kind, file)?.rows(schema, row)?, row, split })
    }

    /// How much of a file of this size was read, about, in bytes.
    pub fn bytes_read(&self, size: u64) -> u64 {
        self.rows.bytes_read(size).min(size)
    }

    /// The next rows; `None` at the end.
    pub fn read(&mut self) -> Result<Option<Chunk>> {
        let named = |e: Error| e.context(format!("{}, behind row {}", self.split, self.row));
        let Some(batch) = self.rows.read().map_err(named)? else {
            return Ok(None);
        };
        self.row += batch.num_rows() as u64;
        Ok(Some(Chunk::new(batch, self.split.clone(), Position::of(&RowPosition { row: self.row })?)))
    }
}
