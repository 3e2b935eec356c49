//! Results of steps for whoever asks the same: rows of the table `answers` that go when their time is over.

use std::sync::{Arc, Mutex, PoisonError};

use bourn_engine::Result;
use bourn_engine::api::memo::Key;
use bourn_engine::time::Timestamp;
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, params};

use crate::fault::{Fault, Faults as _};
use crate::{Job, Sqlite};

/// Answers that are over which a new one takes with it, at most.
const SWEPT: u32 = 64;

/// The cache of steps in a journal. A clone is the same one.
#[derive(Clone)]
pub struct Cache {
    journal: Sqlite,
    reader: Reader,
}

/// Who looks answers up: one connection, whose statements stay prepared.
#[derive(Clone, Default)]
pub(crate) struct Reader(Arc<Mutex<Option<Connection>>>);

impl Reader {
    /// Reads where waiting does no harm.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        journal: &Sqlite,
        read: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (reader, of) = (self.0.clone(), journal.clone());
        let look = move || -> Result<T, Fault> {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = match &mut *reader {
                Some(connection) => connection,
                none => none.insert(of.reader()?),
            };
            read(connection)
        };
        journal.0.env.blocking(look).await?.map_err(|fault| fault.at(journal.path()))
    }
}

impl Sqlite {
    /// Where steps look that say `cache`.
    pub fn cache(&self) -> Cache {
        Cache { journal: self.clone(), reader: Reader::default() }
    }
}

impl Job {
    /// The cache of the journal that keeps it.
    pub fn cache(&self) -> Cache {
        self.journal.cache()
    }
}

impl bourn_engine::api::Cache for Cache {
    fn find(&self, Key(key): Key, now: Timestamp) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        let look = move |c: &Connection| {
            let query = "SELECT answer FROM answers WHERE key = ?1 AND until > ?2";
            let mut statement = c.prepare_cached(query).told("read")?;
            statement.query_row(params![key, now.0], |row| row.get(0)).optional().told("read")
        };
        self.reader.read(&self.journal, look).boxed()
    }

    fn keep(&self, Key(key): Key, answer: Vec<u8>, until: Timestamp) -> BoxFuture<'_, Result<()>> {
        let env = self.journal.0.env.clone();
        let write = move |c: &Connection, clock: &mut crate::writer::Clock| {
            let over = "DELETE FROM answers WHERE key IN (SELECT key FROM answers WHERE until <= ?1 LIMIT ?2)";
            let row = params![env.wall().0, SWEPT];
            c.prepare_cached(over).and_then(|mut statement| statement.execute(row)).told("write")?;
            let insert = "INSERT OR REPLACE INTO answers (key, answer, input_tokens, output_tokens, usd, kept, until) \
                          VALUES (?1, ?2, 0, 0, 0, ?3, ?4)";
            let row = params![key, answer, clock.next(), until.0];
            c.prepare_cached(insert).and_then(|mut statement| statement.execute(row)).told("write").map(drop)
        };
        self.journal.0.writer.write(write).boxed()
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::api::Cache as _;
    use bourn_engine::env::Env;

    use super::*;

    #[tokio::test]
    async fn an_answer_holds_until_its_time_in_every_process_and_goes_then() {
        let folder = tempfile::tempdir().unwrap();
        let (env, path) = (Env::system(), folder.path().join("journal.db"));
        let [a, b] = ["a", "b"].map(|text| Key::of([text]));
        let now = env.wall();
        let later = |seconds: i64| Timestamp(now.0 + seconds * 1_000_000);
        let first = Sqlite::open(&path, &env).unwrap();
        first.cache().keep(a, b"1".to_vec(), later(-1)).await.unwrap();
        first.cache().keep(b, b"2".to_vec(), later(60)).await.unwrap();
        let other = Sqlite::open(&path, &env).unwrap();
        let (cache, found) = (other.cache(), Some(b"2".to_vec()));
        assert_eq!(cache.find(a, now).await.unwrap(), None);
        assert_eq!((cache.find(b, now).await.unwrap(), cache.find(b, later(60)).await.unwrap()), (found, None));
        // What was over went when the next one came, and what a pipeline has paid for stays.
        let count =
            |c: &Connection| c.query_row("SELECT count(*) FROM answers", (), |row| row.get::<_, u32>(0)).told("read");
        assert_eq!(other.read(count).unwrap(), 1);
    }
}
