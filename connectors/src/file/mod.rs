//! Files: JSON lines, CSV, Parquet, plain lines; one, or many by a pattern.

mod infer;
mod read;
pub(crate) mod read_lines;
mod read_parquet;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Replay, SinkContext, SourceContext,
    UsedFiles,
};
use bourn_engine::data::position::Split;
use bourn_engine::diagnostic::{Problem, Problems, did_you_mean};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codec::csv::{Csv, Dialect};
use crate::codec::json::Columns;
use crate::codec::parquet::Footer;
use crate::codec::types::Declared;
use read::Content;

/// Reads and writes files: JSON lines, CSV, Parquet or plain lines.
///
/// A source reads each file as a split of its own; a broken row is rejected alone. A quote in CSV that is not closed, or
/// has text behind its end, costs the line that it begins in; reading goes on behind that line. A sink writes the one file
/// that it is told, from its beginning, and makes its folder. A Parquet file appears when the job has ended; until then it is
/// written beside it, as `PATH.part`. Columns whose names begin with `_bourn_` are not written.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The file, or a pattern with `*`, `?`, `[…]` and `**` for many. In a sink, `{lane}` makes one file a lane.
    pub path: String,
    /// What is in it; from the ending of the path if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The columns of JSON lines or CSV with their types; inferred from the first 1,000 rows or 1 MiB if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    /// The columns to read; all of them if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What CSV looks like, where it is not as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<Csv>,
    #[serde(skip)]
    #[schemars(skip)]
    planned: Mutex<Planned>,
}

/// What planning found and the source needs.
#[derive(Clone, Debug, Default)]
struct Planned {
    /// Columns of JSON that have several types.
    mixed: Vec<String>,
    /// The columns of CSV, chosen or not.
    names: Vec<String>,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Values between commas, or what `csv` says (RFC 4180).
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Plain lines: a source with the columns `text`, `file` and `number`, which counts from 1.
    Lines,
}

impl Format {
    /// What people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
            Self::Lines => "text",
        }
    }
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

    fn format(&self) -> Result<Format, Problem> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        match self.ending().as_deref() {
            Some("jsonl" | "ndjson" | "json") => Ok(Format::Json),
            Some("csv" | "tsv") => Ok(Format::Csv),
            Some("parquet") => Ok(Format::Parquet),
            Some("txt" | "log") => Ok(Format::Lines),
            Some(other) => Err(Problem::new(format!("the ending `.{other}` says no format that is known"))),
            None => Err(Problem::new("a path without an ending says no format")),
        }
        .map_err(|p| {
            let help = "say `format: json`, `csv`, `parquet` or `lines`; endings that say it are .jsonl, .ndjson, .json, \
                        .csv, .tsv, .parquet, .txt and .log";
            p.under("path").help(help)
        })
    }

    /// The ending of the path.
    fn ending(&self) -> Option<String> {
        Path::new(&self.path).extension().map(|e| e.to_string_lossy().to_lowercase())
    }

    /// The delimiter of CSV if nothing else is said.
    fn delimiter(&self) -> u8 {
        if self.ending().as_deref() == Some("tsv") { b'\t' } else { b',' }
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

    /// The columns of the files, whether or not they were chosen.
    fn found(&self, format: Format, paths: &[PathBuf], env: &Env) -> Result<SchemaRef, Problems> {
        let open = |path: &Path| env.files().open(path).map_err(|e| unopened(&e, path));
        let first = open(&paths[0])?;
        let declared = self.schema.as_ref().map(Declared::schema).transpose().map_err(|p| p.under("schema"))?;
        if self.csv.is_some() && format != Format::Csv {
            return Err(Problem::new("`csv` is for the format CSV").under("csv").into());
        }
        match (format, declared) {
            (Format::Lines, _) => Ok(read_lines::schema()),
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
            (Format::Parquet, Some(_)) => {
                let problem = Problem::new("a Parquet file brings its own schema").under("schema");
                Err(problem.help("choose from it with `columns: [a, b]`").into())
            }
            (Format::Parquet, None) => {
                let footer = Footer::read(first).map_err(|e| at_path(&e.context(paths[0].display())))?;
                // A file further on may have nulls where the first has none.
                let fields = footer.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
                Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
            }
        }
    }

    fn chosen(&self, found: SchemaRef) -> Result<SchemaRef, Problems> {
        let Some(names) = &self.columns else { return Ok(found) };
        let (mut fields, mut problems) = (Vec::new(), Vec::new());
        for (i, name) in names.iter().enumerate() {
            if let Ok(field) = found.field_with_name(name) {
                fields.push(field.clone());
            } else {
                let known: Vec<_> = found.fields().iter().map(|f| f.name().as_str()).collect();
                problems.push(no_column(name, &known).under(i).under("columns"));
            }
        }
        Problems::check(problems)?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

pub(crate) fn no_column(name: &str, known: &[&str]) -> Problem {
    let mut problem = Problem::new(format!("there is no column `{name}`"));
    problem.help =
        did_you_mean(name, known.iter().copied()).or_else(|| Some(format!("columns are {}", known.join(", "))));
    problem
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

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true).and_sink(Delivery::Plain)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        let format = self.format()?;
        let paths = self.paths(&context.env)?;
        self.chosen(self.found(format, &paths, &context.env)?)
    }

    async fn splits(&self, context: &ConnectContext) -> Result<Vec<Split>> {
        let paths = self.paths(&context.env).map_err(|p| Error::new(Kind::NotFound, p.message))?;
        Ok(paths.iter().map(|p| Split::new(p.to_string_lossy())).collect())
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let format = self.format().map_err(|p| Error::validation(p.message))?;
        let planned = self.planned().clone();
        let what = match format {
            Format::Json => Content::Json(Columns::new(context.schema.clone(), &planned.mixed)),
            Format::Csv => {
                let dialect = self.dialect().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
                Content::Csv { dialect: Arc::new(dialect), names: planned.names }
            }
            Format::Parquet => Content::Parquet,
            Format::Lines => Content::Lines,
        };
        Ok(BoxSource::new(read::FileSource::new(what, context)))
    }

    fn files(&self, context: &ConnectContext) -> UsedFiles {
        let read = self.paths(&context.env).unwrap_or_default();
        // A Parquet file is put in its place when it is whole, and whoever reads the old one still can.
        let emptied = match self.format() {
            Ok(Format::Json | Format::Csv) => {
                context.env.glob(&self.path.replace(write::LANE, "*")).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        UsedFiles { read, emptied }
    }

    async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        write::check(self, self.format()?, schema, &context.env)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let format = self.format().map_err(|p| Error::validation(p.message))?;
        write::sink(self, format, context)
    }
}

/// The schema without the columns that are the engine's own.
pub(crate) fn without_reserved(schema: &Schema) -> (SchemaRef, Vec<usize>) {
    let kept = |f: &Field| !f.name().starts_with(bourn_engine::data::columns::RESERVED_PREFIX);
    let indices: Vec<_> = (0..schema.fields().len()).filter(|i| kept(schema.field(*i))).collect();
    let fields: Vec<_> = indices.iter().map(|i| schema.field(*i).clone()).collect();
    (Arc::new(Schema::new(fields)), indices)
}

/// A text column that is never null.
fn text_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

#[cfg(test)]
mod tests;
