//! The source: files one after the other, each from its position on.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{Chunk, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};

use super::read_lines::{LineDecoder, LinesOf};
use super::read_parquet::ParquetOf;
use crate::codec::csv::{self, Dialect};
use crate::codec::json::Columns;

/// Reads the files of one lane.
pub struct FileSource {
    env: Env,
    content: Content,
    schema: SchemaRef,
    waiting: VecDeque<(Split, Option<Position>)>,
    current: Option<Open>,
    progress: Progress,
}

/// What is in the files, and what is needed to read it.
pub enum Content {
    Json(Columns),
    /// With the names of all columns.
    Csv {
        dialect: Arc<Dialect>,
        names: Vec<String>,
    },
    Lines,
    Parquet,
}

/// How much of the files was read, in bytes.
#[derive(Default)]
struct Progress {
    /// Of the files that were read to their end.
    before: u64,
    /// Of the file that is read now, its size.
    current: u64,
    /// Of all files of the lane; 0 before the first read.
    total: u64,
}

enum Open {
    Lines(Box<LinesOf>),
    Parquet(Box<ParquetOf>),
}

impl FileSource {
    pub fn new(content: Content, lane: SourceContext) -> Self {
        let SourceContext { env, schema, mut splits, .. } = lane;
        splits.sort_by(|a, b| a.0.cmp(&b.0));
        Self { env, content, schema, waiting: splits.into(), current: None, progress: Progress::default() }
    }

    /// The size of a file, for the progress alone: one that can't be looked at fails when it is opened.
    fn size(&self, split: &Split) -> u64 {
        self.env.files().open(Path::new(split.name())).ok().and_then(|f| f.len().ok()).unwrap_or(0)
    }

    fn open(&self, split: &Split, position: Option<&Position>) -> Result<Open> {
        let path = split.name();
        let file = self.env.files().open(Path::new(path)).map_err(|e| match e.kind() {
            Kind::NotFound => {
                Error::new(Kind::NotFound, format!("{path} was there when the job was planned, and is gone"))
                    .with_source(Cause(e))
            }
            _ => e,
        })?;
        let named = |e: Error| e.context(path);
        let decoder = match &self.content {
            Content::Parquet => {
                let rows = ParquetOf::open(file, split.clone(), position, &self.schema).map_err(named)?;
                return Ok(Open::Parquet(Box::new(rows)));
            }
            Content::Json(columns) => LineDecoder::json(columns.clone())?,
            Content::Csv { dialect, names } => {
                LineDecoder::Csv(csv::Decoder::new(dialect.clone(), self.schema.clone(), names).map_err(named)?)
            }
            Content::Lines => LineDecoder::lines(self.schema.clone()),
        };
        let place = position.map(Position::read).transpose()?.unwrap_or_default();
        LinesOf::open(file, split.clone(), place, decoder).map(|r| Open::Lines(Box::new(r))).map_err(named)
    }
}

impl Source for FileSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.progress.total == 0 {
            self.progress.total = self.waiting.iter().map(|(split, _)| self.size(split)).sum();
        }
        loop {
            let chunk = match &mut self.current {
                Some(Open::Lines(lines)) => lines.read()?,
                Some(Open::Parquet(parquet)) => parquet.read()?,
                None => None,
            };
            if let Some(chunk) = chunk {
                let here = match &self.current {
                    Some(Open::Lines(lines)) => lines.bytes_read(),
                    Some(Open::Parquet(parquet)) => parquet.bytes_read(self.progress.current),
                    None => 0,
                };
                return Ok(Some(chunk.with_progress(self.progress.before + here, self.progress.total)));
            }
            let Some((split, position)) = self.waiting.pop_front() else {
                self.current = None;
                return Ok(None);
            };
            let size = self.size(&split);
            self.progress.before += std::mem::replace(&mut self.progress.current, size);
            self.current = Some(self.open(&split, position.as_ref())?);
        }
    }
}

/// An error of ours as the cause of another.
#[derive(Debug)]
struct Cause(Error);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Cause {}
