//! Reads what a sink has written, through our own sources.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use bourn_connectors::File;
use bourn_connectors::file::Format;
use bourn_engine::api::ConnectContext;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::graph::{Graph, Role};
use bourn_engine::{Engine, Error, Result};
use serde_json::Value;

use super::child::SPEC;
use super::subject::planned;
use crate::args;
use crate::failure::Failure;
use crate::prepare;
use crate::test::memory::Taken;

/// Where the rows of a sink are.
#[derive(Clone, Debug)]
pub struct Target {
    place: Place,
    /// Whether the rows are dead letters, each with the time at which it was written.
    times: bool,
}

#[derive(Clone, Debug)]
enum Place {
    /// Files, by their path in the folder of the job.
    Files { path: String, format: Format, one: bool, header: bool, config: Value },
    /// A table of SQLite.
    Table { path: String, table: Value },
    /// Where the spec of the run says, on a server: it reads it back by itself.
    Server { sink: String },
}

impl Target {
    /// The files of a sink with this configuration; none when it does not say what they are.
    pub fn of_file(config: &Value) -> Option<Self> {
        let path = config["path"].as_str()?;
        let format = match config["format"].as_str() {
            Some(format) => serde_json::from_value(format.into()).ok()?,
            None => by_ending(path)?,
        };
        let in_folders = !config["partition_by"].is_null();
        let one = !in_folders && config["rotate"].is_null() && !path.contains("{lane}");
        let path =
            if in_folders { format!("{path}/**/part-*") } else { path.replace("{lane}", "*").replace("{number}", "*") };
        let header = format == Format::Csv && config["csv"]["header"] != false;
        let place = Place::Files { path, format, one, header, config: config.clone() };
        Some(Self { place, times: false })
    }

    /// The table of a sink with this configuration.
    pub fn of_table(config: &Value) -> Option<Self> {
        let path = config["path"].as_str()?.to_owned();
        Some(Self { place: Place::Table { path, table: config["table"].clone() }, times: false })
    }

    /// What a sink has written to a server.
    pub fn elsewhere(sink: String) -> Self {
        Self { place: Place::Server { sink }, times: false }
    }

    /// Whether it is below the folder of the job.
    pub fn is_here(&self) -> bool {
        !matches!(self.place, Place::Server { .. })
    }

    /// The same for dead letters, whose times are others in each run.
    pub fn without_times(self) -> Self {
        Self { times: true, ..self }
    }

    /// Whether it is a single file of lines, in which rows have an order.
    pub fn is_one_text(&self) -> bool {
        matches!(&self.place, Place::Files { one: true, format, .. } if format.table().is_none())
    }

    /// Whether its rows are JSON objects.
    pub fn is_json(&self) -> bool {
        matches!(&self.place, Place::Files { format: Format::Json, .. })
    }

