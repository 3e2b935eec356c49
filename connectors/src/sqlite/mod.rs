//! Tables in SQLite files.

mod epochs;
mod error;
mod kind;
mod read;
mod stored;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Replay, SinkContext, SourceContext,
};
use bourn_engine::data::position::Split;
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::sql::Mode;

/// Reads and writes tables of an SQLite file.
///
/// A source reads a table, or what a query selects, in the order of a cursor column, page by page; it goes on behind the
/// last value that it has seen. Columns have their declared types as far as the first 1,000 rows fit them, else those of
/// the values; a later row that does not fit is rejected alone. A sink writes the rows of an epoch in one transaction, during
/// which the file is locked for others. A row that breaks a constraint is rejected alone. Dates, moments, decimals and
/// JSON are written as text, columns whose names begin with `_bourn_` are not written.
///
/// A job that keeps checkpoints commits the rows of an epoch with its number in a table `bourn_epochs` of the same file,
/// which is made if it is not there: each row is there once, whatever happens. Where several of its sinks write to one
/// file, a row that breaks a constraint only together with others of its epoch is found at the commit, and ends the job.
/// Without checkpoints, a second sink into the same file would wait for ever, and gives up.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// The file.
    pub path: String,
    /// The table, for a source or a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// In place of `table`, what a source selects: `select id, total from orders where total > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// For a source: a column that orders the rows and only grows, such as a key or a time of change; without nulls. An
    /// index on it makes pages quick. A table is read by its row id if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// For a source: how often to look for new rows; it ends with the last row if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Interval>,
    /// For a sink: what it does with its rows.
    #[serde(default)]
    pub mode: Mode,
    /// For `mode: upsert`: the columns that tell rows apart; the table needs a unique index on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// For a sink: makes the file and the table if they are not there.
    #[serde(default)]
    pub create: bool,
}

impl Sqlite {
    /// The table `table` of the file at `path`.
    pub fn new(path: impl Into<String>, table: impl Into<String>) -> Self {
        Self { path: path.into(), table: Some(table.into()), ..Self::default() }
    }
}

fn first(Problems(problems): Problems) -> Error {
    Error::validation(problems.into_iter().next().map(|p| p.message).unwrap_or_default())
}

impl Connector for Sqlite {
    const NAME: &'static str = "sqlite";
    const READS_BACK: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, self.every.is_none()).and_sink(Delivery::Transactional)
    }

    async fn schema(&self, context: &ConnectContext) -> Result<SchemaRef, Problems> {
        let selection = read::Selection::of(self)?;
        context.env.blocking(move || selection.schema()).await?
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new(self.table.as_deref().unwrap_or("query"))])
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let selection = read::Selection::of(self).map_err(|p| first(p.into()))?;
        read::source(selection, self.every, context).await
    }

    async fn check_sink(&self, schema: &SchemaRef, context: &ConnectContext) -> Result<(), Problems> {
        if context.lanes > 1 {
            let problem = Problem::new("an SQLite file has one writer: `sqlite` writes in one lane");
            return Err(problem.help("leave out `lanes`").into());
        }
        let insertion = write::Insertion::of(self, schema)?;
        context.env.blocking(move || insertion.check()).await?
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let insertion = write::Insertion::of(self, &context.schema).map_err(first)?;
        match &context.epochs {
            Some(epochs) => epochs::sink(insertion, &context, epochs).await,
            None => write::sink(insertion, context.env).await,
        }
    }

    async fn read_back(&self, _: &SchemaRef, context: &ConnectContext) -> Result<Vec<Self>, Problems> {
        let source = Self { path: self.path.clone(), table: self.table.clone(), ..Self::default() };
        if context.env.files().identify(Path::new(&self.path))?.is_none() {
            return Ok(Vec::new());
        }
        let selection = read::Selection::of(&source)?;
        let is_there = context.env.blocking(move || selection.is_there()).await??;
        Ok(is_there.then_some(source).into_iter().collect())
    }
}

/// The problem of a file that is not there.
fn no_file(path: &str) -> Problem {
    let problem = Problem::new(format!("there is no file `{path}`")).under("path");
    problem.help("paths are relative to the folder that the job is started in; a sink makes it with `create: true`")
}
