//! A sink whose rows are committed with the number of their epoch.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BoxSink, Epochs, SinkContext};
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result};
use tokio_postgres::types::ToSql;

use super::connect::{Address, Link};
use super::write::{BEGIN, Failure, Insertion, Open, connect};
use super::{Postgres, first};
use crate::sql::{Database, Entry, Inserted, LEDGER, Purpose, Transactional, Value, beside, ledger_creation};

/// A server whose client is gone without a word gives up what that has locked within half a minute, and what is committed
/// stays when the server falls.
const SETTINGS: &str = "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 4;
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'";

/// Connects, and makes what it may make.
pub(super) async fn sink(
    config: &Postgres,
    insertion: Insertion,
    context: &SinkContext,
    epochs: &Epochs,
) -> Result<BoxSink> {
    let address = Address::of(config)?;
    let open = connect(&address, &insertion).await?;
    open.link.batch_execute(SETTINGS).await.map_err(|e| address.told(e))?;
    let ledger = beside(config.table.as_deref().unwrap_or_default(), LEDGER).map_err(|p| first(p.into()))?;
    make_ledger(&open.link, &ledger, &address).await?;
    let (schema, indices) = insertion.written();
    let database = PostgresDatabase {
        env: context.env.clone(),
        config: config.clone(),
        target: format!("table {} of postgres at {}", insertion.table(), address.place),
        ledger,
        schema: schema.clone(),
        indices: indices.to_vec(),
        address,
        insertion,
        open: Some(open),
        begun: false,
    };
    let (place, lane) = (database.target.clone(), (&*context.id, context.lane, context.lanes));
    Ok(BoxSink::new(Transactional::new(database, context.env.clone(), lane, &place, epochs).await?))
}

/// Makes the table of epochs, which another lane may be making as well, and which somebody else may have to make.
async fn make_ledger(link: &Link, ledger: &str, address: &Address) -> Result<()> {
    let is_there = async || -> Result<bool> {
        let found = link.query_one("select to_regclass($1::text) is not null", &[&ledger]).await;
        Ok(found.map_err(|e| address.told(e))?.get(0))
    };
    if is_there().await? {
        return Ok(());
    }
    let creation = ledger_creation(ledger);
    let Err(error) = link.batch_execute(&creation).await else { return Ok(()) };
    if is_there().await? {
        return Ok(());
    }
    let told = address.told(error);
    let message = format!(
        "the table that tells which epochs are there can't be made: {}. Make it by `{creation}`, or say `checkpoint: false`",
        told.message()
    );
    Err(Error::new(told.kind(), message))
}

struct PostgresDatabase {
    env: Env,
    config: Postgres,
    address: Address,
    target: String,
    ledger: String,
    schema: SchemaRef,
    indices: Vec<usize>,
    /// Of the rows that came last: those that are staged may have had other columns.
    insertion: Insertion,
    /// None after the connection was lost.
    open: Option<Open>,
    /// Whether a transaction was begun, and not ended by us: it may be lost since.
    begun: bool,
}

impl PostgresDatabase {
    /// A connection that is not known to be lost. Whoever fails with it does not give it back. What belongs to a
    /// transaction that is lost never goes to another connection.
    async fn connected(&mut self) -> Result<Open> {
        if let Some(open) = self.open.take().filter(|o| !o.link.is_closed()) {
            return Ok(open);
        }
        if self.begun {
            return Err(lost(&self.target));
        }
        let link = self.address.connect_again(&self.env).await?;
        link.batch_execute(SETTINGS).await.map_err(|e| self.address.told(e))?;
        self.insertion.prepare(link, &self.address).await
    }

    async fn execute(&mut self, statement: &str) -> Result<()> {
        let open = self.connected().await?;
        open.link.batch_execute(statement).await.map_err(|e| self.address.told(e))?;
        self.open = Some(open);
        Ok(())
    }
}

/// That a transaction is gone; what it had is staged.
fn lost(target: &str) -> Error {
    Error::new(Kind::Io, format!("{target}: the connection was lost")).transient()
}

impl Database for PostgresDatabase {
    fn target(&self) -> &str {
        &self.target
    }

    fn ledger(&self) -> String {
        self.ledger.clone()
    }

    fn columns(&self) -> (SchemaRef, &[usize]) {
        (self.schema.clone(), &self.indices)
    }

    fn is_open(&self) -> bool {
        self.begun && self.open.as_ref().is_some_and(|o| !o.link.is_closed())
    }

    async fn begin(&mut self, why: Purpose) -> Result<bool> {
        let open = self.connected().await?;
        let patience = match why {
            Purpose::Try => "1s",
            Purpose::Apply => "30s",
        };
        let begin = format!("{BEGIN}; set local lock_timeout = '{patience}'");
        open.link.batch_execute(&begin).await.map_err(|e| self.address.told(e))?;
        (self.open, self.begun) = (Some(open), true);
        Ok(true)
    }

    async fn insert(&mut self, rows: &RecordBatch) -> Result<Option<Inserted>> {
        let mut open = self.connected().await?;
        if self.insertion.written().0 != rows.schema_ref() {
            self.insertion = Insertion::of(&self.config, rows.schema_ref()).map_err(first)?;
            open = self.insertion.prepare(open.link, &self.address).await?;
        }
        match self.insertion.insert_all(&open, rows, &self.address).await {
            Ok(inserted) => {
                self.open = Some(open);
                Ok(Some(inserted))
            }
            Err(Failure { is_lock: true, .. }) => {
                self.open = Some(open);
                self.give_up().await;
                Ok(None)
            }
            // The connection goes, and the transaction with it.
            Err(Failure { error, .. }) => Err(error),
        }
    }

    fn sift(&self, rows: &RecordBatch) -> Result<Inserted> {
        self.insertion.sift(rows)
    }

    async fn run(&mut self, statement: &'static str) -> Result<()> {
        self.execute(statement).await
    }

    async fn ask(&mut self, statement: String, values: Vec<Value>) -> Result<Option<Entry>> {
        let open = self.connected().await?;
        let values = values.iter().map(|v| match v {
            Value::Text(text) => text as &(dyn ToSql + Sync),
            Value::Number(number) => number as &(dyn ToSql + Sync),
        });
        let row =
            open.link.query_opt(&statement, &values.collect::<Vec<_>>()).await.map_err(|e| self.address.told(e))?;
        self.open = Some(open);
        Ok(row.map(|row| Entry { epoch: row.get(0), attempt: row.get(1), checksum: row.get(2) }))
    }

    async fn commit(&mut self) -> Result<()> {
        self.execute("commit").await?;
        self.begun = false;
        Ok(())
    }

    async fn give_up(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        let Some(open) = self.open.take() else { return };
        // A connection that can't go back is closed, which ends the transaction as well.
        if !begun || open.link.batch_execute("rollback").await.is_ok() {
            self.open = Some(open);
        }
    }
}
