//! Files: JSON lines, CSV, Parquet, Arrow, Avro, plain lines; one, or many by a pattern.

mod again;
mod columns;
mod follow;
mod format;
mod infer;
mod partition;
mod read;
pub(crate) mod read_lines;
mod read_table;
#[cfg(feature = "object_store")]
pub(crate) mod unseen;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Replay, SinkContext, SourceContext, Unread,
    UsedFiles,
};
use bourn_engine::data::position::Split;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::compression::Limits;
use crate::codec::csv::{Csv, Dialect};
use crate::codec::json::Columns;
pub use crate::codec::table::Compression;
use crate::codec::table::Table;
use crate::codec::types::Declared;
use crate::generate::Nothing;
pub(crate) use columns::no_column;
use follow::Follow;
pub use format::Format;
pub(crate) use infer::readable;
use read::Content;
pub use write::Rotate;
pub(crate) use write::keep_names;
#[cfg(feature = "object_store")]
pub(crate) use write::{LANE, Objects as AsObjects};

/// Reads and writes files: JSON lines, CSV, Parquet, Arrow, Avro or plain lines; lines also compressed by gzip or zstd.
///
/// A source reads each file as a split of its own; a broken row is rejected alone. A quote in CSV that is not closed, or
/// has text behind its end, costs the line that it begins in; reading goes on behind that line. A sink writes the one file
/// that it is told, from its beginning, and makes its folder. A Parquet, Arrow or Avro file appears when the job has ended;
/// until then it is written beside it, as `PATH.part`. Compressed lines are whole at the end of each epoch. Columns whose
/// names begin with `_bourn_` are not written.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The file, or a pattern with `*`, `?`, `[…]` and `**` for many. In a sink, `{lane}` makes one file a lane.
    pub path: String,
    /// What is in it; from the ending of the path if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How it is compressed. Lines: as the ending says, `.gz` or `.zst`, if it is not said. Other formats say it themselves
    /// when they are read, and are written so: Parquet by `zstd`, Avro by `deflate`, Arrow not at all if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// How far compressed lines may grow when they are read, so that a small file does not fill the world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decompress: Option<Limits>,
    /// The columns of JSON lines or CSV with their types; inferred from the first 1,000 rows or 1 MiB if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// The columns to read; all of them if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What CSV looks like, where it is not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    /// Reads on for ever: lines that are appended, and new files that match. A file that is renamed is read to its end, one
    /// that is cut short from its beginning; a last line waits for its end. For lines that are not compressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Whether folders such as `country=de` are columns of a source: found by itself if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<bool>,
    /// When a sink ends a file and begins the next: needs `{number}` in the path. The end of an epoch ends it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Rotate>,
    /// Columns whose values make the folders of a sink: `path` is a folder then, and its files are
    /// `PATH/a=1/b=x/part-LANE-NUMBER.ENDING`, without these columns in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<Vec<String>>,
    #[serde(skip)]
    #[schemars(skip)]
    planned: Mutex<Planned>,
    /// For a sink whose files stand beside those of a job: what tells them apart.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) mark: Option<String>,
    /// If its files are objects.
    #[serde(skip)]
    #[schemars(skip)]
    objects: Option<write::Objects>,
}

/// What planning found and the source needs.
#[derive(Clone, Debug, Default)]
struct Planned {
    /// Columns of JSON that have several types.
    mixed: Vec<String>,
    /// The columns of CSV, chosen or not.
    names: Vec<String>,
    /// The columns that folders say.
    folders: Vec<String>,
}

impl File {
    /// The file at `path`, or the files that match it, in the format that its ending says.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// The same in this format, whatever the ending.
    #[must_use]
    pub fn with_format(self, format: Format) -> Self {
        Self { format: Some(format), ..self }
    }

