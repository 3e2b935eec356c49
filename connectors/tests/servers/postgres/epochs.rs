//! Rows that are committed by epoch: the server crashed and the network cut at the commit, jobs cut off, lanes that change.

use arrow::record_batch::RecordBatch;
use bourn_connectors::file::File;
use bourn_engine::api::{BoxSink, Epochs, Outcome, Receipt, Sink, SinkContext};
use bourn_engine::api::{Checkpointing, Checkpoints};
use tempfile::TempDir;

use super::*;

/// A job that keeps checkpoints, and writes to a table `t` of numbers that may be there twice.
struct Epochal {
    server: Server,
    folder: TempDir,
}

impl Epochal {
    async fn start() -> Self {
        let job = Self { server: Server::start().await, folder: TempDir::new().unwrap() };
        job.server.client().await.batch_execute("create table t (n bigint check (n < 1000))").await.unwrap();
        job
    }

    async fn open(
        &self,
        at: &Postgres,
        (lane, lanes): (usize, usize),
        behind: u64,
        receipts: &[(usize, Receipt)],
    ) -> BoxSink {
        let folder = self.folder.path().join("staged");
        let epochs = Epochs { run: "run".into(), behind, receipts: receipts.to_vec(), folder };
        let schema = numbers_of(0, 1).schema();
        let context =
            SinkContext { lane, lanes, epochs: Some(epochs), ..SinkContext::new(Env::system(), "it", schema) };
        at.sink(context).await.unwrap()
    }

    fn table(&self) -> Postgres {
        table(&self.server, "t")
    }

    /// Crashes the server, and starts it again.
    async fn restart(&mut self) {
        self.server.crash().await;
        self.server.server.start_again().await;
        self.server.client().await;
    }

    async fn numbers(&self) -> Vec<i64> {
        let found = self.server.client().await.query("select n from t order by n", &[]).await.unwrap();
        found.iter().map(|r| r.get(0)).collect()
    }
}

fn numbers_of(from: i64, to: i64) -> arrow::record_batch::RecordBatch {
    batch(&(from..to).map(|n| json!({"n": n})).collect::<Vec<_>>())
}

/// Asks again, as the engine does, until the rows are there.
async fn commit(sink: &mut BoxSink, receipt: &Receipt) {
    for _ in 0..6 {
        match sink.commit(receipt).await {
            Ok(Outcome::Committed) => return,
            Ok(Outcome::Unknown) => {}
            Ok(Outcome::Aborted) => panic!("nothing was thrown away"),
            Err(error) => assert_ne!(error.retry(), bourn_engine::error::Retry::Never, "{error}"),
        }
    }
    panic!("it was never committed");
}

