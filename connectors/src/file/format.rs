//! What is in a file, as its path says or the spec.

use std::path::Path;
use std::sync::Arc;

use bourn_engine::diagnostic::Problem;
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::File;
use crate::codec::compression::{Limits, Packing, Text};
use crate::codec::table::{self, Compression};

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
    /// Arrow IPC with a footer, also called Feather.
    Arrow,
    /// Arrow IPC as a stream.
    ArrowStream,
    /// An Avro object container file.
    Avro,
    /// Plain lines: a source with the columns `text`, `file` and `number`, which counts from 1.
    Lines,
}

impl Format {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
            Self::Arrow | Self::ArrowStream => "Arrow",
            Self::Avro => "Avro",
            Self::Lines => "text",
        }
    }

    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Json => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::ArrowStream => "arrows",
            Self::Avro => "avro",
            Self::Lines => "txt",
        }
    }

    /// The kind of a format of columns; none of a format of lines.
    pub fn table(self) -> Option<table::Kind> {
        match self {
            Self::Json | Self::Csv | Self::Lines => None,
            Self::Parquet => Some(table::Kind::Parquet),
            Self::Arrow => Some(table::Kind::Arrow),
            Self::ArrowStream => Some(table::Kind::ArrowStream),
            Self::Avro => Some(table::Kind::Avro),
        }
    }

    /// Whether its files are whole only at their end, so that they are put in their place then.
    pub fn is_whole_at_its_end(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow | Self::Avro)
    }
}

const ENDINGS: &str =
    ".jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .ipc, .feather, .arrows, .avro, .txt and .log";

impl File {
    /// A path that was meant for something else: a file of such a name is never what is wanted.
    fn other_place(&self) -> Option<Problem> {
        let told = |message: String, help: &str| Some(Problem::new(message).under("path").help(help));
        let path = &self.path;
        if let (Some((scheme, _)), None) = (path.split_once("://"), self.objects) {
            return match scheme {
                "s3" | "s3a" | "gs" | "gcs" | "az" | "abfs" | "abfss" => {
                    told(format!("`{scheme}://` is no file"), "`object_store` reads and writes buckets")
                }
                "http" | "https" => told(format!("`{scheme}://` is no file"), "`http` asks servers"),
                _ => None,
            };
        }
        if path.starts_with("~/") {
            return told("`~` is a word of the shell".into(), "say `${env.HOME}/…`");
        }
        let name = path.split_once("${")?.1.split_once('}')?.0;
        told(
            format!("`${{{name}}}` means nothing in a path"),
            &format!("a variable of the environment is `${{env.{name}}}`"),
        )
    }

    /// The format, as it is said or as the ending says.
    pub(super) fn format(&self) -> Result<Format, Problem> {
        if let Some(problem) = self.other_place() {
            return Err(problem);
        }
        if let Some(format) = self.format {
            return Ok(format);
        }
        match self.ending().as_deref() {
            Some("jsonl" | "ndjson" | "json") => Ok(Format::Json),
            Some("csv" | "tsv") => Ok(Format::Csv),
            Some("parquet") => Ok(Format::Parquet),
            Some("arrow" | "ipc" | "feather") => Ok(Format::Arrow),
            Some("arrows") => Ok(Format::ArrowStream),
            Some("avro") => Ok(Format::Avro),
            Some("txt" | "log") => Ok(Format::Lines),
            Some(other) => Err(Problem::new(format!("the ending `.{other}` says no format that is known"))),
            None => Err(Problem::new("a path without an ending says no format")),
        }
        .map_err(|p| {
            let help = format!(
                "say `format: json`, `csv`, `parquet`, `arrow`, `arrow_stream`, `avro` or `lines`; endings that say it \
                 are {ENDINGS}, those of lines also with .gz or .zst behind them"
            );
            p.under("path").help(help)
        })
    }

    /// The ending of the path, without that of a compression.
    fn ending(&self) -> Option<String> {
        let lower = |path: &Path| path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let path = Path::new(&self.path);
        match lower(path).as_deref() {
            Some("gz" | "gzip" | "zst" | "zstd") => lower(Path::new(path.file_stem()?)),
            _ => lower(path),
        }
    }

    /// The delimiter of CSV if nothing else is said.
    pub(super) fn delimiter(&self) -> u8 {
        if self.ending().as_deref() == Some("tsv") { b'\t' } else { b',' }
    }

    /// How its texts are compressed.
    pub(super) fn texts(&self) -> Texts {
        Texts { said: self.compression, limits: self.decompress.unwrap_or_default() }
    }
}

/// How texts are compressed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts {
    said: Option<Compression>,
    limits: Limits,
}

impl Texts {
    /// How a text in a file at `path` is compressed: as it is said, or as the ending says.
    ///
    /// # Errors
    /// When a text is not compressed so.
    pub fn packing(self, path: &Path) -> Result<Option<Packing>, Problem> {
        match self.said {
            Some(Compression::None) => Ok(None),
            Some(Compression::Gzip) => Ok(Some(Packing::Gzip)),
            Some(Compression::Zstd) => Ok(Some(Packing::Zstd)),
            Some(other) => {
                let problem = Problem::new(format!("lines are not compressed by `{}`", other.name()));
                Err(problem.under("compression").help("say `gzip`, `zstd` or `none`"))
            }
            None => Ok(match path.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
                Some("gz" | "gzip") => Some(Packing::Gzip),
                Some("zst" | "zstd") => Some(Packing::Zstd),
                _ => None,
            }),
        }
    }

    /// The text in the file that was opened at `path`.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn open(self, path: &Path, file: Arc<dyn ReadFile>) -> Result<Text> {
        let packing = self.packing(path).map_err(|p| Error::validation(p.message))?;
        Text::open(file, packing, self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_none_is_refused_with_the_way_out() {
        let told = |path: &str| File::new(path).format().map_err(|p| p.help.unwrap_or_default());
        for (path, help) in [
            ("s3://b/a.csv", "`object_store` reads and writes buckets"),
            ("https://h/a.csv", "`http` asks servers"),
            ("~/a.csv", "say `${env.HOME}/…`"),
            ("out/${DAY}.csv", "a variable of the environment is `${env.DAY}`"),
        ] {
            assert_eq!(told(path).unwrap_err(), help);
        }
        assert!(told("a~b/$x{lane}.csv").is_ok());
    }
}