    /// The same with only these columns.
    #[must_use]
    pub fn with_columns<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: Some(columns.into_iter().map(Into::into).collect()), ..self }
    }

    /// The same, read on for ever.
    #[must_use]
    pub fn followed(self) -> Self {
        Self { follow: true, ..self }
    }

    /// The same as many files, the next one when one is full.
    #[must_use]
    pub fn rotated(self, rotate: Rotate) -> Self {
        Self { rotate: Some(rotate), ..self }
    }

    /// The same in folders by the values of these columns.
    #[must_use]
    pub fn partitioned_by<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        Self { partition_by: Some(columns.into_iter().map(Into::into).collect()), ..self }
    }

    fn dialect(&self) -> Result<Dialect, Problems> {
        self.csv.clone().unwrap_or_default().dialect(self.delimiter()).map_err(|p| p.under("csv"))
    }

    fn planned(&self) -> std::sync::MutexGuard<'_, Planned> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files, sorted.
    fn paths(&self, env: &Env) -> Result<Vec<PathBuf>, Problem> {
        let paths = env.glob(&self.path).map_err(|e| Problem::new(e.message().to_owned()).under("path"))?;
        if paths.is_empty() {
            let problem = Problem::new(format!("no file matches `{}`", self.path)).under("path");
            return Err(problem.help("paths are relative to the folder that the job is started in"));
        }
        Ok(paths)
    }

    /// The files that there are to follow by now; none is needed where the columns are known without.
    fn paths_to_follow(&self, format: Format, env: &Env) -> Result<Vec<PathBuf>, Problem> {
        let problem = |message: String| Problem::new(message).under("follow");
        if format.table().is_some() {
            return Err(problem(format!("a file of {} does not grow by lines", format.name())));
        }
        let mut paths = env.glob(&self.path).map_err(|e| Problem::new(e.message().to_owned()).under("path"))?;
        paths.retain(|path| matches!(env.files().identify(path), Ok(Some(_))));
        if let Some(path) =
            paths.iter().map(PathBuf::as_path).chain([Path::new(&self.path)]).find(|p| self.is_packed(p))
        {
            return Err(problem(format!("`{}` is compressed, and does not grow by lines", path.display())));
        }
        if paths.is_empty() && self.schema.is_none() && format != Format::Lines {
            let problem = Problem::new(format!("no file matches `{}` yet, so its columns are unknown", self.path));
            return Err(problem.under("path").help("declare them: `schema: { id: bigint, name: text }`"));
        }
        Ok(paths)
    }

    fn is_packed(&self, path: &Path) -> bool {
        !matches!(self.texts().packing(path), Ok(None))
    }

    /// The columns of the files and of their folders, whether or not they were chosen.
    fn found(&self, format: Format, paths: &[PathBuf], env: &Env) -> Result<SchemaRef, Problems> {
        let declared = self.schema.as_ref().map(Declared::schema).transpose().map_err(|p| p.under("schema"))?;
        let folders = if self.partitions == Some(false) { Vec::new() } else { partition::columns(paths) };
        if self.partitions == Some(true) && folders.is_empty() {
            let problem =
                Problem::new("no folder such as `country=de` is on the way to every file, or not the same ones");
            return Err(problem.under("partitions").into());
        }
        let is_folder = |name: &str| folders.iter().any(|f| f.name() == name);
        let in_files = declared.as_ref().map(|declared| {
            let fields = declared.fields().iter().filter(|f| !is_folder(f.name())).cloned();
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        });
        let files = self.found_in(format, in_files, paths, env)?;
        let mut fields: Vec<_> = files.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut said = Vec::new();
        for folder in folders {
            if files.column_with_name(folder.name()).is_some() {
                if self.partitions == Some(true) {
                    let message = format!("column `{}` is in the files and said by their folders", folder.name());
                    return Err(Problem::new(message).under("partitions").into());
                }
                // What the file says is nearer.
                continue;
            }
            let known = declared.as_ref().and_then(|d| d.field_with_name(folder.name()).ok());
            said.push(folder.name().clone());
            fields.push(known.cloned().unwrap_or(folder));
        }
        self.planned().folders = said;
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The columns of the files, of which some may be declared.
    fn found_in(
        &self,
        format: Format,
        declared: Option<SchemaRef>,
        paths: &[PathBuf],
        env: &Env,
    ) -> Result<SchemaRef, Problems> {
        let open = |path: &Path| {
            let file = env.files().open(path).map_err(|e| unopened(&e, path))?;
            self.texts().open(path, file).map_err(|e| at_path(&e.context(path.display())))
        };
        if self.csv.is_some() && format != Format::Csv {
            return Err(Problem::new("`csv` is for the format CSV").under("csv").into());
        }
        if let Some((kind, first)) = format.table().zip(paths.first()) {
            self.check_table(format, declared.is_some())?;
            let file = env.files().open(first).map_err(|e| unopened(&e, first))?;
            let table = Table::open(kind, file).map_err(|e| at_path(&e.context(first.display())))?;
            // A file further on may have nulls where the first has none.
            let fields = table.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
            return Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
        }
        if let Some(first) = paths.first() {
            // Before the first look, so that a slip is told even where no file is read.
            self.texts().packing(first)?;
            open(first)?;
        }
        match (format, declared) {
            (Format::Json, Some(declared)) => Ok(declared),
            (Format::Json, None) => {
                let found = infer::json(paths, open)?;
                self.planned().mixed = found.mixed;
                Ok(found.schema)
            }
            (Format::Csv, declared) => {
                let (names, schema) = infer::csv(paths, open, &self.dialect()?, declared)?;
                self.planned().names = names;
                Ok(schema)
            }
            _ => Ok(read_lines::schema()),
        }
    }

    /// How the files become rows of `schema`, after [`found`](Self::found).
    fn recipe(&self, schema: &SchemaRef) -> Result<read::Recipe> {
        let format = self.format().map_err(|p| Error::validation(p.message))?;
        let planned = self.planned().clone();
        let in_files = schema.fields().iter().filter(|f| !planned.folders.contains(f.name())).cloned();
        let in_files = Arc::new(Schema::new(in_files.collect::<Vec<_>>()));
        let what = match (format.table(), format) {
            (Some(kind), _) => Content::Table(kind),
            (None, Format::Json) => Content::Json(Columns::new(in_files.clone(), &planned.mixed)),
            (None, Format::Csv) => {
                let dialect = self.dialect().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
                Content::Csv { dialect: Arc::new(dialect), names: planned.names, is_choice: self.columns.is_some() }
            }
            (None, _) => Content::Lines,
        };
        Ok(read::Recipe { content: what, texts: self.texts(), in_files })
    }
}

