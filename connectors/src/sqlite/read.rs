//! A source of pages: each begins behind the last value of the cursor.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::api::{BoxSource, Chunk, Rejected, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Row};

use super::error::told;
use super::kind::{Builder, Cell, Kind, Seen, shown};
use super::{Sqlite, no_file};
use crate::sql::{Page, Step, quoted, selected_from};

/// The name of the row id where it is the cursor. No column of a row.
const ROW_ID: &str = "_bourn_row_id";
/// How many rows planning looks at.
const LOOKED_AT: usize = 1_000;
/// How long a statement waits for a lock before it is told as locked, and tried again.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What is selected.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    path: String,
    from: String,
    cursor: String,
}

impl Selection {
    pub(super) fn of(config: &Sqlite) -> Result<Self, Problem> {
        let from = selected_from(config.table.as_deref(), config.query.as_deref())?;
        let (from, cursor) = match (&config.cursor, &config.table) {
            (Some(cursor), Some(_)) => (format!("(select * from {from})"), cursor.clone()),
            (Some(cursor), None) => (from, cursor.clone()),
            (None, Some(_)) => (format!("(select *, rowid as {} from {from})", quoted(ROW_ID)), ROW_ID.to_owned()),
            (None, None) => {
                let problem = Problem::new("a query needs `cursor`, the column that its rows are ordered by");
                return Err(problem.under("query"));
            }
        };
        Ok(Self { path: config.path.clone(), from, cursor })
    }

    fn open(&self) -> Result<Connection> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.map_err(|e| told(e, &self.path))?;
        connection.busy_timeout(PATIENCE).map_err(|e| told(e, &self.path))?;
        Ok(connection)
    }

    /// Whether the table is there.
    pub(super) fn is_there(&self) -> Result<bool> {
        match self.open()?.prepare(&format!("select * from {} as q", self.from)) {
            Ok(_) => Ok(true),
            Err(e) if e.to_string().contains("no such table") => Ok(false),
            Err(e) => Err(told(e, &self.path)),
        }
    }

    /// The columns, and what they are by the first rows.
    pub(super) fn schema(&self) -> Result<SchemaRef, Problems> {
        let connection = self.open().map_err(|e| match e.kind() {
            bourn_engine::Kind::NotFound => no_file(&self.path),
            _ => Problem::new(e.message().to_owned()).under("path"),
        })?;
        let at_fault = |e: rusqlite::Error| Problem::new(told(e, &self.path).message().to_owned());
        // The cursor is named apart from the others, so that a slip in it is told as such.
        let mut select = connection.prepare(&format!("select * from {} as q", self.from)).map_err(at_fault)?;
        let columns = select.columns().map(|c| (c.name().to_owned(), c.decl_type().and_then(Kind::declared)));
        let columns: Vec<_> = columns.collect();
        let names: Vec<_> = columns.iter().map(|(n, _)| n.as_str()).collect();
        if !names.contains(&self.cursor.as_str()) {
            return Err(crate::file::no_column(&self.cursor, &names).under("cursor").into());
        }
        let mut seen = vec![Seen::default(); columns.len()];
        let mut rows = select.query([]).map_err(at_fault)?;
        for _ in 0..LOOKED_AT {
            let Some(row) = rows.next().map_err(at_fault)? else { break };
            for (i, (seen, (_, declared))) in seen.iter_mut().zip(&columns).enumerate() {
                seen.look(*declared, row.get_ref(i).map_err(at_fault)?);
            }
        }
        drop(rows);
        if self.cursor != ROW_ID {
            let nulls = format!("select 1 from {} as q where q.{} is null limit 1", self.from, quoted(&self.cursor));
            let nulls = connection.prepare(&nulls).and_then(|mut s| s.exists([])).map_err(at_fault)?;
            if nulls {
                let message =
                    format!("`{}` has nulls: rows without a value of the cursor would never be read", self.cursor);
                return Err(Problem::new(message)
                    .under("cursor")
                    .help("leave them out in `query`, or choose another column")
                    .into());
            }
        }
        let fields = columns.iter().zip(seen).filter(|((name, _), _)| name != ROW_ID);
        let fields: Vec<_> = fields.map(|((name, declared), seen)| seen.kind(*declared).field(name)).collect();
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The rows in order; those behind `?1` when there is a place to go on behind.
    fn statement(&self, schema: &SchemaRef, behind: bool) -> String {
        // Qualified, because SQLite takes a quoted name that is no column for a text.
        let cursor = format!("q.{}", quoted(&self.cursor));
        let columns = schema.fields().iter().map(|f| format!("q.{}", quoted(f.name())));
        let columns = columns.chain([cursor.clone()]).collect::<Vec<_>>().join(", ");
        let condition = if behind { format!(" where {cursor} > ?1 collate binary") } else { String::new() };
        format!("select {columns} from {} as q{condition} order by {cursor} collate binary", self.from)
    }
}

/// A source of one lane. A second lane has no split, and no rows.
pub(super) async fn source(selection: Selection, every: Option<Interval>, context: SourceContext) -> Result<BoxSource> {
    let SourceContext { env, splits, schema, .. } = context;
    let Some((split, position)) = splits.into_iter().next() else { return Ok(BoxSource::new(Nothing)) };
    let behind = position.map(|p| p.read::<serde_json::Value>().and_then(value)).transpose()?;
    let kinds: Result<Vec<_>> = schema.fields().iter().map(|f| Kind::of(f)).collect();
    let (kinds, opened) = (kinds?, selection.clone());
    let connection = env.blocking(move || opened.open()).await??;
    let pages = Pages { connection, selection, schema, kinds, split, behind };
    Ok(BoxSource::new(SqliteSource { env, every, pages: Some(pages) }))
}