/// Writes as the engine does: what may pass later is tried again, with the same rows.
async fn write(sink: &mut BoxSink, rows: &RecordBatch) {
    for _ in 0..6 {
        match sink.write(rows).await {
            Ok(written) => return assert!(written.rejected.is_empty()),
            Err(error) => assert_ne!(error.retry(), bourn_engine::error::Retry::Never, "{error}"),
        }
    }
    panic!("it was never written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_there_once_when_the_server_crashes_before_its_commit() {
    let mut job = Epochal::start().await;
    let table = job.table();
    let mut sink = job.open(&table, (0, 1), 0, &[]).await;
    sink.write(&numbers_of(0, 10)).await.unwrap();
    let first = sink.prepare(1).await.unwrap().unwrap();
    sink.write(&numbers_of(10, 15)).await.unwrap();
    job.restart().await;
    assert_eq!(job.numbers().await, Vec::<i64>::new());
    // The connection is lost; so are the rows that it had.
    commit(&mut sink, &first).await;
    assert_eq!(job.numbers().await, (0..10).collect::<Vec<_>>());
    sink.write(&numbers_of(15, 20)).await.unwrap();
    job.restart().await;
    let second = sink.prepare(2).await.unwrap().unwrap();
    drop(sink);
    job.restart().await;
    for _ in 0..2 {
        let mut sink = job.open(&table, (0, 1), 2, &[(0, second.clone())]).await;
        commit(&mut sink, &second).await;
        commit(&mut sink, &second).await;
    }
    assert_eq!(job.numbers().await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_there_once_when_the_network_is_cut_at_its_commit() {
    let job = Epochal::start().await;
    let proxy = Proxy::before(job.server.server.address()).await;
    let table = Postgres::new(Server::url(proxy.address()), "t");
    let mut sink = job.open(&table, (0, 1), 0, &[]).await;
    let mut unknown = 0;
    for (epoch, network) in (1..).zip([Network::CutBefore(b"commit\0"), Network::CutBehind(b"commit\0")].repeat(5)) {
        let from = i64::try_from(epoch).unwrap() * 10;
        write(&mut sink, &numbers_of(from, from + 5)).await;
        let receipt = sink.prepare(epoch).await.unwrap().unwrap();
        write(&mut sink, &numbers_of(from + 5, from + 10)).await;
        proxy.set(network);
        unknown += u32::from(sink.commit(&receipt).await.unwrap() == Outcome::Unknown);
        commit(&mut sink, &receipt).await;
        assert_eq!(job.numbers().await, (10..from + 5).collect::<Vec<_>>(), "{network:?}");
        // A connection that is lost among the rows of an epoch loses none of them either.
        if epoch % 3 == 0 {
            proxy.set(Network::Cut);
            proxy.set(Network::Open);
        }
    }
    // A connection that was lost before its commit is made anew, and the first answer to that is no unknown one.
    assert!(unknown > 0, "none was cut at its commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_breaks_a_constraint_is_rejected_when_it_is_written() {
    let job = Epochal::start().await;
    let mut sink = job.open(&job.table(), (0, 1), 0, &[]).await;
    let written = sink.write(&numbers_of(998, 1002)).await.unwrap();
    assert_eq!(written.rejected.len(), 2);
    let receipt = sink.prepare(1).await.unwrap().unwrap();
    commit(&mut sink, &receipt).await;
    assert_eq!(job.numbers().await, [998, 999]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_write_the_same_keys_do_not_wait_for_each_other_and_fewer_commit_what_more_have_left() {
    let job = Epochal::start().await;
    job.server.client().await.batch_execute("create unique index on t (n)").await.unwrap();
    let table = upserted(job.table());
    let mut lanes = Vec::new();
    for lane in 0..3 {
        lanes.push(job.open(&table, (lane, 3), 0, &[]).await);
    }
    let mut receipts = Vec::new();
    for epoch in 1..=2 {
        for sink in &mut lanes {
            sink.write(&numbers_of(0, 100)).await.unwrap();
        }
        receipts.clear();
        for (lane, sink) in lanes.iter_mut().enumerate() {
            receipts.push((lane, sink.prepare(epoch).await.unwrap().unwrap()));
        }
        if epoch == 1 {
            for (lane, receipt) in &receipts {
                // Another lane goes on with the next epoch before this one has committed.
                lanes[(lane + 1) % 3].write(&numbers_of(100, 110)).await.unwrap();
                commit(&mut lanes[*lane], receipt).await;
            }
        }
    }
    drop(lanes);
    for lane in 0..2 {
        let mut sink = job.open(&table, (lane, 2), 2, &receipts).await;
        for (_, receipt) in receipts.iter().filter(|(of, _)| of % 2 == lane) {
            commit(&mut sink, receipt).await;
            commit(&mut sink, receipt).await;
        }
    }
    assert_eq!(job.numbers().await, (0..110).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_cut_off_again_and_again_ends_with_the_rows_of_a_calm_one() {
    const ROWS: i64 = 300_000;
    let job = Epochal::start().await;
    let client = job.server.client().await;
    client.batch_execute("create table u (n bigint, name text)").await.unwrap();
    let lines: Vec<_> = (0..ROWS).map(|n| format!("{n},row {n}")).collect();
    let input = job.folder.path().join("in.csv");
    let mut file = Env::system().files().create(&input).unwrap();
    std::io::Write::write_all(&mut file, format!("n,name\n{}\n", lines.join("\n")).as_bytes()).unwrap();
    let graph = || {
        let mut graph = Graph::new("it");
        graph.source("rows", File::new(input.to_string_lossy()));
        graph.sink("table", table(&job.server, "u"));
        graph.options.epoch_every = Some(Duration::from_millis(10));
        graph.options.edge_rows = Some(1_000);
        graph.options.checkpoints = Checkpointing::On(Checkpoints::in_folder(job.folder.path().join("checkpoints")));
        graph
    };
    let (mut cuts, mut ended) = (0, false);
    let count = async || client.query_one("select count(*) from u", &[]).await.unwrap().get::<_, i64>(0);
    for wait in [0, 41, 2, 63, 1, 85, 8, 107].repeat(2) {
        let before = count().await;
        // What has ended begins anew.
        if before > ROWS / 2 {
            break;
        }
        let doomed = Doomed::start(graph());
        if wait % 2 == 0 {
            until("more rows", async || !doomed.runs() || count().await > before).await;
        }
        Env::system().sleep(Duration::from_millis(wait)).await;
        ended = !doomed.cut().await;
        cuts += u32::from(!ended);
    }
    if !ended {
        start(graph()).await.wait().await.unwrap();
    }
    assert!(cuts > 4, "it was cut off {cuts} times");
    let found = client.query_one("select count(*), count(distinct n), min(n), max(n) from u", &[]).await.unwrap();
    let found: [i64; 4] = std::array::from_fn(|i| found.get(i));
    assert_eq!(found, [ROWS, ROWS, 0, ROWS - 1]);
}
