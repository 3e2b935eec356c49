//! Tables in PostgreSQL.

mod array;
mod connect;
mod decode;
mod epochs;
mod kind;
mod read;
mod write;

use arrow::datatypes::SchemaRef;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, ConnectContext, Connector, Delivery, Known, Replay, Side, SinkContext,
    SourceContext,
};
use bourn_engine::data::position::Split;
use bourn_engine::data::secret::Secret;
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::Problems;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::sql::Mode;

/// Reads and writes tables of PostgreSQL.
///
/// A source reads a table, or what a query selects, in the order of a cursor column, page by page; it goes on behind the
/// last value that it has seen. A row with a value that Arrow has no place for (an infinite date, a number with too many
/// digits) is rejected alone. A sink writes the rows of an epoch in one transaction, or in several where they are more
/// than 64 MiB; when the connection is lost it writes those of the epoch again. A row that breaks a constraint is rejected
/// alone. Values are converted to the types of the table as PostgreSQL converts them; columns whose names begin with
/// `_bourn_` are not written.
///
/// A job that keeps checkpoints commits the rows of an epoch, however many, with its number in a table `bourn_epochs` beside
/// the table, which is made if it is not there: each row is there once, whatever happens. What the transaction has locked
/// stays so until the checkpoint is complete. With several `lanes`, or several sinks into one table, a row that breaks a
/// constraint only together with others of its epoch is found at the commit, and ends the job.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The database: `postgres://user@host:5432/database`. `?sslmode=require` insists on an encrypted connection, `disable`
    /// does without; a certificate is always checked.
    pub url: Secret,
    /// The password, if `url` does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file with certificates (PEM) to trust beside those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
    /// The table, for a source or a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// In place of `table`, what a source selects: `select id, total from orders where total > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// For a source: a column that orders the rows and only grows, such as a key or a time of change; without nulls. An
    /// index on it makes pages quick. A row whose transaction ends after those of later values were read is not seen. A
    /// table is read by its primary key if it is not said.
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
    /// For a sink: makes the table if it is not there.
    #[serde(default)]
    pub create: bool,
}

impl Postgres {
    /// The table `table` of the database at `url`.
    pub fn new(url: impl Into<String>, table: impl Into<String>) -> Self {
        Self { url: Secret::new(url), table: Some(table.into()), ..Self::default() }
    }
}

fn first(Problems(problems): Problems) -> Error {
    Error::validation(problems.into_iter().next().map(|p| p.message).unwrap_or_default())
}

impl Connector for Postgres {
    const NAME: &'static str = "postgres";
    const READS_BACK: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, self.every.is_none()).and_sink(Delivery::Transactional)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        read::schema(self).await
    }

    async fn known(&self, _: &ConnectContext) -> Result<Known, Problems> {
        let address = read::check(self)?;
        Ok(Known::Asks(format!("postgres at {}", address.place)))
    }

    async fn reach(&self, side: Side<'_>, _: &ConnectContext) -> Result<(), Problems> {
        match side {
            // The server is asked for the columns.
            Side::Source => Ok(()),
            Side::Sink(schema) => write::reach(self, write::Insertion::of(self, schema)?).await,
        }
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new(self.table.as_deref().unwrap_or("query"))])
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        read::source(self, context).await
    }

    async fn check_sink(&self, schema: &SchemaRef, _: &ConnectContext) -> Result<(), Problems> {
        write::Insertion::of(self, schema).map(drop)
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let insertion = write::Insertion::of(self, &context.schema).map_err(first)?;
        match &context.epochs {
            Some(epochs) => epochs::sink(self, insertion, &context, epochs).await,
            None => write::sink(self, insertion, context.env).await,
        }
    }

    async fn read_back(&self, _: &SchemaRef, _: &ConnectContext) -> Result<Vec<Self>, Problems> {
        read::back(self).await
    }
}
