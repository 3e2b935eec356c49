//! A sink whose rows become visible by epoch: tried in a transaction that stays open, staged beside the database, committed
//! with the number of their epoch.
//!
//! A row that the database refuses is told at once, as the transaction has tried it. That transaction is committed with the
//! receipt; where it was lost, another applies what is staged. So no epoch is there in part, and none twice.
//!
//! Where several sinks or lanes of a job write to one place, an open transaction of one would keep the others from their
//! commit, without which its own never comes: there each write is tried in a transaction of its own that leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::output::RejectedRow;
use bourn_engine::api::{Epochs, Outcome, Receipt, Rejected, Sink, Written};
use bourn_engine::data::json::row_value;
use bourn_engine::data::message::Epoch;
use bourn_engine::data::secret::shortened;
use bourn_engine::env::Env;
use bourn_engine::{Error, Kind, Result, Retry};
use serde::{Deserialize, Serialize};

use super::ledger::{Entry, Ledger, Value};
use crate::staging::{self, Rows, Sealed, Segment, Sharing};

/// Sets the place in a transaction between two epochs, and goes back to it.
const MARK: &str = "savepoint epoch";
const BACK: &str = "rollback to savepoint epoch";
/// How much of a row an error shows, in characters.
const SHOWN_MAX: usize = 300;

/// A database that is written to. It has one transaction at a time, which ends when a call fails unless it says otherwise.
pub(crate) trait Database: Send + 'static {
    /// What is written, as receipts and errors name it, without secrets.
    fn target(&self) -> &str;
    /// The table of epochs, as SQL takes it.
    fn ledger(&self) -> String;
    /// The columns that are written, and where they stand in the rows.
    fn columns(&self) -> (SchemaRef, &[usize]);
    /// Whether a transaction is open.
    fn is_open(&self) -> bool;
    /// Begins a transaction, connecting again if need be. False where another one keeps it from that for long.
    fn begin(&mut self, why: Purpose) -> impl Future<Output = Result<bool>> + Send;
    /// Inserts rows of these columns, or of others that were staged once. None where another transaction has locked
    /// what it takes: this one is over then.
    fn insert(&mut self, rows: &RecordBatch) -> impl Future<Output = Result<Option<Inserted>>> + Send;
    /// Which rows it would take, as far as it can say without trying.
    fn sift(&self, rows: &RecordBatch) -> Result<Inserted>;
    /// Runs a statement in the transaction.
    fn run(&mut self, statement: &'static str) -> impl Future<Output = Result<()>> + Send;
    /// Runs a statement that returns an [`Entry`], in the transaction if there is one.
    fn ask(&mut self, statement: String, values: Vec<Value>) -> impl Future<Output = Result<Option<Entry>>> + Send;
    /// Commits. After a transient error nobody knows whether it has.
    fn commit(&mut self) -> impl Future<Output = Result<()>> + Send;
    /// Ends the transaction without a trace.
    fn give_up(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To try rows. It waits for locks for a short time only: what holds them may itself wait for this sink.
    Try,
    /// To apply what is staged.
    Apply,
}

/// What became of rows.
#[derive(Debug, Default)]
pub(crate) struct Inserted {
    pub(crate) taken: Vec<RecordBatch>,
    pub(crate) rejected: Vec<Rejected>,
}

/// The receipt of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    target: String,
    run: String,
    pub(crate) lane: usize,
    pub(crate) epoch: Epoch,
    pub(crate) segment: Sealed,
}

/// What the open transaction has of what is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// The rows of the epoch that waits for its commit; if none does, of the epoch under way.
    One,
    /// Both, with a mark between them.
    Both,
}

/// A sink of one lane.
pub(crate) struct Transactional<D> {
    env: Env,
    database: D,
    ledger: Ledger,
    folder: PathBuf,
    lane: usize,
    /// By the lane, as lanes that are no more may have left receipts.
    attempts: BTreeMap<usize, i64>,
    /// The number of the segment of the epoch under way.
    number: u64,
    /// Rows of the epoch under way.
    open: Option<Segment>,
    /// The epoch that waits for its commit.
    pending: Option<Prepared>,
    held: Held,
    /// Whether the rows of the epoch under way are staged without being tried, as something else has locked the table.
    untried: bool,
    sharing: Sharing,
    lanes: usize,
}

