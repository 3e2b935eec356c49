//! Rows that are committed by epoch: cut off between any two steps, tried again, refused, and with what others do meanwhile.

use bourn_engine::api::{Epochs, Outcome, Receipt, SinkContext};
use bourn_engine::env::Env;
use bourn_engine::error::Retry;

use super::*;

/// A job that keeps checkpoints, and writes to a table `t` of numbers that are there once.
struct Job {
    folder: TempDir,
    connection: Connection,
    sqlite: Sqlite,
}

fn n(numbers: impl IntoIterator<Item = i64>) -> arrow::record_batch::RecordBatch {
    batch_of(&numbers.into_iter().map(|n| json!({"n": n})).collect::<Vec<_>>())
}

impl Job {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (connection, path) = database(&folder, "create table t (n integer unique check (n < 1000))");
        Self { folder, connection, sqlite: Sqlite::new(path, "t") }
    }

    async fn open_as(&self, id: &str, behind: u64, receipts: &[&Receipt]) -> Result<BoxSink> {
        let epochs = Epochs {
            run: "run".into(),
            behind,
            receipts: receipts.iter().map(|r| (0, (*r).clone())).collect(),
            folder: self.folder.path().join("staged"),
        };
        let context = SinkContext { epochs: Some(epochs), ..SinkContext::new(Env::system(), id, n([1]).schema()) };
        self.sqlite.sink(context).await
    }

    async fn open(&self, behind: u64, receipts: &[&Receipt]) -> BoxSink {
        self.open_as("it", behind, receipts).await.unwrap()
    }

    fn numbers(&self) -> Vec<i64> {
        let mut statement = self.connection.prepare("select n from t order by n").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    }

    /// What is staged.
    fn staged(&self) -> Vec<String> {
        let pattern = self.folder.path().join("staged/*.arrows");
        let found = Env::system().glob(&pattern.to_string_lossy()).unwrap();
        found.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }
}

async fn write(sink: &mut BoxSink, numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    let written = sink.write(&n(numbers)).await.unwrap();
    written.rejected.iter().map(|r| r.error.to_string()).collect()
}

async fn prepare(sink: &mut BoxSink, epoch: u64) -> Receipt {
    sink.prepare(epoch).await.unwrap().expect("rows were written")
}

async fn commit(sink: &mut BoxSink, receipt: &Receipt) {
    assert_eq!(sink.commit(receipt).await.unwrap(), Outcome::Committed);
}

#[tokio::test]
async fn an_epoch_is_there_once_wherever_its_job_is_cut_off() {
    // What the checkpoint has is committed by the next run; what it has not is written by it again.
    for cut in ["written", "prepared", "in the checkpoint", "committed", "committed and still staged"] {
        let job = Job::new();
        let mut sink = job.open(0, &[]).await;
        write(&mut sink, 0..10).await;
        let first = prepare(&mut sink, 1).await;
        commit(&mut sink, &first).await;
        assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>());
        write(&mut sink, 10..20).await;
        let second = if cut == "written" { None } else { Some(prepare(&mut sink, 2).await) };
        write(&mut sink, 20..30).await;
        let segment = job.folder.path().join("staged/it-0-00000002.arrows");
        let content = read_file(&segment);
        if cut.starts_with("committed") {
            commit(&mut sink, second.as_ref().unwrap()).await;
        }
        drop(sink);
        if cut == "committed and still staged" {
            write_file(&segment, &content);
        }
        if cut == "written" || cut == "prepared" {
            let mut sink = job.open(1, &[&first]).await;
            assert_eq!(job.staged(), Vec::<String>::new(), "{cut}");
            commit(&mut sink, &first).await;
            assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>(), "{cut}");
            write(&mut sink, 10..20).await;
            let second = prepare(&mut sink, 2).await;
            commit(&mut sink, &second).await;
        } else {
            let second = second.unwrap();
            // It is cut off while it begins, too.
            for _ in 0..2 {
                let mut sink = job.open(2, &[&second]).await;
                commit(&mut sink, &second).await;
                commit(&mut sink, &second).await;
            }
        }
        assert_eq!(job.numbers(), (0..20).collect::<Vec<_>>(), "{cut}");
        assert_eq!(job.staged(), Vec::<String>::new(), "{cut}");
    }
}

