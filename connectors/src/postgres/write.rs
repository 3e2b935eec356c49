//! A sink: the rows of an epoch in one transaction, kept until it has ended so that they can be written again.

mod form;

use std::ops::Range;

use arrow::array::Array;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Receipt, Rejected, Sink, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::data::records::bytes_needed;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result, Retry};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::Postgres;
use super::connect::{Address, Link};
use crate::file::without_reserved;
use crate::sql::{Inserted, Mode, key_problems, on_conflict, quoted, table_name};
use form::{Form, Values};

/// The most bytes of rows that are kept for a transaction; beyond it the transaction ends before its epoch does.
const KEPT_MAX: usize = 64 << 20;
/// Begins a transaction. A constraint that waits for its end would take all its rows with it.
pub(super) const BEGIN: &str = "begin; set constraints all immediate";
/// What is said of a row that can't be found again.
const NO_KEY: &str = "a null in a column of `key`";
/// How often the end of a transaction is tried.
const COMMITS_MAX: usize = 5;
/// The number of a row in its batch. No column of a row.
const NUMBER: &str = "_bourn_number";

/// What is inserted where.
#[derive(Clone, Debug)]
pub(super) struct Insertion {
    /// As SQL takes it.
    table: String,
    mode: Mode,
    key: Vec<String>,
    create: bool,
    /// The columns that are written, and where they stand in the rows.
    schema: SchemaRef,
    indices: Vec<usize>,
    forms: Vec<Form>,
}

impl Insertion {
    pub(super) fn of(config: &Postgres, schema: &SchemaRef) -> Result<Self, Problems> {
        let Some(table) = &config.table else {
            return Err(Problem::new("a sink needs `table`, the one to write to").into());
        };
        let (schema, indices) = without_reserved(schema);
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let mut problems = key_problems(config.mode, &config.key, &names);
        let table = table_name(table).map_err(|p| problems.push(p)).unwrap_or_default();
        problems.extend(Address::of(config).err().map(|e| Problem::new(e.message().to_owned()).under("url")));
        if names.is_empty() {
            problems.push(Problem::new("rows without columns have no place in a table"));
        }
        let mut forms = Vec::new();
        for field in schema.fields() {
            let Some(form) = Form::of(field) else {
                let (name, kind) = (field.name(), sql_name(field.data_type()));
                let problem = Problem::new(format!("PostgreSQL has no place for column `{name}`, a {kind}"));
                problems.push(problem.help("make it a text or a number in a `map` stage before"));
                continue;
            };
            forms.push(form);
        }
        Problems::check(problems)?;
        let Postgres { mode, key, create, .. } = config.clone();
        Ok(Self { table, mode, key, create, schema, indices, forms })
    }

