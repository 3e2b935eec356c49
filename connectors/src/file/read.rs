//! The source: files one after the other, each from its position on.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::api::{Chunk, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};

use super::format::Texts;
use super::partition;
use super::read_lines::{LineDecoder, LinesOf};
use super::read_table::TableOf;
use crate::codec::csv::{self, Dialect};
use crate::codec::json::Columns;
use crate::codec::table;

/// Reads the files of one lane.
pub struct FileSource {
    env: Env,
    recipe: Recipe,
    schema: SchemaRef,
    waiting: VecDeque<(Split, Option<Position>)>,
    current: Option<Open>,
    progress: Progress,
}

/// How files become rows.
pub struct Recipe {
    pub content: Content,
    pub texts: Texts,
    /// The columns that are read from files; the others are said by folders.
    pub in_files: SchemaRef,
}

/// What is in the files, and what is needed to read it.
pub enum Content {
    Json(Columns),
    /// With the names of all columns.
    Csv {
        dialect: Arc<Dialect>,
        names: Vec<String>,
        /// Whether the spec chooses among them.
        is_choice: bool,
    },
    Lines,
    Table(table::Kind),
}

impl Recipe {
    /// A decoder of lines.
    ///
    /// # Errors
    /// When a column can't be read, or the files have no lines.
    pub fn decoder(&self) -> Result<LineDecoder> {
        match &self.content {
            Content::Json(columns) => LineDecoder::json(columns.clone()),
            Content::Csv { dialect, names, is_choice } => {
                let decoder = csv::Decoder::new(dialect.clone(), self.in_files.clone(), names)?;
                Ok(LineDecoder::Csv(decoder.chosen(*is_choice)))
            }
            Content::Lines => Ok(LineDecoder::lines(self.in_files.clone())),
            Content::Table(_) => Err(Error::engine("a table has no lines")),
        }
    }
}

/// The columns of `schema` from rows of a file and the folders of its path.
///
/// # Errors
/// When a folder says no value that fits.
pub fn with_folders(rows: RecordBatch, schema: &SchemaRef, path: &str) -> Result<RecordBatch> {
    if rows.num_columns() == schema.fields().len() {
        return Ok(rows);
    }
    let column = |field: &FieldRef| match rows.column_by_name(field.name()) {
        Some(column) => Ok(column.clone()),
        None => partition::column(path, field, rows.num_rows()),
    };
    let columns: Result<Vec<_>> = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns?, &options)?)
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
    Table(Box<TableOf>),
}

impl FileSource {
    pub fn new(recipe: Recipe, lane: SourceContext) -> Self {
        let SourceContext { env, schema, mut splits, .. } = lane;
        splits.sort_by(|a, b| a.0.cmp(&b.0));
        Self { env, recipe, schema, waiting: splits.into(), current: None, progress: Progress::default() }
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
        if let Content::Table(kind) = &self.recipe.content {
            let rows = TableOf::open(*kind, file, split.clone(), position, &self.recipe.in_files).map_err(named)?;
            return Ok(Open::Table(Box::new(rows)));
        }
        let decoder = self.recipe.decoder().map_err(named)?;
        let place = position.map(Position::read).transpose()?.unwrap_or_default();
        let open = || self.recipe.texts.open(Path::new(path), file.clone());
        LinesOf::open(open, split.clone(), place, decoder).map(|r| Open::Lines(Box::new(r))).map_err(named)
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
                Some(Open::Table(table)) => table.read()?,
                None => None,
            };
            if let Some(chunk) = chunk {
                let here = match &self.current {
                    Some(Open::Lines(lines)) => lines.bytes_read(),
                    Some(Open::Table(table)) => table.bytes_read(self.progress.current),
                    None => 0,
                };
                let records = with_folders(chunk.records, &self.schema, chunk.split.name())?;
                let chunk = Chunk { records, ..chunk };
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