#[tokio::test]
async fn nothing_is_seen_before_its_commit_and_nothing_of_the_next_epoch_with_it() {
    let job = Job::new();
    let mut sink = job.open(0, &[]).await;
    write(&mut sink, 0..10).await;
    let first = prepare(&mut sink, 1).await;
    write(&mut sink, 10..15).await;
    assert_eq!(job.numbers(), Vec::<i64>::new());
    commit(&mut sink, &first).await;
    assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>());
    write(&mut sink, 15..20).await;
    assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>());
    let second = prepare(&mut sink, 2).await;
    commit(&mut sink, &second).await;
    assert_eq!(job.numbers(), (0..20).collect::<Vec<_>>());
    // An epoch without rows needs no receipt, and holds no lock.
    assert_eq!(sink.prepare(3).await.unwrap(), None);
    assert_eq!(write(&mut sink, [1]).await.len(), 1);
    assert_eq!(sink.prepare(4).await.unwrap(), None);
    job.connection.execute_batch("insert into t values (500)").unwrap();
}

#[tokio::test]
async fn a_row_that_breaks_a_constraint_is_rejected_when_it_is_written() {
    let job = Job::new();
    job.connection.execute_batch("insert into t values (7)").unwrap();
    let mut sink = job.open(0, &[]).await;
    let told = write(&mut sink, [1, 7, 2, 1000, 1]).await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("row 1") && told[0].contains("UNIQUE constraint failed: t.n"), "{told:?}");
    assert!(told[1].contains("CHECK constraint failed"), "{told:?}");
    // By what earlier batches have, those of the epoch that waits for its commit too.
    assert_eq!(write(&mut sink, [2, 3]).await.len(), 1);
    let first = prepare(&mut sink, 1).await;
    assert_eq!(write(&mut sink, [3, 4]).await.len(), 1);
    commit(&mut sink, &first).await;
    assert_eq!(write(&mut sink, [3, 4, 5]).await.len(), 2);
    let second = prepare(&mut sink, 2).await;
    commit(&mut sink, &second).await;
    assert_eq!(job.numbers(), [1, 2, 3, 4, 5, 7]);
}

