//! A source of pages: each begins behind the last value of the cursor.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::api::{BoxSource, Chunk, Rejected, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::Postgres;
use super::array::Builder;
use super::connect::{Address, Link};
use super::decode::{Cell, Raw};
use super::kind::Kind;
use crate::sql::{Page, Step, quoted, selected_from, table_name};

/// How many rows are asked for at once.
const FETCHED: i32 = 512;

/// Where a row lies in its table, as a column.
const PLACE: &str = "_bourn_place";

/// What is selected, as planning or opening found it.
struct Selection {
    from: String,
    cursor: String,
    /// The columns with their kinds, in order.
    columns: Vec<(String, Kind)>,
    /// The type of the cursor, as SQL takes it.
    cursor_type: String,
}

/// The columns that the server tells, or what is wrong with them.
async fn select(postgres: &Postgres, address: &Address, link: &Link) -> Result<Selection, Problems> {
    let from = selected_from(postgres.table.as_deref(), postgres.query.as_deref())?;
    let at_fault = |e| Problem::new(address.told(e).message().to_owned());
    let statement = link.prepare(&format!("select * from {from} as q")).await.map_err(at_fault)?;
    let names: Vec<_> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    let cursor = match (&postgres.cursor, &postgres.table) {
        (Some(cursor), _) => cursor.clone(),
        (None, Some(table)) => primary_key(address, link, table).await?,
        (None, None) => return Err(no_cursor().into()),
    };
    let (mut columns, mut problems) = (Vec::new(), Vec::new());
    for column in statement.columns() {
        let (name, kind) = (column.name().to_owned(), Kind::of(column.type_(), column.type_modifier()));
        if columns.iter().any(|(n, _)| *n == name) {
            problems.push(Problem::new(format!("two columns are named `{name}`")).help("name them apart with `as`"));
        }
        let Some(kind) = kind else {
            let problem =
                Problem::new(format!("column `{name}` is a {}, which has no place here", column.type_().name()));
            problems.push(problem.help(format!("select it as what it shows: `{}::text`", quoted(&name))));
            continue;
        };
        columns.push((name, kind));
    }
    let known: Vec<_> = names.iter().map(String::as_str).collect();
    let found = statement.columns().iter().find(|c| c.name() == cursor);
    if found.is_none() {
        problems.push(crate::file::no_column(&cursor, &known).under("cursor"));
    }
    Problems::check(problems)?;
    let cursor_type = found.map(|c| format!("{}.{}", quoted(c.type_().schema()), quoted(c.type_().name())));
    Ok(Selection { from, cursor, columns, cursor_type: cursor_type.unwrap_or_default() })
}

/// The column of a primary key.
async fn primary_key(address: &Address, link: &Link, table: &str) -> Result<String, Problem> {
    let sql = "select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
               where i.indisprimary and i.indrelid = $1::text::regclass";
    let found = link.query(sql, &[&table_name(table)?]).await;
    let found = found.map_err(|e| Problem::new(address.told(e).message().to_owned()).under("table"))?;
    if let [row] = found.as_slice() {
        return Ok(row.get(0));
    }
    let problem = Problem::new("the table has no primary key of one column to be read by").under("table");
    Err(problem.help("say `cursor`, a column that orders the rows"))
}

/// Where a source is, if what is said of it makes sense whatever the server has.
pub(super) fn check(postgres: &Postgres) -> Result<Address, Problems> {
    let address = Address::of(postgres).map_err(|e| Problem::new(e.message().to_owned()).under("url"));
    let mut problems: Vec<_> =
        selected_from(postgres.table.as_deref(), postgres.query.as_deref()).err().into_iter().collect();
    if problems.is_empty() && postgres.query.is_some() && postgres.cursor.is_none() {
        problems.push(no_cursor());
    }
    match address {
        Ok(address) => Problems::check(problems).map(|()| address),
        Err(problem) => Err(Problems([vec![problem], problems].concat())),
    }
}

fn no_cursor() -> Problem {
    Problem::new("a query needs `cursor`, the column that its rows are ordered by").under("query")
}

