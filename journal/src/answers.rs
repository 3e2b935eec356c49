//! Answers that stages of pipelines have paid for, and what they have spent: the tables `answers` and `spent`.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bourn_engine::Result;
use bourn_engine::api::Usage;
use bourn_engine::api::memo::{Account, Keeping, Kept, Key, Memo, Memos};
use bourn_engine::env::Env;
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, params};

use crate::Sqlite;
use crate::cache::Reader;
use crate::fault::{Fault, Faults as _};

/// The journals of a command: its own, and those that stages name. Each file is opened once.
pub struct Journals {
    own: PathBuf,
    env: Env,
    open: Mutex<HashMap<PathBuf, Sqlite>>,
}

/// The account of a stage in a journal.
struct Answers {
    journal: Sqlite,
    account: Account,
    reader: Reader,
}

impl Journals {
    /// The journal of the command is in this file.
    pub fn new(own: impl Into<PathBuf>, env: &Env) -> Self {
        Self { own: own.into(), env: env.clone(), open: Mutex::default() }
    }
}

impl fmt::Debug for Journals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journals of {}", self.own.display())
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answers of {:?} in {}", self.account, self.journal.path().display())
    }
}

impl Memos for Journals {
    fn open(&self, at: &Keeping, account: Account) -> Result<Arc<dyn Memo>> {
        let path = match at {
            Keeping::Shared => &self.own,
            Keeping::At(path) => path,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = match open.get(path) {
            Some(journal) => journal.clone(),
            None => open.entry(path.clone()).or_insert(Sqlite::open(path, &self.env)?).clone(),
        };
        Ok(Arc::new(Answers { journal, account, reader: Reader::default() }))
    }
}

impl Memo for Answers {
    fn find(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Kept>>>> {
        let look = move |c: &Connection| keys.iter().map(|key| find(c, key)).collect();
        self.reader.read(&self.journal, look).boxed()
    }

    fn keep(&self, answers: Vec<(Key, Kept)>) -> BoxFuture<'_, Result<()>> {
        let account = self.account.clone();
        self.journal
            .0
            .writer
            .write(move |c, clock| {
                let insert = "INSERT OR REPLACE INTO answers (key, answer, input_tokens, output_tokens, usd, kept) \
                              VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let mut sum = Usage::default();
                for (Key(key), Kept { answer, usage }) in &answers {
                    let row = params![key, answer, usage.input_tokens, usage.output_tokens, usage.usd, clock.next()];
                    c.prepare_cached(insert).and_then(|mut statement| statement.execute(row)).told("write")?;
                    sum += *usage;
                }
                spend(c, &account, sum)
            })
            .boxed()
    }

    fn lost(&self, usage: Usage) -> BoxFuture<'_, Result<()>> {
        let account = self.account.clone();
        self.journal.0.writer.write(move |c, _| spend(c, &account, usage)).boxed()
    }

    fn spent(&self) -> BoxFuture<'_, Result<Usage>> {
        let (journal, Account { job, stage }) = (self.journal.clone(), self.account.clone());
        let look = move || {
            journal.read(|c| {
                let query = "SELECT input_tokens, output_tokens, usd FROM spent WHERE job = ?1 AND stage = ?2";
                let usage = c.query_row(query, [job, stage], |row| usage(row, 0)).optional().told("read")?;
                Ok(usage.unwrap_or_default())
            })
        };
        async move { self.journal.0.env.blocking(look).await? }.boxed()
    }

    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        let Account { job, stage } = self.account.clone();
        let delete = "DELETE FROM spent WHERE job = ?1 AND stage = ?2";
        self.journal.0.writer.write(move |c, _| c.execute(delete, [&job, &stage]).told("write").map(drop)).boxed()
    }
}

fn find(c: &Connection, Key(key): &Key) -> Result<Option<Kept>, Fault> {
    let query = "SELECT answer, input_tokens, output_tokens, usd FROM answers WHERE key = ?1";
    let mut statement = c.prepare_cached(query).told("read")?;
    let kept = statement.query_row([key], |row| Ok(Kept { answer: row.get(0)?, usage: usage(row, 1)? }));
    kept.optional().told("read")
}

/// What stands in three columns from this one on.
fn usage(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Usage> {
    Ok(Usage { input_tokens: row.get(at)?, output_tokens: row.get(at + 1)?, usd: row.get(at + 2)? })
}

fn spend(c: &Connection, Account { job, stage }: &Account, usage: Usage) -> Result<(), Fault> {
    let upsert = "INSERT INTO spent (job, stage, input_tokens, output_tokens, usd) VALUES (?1, ?2, ?3, ?4, ?5) \
                  ON CONFLICT (job, stage) DO UPDATE SET input_tokens = input_tokens + ?3, \
                  output_tokens = output_tokens + ?4, usd = usd + ?5";
    let row = params![job, stage, usage.input_tokens, usage.output_tokens, usage.usd];
    c.prepare_cached(upsert).and_then(|mut statement| statement.execute(row)).told("write").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(cents: f64) -> Kept {
        Kept { answer: b"\"yes\"".to_vec(), usage: Usage { input_tokens: 3, output_tokens: 2, usd: cents / 100.0 } }
    }

    #[tokio::test]
    async fn answers_and_what_they_cost_are_there_for_the_next_process_and_other_stages_have_accounts_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let (env, path) = (Env::system(), folder.path().join("journal.db"));
        let account = |stage: &str| Account { job: "j".into(), stage: stage.into() };
        let [a, b] = ["a", "b"].map(|text| Key::of([text]));
        let first = Journals::new(&path, &env).open(&Keeping::Shared, account("ask")).unwrap();
        first.keep(vec![(a, paid(1.0))]).await.unwrap();
        first.lost(Usage { usd: 0.5, ..Usage::default() }).await.unwrap();
        drop(first);
        // The file that a stage names may be the same one.
        let next = Journals::new("elsewhere.db", &env);
        let second = next.open(&Keeping::At(path.clone()), account("ask")).unwrap();
        assert_eq!(second.find(vec![b, a]).await.unwrap(), [None, Some(paid(1.0))]);
        let spent = Usage { input_tokens: 3, output_tokens: 2, usd: 0.51 };
        assert_eq!(second.spent().await.unwrap(), spent);
        let other = next.open(&Keeping::At(path), account("other")).unwrap();
        assert_eq!(other.spent().await.unwrap(), Usage::default());
        assert_eq!(other.find(vec![a]).await.unwrap(), [Some(paid(1.0))]);
        second.settle().await.unwrap();
        assert_eq!(second.spent().await.unwrap(), Usage::default());
        assert_eq!(second.find(vec![a]).await.unwrap(), [Some(paid(1.0))]);
    }
}