#[tokio::test]
async fn a_row_that_is_refused_at_its_commit_ends_the_job_without_a_part_of_its_epoch() {
    let job = Job::new();
    let mut sink = job.open(0, &[]).await;
    write(&mut sink, 0..10).await;
    let first = prepare(&mut sink, 1).await;
    drop(sink);
    job.connection.execute_batch("insert into t values (3)").unwrap();
    let mut sink = job.open(1, &[&first]).await;
    let error = sink.commit(&first).await.unwrap_err();
    assert!(error.message().contains("refuses a row that was staged for it, {\"n\":3}"), "{error}");
    assert_eq!((error.retry(), job.numbers()), (Retry::Never, vec![3]));
    // The table is mended, and the job started again.
    job.connection.execute_batch("delete from t").unwrap();
    commit(&mut sink, &first).await;
    assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_older_checkpoint_than_the_table_has_is_refused() {
    let job = Job::new();
    let mut sink = job.open(0, &[]).await;
    for epoch in 1..=3 {
        write(&mut sink, [i64::try_from(epoch).unwrap()]).await;
        let receipt = prepare(&mut sink, epoch).await;
        commit(&mut sink, &receipt).await;
    }
    drop(sink);
    let Err(error) = job.open_as("it", 2, &[]).await else { panic!("rows would be there twice") };
    let message = error.message();
    assert!(message.contains("up to epoch 3") && message.contains("behind epoch 2"), "{message}");
    assert!(message.contains("`--fresh`"), "{message}");
    job.open(3, &[]).await;
    // Another sink, or another run, has epochs of its own.
    job.open_as("other", 0, &[]).await.unwrap();
}

#[tokio::test]
async fn an_instance_that_was_replaced_commits_nothing_any_more() {
    let job = Job::new();
    let mut old = job.open(0, &[]).await;
    write(&mut old, 0..10).await;
    let receipt = prepare(&mut old, 1).await;
    drop(old);
    // The job is started again, and then once more elsewhere.
    let mut old = job.open(1, &[&receipt]).await;
    let mut new = job.open(1, &[&receipt]).await;
    let error = old.commit(&receipt).await.unwrap_err();
    assert!(error.message().contains("another run of this job"), "{error}");
    assert_eq!(job.numbers(), Vec::<i64>::new());
    commit(&mut new, &receipt).await;
    // What is there is there, whoever asks.
    commit(&mut old, &receipt).await;
    assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_staged_and_is_damaged_or_gone_is_never_taken_for_committed() {
    let job = Job::new();
    let mut sink = job.open(0, &[]).await;
    write(&mut sink, 0..10).await;
    let receipt = prepare(&mut sink, 1).await;
    drop(sink);
    let segment = job.folder.path().join("staged/it-0-00000001.arrows");
    let content = read_file(&segment);
    for place in (0..content.len()).step_by(7) {
        let mut changed = content.clone();
        changed[place] ^= 1;
        write_file(&segment, &changed);
        let mut sink = job.open(1, &[&receipt]).await;
        let error = sink.commit(&receipt).await.unwrap_err();
        assert!(error.message().contains("it is damaged") && error.message().contains("it-0-00000001"), "{error}");
    }
    write_file(&segment, &content[..content.len() / 2]);
    assert!(job.open(1, &[&receipt]).await.commit(&receipt).await.unwrap_err().message().contains("it is damaged"));
    Env::system().files().remove(&segment).unwrap();
    let error = job.open(1, &[&receipt]).await.commit(&receipt).await.unwrap_err();
    assert!(error.message().contains("is gone") && error.message().contains("`--fresh`"), "{error}");
    assert_eq!(job.numbers(), Vec::<i64>::new());
}

#[tokio::test]
async fn a_file_that_is_locked_is_waited_for_at_the_commit() {
    let job = Job::new();
    let mut sink = job.open(0, &[]).await;
    job.connection.execute_batch("begin immediate").unwrap();
    assert_eq!(write(&mut sink, 0..10).await, Vec::<String>::new());
    let first = prepare(&mut sink, 1).await;
    write(&mut sink, 10..20).await;
    let free = async {
        tokio::task::yield_now().await;
        job.connection.execute_batch("commit").unwrap();
    };
    let (committed, ()) = tokio::join!(sink.commit(&first), free);
    assert_eq!(committed.unwrap(), Outcome::Committed);
    assert_eq!(job.numbers(), (0..10).collect::<Vec<_>>());
    let second = prepare(&mut sink, 2).await;
    commit(&mut sink, &second).await;
    assert_eq!(job.numbers(), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn several_sinks_into_one_file_do_not_wait_for_each_other() {
    let job = Job::new();
    let mut one = job.open_as("one", 0, &[]).await.unwrap();
    let mut two = job.open_as("two", 0, &[]).await.unwrap();
    for epoch in 1..=3 {
        let from = i64::try_from(epoch).unwrap() * 100;
        // A row at fault by itself is told; what the other one has not committed yet is not seen.
        assert_eq!(write(&mut one, [from, from + 1, 1000]).await.len(), 1);
        assert_eq!(write(&mut two, [from + 2, 2000]).await.len(), 1);
        let receipts = [prepare(&mut one, epoch).await, prepare(&mut two, epoch).await];
        write(&mut one, [from + 3]).await;
        commit(&mut two, &receipts[1]).await;
        commit(&mut one, &receipts[0]).await;
        write(&mut two, [from + 4]).await;
    }
    let receipts = [prepare(&mut one, 4).await, prepare(&mut two, 4).await];
    commit(&mut two, &receipts[1]).await;
    commit(&mut one, &receipts[0]).await;
    let expected: Vec<i64> = (1..=3).flat_map(|e| (0..5).map(move |n| e * 100 + n)).collect();
    assert_eq!(job.numbers(), expected);
}

#[tokio::test]
async fn what_was_staged_for_other_columns_is_committed_as_it_was_and_for_another_table_not() {
    let mut job = Job::new();
    let mut sink = job.open(0, &[]).await;
    write(&mut sink, 0..3).await;
    let first = prepare(&mut sink, 1).await;
    drop(sink);
    let (db, table) = (job.sqlite.path.clone(), "u".to_owned());
    job.connection.execute_batch("create table u (n integer); alter table t add column m integer").unwrap();
    job.sqlite.table = Some(table);
    let error = job.open(1, &[&first]).await.commit(&first).await.unwrap_err();
    assert!(error.message().contains("table \"t\"") && error.message().contains("now"), "{error}");
    job.sqlite = Sqlite::new(db, "t");
    let wide = batch_of(&[json!({"n": 5, "m": 6})]);
    let receipts = vec![(0, first.clone())];
    let epochs = Epochs { run: "run".into(), behind: 1, receipts, folder: job.folder.path().join("staged") };
    let context = SinkContext { epochs: Some(epochs), ..SinkContext::new(Env::system(), "it", wide.schema()) };
    let mut sink = job.sqlite.sink(context).await.unwrap();
    commit(&mut sink, &first).await;
    sink.write(&wide).await.unwrap();
    let second = prepare(&mut sink, 2).await;
    commit(&mut sink, &second).await;
    assert_eq!(job.numbers(), [0, 1, 2, 5]);
    assert_eq!(stored(&job.sqlite.path, "select m from t where m > 0"), ["Integer(6)"]);
    // It is committed, so that another table is no matter any more.
    drop(sink);
    job.sqlite.table = Some("u".into());
    commit(&mut job.open(2, &[&second]).await, &second).await;
}