/// The schema, at planning.
pub(super) async fn schema(postgres: &Postgres) -> Result<SchemaRef, Problems> {
    let address = check(postgres)?;
    let link = address.connect().await.map_err(|e| Problem::new(e.message().to_owned()).under("url"))?;
    let selection = select(postgres, &address, &link).await?;
    let nulls = format!("select 1 from {} as q where q.{} is null limit 1", selection.from, quoted(&selection.cursor));
    let nulls = link.query(&nulls, &[]).await.map_err(|e| Problem::new(address.told(e).message().to_owned()))?;
    if !nulls.is_empty() {
        let message =
            format!("`{}` has nulls: rows without a value of the cursor would never be read", selection.cursor);
        let problem = Problem::new(message).under("cursor");
        return Err(problem.help("leave them out in `query`, or choose another column").into());
    }
    let fields: Vec<_> = selection.columns.iter().map(|(name, kind)| kind.field(name)).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// A source of one lane. A second lane has no split, and no rows.
pub(super) async fn source(postgres: &Postgres, context: SourceContext) -> Result<BoxSource> {
    let SourceContext { env, splits, schema, .. } = context;
    let Some((split, position)) = splits.into_iter().next() else { return Ok(BoxSource::new(Nothing)) };
    let address = Address::of(postgres)?;
    let link = address.connect().await?;
    let selection = select(postgres, &address, &link).await.map_err(super::first)?;
    let columns = planned(&schema, &selection)?;
    let behind = position.map(|p| p.read()).transpose()?;
    let sql = [false, true].map(|behind| selection.statement(&columns, behind));
    let pages = Pages { address, sql, columns, schema, split, behind };
    Ok(BoxSource::new(PostgresSource { env, every: postgres.every, pages, link: Some(link) }))
}

/// The planned columns with their kinds, as far as they are still what they were.
fn planned(schema: &SchemaRef, selection: &Selection) -> Result<Vec<(String, Kind)>> {
    let column = |field: &arrow::datatypes::FieldRef| {
        let found = selection.columns.iter().find(|(name, _)| name == field.name());
        let Some((name, kind)) = found else {
            let message = format!("column `{}` was there when the job was planned, and is not any more", field.name());
            return Err(Error::new(bourn_engine::Kind::NotFound, message));
        };
        if kind.data_type() != *field.data_type() {
            return Err(changed(name, field.data_type(), Some(kind)));
        }
        Ok((name.clone(), kind.clone()))
    };
    schema.fields().iter().map(column).collect()
}

fn changed(name: &str, was: &arrow::datatypes::DataType, is: Option<&Kind>) -> Error {
    let is = is.map_or_else(|| "something without a place here".to_owned(), |k| sql_name(&k.data_type()));
    let was = sql_name(was);
    Error::new(
        bourn_engine::Kind::Unsupported,
        format!("column `{name}` was {was} when the job was planned, and is {is} now"),
    )
}

impl Selection {
    fn statement(&self, columns: &[(String, Kind)], behind: bool) -> String {
        let cursor = format!("q.{}", quoted(&self.cursor));
        let mut sql = String::from("select ");
        for (name, _) in columns {
            let _ = write!(sql, "q.{}, ", quoted(name));
        }
        let condition =
            if behind { format!(" where {cursor} > ($1::text)::{}", self.cursor_type) } else { String::new() };
        sql + &format!("{cursor}::text from {} as q{condition} order by {cursor}", self.from)
    }
}

/// The rows of the table of a sink, which needs no key: in the order in which they lie there.
pub(super) async fn back(postgres: &Postgres) -> Result<Vec<Postgres>, Problems> {
    let Some(table) = &postgres.table else {
        return Err(Problem::new("a sink needs `table`, the one to write to").into());
    };
    let (table, place) = (table_name(table)?, quoted(PLACE));
    let query = format!("select t.*, row_number() over (order by t.tableoid, t.ctid) as {place} from {table} as t");
    let source = Postgres {
        url: postgres.url.clone(),
        password: postgres.password.clone(),
        certificates: postgres.certificates.clone(),
        query: Some(query),
        cursor: Some(PLACE.to_owned()),
        ..Postgres::default()
    };
    let address = check(&source)?;
    let link = address.connect().await?;
    let found = link.query("select to_regclass($1::text) is not null", &[&table]).await;
    let found = found.map_err(|e| Problem::new(address.told(e).message().to_owned()))?;
    let is_there = found.first().is_some_and(|row| row.get::<_, bool>(0));
    Ok(is_there.then_some(source).into_iter().collect())
}

struct Nothing;

impl Source for Nothing {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        Ok(None)
    }
}

struct PostgresSource {
    env: Env,
    every: Option<Interval>,
    pages: Pages,
    /// None after the connection was lost.
    link: Option<Link>,
}

impl Source for PostgresSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        loop {
            let mut link = match self.link.take() {
                Some(link) if !link.is_closed() => link,
                _ => self.pages.address.connect_again(&self.env).await?,
            };
            // An error drops the connection, whatever state it is in.
            let chunk = self.pages.next(&mut link).await?;
            self.link = Some(link);
            match (chunk, self.every) {
                (Some(chunk), _) => return Ok(Some(chunk)),
                (None, Some(Interval(every))) => self.env.sleep(every).await,
                (None, None) => return Ok(None),
            }
        }
    }
}