    /// The table, as SQL takes it.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|f| f.name().as_str()).collect()
    }

    fn creation(&self) -> String {
        let columns = self.schema.fields().iter().zip(&self.forms);
        let mut parts: Vec<_> = columns.map(|(f, form)| format!("{} {}", quoted(f.name()), form.declared)).collect();
        if self.mode == Mode::Upsert {
            let key: Vec<_> = self.key.iter().map(|k| quoted(k)).collect();
            parts.push(format!("primary key ({})", key.join(", ")));
        }
        format!("create table if not exists {} ({})", self.table, parts.join(", "))
    }

    /// One statement for all rows of a batch: a parameter holds a column. Of rows with one key the last counts.
    fn insert(&self, types: &[Type]) -> String {
        let columns = self.columns();
        let names: Vec<_> = columns.iter().map(|c| quoted(c)).collect();
        let list = names.join(", ");
        let parameters = self.forms.iter().enumerate().map(|(i, form)| format!("${}::{}[]", i + 1, form.passed.sql()));
        let parameters = parameters.collect::<Vec<_>>().join(", ");
        let converted = names.iter().zip(types);
        let converted = converted.map(|(n, t)| format!("u.{n}::{}.{} as {n}", quoted(t.schema()), quoted(t.name())));
        let converted = converted.collect::<Vec<_>>().join(", ");
        if self.mode == Mode::Insert {
            let rows = format!("select {converted} from unnest({parameters}) as u({list})");
            return format!("insert into {} ({list}) {rows}", self.table);
        }
        let (number, key) =
            (quoted(NUMBER), self.key.iter().map(|k| format!("s.{}", quoted(k))).collect::<Vec<_>>().join(", "));
        let rows =
            format!("select {converted}, u.{number} from unnest({parameters}) with ordinality as u({list}, {number})");
        let newest = format!("select distinct on ({key}) {list} from ({rows}) as s order by {key}, s.{number} desc");
        format!("insert into {} ({list}) {newest}{}", self.table, on_conflict(&self.key, &columns))
    }

    /// Prepares the statement for the types that the columns have.
    pub(super) async fn prepare(&self, link: Link, address: &Address) -> Result<Open> {
        let failed = |e| address.told(e);
        let columns: Vec<_> = self.columns().iter().map(|c| format!("t.{}", quoted(c))).collect();
        let look = format!("select {} from {} as t", columns.join(", "), self.table);
        let look = link.prepare(&look).await.map_err(failed)?;
        let types: Vec<_> = look.columns().iter().map(|c| c.type_().clone()).collect();
        let insert = link.prepare(&self.insert(&types)).await.map_err(failed)?;
        Ok(Open { link, insert, types, begun: false })
    }

    /// Inserts rows of the columns that are written; where that fails for what they hold, smaller parts of them, down to
    /// the rows at fault.
    pub(super) async fn insert_all(
        &self,
        open: &Open,
        rows: &RecordBatch,
        address: &Address,
    ) -> Result<Inserted, Failure> {
        let failed = |e| Failure { is_lock: is_lock(&e), error: address.told(e) };
        let columns = rows.columns().iter().zip(self.schema.fields()).zip(&self.forms).zip(&open.types);
        let columns: Result<Vec<_>> = columns.map(|(((c, f), form), t)| form.convert(c, f, t)).collect();
        let columns = columns?;
        let mut inserted = Inserted::default();
        let mut parts = vec![(0, rows.num_rows())];
        while let Some((start, count)) = parts.pop() {
            let error = if self.has_key(rows, start..start + count) {
                let values: Vec<_> = columns.iter().map(|c| c.values(start, count)).collect();
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(Values::as_sql).collect();
                open.link.batch_execute("savepoint part").await.map_err(failed)?;
                match open.link.execute(&open.insert, &values).await.map_err(failed) {
                    Ok(_) => {
                        open.link.batch_execute("release savepoint part").await.map_err(failed)?;
                        inserted.taken.push(rows.slice(start, count));
                        continue;
                    }
                    Err(Failure { error, .. }) if error.kind() == Kind::Validation => {
                        open.link
                            .batch_execute("rollback to savepoint part; release savepoint part")
                            .await
                            .map_err(failed)?;
                        error
                    }
                    Err(failure) => return Err(failure),
                }
            } else {
                Error::validation(NO_KEY)
            };
            if count == 1 {
                inserted.rejected.push(Rejected::rows(rows.slice(start, 1), error.at_row(start)));
            } else {
                let half = count / 2;
                parts.extend([(start + half, count - half), (start, half)]);
            }
        }
        Ok(inserted)
    }

    fn has_key(&self, rows: &RecordBatch, mut range: Range<usize>) -> bool {
        let keys: Vec<_> = self.key.iter().filter_map(|k| rows.column_by_name(k)).collect();
        range.all(|i| keys.iter().all(|k| k.is_valid(i)))
    }

    /// The rows that have a key, whatever the table says to them.
    pub(super) fn sift(&self, rows: &RecordBatch) -> Result<Inserted> {
        let valid: Vec<bool> = (0..rows.num_rows()).map(|i| self.has_key(rows, i..i + 1)).collect();
        let taken = filter_record_batch(rows, &valid.clone().into())?;
        let without = valid.iter().enumerate().filter(|(_, valid)| !**valid);
        let rejected = without.map(|(i, _)| Rejected::rows(rows.slice(i, 1), Error::validation(NO_KEY).at_row(i)));
        let rejected = rejected.collect();
        Ok(Inserted { taken: if taken.num_rows() > 0 { vec![taken] } else { Vec::new() }, rejected })
    }

    /// The columns that are written, and where they stand in the rows.
    pub(super) fn written(&self) -> (&SchemaRef, &[usize]) {
        (&self.schema, &self.indices)
    }
}

/// What went wrong with an insertion.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether another transaction has locked what it needs.
    pub(super) is_lock: bool,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), is_lock: false }
    }
}

fn is_lock(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|c| [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(c))
}