struct Nothing;

impl Source for Nothing {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        Ok(None)
    }
}

struct SqliteSource {
    env: Env,
    every: Option<Interval>,
    /// Away while a page is being read.
    pages: Option<Pages>,
}

impl Source for SqliteSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            let mut pages = self.pages.take().ok_or_else(|| Error::engine("a read of SQLite was cut off"))?;
            let (pages, chunk) = self
                .env
                .blocking(move || {
                    let chunk = pages.next();
                    (pages, chunk)
                })
                .await?;
            self.pages = Some(pages);
            match (chunk?, self.every) {
                (Some(chunk), _) => return Ok(Some(chunk)),
                (None, Some(Interval(every))) => self.env.sleep(every).await,
                (None, None) => return Ok(None),
            }
        }
    }
}

/// Where a source is.
struct Pages {
    connection: Connection,
    selection: Selection,
    schema: SchemaRef,
    kinds: Vec<Kind>,
    split: Split,
    behind: Option<Value>,
}

impl Pages {
    /// The next page; `None` when there is no further row now.
    fn next(&mut self) -> Result<Option<Chunk>> {
        let path = &self.selection.path;
        let failed = |e: rusqlite::Error| told(e, path);
        let sql = self.selection.statement(&self.schema, self.behind.is_some());
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        if let Some(behind) = &self.behind {
            statement.raw_bind_parameter(1, behind).map_err(failed)?;
        }
        let mut rows = statement.raw_query();
        let mut page = Page::new();
        let mut builders: Vec<_> = self.kinds.iter().map(|kind| Builder::new(*kind)).collect();
        let (mut taken, mut rejected) = (0, Vec::new());
        while let Some(row) = rows.next().map_err(failed)? {
            let cursor: Value = row.get(self.kinds.len()).map_err(failed)?;
            if page.step(cursor, bytes(row, self.kinds.len()).map_err(failed)?)? == Step::Leave {
                break;
            }
            if let Some(error) = self.misfit(row).map_err(failed)? {
                rejected.push(Rejected::text(self.text(row).map_err(failed)?, error));
                continue;
            }
            for (i, (builder, kind)) in builders.iter_mut().zip(&self.kinds).enumerate() {
                builder.append(Cell::of(*kind, row.get_ref(i).map_err(failed)?)?)?;
            }
            taken += 1;
        }
        drop(rows);
        drop(statement);
        let Some(last) = page.last() else { return Ok(None) };
        let position = Position::of(&json(&last)?)?;
        self.behind = Some(last);
        let columns: Result<Vec<_>> = builders.into_iter().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(taken));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options)?;
        Ok(Some(Chunk::new(batch, self.split.clone(), position).with_rejected(rejected)))
    }

    /// Why the row does not fit the planned columns.
    fn misfit(&self, row: &Row<'_>) -> rusqlite::Result<Option<Error>> {
        for (i, (kind, field)) in self.kinds.iter().zip(self.schema.fields()).enumerate() {
            if let Err(error) = Cell::of(*kind, row.get_ref(i)?) {
                return Ok(Some(error.at_field(field.name().clone())));
            }
        }
        Ok(None)
    }

    /// A row as a dead letter shows it.
    fn text(&self, row: &Row<'_>) -> rusqlite::Result<String> {
        let mut cells = Vec::with_capacity(self.kinds.len());
        for (i, field) in self.schema.fields().iter().enumerate() {
            let name = serde_json::Value::from(field.name().as_str());
            let value = match row.get_ref(i)? {
                ValueRef::Null => "null".to_owned(),
                ValueRef::Integer(n) => n.to_string(),
                ValueRef::Real(x) if x.is_finite() => x.to_string(),
                ValueRef::Text(bytes) => serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string(),
                other => serde_json::Value::from(shown(other)).to_string(),
            };
            cells.push(format!("{name}:{value}"));
        }
        Ok(format!("{{{}}}", cells.join(",")))
    }
}

fn bytes(row: &Row<'_>, columns: usize) -> rusqlite::Result<usize> {
    let mut bytes = 0;
    for i in 0..columns {
        bytes += match row.get_ref(i)? {
            ValueRef::Text(b) | ValueRef::Blob(b) => b.len() + 8,
            _ => 8,
        };
    }
    Ok(bytes)
}

/// A value of the cursor as a position keeps it.
fn json(value: &Value) -> Result<serde_json::Value> {
    Ok(match value {
        Value::Integer(n) => (*n).into(),
        Value::Real(x) => serde_json::json!({ "real": x.to_string() }),
        Value::Text(text) => text.as_str().into(),
        Value::Null => return Err(Error::validation("a row has no value in the cursor column")),
        Value::Blob(_) => return Err(Error::unsupported("the cursor column holds blobs; choose numbers or texts")),
    })
}

/// What [`json`] was given.
fn value(json: serde_json::Value) -> Result<Value> {
    let real = json.get("real").and_then(|x| x.as_str()).and_then(|x| x.parse().ok());
    match (json.as_i64(), json.as_str(), real) {
        (Some(n), ..) => Ok(Value::Integer(n)),
        (_, Some(text), _) => Ok(Value::Text(text.to_owned())),
        (.., Some(x)) => Ok(Value::Real(x)),
        _ => Err(Error::validation(format!("{json} is no position in a table"))),
    }
}