impl<D: Database> Transactional<D> {
    /// The sink `id` of one of its lanes. Sinks of a job that name one `place` take care not to wait for each other.
    ///
    /// # Errors
    /// When the database has more than the job goes on behind, or what an earlier run has left can't be removed.
    pub(crate) async fn new(
        mut database: D,
        env: Env,
        (id, lane, lanes): (&str, usize, usize),
        place: &str,
        epochs: &Epochs,
    ) -> Result<Self> {
        let ledger = Ledger { table: database.ledger(), run: epochs.run.clone(), sink: id.to_owned() };
        ledger.check(&mut database, epochs.behind).await?;
        let mut attempts = BTreeMap::new();
        attempts.insert(lane, ledger.claim(&mut database, lane).await?);
        let name = |(_, receipt): &(usize, Receipt)| Ok(receipt.read::<Prepared>()?.segment.name);
        let named: BTreeSet<String> = epochs.receipts.iter().map(name).collect::<Result<_>>()?;
        staging::remove_left(&env, &epochs.folder, (id, lane, lanes), &named)?;
        let sharing = Sharing::new(&env, &epochs.folder, place)?;
        Ok(Self {
            env,
            database,
            ledger,
            folder: epochs.folder.clone(),
            lane,
            attempts,
            // A run has at most a segment an epoch, so that no receipt names this one.
            number: epochs.behind + 1,
            open: None,
            pending: None,
            held: Held::Nothing,
            untried: false,
            sharing,
            lanes,
        })
    }

    /// Opens a transaction that has all that is staged, if there is none. False where something else keeps it from that.
    async fn ready(&mut self) -> Result<bool> {
        if !self.database.is_open() {
            self.held = Held::Nothing;
        }
        match self.held {
            Held::Nothing => {
                self.database.give_up().await;
                if !self.database.begin(Purpose::Try).await? {
                    return Ok(false);
                }
                if let Some(pending) = self.pending.clone() {
                    if !self.replay(pending.segment.open(&self.env, &self.folder)?).await? {
                        return Ok(false);
                    }
                    self.database.run(MARK).await?;
                }
                if let Some(open) = &self.open
                    && !self.replay(open.so_far(&self.env)?).await?
                {
                    return Ok(false);
                }
                self.held = if self.pending.is_some() { Held::Both } else { Held::One };
            }
            Held::One if self.pending.is_some() => {
                self.database.run(MARK).await?;
                self.held = Held::Both;
            }
            Held::One | Held::Both => {}
        }
        Ok(true)
    }

    /// Inserts rows that were taken before.
    async fn replay(&mut self, rows: Rows) -> Result<bool> {
        for rows in rows {
            let Some(Inserted { rejected, .. }) = self.database.insert(&rows?).await? else { return Ok(false) };
            if let Some(refused) = rejected.first() {
                return Err(self.refused(refused));
            }
        }
        Ok(true)
    }

    /// That a row which was staged is refused now. No validation error, which would be about the rows of a write.
    fn refused(&self, rejected: &Rejected) -> Error {
        let row = match &rejected.row {
            RejectedRow::Rows(rows) => {
                row_value(rows, 0).map(serde_json::Value::Object).unwrap_or_default().to_string()
            }
            RejectedRow::Text(text) => text.clone(),
        };
        let row = shortened(&row, SHOWN_MAX);
        let message = format!(
            "{} refuses a row that was staged for it, {row}: {}. Another program or sink has changed the table since, or \
             held it so long that the row could not be tried; mend the table and start again",
            self.database.target(),
            rejected.error.message()
        );
        Error::new(Kind::Other, message)
    }

    async fn try_rows(&mut self, rows: &RecordBatch) -> Result<Option<Inserted>> {
        if self.untried {
            return Ok(None);
        }
        if self.is_alone()? {
            return if self.ready().await? { self.database.insert(rows).await } else { Ok(None) };
        }
        self.give_up().await;
        if !self.database.begin(Purpose::Try).await? {
            return Ok(None);
        }
        let inserted = self.database.insert(rows).await;
        self.give_up().await;
        inserted
    }