/// Where a source is.
struct Pages {
    address: Address,
    /// For the first page, and for one behind a place.
    sql: [String; 2],
    columns: Vec<(String, Kind)>,
    schema: SchemaRef,
    split: Split,
    /// The last value of the cursor, as its text.
    behind: Option<String>,
}

impl Pages {
    /// The next page; `None` when there is no further row now.
    async fn next(&mut self, link: &mut Link) -> Result<Option<Chunk>> {
        let address = self.address.clone();
        let failed = |e| address.told(e);
        let transaction = link.client().build_transaction().read_only(true).start().await.map_err(failed)?;
        let statement = transaction.prepare(&self.sql[usize::from(self.behind.is_some())]).await.map_err(failed)?;
        self.check(&statement)?;
        let behind: Vec<&(dyn ToSql + Sync)> = self.behind.iter().map(|b| b as _).collect();
        let portal = transaction.bind(&statement, &behind).await.map_err(failed)?;
        let mut page = Page::new();
        let mut builders: Vec<_> = self.columns.iter().map(|(_, kind)| Builder::new(kind)).collect();
        let (mut taken, mut rejected) = (0, Vec::new());
        'page: loop {
            let rows = transaction.query_portal(&portal, FETCHED).await.map_err(failed)?;
            let is_last = rows.is_empty();
            for row in rows {
                let cursor: Option<String> = row.try_get(self.columns.len()).map_err(failed)?;
                let cursor = cursor.ok_or_else(|| Error::validation("a row has no value in the cursor column"))?;
                let cells = self.cells(&row).map_err(failed)?;
                let bytes = cells.as_ref().map_or(0, |cells| cells.iter().map(Cell::bytes).sum());
                if page.step(cursor, bytes)? == Step::Leave {
                    break 'page;
                }
                match cells {
                    Ok(cells) => {
                        for (builder, cell) in builders.iter_mut().zip(cells) {
                            builder.append(cell)?;
                        }
                        taken += 1;
                    }
                    Err(error) => rejected.push(Rejected::text(self.text(&row), error)),
                }
            }
            if is_last {
                break;
            }
        }
        drop(portal);
        transaction.rollback().await.map_err(failed)?;
        let Some(last) = page.last() else { return Ok(None) };
        let position = Position::of(&last)?;
        self.behind = Some(last);
        let columns: Result<Vec<_>> = builders.into_iter().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(taken));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options)?;
        Ok(Some(Chunk::new(batch, self.split.clone(), position).with_rejected(rejected)))
    }

    /// Whether the columns are still what they were.
    fn check(&self, statement: &Statement) -> Result<()> {
        for ((name, kind), column) in self.columns.iter().zip(statement.columns()) {
            let now = Kind::of(column.type_(), column.type_modifier());
            if now.as_ref() != Some(kind) {
                return Err(changed(name, &kind.data_type(), now.as_ref()));
            }
        }
        Ok(())
    }

    /// The values of a row, or why they have no place.
    fn cells<'a>(&self, row: &'a Row) -> Result<Result<Vec<Cell<'a>>>, tokio_postgres::Error> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for (i, (name, kind)) in self.columns.iter().enumerate() {
            let Raw(raw) = row.try_get(i)?;
            match Cell::of(kind, raw) {
                Ok(cell) => cells.push(cell),
                Err(error) => return Ok(Err(error.at_field(name.clone()))),
            }
        }
        Ok(Ok(cells))
    }

    /// A row as a dead letter shows it, as far as its values can be read.
    fn text(&self, row: &Row) -> String {
        let shown = |i: usize, kind: &Kind| {
            let Ok(Raw(raw)) = row.try_get(i) else { return serde_json::Value::Null };
            let numeric = if matches!(kind, Kind::Decimal(..)) { &Kind::Number } else { kind };
            match Cell::of(numeric, raw) {
                Ok(Cell::Null) => serde_json::Value::Null,
                Ok(Cell::Boolean(v)) => v.into(),
                Ok(Cell::Integer(n)) => n.into(),
                Ok(Cell::Float(x)) => x.into(),
                Ok(Cell::Text(text)) => text.as_ref().into(),
                Ok(Cell::Bytes(bytes)) => format!("{} bytes", bytes.len()).into(),
                Ok(Cell::List(cells)) => format!("a list of {}", cells.len()).into(),
                Ok(Cell::Decimal(_)) | Err(_) => Cell::of(numeric, raw).err().map(|e| e.message().to_owned()).into(),
            }
        };
        let columns = self.columns.iter().enumerate();
        let object: serde_json::Map<_, _> = columns.map(|(i, (name, kind))| (name.clone(), shown(i, kind))).collect();
        serde_json::Value::Object(object).to_string()
    }
}
