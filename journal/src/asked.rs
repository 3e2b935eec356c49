//! What somebody asks of runs: written by whoever asks, heard by the process that runs them.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bourn_engine::Result;
use bourn_engine::journal::{Ask, Asked, RunState};
use rusqlite::{Connection, params};

use crate::Sqlite;
use crate::claim::Claim;
use crate::fault::{Fault, Faults as _};
use crate::job::{place_of, run_number};
use crate::look::Teller;
use crate::read::Run;

/// What is asked of a run that has got a signal: to look for it.
pub(crate) const SIGNAL: &str = "signal";

/// How often a process looks whether something is asked of the runs that it has.
const LOOK: Duration = Duration::from_millis(100);

/// Hears what is asked of the runs of a job, for as long as it lives.
pub struct Listener {
    pub asked: Asked,
    pub(crate) teller: Teller,
    /// The thread ends when it is gone.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// What is asked already is heard before this returns.
    pub fn start(journal: &Sqlite, job: u64) -> Result<Self> {
        let asked = Asked::default();
        let told = |fault: Fault| fault.at(journal.path());
        let connection = journal.reader().map_err(told)?;
        let mut last = hear(&connection, job, None, &asked).map_err(told)?;
        let (stop, stopped) = mpsc::channel::<()>();
        let (heard, teller, own) = (asked.clone(), Teller::default(), journal.clone());
        let tells = teller.clone();
        let listen = move || {
            while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                // One that can't be read now is read the next time.
                last = hear(&connection, job, Some(last), &heard).unwrap_or(last);
                let _later = tells.answer(&connection, &own, job, &heard);
            }
        };
        let thread = std::thread::Builder::new().name("bourn-asked".into()).spawn(listen)?;
        Ok(Self { asked, teller, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes in what was asked of the runs of this job behind `last`, and returns which was the last one that was asked at all.
fn hear(c: &Connection, job: u64, last: Option<i64>, asked: &Asked) -> Result<i64, Fault> {
    // Asked first: what comes meanwhile is heard twice rather than never.
    let newest = "SELECT coalesce(max(ask), 0) FROM asks";
    let newest: i64 =
        c.prepare_cached(newest).and_then(|mut query| query.query_row((), |row| row.get(0))).told("read")?;
    if last == Some(newest) {
        return Ok(newest);
    }
    let query = "SELECT run, what FROM asks WHERE run >= ?1 AND run < ?2 AND ask > ?3 ORDER BY ask";
    let mut query = c.prepare_cached(query).told("read")?;
    let behind = params![run_number(job, 0)?, run_number(job + 1, 0)?, last.unwrap_or(0)];
    let mut rows = query.query(behind).told("read")?;
    while let Some(row) = rows.next().told("read")? {
        let (run, what): (i64, String) = (row.get(0).told("read")?, row.get(1).told("read")?);
        if what == SIGNAL {
            // What was there before is in the histories that runs begin with.
            if last.is_some() {
                asked.rest().wake(place_of(run));
            }
            continue;
        }
        let what = Ask::of(&what).ok_or_else(|| Fault::Damaged(format!("`{what}` can't be asked of a run")))?;
        asked.tell(place_of(run), what);
    }
    Ok(newest)
}

impl Sqlite {
    /// Asks something of a run that has not ended. The process that runs it hears it soon, and one that goes on with it at once.
    ///
    /// # Errors
    /// When the run has ended, or the journal can't be written.
    pub async fn ask(&self, run: &Run, what: Ask) -> Result<()> {
        let number = run.number;
        let work = move |c: &Connection, clock: &mut crate::writer::Clock| {
            let insert =
                "INSERT INTO asks (run, what, at) SELECT run, ?2, ?3 FROM runs WHERE run = ?1 AND ended IS NULL";
            let row = params![number, what.name(), clock.next()];
            let inserted = c.prepare_cached(insert).and_then(|mut statement| statement.execute(row)).told("write")?;
            if inserted == 0 {
                return Err(Fault::Refused("the run has ended".into()));
            }
            if what == Ask::Resume {
                let update = "UPDATE runs SET status = 'RUNNING' WHERE run = ?1 AND status = 'PAUSED'";
                c.execute(update, [number]).told("write")?;
            }
            Ok(())
        };
        self.0.writer.write(work).await
    }

    /// Lets a run that nobody runs stand like this, unless it has ended; false when somebody runs it.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn settle(&self, run: &Run, state: RunState) -> Result<bool> {
        let Some(_claim) = Claim::take(self.path(), run.job, &self.0.env)? else { return Ok(false) };
        let number = run.number;
        self.0.writer.write_now(move |c, clock| {
            let update = "UPDATE runs SET status = ?2, ended = ?3 WHERE run = ?1 AND ended IS NULL";
            let ended = state.has_ended().then(|| clock.next());
            c.execute(update, params![number, state.name(), ended]).told("write").map(drop)
        })?;
        Ok(true)
    }
}
