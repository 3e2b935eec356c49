//! One Parquet file.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::Chunk;
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::codec::parquet::{Footer, Rows};

/// Batches of one file.
pub struct ParquetOf {
    rows: Rows,
    row: u64,
    row_count: u64,
    split: Split,
}

/// How many rows of the file were read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct RowPosition {
    row: u64,
}

impl ParquetOf {
    /// The columns of `schema` in `file`, behind `position`.
    pub fn open(
        file: Arc<dyn ReadFile>,
        split: Split,
        position: Option<&Position>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let RowPosition { row } = position.map(Position::read).transpose()?.unwrap_or_default();
        let footer = Footer::read(file)?;
        let row_count = footer.row_count();
        Ok(Self { rows: footer.rows(schema, row)?, row, row_count, split })
    }

    /// The share of the rows that was read, in bytes of a file of this size.
    pub fn bytes_read(&self, size: u64) -> u64 {
        let share = u128::from(size) * u128::from(self.row) / u128::from(self.row_count.max(1));
        u64::try_from(share).unwrap_or(size)
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
