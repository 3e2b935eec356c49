//! A sink: the rows of an epoch in one transaction, kept until it has ended so that they can be written again.

mod form;

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
use tokio_postgres::types::{ToSql, Type};

use super::Postgres;
use super::connect::{Address, Link};
use crate::file::without_reserved;
use crate::sql::{Mode, key_problems, on_conflict, quoted, table_name};
use form::{Form, Values};

/// The most bytes of rows that are kept for a transaction; beyond it the transaction ends before its epoch does.
const KEPT_MAX: usize = 64 << 20;
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
}

/// Connects, and makes what it may make.
pub(super) async fn sink(postgres: &Postgres, insertion: Insertion, env: Env) -> Result<BoxSink> {
    let address = Address::of(postgres)?;
    let link = address.connect().await?;
    if insertion.create {
        link.batch_execute(&insertion.creation()).await.map_err(|e| address.told(e))?;
    }
    let mut sink = PostgresSink::new(address, insertion, env);
    // The statement is tried, so that a table that is not fit is told before the first row.
    sink.open = Some(sink.begin(link).await?);
    Ok(BoxSink::new(sink))
}

/// Connects, and tries the statement without running it. A table that is to be made may be missing.
pub(super) async fn reach(postgres: &Postgres, insertion: Insertion, env: Env) -> Result<(), Problems> {
    let at = |key: &'static str| move |e: Error| Problem::new(e.message().to_owned()).under(key);
    let address = Address::of(postgres).map_err(at("url"))?;
    let link = address.connect().await.map_err(at("url"))?;
    if insertion.create {
        let found = link.query_one("select to_regclass($1::text) is not null", &[&insertion.table]).await;
        if !found.map_err(|e| at("table")(address.told(e)))?.get::<_, bool>(0) {
            return Ok(());
        }
    }
    let begun = PostgresSink::new(address, insertion, env).begin(link).await;
    begun.map(drop).map_err(|e| at("table")(e).into())
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
struct Open {
    link: Link,
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
        let (taken, rejected) = self.insert(&mut open, &rows).await?;
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
    fn new(address: Address, insertion: Insertion, env: Env) -> Self {
        Self { address, insertion, env, open: None, kept: Vec::new(), kept_bytes: 0 }
    }

    /// The transaction under way, or a new one with the rows that are kept.
    async fn opened(&mut self) -> Result<Open> {
        if let Some(open) = self.open.take().filter(|o| !o.link.is_closed()) {
            return Ok(open);
        }
        let link = self.address.connect_again(&self.env).await?;
        let mut open = self.begin(link).await?;
        for rows in &self.kept {
            let (_, rejected) = self.insert(&mut open, rows).await?;
            if let Some(rejected) = rejected.first() {
                let message =
                    format!("rows that were taken before the connection was lost are refused now: {}", rejected.error);
                return Err(Error::new(Kind::Other, message));
            }
        }
        Ok(open)
    }

    /// Prepares the statement for the types that the columns have.
    async fn begin(&self, link: Link) -> Result<Open> {
        let failed = |e| self.address.told(e);
        let columns: Vec<_> = self.insertion.columns().iter().map(|c| format!("t.{}", quoted(c))).collect();
        let look = format!("select {} from {} as t", columns.join(", "), self.insertion.table);
        let look = link.prepare(&look).await.map_err(failed)?;
        let types: Vec<_> = look.columns().iter().map(|c| c.type_().clone()).collect();
        let insert = link.prepare(&self.insertion.insert(&types)).await.map_err(failed)?;
        Ok(Open { link, insert, types, begun: false })
    }

    /// Inserts rows; where that fails for what they hold, smaller parts of them, down to the rows at fault. Returns those
    /// that were taken and those that were not.
    async fn insert(&self, open: &mut Open, rows: &RecordBatch) -> Result<(Vec<RecordBatch>, Vec<Rejected>)> {
        let failed = |e| self.address.told(e);
        if !open.begun {
            // A constraint that waits for the end of the transaction would take all its rows with it.
            open.link.batch_execute("begin; set constraints all immediate").await.map_err(failed)?;
            open.begun = true;
        }
        let columns =
            rows.columns().iter().zip(self.insertion.schema.fields()).zip(&self.insertion.forms).zip(&open.types);
        let columns: Result<Vec<_>> = columns.map(|(((c, f), form), t)| form.convert(c, f, t)).collect();
        let columns = columns?;
        let keys: Vec<_> = self.insertion.key.iter().filter_map(|k| rows.column_by_name(k)).collect();
        let (mut taken, mut rejected) = (Vec::new(), Vec::new());
        let mut parts = vec![(0, rows.num_rows())];
        while let Some((start, count)) = parts.pop() {
            let has_key = (start..start + count).all(|i| keys.iter().all(|k| k.is_valid(i)));
            let error = if has_key {
                let values: Vec<_> = columns.iter().map(|c| c.values(start, count)).collect();
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(Values::as_sql).collect();
                open.link.batch_execute("savepoint part").await.map_err(failed)?;
                match open.link.execute(&open.insert, &values).await.map_err(failed) {
                    Ok(_) => {
                        open.link.batch_execute("release savepoint part").await.map_err(failed)?;
                        taken.push(rows.slice(start, count));
                        continue;
                    }
                    Err(error) if error.kind() == Kind::Validation => {
                        open.link
                            .batch_execute("rollback to savepoint part; release savepoint part")
                            .await
                            .map_err(failed)?;
                        error
                    }
                    Err(error) => return Err(error),
                }
            } else {
                Error::validation("a null in a column of `key`")
            };
            if count == 1 {
                rejected.push(Rejected::rows(rows.slice(start, 1), error.at_row(start)));
            } else {
                let half = count / 2;
                parts.extend([(start + half, count - half), (start, half)]);
            }
        }
        Ok((taken, rejected))
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
