//! A sink whose rows are committed with the number of their epoch.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Epochs, SinkContext};
use bourn_engine::{Error, Result};
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::error::told;
use super::first;
use super::read::PATIENCE;
use super::write::{Insertion, Worker, Writer};
use crate::sql::{Database, Entry, Inserted, LEDGER, Purpose, Transactional, Value, ledger_creation, quoted};

/// How long a trial waits for a lock.
const PATIENCE_OF_TRIALS: Duration = Duration::from_secs(1);

/// Opens the file, and makes what it may make.
pub(super) async fn sink(insertion: Insertion, context: &SinkContext, epochs: &Epochs) -> Result<BoxSink> {
    let (path, target) = (insertion.path().to_owned(), insertion.target());
    let (schema, indices) = insertion.written();
    let (schema, indices) = (schema.clone(), indices.to_vec());
    let mut worker = Worker::open(insertion, context.env.clone()).await?;
    worker
        .insist(|writer| writer.run(&format!("pragma synchronous = full; {}", ledger_creation(&quoted(LEDGER)))))
        .await?;
    // Two ways to name one file are one place.
    let file = context.env.files().identify(path.as_ref())?;
    let place = file.map_or(path, |f| format!("{}-{}", f.device, f.number));
    let database = SqliteDatabase { worker, target, schema, indices };
    let lane = (&*context.id, context.lane, context.lanes);
    Ok(BoxSink::new(Transactional::new(database, context.env.clone(), lane, &place, epochs).await?))
}

struct SqliteDatabase {
    worker: Worker,
    target: String,
    schema: SchemaRef,
    indices: Vec<usize>,
}

impl Database for SqliteDatabase {
    fn target(&self) -> &str {
        &self.target
    }

    fn ledger(&self) -> String {
        quoted(LEDGER)
    }

    fn columns(&self) -> (SchemaRef, &[usize]) {
        (self.schema.clone(), &self.indices)
    }

    fn is_open(&self) -> bool {
        self.worker.writer().is_some_and(Writer::is_open)
    }

    async fn begin(&mut self, why: Purpose) -> Result<bool> {
        let begun = match why {
            Purpose::Try => self.worker.work(|writer| writer.begin(PATIENCE_OF_TRIALS)).await,
            Purpose::Apply => self.worker.insist(|writer| writer.begin(PATIENCE)).await,
        };
        match begun {
            Err(e) if e.class() == "transient" => Ok(false),
            begun => begun.map(|()| true),
        }
    }

    async fn insert(&mut self, rows: &RecordBatch) -> Result<Option<Inserted>> {
        let rows = rows.clone();
        let insert = move |writer: &mut Writer| {
            if writer.insertion().written().0 != rows.schema_ref() {
                let other = writer.insertion().for_columns(rows.schema_ref()).map_err(first)?;
                writer.change(other);
            }
            writer.insert_all(&rows)
        };
        self.worker.work(insert).await.map(Some)
    }

    fn sift(&self, rows: &RecordBatch) -> Result<Inserted> {
        let writer = self.worker.writer().ok_or_else(|| Error::engine("a write to SQLite was cut off"))?;
        writer.insertion().sift(rows)
    }

    async fn run(&mut self, statement: &'static str) -> Result<()> {
        self.worker.work(move |writer| writer.run(statement)).await
    }

    async fn ask(&mut self, statement: String, values: Vec<Value>) -> Result<Option<Entry>> {
        self.worker.insist(move |writer| writer.ask(&statement, &values)).await
    }

    async fn commit(&mut self) -> Result<()> {
        self.worker.commit().await
    }

    async fn give_up(&mut self) {
        if self.is_open() {
            // A connection that can't go back begins nothing any more, which is told then.
            let _ = self.worker.work(Writer::give_up).await;
        }
    }
}

impl Writer {
    fn ask(&self, statement: &str, values: &[Value]) -> Result<Option<Entry>> {
        let failed = |e| told(e, self.insertion().path());
        if self.is_open() && self.connection.is_autocommit() {
            return Err(Error::engine("SQLite has ended a transaction without a word"));
        }
        let mut statement = self.connection.prepare(statement).map_err(failed)?;
        for (i, value) in values.iter().enumerate() {
            let value = match value {
                Value::Text(text) => ValueRef::Text(text.as_bytes()),
                Value::Number(number) => ValueRef::Integer(*number),
            };
            statement.raw_bind_parameter(i + 1, ToSqlOutput::Borrowed(value)).map_err(failed)?;
        }
        let mut rows = statement.raw_query();
        let mut entry = None;
        // To its end, at which a statement outside of a transaction is committed.
        while let Some(row) = rows.next().map_err(failed)? {
            let get = || Ok(Entry { epoch: row.get(0)?, attempt: row.get(1)?, checksum: row.get(2)? });
            entry = Some(get().map_err(failed)?);
        }
        Ok(entry)
    }
}
