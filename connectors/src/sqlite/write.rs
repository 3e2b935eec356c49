//! A sink: the rows of an epoch in one transaction.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Receipt, Rejected, Sink, Written};
use bourn_engine::data::json::cell_value;
use bourn_engine::data::message::Epoch;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};

use super::error::{is_of_the_row, told};
use super::read::PATIENCE;
use super::{Sqlite, no_file};
use crate::file::without_reserved;
use crate::sql::{Mode, key_problems, on_conflict, quoted, table_name};

/// How often the end of a transaction is tried while readers hold the file.
const COMMITS_MAX: usize = 30;

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

/// The form in which SQLite keeps a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Integer,
    Real,
    Text,
    Blob,
    /// A structure, as JSON.
    Json,
}

impl Stored {
    fn of(data_type: &DataType) -> Option<Self> {
        use DataType as D;
        Some(match data_type {
            kind if kind.is_integer() || *kind == D::Boolean => Self::Integer,
            kind if kind.is_floating() => Self::Real,
            D::Duration(_) | D::Interval(_) => return None,
            kind if kind.is_decimal() || kind.is_temporal() => Self::Text,
            D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Null => Self::Text,
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => Self::Blob,
            D::Struct(fields) if !fields.is_empty() => Self::Json,
            D::List(_) | D::LargeList(_) | D::FixedSizeList(..) => Self::Json,
            D::Dictionary(_, values) => Self::of(values)?,
            _ => return None,
        })
    }

    /// The type in `create table`: one that keeps the values as they are, and that a source reads as what they were
    /// where SQLite has a word for it.
    fn declared(self, data_type: &DataType) -> &'static str {
        match (self, data_type) {
            (_, DataType::Boolean) => "boolean",
            (_, DataType::Date32) => "date",
            (_, DataType::Timestamp(_, None)) => "timestamp",
            (Self::Integer, _) => "integer",
            (Self::Real, _) => "real",
            (Self::Text | Self::Json, _) => "text",
            (Self::Blob, _) => "blob",
        }
    }
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

/// Opens the file, and makes what it may make.
pub(super) async fn sink(insertion: Insertion, env: Env) -> Result<BoxSink> {
    let writer = env.blocking(move || Writer::open(insertion)).await??;
    Ok(BoxSink::new(SqliteSink { env, writer: Some(writer) }))
}

struct SqliteSink {
    env: Env,
    /// Away while it works.
    writer: Option<Writer>,
}

impl SqliteSink {
    async fn work<T: Send + 'static>(
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
}

impl Sink for SqliteSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let rows = rows.clone();
        self.work(move |writer| writer.write(&rows)).await
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        for _ in 1..COMMITS_MAX {
            match self.work(Writer::commit).await {
                // Each try has waited for the lock already.
                Err(error) if error.class() == "transient" => {}
                done => return done.map(|()| None),
            }
        }
        self.work(Writer::commit).await.map(|()| None)
    }
}

struct Writer {
    connection: Connection,
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

    fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let failed = |e| told(e, &self.insertion.path);
        if !self.open {
            self.connection.execute_batch("begin immediate").map_err(failed)?;
            self.open = true;
        }
        self.connection.execute_batch("savepoint rows").map_err(failed)?;
        match self.insert(rows) {
            Ok(written) => {
                self.connection.execute_batch("release rows").map_err(failed)?;
                Ok(written)
            }
            // SQLite itself has ended the transaction, and rows of earlier batches with it.
            Err(error) if self.connection.is_autocommit() => {
                self.open = false;
                Err(error.permanent())
            }
            Err(error) => {
                self.connection.execute_batch("rollback to rows; release rows").map_err(failed)?;
                Err(error)
            }
        }
    }

    fn insert(&self, rows: &RecordBatch) -> Result<Written> {
        let rows = rows.project(&self.insertion.indices)?;
        let columns = rows.columns().iter().zip(self.insertion.schema.fields()).zip(&self.insertion.stored);
        let columns: Result<Vec<_>> = columns.map(|((c, f), stored)| Column::of(c, f, *stored)).collect();
        let columns = columns?;
        let mut written = Written::all();
        let failed = |e| told(e, &self.insertion.path);
        let mut insert = self.connection.prepare(&self.insert).map_err(failed)?;
        for row in 0..rows.num_rows() {
            let misfit = columns
                .iter()
                .zip(self.insertion.schema.fields())
                .find_map(|(column, field)| column.misfit(row).map(|e| e.at_field(field.name().clone())));
            if let Some(error) = misfit {
                written.rejected.push(Rejected::rows(rows.slice(row, 1), error.at_row(row)));
                continue;
            }
            for (i, column) in columns.iter().enumerate() {
                insert.raw_bind_parameter(i + 1, column.value(row)).map_err(failed)?;
            }
            match insert.raw_execute() {
                Ok(_) => {}
                Err(e) if is_of_the_row(&e) => {
                    written.rejected.push(Rejected::rows(rows.slice(row, 1), failed(e).at_row(row)));
                }
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(written)
    }

    fn commit(&mut self) -> Result<()> {
        if self.open {
            self.connection.execute_batch("commit").map_err(|e| told(e, &self.insertion.path))?;
            self.open = false;
        }
        Ok(())
    }
}

/// The values of a batch in the form in which they are stored.
struct Column {
    values: ArrayRef,
    stored: Stored,
    /// What it was, where a value may not fit.
    given: ArrayRef,
}

impl Column {
    fn of(given: &ArrayRef, field: &Field, stored: Stored) -> Result<Self> {
        let target = match stored {
            Stored::Integer => DataType::Int64,
            Stored::Real => DataType::Float64,
            Stored::Text => DataType::Utf8,
            Stored::Blob => DataType::Binary,
            Stored::Json => {
                let texts: Result<Vec<_>> = (0..given.len())
                    .map(|i| Ok(given.is_valid(i).then_some(cell_value(given, field, i)?).map(|v| v.to_string())))
                    .collect();
                let values: ArrayRef = std::sync::Arc::new(StringArray::from(texts?));
                return Ok(Self { values: values.clone(), stored: Stored::Text, given: values });
            }
        };
        // What does not fit becomes a null where none was.
        Ok(Self { values: cast(given, &target)?, stored, given: given.clone() })
    }

    fn misfit(&self, row: usize) -> Option<Error> {
        if self.values.is_null(row) {
            let lost = self.given.is_valid(row) && self.given.data_type() != &DataType::Null;
            return lost.then(|| {
                Error::validation(format!("a {} beyond what SQLite holds", sql_name(self.given.data_type())))
            });
        }
        let is_nan = self.stored == Stored::Real && self.values.as_primitive::<Float64Type>().value(row).is_nan();
        is_nan.then(|| Error::validation("NaN, which SQLite would keep as null"))
    }

    fn value(&self, row: usize) -> ToSqlOutput<'_> {
        if self.values.is_null(row) {
            return ToSqlOutput::from(Null);
        }
        ToSqlOutput::Borrowed(match self.stored {
            Stored::Integer => ValueRef::Integer(self.values.as_primitive::<Int64Type>().value(row)),
            Stored::Real => ValueRef::Real(self.values.as_primitive::<Float64Type>().value(row)),
            Stored::Text | Stored::Json => ValueRef::Text(self.values.as_string::<i32>().value(row).as_bytes()),
            Stored::Blob => ValueRef::Blob(self.values.as_binary::<i32>().value(row)),
        })
    }
}
