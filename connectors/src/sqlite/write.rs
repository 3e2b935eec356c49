//! A sink: the rows of an epoch in one transaction.

use std::time::Duration;

use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Outage, Receipt, Rejected, Sink, Written};
use bourn_engine::data::message::Epoch;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use rusqlite::{Connection, OpenFlags};

use super::error::{is_of_the_row, told};
use super::read::PATIENCE;
use super::stored::{Column, Stored};
use super::{Sqlite, no_file};
use crate::file::without_reserved;
use crate::sql::{Inserted, Mode, key_problems, on_conflict, quoted, table_name};

/// How often a lock is waited for, while readers or other writers hold the file.
const ATTEMPTS_MAX: usize = 30;

/// What is inserted where.
#[derive(Clone, Debug)]
pub(super) struct Insertion {
    path: String,
    /// As SQL takes it.
    table: String,
    mode: Mode,
    key: Vec<String>,
    create: bool,
    /// The columns that are written, and where they stand in the rows.
    schema: SchemaRef,
    indices: Vec<usize>,
    stored: Vec<Stored>,
}

impl Insertion {
    pub(super) fn of(config: &Sqlite, schema: &SchemaRef) -> Result<Self, Problems> {
        let Some(table) = &config.table else {
            return Err(Problem::new("a sink needs `table`, the one to write to").into());
        };
        let (schema, indices) = without_reserved(schema);
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let mut problems = key_problems(config.mode, &config.key, &names);
        let table = table_name(table).map_err(|p| problems.push(p)).unwrap_or_default();
        if names.is_empty() {
            problems.push(Problem::new("rows without columns have no place in a table"));
        }
        let mut stored = Vec::new();
        for field in schema.fields() {
            let Some(kind) = Stored::of(field.data_type()) else {
                let message =
                    format!("SQLite has no place for column `{}`, a {}", field.name(), sql_name(field.data_type()));
                problems.push(Problem::new(message).help("make it a text or a number in a `map` stage before"));
                continue;
            };
            stored.push(kind);
        }
        Problems::check(problems)?;
        let Sqlite { path, mode, key, create, .. } = config.clone();
        Ok(Self { path, table, mode, key, create, schema, indices, stored })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What is written, as a receipt and an error name it.
    pub(super) fn target(&self) -> String {
        format!("table {} of {}", self.table, self.path)
    }

    /// The columns that are written, and where they stand in the rows.
    pub(super) fn written(&self) -> (&SchemaRef, &[usize]) {
        (&self.schema, &self.indices)
    }

    /// The same of rows with other columns.
    pub(super) fn for_columns(&self, schema: &SchemaRef) -> Result<Self, Problems> {
        let Self { path, mode, key, create, .. } = self.clone();
        let config = Sqlite { path, table: Some(self.table.clone()), mode, key, create, ..Sqlite::default() };
        Self::of(&config, schema)
    }

    /// Hands over each row that fits; what is said of it, or that it does not fit, is its error.
    fn each(
        &self,
        rows: &RecordBatch,
        mut take: impl FnMut(&[Column], usize) -> Result<Option<Error>>,
    ) -> Result<Inserted> {
        let columns = rows.columns().iter().zip(self.schema.fields()).zip(&self.stored);
        let columns: Result<Vec<_>> = columns.map(|((c, f), stored)| Column::of(c, f, *stored)).collect();
        let columns = columns?;
        // Nulls are like nothing: such a row would be there once more after each run, or SQLite would make up a key for it.
        let is_key = |name: &String| self.mode == Mode::Upsert && self.key.contains(name);
        let keys: Vec<_> = self.schema.fields().iter().zip(rows.columns()).filter(|(f, _)| is_key(f.name())).collect();
        let mut rejected = Vec::new();
        let mut taken = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let misfit = columns
                .iter()
                .zip(self.schema.fields())
                .find_map(|(column, field)| column.misfit(row).map(|e| e.at_field(field.name().clone())));
            let misfit = misfit.or_else(|| {
                let (field, _) = keys.iter().find(|(_, column)| column.is_null(row))?;
                let told = "is null, and `key` needs it to tell rows apart";
                Some(Error::validation(told).at_field(field.name().clone()))
            });
            let error = if misfit.is_some() { misfit } else { take(&columns, row)? };
            taken.push(error.is_none());
            if let Some(error) = error {
                rejected.push(Rejected::rows(rows.slice(row, 1), error.at_row(row)));
            }
        }
        let taken = if rejected.is_empty() { rows.clone() } else { filter_record_batch(rows, &taken.into())? };
        let taken = if taken.num_rows() > 0 { vec![taken] } else { Vec::new() };
        Ok(Inserted { taken, rejected })
    }

