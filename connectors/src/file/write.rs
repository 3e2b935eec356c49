//! The sinks: one file, or many by rows, size, time and value.

mod out;
mod partition;
mod spread;
mod staged;

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, ConnectContext, Outcome, Receipt, Sink, SinkContext, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use serde::{Deserialize, Serialize};

pub use out::keep_names;
pub use spread::Rotate;

use super::{File, Format, without_reserved};
use crate::codec::csv;
use crate::codec::json::Encoder;
use crate::codec::table::{self, Options};
use out::{Out, Recipe};
use partition::Partition;
use spread::{Place, Spread};
use staged::Staged;

pub const LANE: &str = "{lane}";
pub const NUMBER: &str = "{number}";

/// What is other about a sink whose files are objects.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "object_store"), allow(dead_code, reason = "only objects make one"))]
pub(crate) struct Objects {
    /// How many of a lane are open at once.
    pub(crate) open: usize,
    /// How large a segment of staged rows grows, about, in bytes.
    pub(crate) segment: u64,
    /// How large one grows that is put in its place by copying it, about, in bytes.
    pub(crate) copied: u64,
}

/// Checks what a sink is told.
pub fn check(file: &File, format: Format, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let (env, lanes) = (&context.env, context.lanes);
    if lanes > 1 && file.partition_by.is_none() && !file.path.contains(LANE) {
        let problem = Problem::new(format!("{lanes} lanes can't write to one path, `{}`", file.path)).under("path");
        problems.push(problem.help(format!("put `{LANE}` into it, or leave out `lanes`")));
    }
    let is_one = file.rotate.is_none() && file.partition_by.is_none();
    if is_one && format.is_whole_at_its_end() && env.files().is_special(Path::new(&file.path)) {
        let problem = Problem::new(format!("`{}` is a device, a pipe or a folder", file.path)).under("path");
        let help = format!(
            "{} {} file is put in its place when it is whole; `format: json` is written as it comes",
            if format.name().starts_with('A') { "an" } else { "a" },
            format.name()
        );
        problems.push(problem.help(help));
    }
    if file.path.contains(['*', '?']) {
        let problem = Problem::new(format!("`{}` is a pattern, and a sink writes one file", file.path)).under("path");
        problems.push(problem.help("`{lane}` in the path makes one file a lane"));
    }
    let for_sources = [
        ("schema", file.schema.is_some()),
        ("columns", file.columns.is_some()),
        ("decompress", file.decompress.is_some()),
        ("follow", file.follow),
        ("partitions", file.partitions.is_some()),
    ];
    for (key, _) in for_sources.iter().filter(|(_, set)| *set) {
        let problem = Problem::new(format!("`{key}` is for a source")).under(*key);
        let chosen = *key == "columns" || *key == "schema";
        problems.push(if chosen { problem.help("choose columns by a `map` before it") } else { problem });
    }
    if file.csv.is_some() && format != Format::Csv {
        problems.push(Problem::new("`csv` is for the format CSV").under("csv"));
    }
    let (schema, _) = without_reserved(schema);
    problems.extend(spread::check(file));
    let schema = match Partition::of(file, &schema) {
        Ok(Some(partition)) => partition.schema().clone(),
        Ok(None) => schema,
        Err(found) => {
            problems.extend(found.0);
            schema
        }
    };
    check_columns(file, format, &schema, &mut problems);
    Problems::check(problems)
}

fn check_columns(file: &File, format: Format, schema: &SchemaRef, problems: &mut Vec<Problem>) {
    let packing = file.texts().packing(Path::new(&file.path));
    let mut note = |checked: Result<()>| problems.extend(checked.err().map(|e| Problem::new(e.message().to_owned())));
    match format {
        Format::Json => note(Encoder::new(schema).map(drop)),
        Format::Lines => {
            let problem = Problem::new("plain lines are for sources").under("format");
            problems.push(problem.help("say `format: json`, `csv`, `parquet`, `arrow` or `avro`"));
        }
        _ if schema.fields().is_empty() => {
            let article = if format.name().starts_with('A') { "an" } else { "a" };
            problems.push(Problem::new(format!("{article} {} file needs at least one column", format.name())));
        }
        Format::Csv => match file.csv.clone().unwrap_or_default().for_sink(file.delimiter()) {
            Ok(dialect) => note(csv::Encoder::new(dialect, schema).map(drop)),
            Err(found) => problems.extend(found.under("csv").0),
        },
        _ => {
            if let Some(kind) = format.table() {
                note(table::check(kind, schema, file.compression));
            }
        }
    }
    if format.table().is_none() {
        problems.extend(packing.err());
    }
}

