//! The table `bourn_epochs`: which epoch of which sink a database has, so that a commit that comes again changes nothing.

use bourn_engine::data::message::Epoch;
use bourn_engine::{Error, Kind, Result};

use super::epochs::{Database, Prepared};

/// The name of the table.
pub(crate) const NAME: &str = "bourn_epochs";
/// How much of each row it tells.
const TOLD: &str = "epoch, attempt, checksum";

/// What makes the table, in every database alike.
pub(crate) fn creation(table: &str) -> String {
    format!(
        "create table if not exists {table} (run text not null, sink text not null, lane bigint not null, \
         epoch bigint not null, attempt bigint not null, checksum text not null, primary key (run, sink, lane))"
    )
}

/// A value of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) epoch: i64,
    /// How often the lane was opened. An instance of the sink that was opened before the last one is refused.
    pub(crate) attempt: i64,
    /// Of the segment of the epoch.
    pub(crate) checksum: String,
}

/// The rows of one sink in one run of its job.
pub(crate) struct Ledger {
    pub(crate) table: String,
    pub(crate) run: String,
    pub(crate) sink: String,
}

impl Ledger {
    fn key(&self, lane: usize) -> Result<[Value; 3]> {
        Ok([Value::Text(self.run.clone()), Value::Text(self.sink.clone()), Value::Number(i64::try_from(lane)?)])
    }

    /// Checks that nothing behind `epoch` is in the database.
    ///
    /// # Errors
    /// When something is: the job goes on from an older checkpoint than its newest.
    pub(crate) async fn check(&self, database: &mut impl Database, behind: Epoch) -> Result<()> {
        let newest =
            format!("select {TOLD} from {} where run = $1 and sink = $2 order by epoch desc limit 1", self.table);
        let [run, sink, _] = self.key(0)?;
        let Some(Entry { epoch, .. }) = database.ask(newest, vec![run, sink]).await? else { return Ok(()) };
        if epoch <= i64::try_from(behind)? {
            return Ok(());
        }
        let message = format!(
            "{} has the rows up to epoch {epoch}, and the job goes on behind epoch {behind}: those between would be there \
             twice. Go on from the newest checkpoint, or begin anew with `--fresh`, which leaves the table as it is",
            database.target()
        );
        Err(Error::new(Kind::Validation, message))
    }

    /// Opens a lane: from now on instances that were opened before commit nothing any more. Returns the number of the attempt.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub(crate) async fn claim(&self, database: &mut impl Database, lane: usize) -> Result<i64> {
        let claim = format!(
            "insert into {} as e (run, sink, lane, epoch, attempt, checksum) values ($1, $2, $3, 0, 1, '') \
             on conflict (run, sink, lane) do update set attempt = e.attempt + 1 returning {TOLD}",
            self.table
        );
        let entry = database.ask(claim, self.key(lane)?.into()).await?;
        entry.map(|e| e.attempt).ok_or_else(|| Error::engine(format!("{NAME} has not kept a row")))
    }

    /// Notes an epoch in the transaction of its rows; false where it is there already, or the lane was opened anew.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub(crate) async fn record(&self, database: &mut impl Database, prepared: &Prepared, attempt: i64) -> Result<bool> {
        let record = format!(
            "update {} set epoch = $1, checksum = $2 where run = $3 and sink = $4 and lane = $5 and attempt = $6 \
             and epoch < $7 returning {TOLD}",
            self.table
        );
        let [run, sink, lane] = self.key(prepared.lane)?;
        let epoch = Value::Number(i64::try_from(prepared.epoch)?);
        let checksum = Value::Text(prepared.segment.checksum.clone());
        let values = vec![epoch.clone(), checksum, run, sink, lane, Value::Number(attempt), epoch];
        Ok(database.ask(record, values).await?.is_some())
    }

    /// Why an epoch could not be noted: it is there already.
    ///
    /// # Errors
    /// When something else is there in its place.
    pub(crate) async fn recorded(&self, database: &mut impl Database, prepared: &Prepared) -> Result<()> {
        let look = format!("select {TOLD} from {} where run = $1 and sink = $2 and lane = $3", self.table);
        let found = database.ask(look, self.key(prepared.lane)?.into()).await?;
        let wanted = i64::try_from(prepared.epoch)?;
        let message = match found {
            Some(entry) if entry.epoch > wanted => return Ok(()),
            Some(entry) if entry.epoch == wanted && entry.checksum == prepared.segment.checksum => return Ok(()),
            Some(entry) if entry.epoch == wanted => format!("has other rows of epoch {wanted}"),
            Some(_) => "is written by another run of this job now, which has opened it since".to_owned(),
            None => format!("has lost its row in {NAME}"),
        };
        Err(Error::new(Kind::Other, format!("{} {message}", database.target())))
    }
}