    /// Whether a transaction may stay open.
    fn is_alone(&self) -> Result<bool> {
        Ok(self.held != Held::Nothing || self.lanes == 1 && !self.sharing.is_shared(&self.env)?)
    }

    async fn give_up(&mut self) {
        self.held = Held::Nothing;
        self.database.give_up().await;
    }

    async fn commit_once(&mut self, prepared: &Prepared, attempt: i64) -> Result<Outcome> {
        let is_held = self.held != Held::Nothing && self.database.is_open() && self.pending.as_ref() == Some(prepared);
        if !is_held {
            self.give_up().await;
            if !self.database.begin(Purpose::Apply).await? {
                let message = format!("{} is locked by another program", self.database.target());
                return Err(Error::new(Kind::Io, message).transient());
            }
        } else if self.held == Held::Both {
            self.database.run(BACK).await?;
        }
        self.held = Held::Nothing;
        // Noted before it is committed: whoever comes by another connection waits here until this one has ended.
        if !self.ledger.record(&mut self.database, prepared, attempt).await? {
            self.give_up().await;
            self.ledger.recorded(&mut self.database, prepared).await?;
            return Ok(Outcome::Committed);
        }
        if !is_held && !self.replay(prepared.segment.open(&self.env, &self.folder)?).await? {
            let message = format!("another transaction has locked rows of {}", self.database.target());
            return Err(Error::new(Kind::Io, message).transient());
        }
        match self.database.commit().await {
            Ok(()) => Ok(Outcome::Committed),
            Err(e) if e.retry() == Retry::Never => Err(e),
            // The next attempt looks into the table of epochs.
            Err(_) => Ok(Outcome::Unknown),
        }
    }
}

impl<D: Database> Sink for Transactional<D> {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let (schema, indices) = self.database.columns();
        let rows = rows.project(indices)?;
        let Inserted { taken, rejected } = if let Some(inserted) = self.try_rows(&rows).await? {
            inserted
        } else {
            (self.held, self.untried) = (Held::Nothing, true);
            self.database.sift(&rows)?
        };
        for rows in &taken {
            if self.open.is_none() {
                let place = self.folder.join(staging::name(&self.ledger.sink, self.lane, self.number));
                self.open = Some(Segment::create(&self.env, place, &schema)?);
            }
            if let Some(open) = &mut self.open {
                open.append(rows)?;
            }
        }
        Ok(Written { rejected })
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        self.untried = false;
        let Some(open) = self.open.take() else {
            if self.pending.is_none() {
                // Every row was refused: the transaction has nothing, and locks the table all the same.
                self.give_up().await;
            }
            return Ok(None);
        };
        if self.pending.is_some() {
            return Err(Error::engine(format!("epoch {epoch} is to be prepared before the last one is committed")));
        }
        self.number += 1;
        let (target, run, lane) = (self.database.target().to_owned(), self.ledger.run.clone(), self.lane);
        let prepared = Prepared { target, run, lane, epoch, segment: open.seal(&self.env).await? };
        let receipt = Receipt::of(&prepared)?;
        self.pending = Some(prepared);
        Ok(Some(receipt))
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        let prepared: Prepared = receipt.read()?;
        if prepared.target != self.database.target() {
            // It was committed if it is not staged any more.
            if !prepared.segment.is_there(&self.env, &self.folder)? {
                return Ok(Outcome::Committed);
            }
            let message = format!(
                "the checkpoint has rows for {}, and the sink writes to {} now: let the job end with the spec as it was, or \
                 begin anew with `--fresh`",
                prepared.target,
                self.database.target()
            );
            return Err(Error::validation(message));
        }
        let attempt = if let Some(attempt) = self.attempts.get(&prepared.lane) {
            *attempt
        } else {
            self.give_up().await;
            let attempt = self.ledger.claim(&mut self.database, prepared.lane).await?;
            self.attempts.insert(prepared.lane, attempt);
            attempt
        };
        let outcome = self.commit_once(&prepared, attempt).await;
        if !matches!(outcome, Ok(Outcome::Committed)) {
            self.give_up().await;
            return outcome;
        }
        if self.pending.as_ref() == Some(&prepared) {
            self.pending = None;
        }
        prepared.segment.remove(&self.env, &self.folder)?;
        outcome
    }
}