    /// The files that a commit has put in their places, with a hash of each; none where rows are seen as they are written.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn placed(&self, folder: &Path, engine: &Engine) -> Result<BTreeMap<PathBuf, u64>> {
        let Place::Files { path, config, .. } = &self.place else { return Ok(BTreeMap::new()) };
        if config["rotate"].is_null() && config["partition_by"].is_null() {
            return Ok(BTreeMap::new());
        }
        let whole = |path: &PathBuf| path.extension().is_none_or(|e| e != "part");
        let files = engine.env().glob(&pattern(folder, path))?.into_iter().filter(whole);
        files.map(|path| hash(&path).map(|hash| (path, hash))).collect()
    }

    /// Every row as a text, in the order of the files. Those of lines are the lines themselves, so that nothing that is
    /// torn looks whole; those in folders begin with their folder.
    ///
    /// # Errors
    /// When something that was written can't be read.
    pub async fn read(&self, folder: &Path, engine: &Engine) -> Result<Vec<String>> {
        let (source, lines) = match &self.place {
            Place::Server { sink } => return self.read_back(folder, sink, engine).await,
            Place::Table { path, .. } if !folder.join(path).exists() => return Ok(Vec::new()),
            Place::Table { path, table } => {
                let config = serde_json::json!({ "path": folder.join(path), "table": table });
                (connector("sqlite", config)?, None)
            }
            Place::Files { path, format, header, config, .. } => {
                let pattern = pattern(folder, path);
                let files = engine.env().glob(&pattern)?;
                let there = files.iter().any(|path| path.is_file());
                if !there {
                    return Ok(Vec::new());
                }
                if format.table().is_some() {
                    (connector("file", serde_json::json!({ "path": pattern, "format": format }))?, None)
                } else {
                    let mut config =
                        serde_json::json!({ "path": pattern, "format": "lines", "compression": config["compression"] });
                    if let Value::Object(config) = &mut config {
                        config.retain(|_, value| !value.is_null());
                    }
                    (connector("file", config)?, Some(*header))
                }
            }
        };
        let rows = taken(source, engine).await?;
        let text = |row: &Value| match lines {
            Some(header) if header && row["number"] == 1 => None,
            Some(_) => {
                let line = row["text"].as_str().unwrap_or_default();
                let below =
                    row["file"].as_str().map(Path::new).and_then(|file| file.strip_prefix(folder).ok()?.parent());
                let in_folder = below.filter(|_| self.is_in_folders()).map(|f| format!("{} ", f.display()));
                Some(in_folder.unwrap_or_default() + &self.timeless(line))
            }
            None => Some(self.timeless(&row.to_string())),
        };
        Ok(rows.iter().filter_map(text).collect())
    }

    async fn read_back(&self, folder: &Path, sink: &str, engine: &Engine) -> Result<Vec<String>> {
        let path = folder.join(SPEC).display().to_string();
        let loaded = prepare::load(&args::Spec { path, mode: None, routing: None }, engine).map_err(told)?;
        let plan = planned(&loaded, engine).await.map_err(told)?;
        let node = plan.nodes.iter().find(|node| *node.id == *sink);
        let Some((node, Role::Sink(connector))) = node.map(|node| (node, &node.role)) else {
            return Err(Error::engine(format!("the spec has no sink `{sink}`")));
        };
        let schema = node.inputs.first().ok_or_else(|| Error::engine("its columns are not known"))?;
        let context = ConnectContext { env: engine.env().clone(), id: sink.to_owned(), lanes: 1 };
        let mut rows = Vec::new();
        let sources = connector.read_back(schema, &context).await.map_err(|problems| {
            told(Failure::Problems(problems.0.iter().map(|p| loaded.document.diagnostic(p)).collect()))
        })?;
        for source in sources {
            rows.extend(taken(source, engine).await?.iter().map(|row| self.timeless(&row.to_string())));
        }
        Ok(rows)
    }

    fn is_in_folders(&self) -> bool {
        matches!(&self.place, Place::Files { config, .. } if !config["partition_by"].is_null())
    }

    fn timeless(&self, row: &str) -> String {
        match serde_json::from_str::<Value>(row) {
            Ok(Value::Object(mut letter)) if self.times => {
                letter.shift_remove("time");
                Value::Object(letter).to_string()
            }
            _ => row.to_owned(),
        }
    }
}

/// What ends a command, as an error of what it was about.
fn told(failure: Failure) -> Error {
    match failure {
        Failure::Problems(all) => Error::validation(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        Failure::Invalid(e) | Failure::Failed(e) => e,
        Failure::Told(_) | Failure::Unread => Error::engine("nobody listens any more"),
    }
}

/// The pattern of files below a folder.
fn pattern(folder: &Path, path: &str) -> String {
    format!("{}/{path}", glob::Pattern::escape(&folder.to_string_lossy()))
}

#[expect(clippy::disallowed_methods, reason = "it is looked at from outside, while no job runs")]
fn hash(path: &Path) -> Result<u64> {
    let content = std::fs::read(path).map_err(|e| Error::from(e).context(path.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Ok(hasher.finish())
}

fn by_ending(path: &str) -> Option<Format> {
    let path = path.to_lowercase();
    let path = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|packed| path.strip_suffix(packed)).unwrap_or(&path);
    Some(match path.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" | "json" => Format::Json,
        "csv" | "tsv" => Format::Csv,
        "parquet" => Format::Parquet,
        "arrow" | "ipc" | "feather" => Format::Arrow,
        "arrows" => Format::ArrowStream,
        "avro" => Format::Avro,
        _ => return None,
    })
}

/// A source of this kind with this configuration.
fn connector(kind: &str, config: Value) -> Result<BoxConnector> {
    if kind == "file" {
        return Ok(BoxConnector::new(serde_json::from_value::<File>(config)?));
    }
    #[cfg(feature = "sqlite")]
    if kind == "sqlite" {
        return Ok(BoxConnector::new(serde_json::from_value::<bourn_connectors::sqlite::Sqlite>(config)?));
    }
    Err(Error::unsupported(format!("this binary can't read what `{kind}` writes")))
}

/// The rows of a source, as JSON.
async fn taken(source: BoxConnector, engine: &Engine) -> Result<Vec<Value>> {
    let taken = Taken::default();
    let mut graph = Graph::new("compared");
    graph.source("written", source);
    graph.sink("taken", taken.clone());
    let reading = Engine::new(prepare::registry()).with_env(engine.env().clone());
    reading.run(graph).await?;
    Ok(taken.rows())
}