/// The sink of one lane.
pub fn sink(file: &File, format: Format, context: SinkContext) -> Result<BoxSink> {
    let SinkContext { env, id, lane, lanes, schema, epochs } = context;
    // A device or a pipe takes what it gets, and can't be cut; the folder of many files is none.
    let is_one = file.rotate.is_none() && file.partition_by.is_none();
    let epochs = epochs.filter(|_| !is_one || !env.files().is_special(Path::new(&file.path)));
    let first = |Problems(p): Problems| Error::validation(p[0].message.clone());
    let (written, indices) = without_reserved(&schema);
    let indices = (indices.len() < schema.fields().len()).then_some(indices);
    let partition = Partition::of(file, &written).map_err(first)?;
    // What stands beside others appears when it is whole, and not at all without a row.
    let many = file.rotate.is_some() || partition.is_some() || file.mark.is_some();
    let packing = match format.table() {
        Some(_) => None,
        None => file.texts().packing(Path::new(&file.path)).map_err(|p| Error::validation(p.message))?,
    };
    let recipe = Recipe {
        env,
        format,
        schema: partition.as_ref().map_or(written, |p| p.schema().clone()),
        dialect: if format == Format::Csv { file.dialect().map_err(first)? } else { csv::Dialect::default() },
        packing,
        options: Options { compression: file.compression, memory_max: memory_max(partition.as_ref()) },
        beside: many || format.is_whole_at_its_end(),
    };
    let path = file.path.replace(LANE, &lane.to_string());
    let mut rotate = file.rotate.unwrap_or_default();
    Ok(match epochs {
        _ if many => {
            let open_max = file.objects.map_or(spread::OPEN_MAX, |o| o.open);
            if let (Some(objects), Some(_)) = (file.objects, &epochs) {
                rotate.size = Some(Size(rotate.size.map_or(u64::MAX, |s| s.0).min(objects.copied)));
            }
            let place = Place { path, lane, open_max, mark: file.mark.clone() };
            let sink = Spread::new(recipe, place, rotate, partition, epochs.as_ref())?;
            BoxSink::new(Columns { indices, sink })
        }
        Some(epochs) if file.objects.is_some() || recipe.is_whole_at_its_end() => {
            let segment_max = file.objects.map_or(u64::MAX, |o| o.segment);
            let sink = Staged::new(recipe, path.into(), (&id, lane, lanes), &epochs, segment_max)?;
            BoxSink::new(Columns { indices, sink })
        }
        Some(epochs) => {
            let own = epochs.receipts.iter().find(|(of, _)| *of == lane);
            let cut: Option<Cut> = own.map(|(_, receipt)| receipt.read()).transpose()?;
            let out = match cut {
                Some(cut) if cut.path == Path::new(&path) => recipe.reopen(path.into(), cut.length)?,
                _ => recipe.open(path.into())?,
            };
            BoxSink::new(Columns { indices, sink: One { out, epochs: true } })
        }
        None => {
            let out = recipe.open(PathBuf::from(path))?;
            BoxSink::new(Columns { indices, sink: One { out, epochs: false } })
        }
    })
}

/// How much the open file may hold in memory, in bytes: less, where many are open.
fn memory_max(partition: Option<&Partition>) -> usize {
    if partition.is_some() { 4 << 20 } else { 64 << 20 }
}

/// What the sinks of this connector have in common: the rows come without the columns of the engine.
trait Files: Send + 'static {
    fn write(&mut self, rows: &RecordBatch) -> impl Future<Output = Result<Written>> + Send;
    fn prepare(&mut self, epoch: Epoch) -> impl Future<Output = Result<Option<Receipt>>> + Send;
    fn commit(&mut self, receipt: &Receipt) -> impl Future<Output = Result<Outcome>> + Send;
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
    fn wake_at(&self) -> Option<Duration> {
        None
    }
    fn tick(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

struct Columns<F> {
    indices: Option<Vec<usize>>,
    sink: F,
}

impl<F: Files> Sink for Columns<F> {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        match &self.indices {
            Some(indices) => self.sink.write(&rows.project(indices)?).await,
            None => self.sink.write(rows).await,
        }
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        self.sink.prepare(epoch).await
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        self.sink.commit(receipt).await
    }

    fn wake_at(&self) -> Option<Duration> {
        self.sink.wake_at()
    }

    async fn tick(&mut self) -> Result<()> {
        self.sink.tick().await
    }

    async fn finish(&mut self) -> Result<()> {
        self.sink.finish().await
    }
}

/// Writes one file: text, visible as it is written, or a file of columns, visible when the job has ended. A job that keeps
/// checkpoints cuts the text behind the last one when it goes on.
struct One {
    out: Out,
    epochs: bool,
}

/// The receipt of a text: how long it is.
#[derive(Serialize, Deserialize)]
struct Cut {
    path: PathBuf,
    length: u64,
}

impl Files for One {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.out.write(rows)?;
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        self.out.settle().await?;
        if !self.epochs {
            return Ok(None);
        }
        self.out.keep_name().await?;
        Receipt::of(&Cut { path: self.out.path().to_owned(), length: self.out.size() }).map(Some)
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        let Cut { path, length } = receipt.read()?;
        if path != self.out.path() {
            // The file of a lane that is no more.
            self.out.cut(path, length).await?;
        }
        Ok(Outcome::Committed)
    }

    async fn finish(&mut self) -> Result<()> {
        self.out.finish().await
    }
}