    /// The rows that fit, whatever the table says to them.
    pub(super) fn sift(&self, rows: &RecordBatch) -> Result<Inserted> {
        self.each(rows, |_, _| Ok(None))
    }

    fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|f| f.name().as_str()).collect()
    }

    fn insert(&self) -> String {
        let columns = self.columns();
        let names: Vec<_> = columns.iter().map(|c| quoted(c)).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let conflict = if self.mode == Mode::Upsert { on_conflict(&self.key, &columns) } else { String::new() };
        format!("insert into {} ({}) values ({places}){conflict}", self.table, names.join(", "))
    }

    fn creation(&self) -> String {
        let columns = self.schema.fields().iter().zip(&self.stored);
        let mut parts: Vec<_> =
            columns.map(|(f, s)| format!("{} {}", quoted(f.name()), s.declared(f.data_type()))).collect();
        if self.mode == Mode::Upsert {
            let key: Vec<_> = self.key.iter().map(|k| quoted(k)).collect();
            parts.push(format!("primary key ({})", key.join(", ")));
        }
        format!("create table if not exists {} ({})", self.table, parts.join(", "))
    }

    fn open(&self, flags: OpenFlags) -> Result<Connection> {
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|e| told(e, &self.path))?;
        connection.busy_timeout(PATIENCE).map_err(|e| told(e, &self.path))?;
        Ok(connection)
    }

    /// Whether rows can be written as things stand; changes nothing.
    pub(super) fn check(&self) -> Result<(), Problems> {
        let connection = match self.open(OpenFlags::SQLITE_OPEN_READ_WRITE) {
            Ok(connection) => connection,
            Err(e) if e.kind() == Kind::NotFound && self.create => return Ok(()),
            Err(e) if e.kind() == Kind::NotFound => return Err(no_file(&self.path).into()),
            Err(e) => return Err(Problem::new(e.message().to_owned()).under("path").into()),
        };
        let result = match connection.prepare(&self.insert()) {
            Ok(_) => return Ok(()),
            Err(e) => told(e, &self.path),
        };
        let is_missing = result.message().contains("no such table");
        match (is_missing, self.create) {
            (true, true) => Ok(()),
            (true, false) => {
                let problem = Problem::new(format!("there is no table {}", self.table)).under("table");
                Err(problem.help("`create: true` makes it").into())
            }
            (false, _) => Err(Problem::new(result.message().to_owned()).under("table").into()),
        }
    }
}

/// A sink whose rows are visible at the end of each epoch.
pub(super) async fn sink(insertion: Insertion, env: Env) -> Result<BoxSink> {
    Ok(BoxSink::new(SqliteSink { worker: Worker::open(insertion, env).await? }))
}

struct SqliteSink {
    worker: Worker,
}

impl Sink for SqliteSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let rows = rows.clone();
        self.worker.work(move |writer| writer.write(&rows)).await
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        self.worker.commit().await.map(|()| None)
    }
}

/// Lets a writer work on a thread that may wait.
pub(super) struct Worker {
    env: Env,
    /// Away while it works.
    writer: Option<Writer>,
}

impl Worker {
    /// Opens the file, and makes what it may make.
    pub(super) async fn open(insertion: Insertion, env: Env) -> Result<Self> {
        let writer = env.blocking(move || Writer::open(insertion)).await??;
        Ok(Self { env, writer: Some(writer) })
    }

    pub(super) fn writer(&self) -> Option<&Writer> {
        self.writer.as_ref()
    }