/// Connects, makes what it may make, and prepares the statement, so that a table that is not fit is told before the first
/// row.
pub(super) async fn connect(address: &Address, insertion: &Insertion) -> Result<Open> {
    let link = address.connect().await?;
    if insertion.create {
        link.batch_execute(&insertion.creation()).await.map_err(|e| address.told(e))?;
    }
    insertion.prepare(link, address).await
}

/// A sink whose rows are visible at the end of each epoch.
pub(super) async fn sink(postgres: &Postgres, insertion: Insertion, env: Env) -> Result<BoxSink> {
    let address = Address::of(postgres)?;
    let open = Some(connect(&address, &insertion).await?);
    Ok(BoxSink::new(PostgresSink { address, insertion, env, open, kept: Vec::new(), kept_bytes: 0 }))
}

/// Connects, and tries the statement without running it. A table that is to be made may be missing.
pub(super) async fn reach(postgres: &Postgres, insertion: Insertion) -> Result<(), Problems> {
    let at = |key: &'static str| move |e: Error| Problem::new(e.message().to_owned()).under(key);
    let address = Address::of(postgres).map_err(at("url"))?;
    let link = address.connect().await.map_err(at("url"))?;
    if insertion.create {
        let found = link.query_one("select to_regclass($1::text) is not null", &[&insertion.table]).await;
        if !found.map_err(|e| at("table")(address.told(e)))?.get::<_, bool>(0) {
            return Ok(());
        }
    }
    let prepared = insertion.prepare(link, &address).await;
    prepared.map(drop).map_err(|e| at("table")(e).into())
}

struct PostgresSink {
    address: Address,
    insertion: Insertion,
    env: Env,
    /// A transaction; none after the connection was lost.
    open: Option<Open>,
    /// The rows that were taken since the last transaction ended.
    kept: Vec<RecordBatch>,
    kept_bytes: usize,
}

/// A transaction under way.
pub(super) struct Open {
    pub(super) link: Link,
    insert: Statement,
    types: Vec<Type>,
    /// Whether it was begun: it is with its first rows.
    begun: bool,
}

impl Sink for PostgresSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let rows = rows.project(&self.insertion.indices)?;
        let mut open = self.opened().await?;
        // An error drops the connection, and with it the transaction; the rows that are kept are written again.
        let Inserted { taken, rejected } = self.insert(&mut open, &rows).await?;
        self.open = Some(open);
        for rows in taken {
            self.kept_bytes += bytes_needed(&rows);
            self.kept.push(rows);
        }
        if self.kept_bytes >= KEPT_MAX {
            self.commit().await?;
        }
        Ok(Written { rejected })
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        self.commit().await.map(|()| None)
    }
}

impl PostgresSink {
    /// The transaction under way, or a new one with the rows that are kept.
    async fn opened(&mut self) -> Result<Open> {
        if let Some(open) = self.open.take().filter(|o| !o.link.is_closed()) {
            return Ok(open);
        }
        let link = self.address.connect_again(&self.env).await?;
        let mut open = self.insertion.prepare(link, &self.address).await?;
        for rows in &self.kept {
            let Inserted { rejected, .. } = self.insert(&mut open, rows).await?;
            if let Some(rejected) = rejected.first() {
                let message =
                    format!("rows that were taken before the connection was lost are refused now: {}", rejected.error);
                return Err(Error::new(Kind::Other, message));
            }
        }
        Ok(open)
    }

    async fn insert(&self, open: &mut Open, rows: &RecordBatch) -> Result<Inserted> {
        if !open.begun {
            open.link.batch_execute(BEGIN).await.map_err(|e| self.address.told(e))?;
            open.begun = true;
        }
        self.insertion.insert_all(open, rows, &self.address).await.map_err(|f| f.error)
    }

    /// Ends the transaction. Where the connection is lost meanwhile, nobody knows whether it has ended: its rows are
    /// written again, which upserts do not show and inserts may.
    async fn commit(&mut self) -> Result<()> {
        let mut attempt = 1;
        loop {
            let mut open = self.opened().await?;
            if !open.begun {
                self.open = Some(open);
                return Ok(());
            }
            match open.link.batch_execute("commit").await.map_err(|e| self.address.told(e)) {
                Ok(()) => {
                    open.begun = false;
                    self.open = Some(open);
                    self.kept.clear();
                    self.kept_bytes = 0;
                    return Ok(());
                }
                Err(error) if error.retry() == Retry::Never || attempt == COMMITS_MAX => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }
}