fn at_path(error: &Error) -> Problem {
    Problem::new(error.to_string()).under("path")
}

fn unopened(error: &Error, path: &Path) -> Problem {
    if error.kind() == Kind::NotFound {
        let problem = Problem::new(format!("there is no file `{}`", path.display())).under("path");
        return problem.help("paths are relative to the folder that the job is started in");
    }
    at_path(error)
}

impl Connector for File {
    const NAME: &'static str = "file";
    const READS_BACK: bool = true;

    fn capabilities(&self) -> Capabilities {
        let is_one = self.rotate.is_none() && self.partition_by.is_none();
        let delivery = match self.format() {
            // A device or a pipe takes what it gets.
            _ if self.path.starts_with("/dev/") => Delivery::Plain,
            Ok(Format::Json | Format::Csv) if is_one => Delivery::Revocable,
            _ => Delivery::Transactional,
        };
        Capabilities::source(Replay::FromPosition, !self.follow).and_sink(delivery)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        let format = self.format()?;
        let paths = if self.follow { self.paths_to_follow(format, &context.env)? } else { self.paths(&context.env)? };
        self.chosen(self.found(format, &paths, &context.env)?)
    }

    async fn splits(&self, context: &ConnectContext) -> Result<Vec<Split>> {
        if self.follow {
            return Ok(vec![Split::new(&self.path)]);
        }
        let paths = self.paths(&context.env).map_err(|p| Error::new(Kind::NotFound, p.message))?;
        Ok(paths.iter().map(|p| Split::new(p.to_string_lossy())).collect())
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let recipe = self.recipe(&context.schema)?;
        if self.follow {
            let follow = Follow::new(self.path.clone(), recipe, context)?;
            return Ok(follow.map_or_else(|| BoxSource::new(Nothing), BoxSource::new));
        }
        Ok(BoxSource::new(read::FileSource::new(recipe, context)))
    }

    fn files(&self, context: &ConnectContext) -> UsedFiles {
        let read = self.paths(&context.env).unwrap_or_default();
        // What is put in its place when it is whole empties nothing, and whoever reads the old file still can.
        let is_one = self.rotate.is_none() && self.partition_by.is_none();
        let as_it_comes = self.format().is_ok_and(|format| is_one && !format.is_whole_at_its_end());
        let pattern = self.path.replace(write::LANE, "*");
        let emptied = if as_it_comes { context.env.glob(&pattern).unwrap_or_default() } else { Vec::new() };
        // A device or a pipe takes what it gets, of whom it gets it.
        let written = (!self.path.starts_with("/dev/")).then(|| self.path.clone().into());
        UsedFiles { read, emptied, written }
    }

    async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        write::check(self, self.format()?, schema, context)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let format = self.format().map_err(|p| Error::validation(p.message))?;
        write::sink(self, format, context)
    }

    async fn read_back(&self, rows: &SchemaRef, context: &ConnectContext) -> Result<Vec<Self>, Problems> {
        self.read_back(rows, &context.env)
    }

    fn beside(&self, mark: &str, context: &ConnectContext) -> Option<Self> {
        self.beside(mark, &context.env)
    }

    fn reread(&self, texts: &[Unread<'_>], schema: &SchemaRef) -> Option<Vec<Result<RecordBatch>>> {
        self.reread(texts, schema)
    }
}

/// The schema without the columns that are the engine's own.
pub(crate) fn without_reserved(schema: &Schema) -> (SchemaRef, Vec<usize>) {
    let kept = |f: &Field| !f.name().starts_with(bourn_engine::data::columns::RESERVED_PREFIX);
    let indices: Vec<_> = (0..schema.fields().len()).filter(|i| kept(schema.field(*i))).collect();
    let fields: Vec<_> = indices.iter().map(|i| schema.field(*i).clone()).collect();
    (Arc::new(Schema::new(fields)), indices)
}

#[cfg(test)]
mod tests;
