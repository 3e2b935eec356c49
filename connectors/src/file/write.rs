//! The sinks: JSON lines and CSV, visible as they are written; Parquet, visible when the job has ended.

use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Receipt, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::{Env, WriteFile};
use bourn_engine::{Error, Result};

use super::{File, Format, without_reserved};
use crate::codec::csv;
use crate::codec::json::Encoder;
use crate::codec::parquet::{self, Writer};
use crate::codec::rows::RowEncoder;

pub const LANE: &str = "{lane}";
/// How much text is collected before it is written, in bytes.
const BUFFER: usize = 1 << 20;

/// Checks what a sink is told.
pub fn check(file: &File, format: Format, schema: &SchemaRef, env: &Env) -> Result<(), Problems> {
    let mut problems = Vec::new();
    if format == Format::Parquet && env.files().is_special(Path::new(&file.path)) {
        let problem = Problem::new(format!("`{}` is a device, a pipe or a folder", file.path)).under("path");
        problems.push(
            problem.help("a Parquet file is put in its place when it is whole; `format: json` is written as it comes"),
        );
    }
    if file.path.contains(['*', '?']) {
        let problem = Problem::new(format!("`{}` is a pattern, and a sink writes one file", file.path)).under("path");
        problems.push(problem.help("`{lane}` in the path makes one file a lane"));
    }
    let for_sources = [("schema", file.schema.is_some()), ("columns", file.columns.is_some())];
    for (key, _) in for_sources.iter().filter(|(_, set)| *set) {
        problems.push(
            Problem::new(format!("`{key}` is for a source")).under(*key).help("choose columns by a `map` before it"),
        );
    }
    if file.csv.is_some() && format != Format::Csv {
        problems.push(Problem::new("`csv` is for the format CSV").under("csv"));
    }
    let (schema, _) = without_reserved(schema);
    let mut note = |checked: Result<()>| problems.extend(checked.err().map(|e| Problem::new(e.message().to_owned())));
    match format {
        Format::Parquet | Format::Csv if schema.fields().is_empty() => {
            problems.push(Problem::new(format!("a {} file needs at least one column", format.name())));
        }
        Format::Json => note(Encoder::new(&schema).map(drop)),
        Format::Csv => match file.csv.clone().unwrap_or_default().for_sink(file.delimiter()) {
            Ok(dialect) => note(csv::Encoder::new(dialect, &schema).map(drop)),
            Err(found) => problems.extend(found.under("csv").0),
        },
        Format::Parquet => note(parquet::check(&schema)),
        Format::Lines => {
            let problem = Problem::new("plain lines are for sources").under("format");
            problems.push(problem.help("say `format: json`, `csv` or `parquet`"));
        }
    }
    Problems::check(problems)
}

/// The sink of one lane.
pub fn sink(file: &File, format: Format, context: SinkContext) -> Result<BoxSink> {
    if context.lanes > 1 && !file.path.contains(LANE) {
        let message =
            format!("{} lanes can't write the one file {}: put `{LANE}` into the path", context.lanes, file.path);
        return Err(Error::validation(message));
    }
    let path = PathBuf::from(file.path.replace(LANE, &context.lane.to_string()));
    let (schema, indices) = without_reserved(&context.schema);
    let files = context.env.files();
    match format {
        Format::Json | Format::Csv => {
            let mut buffer = Vec::new();
            let encoder = if format == Format::Json {
                RowEncoder::Json(Encoder::new(&context.schema)?)
            } else {
                let dialect = file.dialect().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
                RowEncoder::Csv(csv::Encoder::new(dialect, &context.schema)?)
            };
            encoder.begin(&mut buffer);
            let file = Some(files.create(&path)?);
            Ok(BoxSink::new(TextSink { env: context.env, path, file, encoder, buffer, unsynced: false }))
        }
        Format::Parquet => {
            if files.is_special(&path) {
                return Err(Error::validation(format!("{} is a device, a pipe or a folder", path.display())));
            }
            let part = with_part(&path);
            let writer = Writer::new(files.create(&part)?, schema).map_err(|e| e.context(part.display()))?;
            Ok(BoxSink::new(ParquetSink { env: context.env, path, part, writer: Some(writer), indices }))
        }
        Format::Lines => Err(Error::unsupported("plain lines are for sources")),
    }
}

fn with_part(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Writes JSON lines or CSV. What was written before an epoch is on the disk when it is prepared.
struct TextSink {
    env: Env,
    path: PathBuf,
    /// Away while it is synced; then lost for good if that failed.
    file: Option<Box<dyn WriteFile>>,
    encoder: RowEncoder,
    buffer: Vec<u8>,
    unsynced: bool,
}

impl TextSink {
    fn flush(&mut self) -> Result<()> {
        let lost = || Error::engine(format!("{}: an earlier write failed", self.path.display()));
        let file = self.file.as_mut().ok_or_else(lost)?;
        file.write_all(&self.buffer).map_err(|e| Error::from(e).context(self.path.display()))?;
        self.buffer.clear();
        self.unsynced = true;
        Ok(())
    }
}

impl Sink for TextSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.encoder.encode(rows, &mut self.buffer)?;
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        if self.unsynced
            && let Some(mut file) = self.file.take()
        {
            // The disk takes its time; a worker must not wait for it.
            let (file, synced) = self
                .env
                .blocking(move || {
                    let synced = file.sync();
                    (file, synced)
                })
                .await?;
            synced.map_err(|e| Error::from(e).context(self.path.display()))?;
            self.file = Some(file);
            self.unsynced = false;
        }
        Ok(None)
    }
}

/// Writes a Parquet file beside its place, and puts it there when the job has ended well.
struct ParquetSink {
    env: Env,
    path: PathBuf,
    part: PathBuf,
    writer: Option<Writer>,
    indices: Vec<usize>,
}

impl Sink for ParquetSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let finished = || Error::engine(format!("{} is finished", self.path.display()));
        let writer = self.writer.as_mut().ok_or_else(finished)?;
        writer.write(&rows.project(&self.indices)?).map_err(|e| e.context(self.part.display()))?;
        Ok(Written::all())
    }

    // The footer comes last, so a single file can't be made visible epoch by epoch.
    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }

    async fn finish(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            let finished = self.env.blocking(move || writer.finish()).await?;
            finished.map_err(|e| e.context(self.part.display()))?;
            self.env.files().rename(&self.part, &self.path)?;
        }
        Ok(())
    }
}