    pub(super) async fn work<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut writer = self.writer.take().ok_or_else(|| Error::engine("a write to SQLite was cut off"))?;
        let done = self.env.blocking(move || {
            let done = job(&mut writer);
            (writer, done)
        });
        let (writer, done) = done.await?;
        self.writer = Some(writer);
        done
    }

    /// Does what may have to wait for a lock, for as long as readers may hold it.
    pub(super) async fn insist<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Writer) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        let path = self.writer.as_ref().map_or_else(String::new, |writer| writer.insertion().path().to_owned());
        let outage = Outage::of(&path, &self.env);
        for _ in 1..ATTEMPTS_MAX {
            match self.work(job.clone()).await {
                // Each try has waited for the lock already.
                Err(error) if error.class() == "transient" => outage.failed(&error, PATIENCE),
                done => {
                    outage.passed();
                    return done;
                }
            }
        }
        self.work(job).await
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        self.insist(Writer::commit).await
    }
}

/// A connection with a transaction.
pub(super) struct Writer {
    pub(super) connection: Connection,
    insertion: Insertion,
    insert: String,
    /// Whether a transaction is open.
    open: bool,
}

impl Writer {
    fn open(insertion: Insertion) -> Result<Self> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, insertion.create);
        let connection = insertion.open(flags)?;
        let failed = |e| told(e, &insertion.path);
        if insertion.create {
            connection.execute_batch(&insertion.creation()).map_err(failed)?;
        }
        let insert = insertion.insert();
        connection.prepare(&insert).map_err(failed)?;
        Ok(Self { connection, insertion, insert, open: false })
    }

    /// Whether a transaction is open.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// What is inserted.
    pub(super) fn insertion(&self) -> &Insertion {
        &self.insertion
    }

    /// Inserts something else from now on.
    pub(super) fn change(&mut self, insertion: Insertion) {
        self.insert = insertion.insert();
        self.insertion = insertion;
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let rows = rows.project(&self.insertion.indices)?;
        if !self.open {
            self.begin(PATIENCE)?;
        }
        Ok(Written { rejected: self.insert_all(&rows)?.rejected })
    }

    /// Begins a transaction, and waits so long for the lock.
    pub(super) fn begin(&mut self, patience: Duration) -> Result<()> {
        self.connection.busy_timeout(patience).map_err(|e| told(e, &self.insertion.path))?;
        let begun = self.run("begin immediate");
        self.connection.busy_timeout(PATIENCE).map_err(|e| told(e, &self.insertion.path))?;
        begun?;
        self.open = true;
        Ok(())
    }

    pub(super) fn run(&mut self, statement: &str) -> Result<()> {
        self.connection.execute_batch(statement).map_err(|e| told(e, &self.insertion.path))
    }

    /// Inserts rows of the columns that are written: those that fit, or none.
    pub(super) fn insert_all(&mut self, rows: &RecordBatch) -> Result<Inserted> {
        self.run("savepoint rows")?;
        match self.insert(rows) {
            Ok(inserted) => {
                self.run("release rows")?;
                Ok(inserted)
            }
            // SQLite itself has ended the transaction, and rows of earlier batches with it.
            Err(error) if self.connection.is_autocommit() => {
                self.open = false;
                Err(error.permanent())
            }
            Err(error) => {
                self.run("rollback to rows; release rows")?;
                Err(error)
            }
        }
    }

    fn insert(&self, rows: &RecordBatch) -> Result<Inserted> {
        let failed = |e| told(e, &self.insertion.path);
        let mut insert = self.connection.prepare(&self.insert).map_err(failed)?;
        self.insertion.each(rows, |columns, row| {
            for (i, column) in columns.iter().enumerate() {
                insert.raw_bind_parameter(i + 1, column.value(row)).map_err(failed)?;
            }
            match insert.raw_execute() {
                Ok(_) => Ok(None),
                Err(e) if is_of_the_row(&e) => Ok(Some(failed(e))),
                Err(e) => Err(failed(e)),
            }
        })
    }

    fn commit(&mut self) -> Result<()> {
        if self.open {
            self.run("commit")?;
            self.open = false;
        }
        Ok(())
    }

    pub(super) fn give_up(&mut self) -> Result<()> {
        // What is not open any more is no loss: SQLite has ended the transaction itself.
        if std::mem::take(&mut self.open) && !self.connection.is_autocommit() { self.run("rollback") } else { Ok(()) }
    }
}
