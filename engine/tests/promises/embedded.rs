//! A pipeline inside a program: bounded both ways, cancel-safe, and each side hears of the other's error.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::BooleanArray;
use arrow::compute::kernels::cmp::gt;
use arrow::record_batch::RecordBatch;
use bourn_engine::embed::{from_stream, into_sink, into_stream};
use bourn_engine::error::Error;
use bourn_engine::graph::{Graph, OnError};
use bourn_engine::{Engine, Kind, Result};
use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt, TryStreamExt, stream};

use crate::support::{Collect, Counting, Log, numbers, schema, simulate, values};

/// Batches of one row each, counted as they are pulled.
fn pulled(rows: i64, count: &Arc<AtomicUsize>) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let count = count.clone();
    stream::iter(0..rows).map(move |n| {
        count.fetch_add(1, SeqCst);
        Ok(numbers([n]))
    })
}

fn over_two(rows: &RecordBatch) -> Result<BooleanArray> {
    Ok(gt(rows.column(0), &arrow::array::Int64Array::new_scalar(2))?)
}

#[test]
fn every_batch_of_a_stream_comes_out_of_a_stream_in_order() {
    for seed in 0..20 {
        let mut graph = Graph::new("through");
        graph.source("numbers", from_stream(schema(), pulled(50, &Arc::default())));
        graph.filter_batches("over_two", over_two);
        graph.flat_map_batches("twice", |rows: &RecordBatch| Ok([rows.clone(), rows.clone()]));
        let (sink, out) = into_stream();
        graph.sink("out", sink);
        let batches: Vec<RecordBatch> = simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await?).await?;
            let batches = out.try_collect().await?;
            assert_eq!((job.stats().rows_read(), job.stats().rows_written()), (50, 94));
            job.wait().await?;
            Ok::<_, Error>(batches)
        })
        .unwrap();
        let expected: Vec<i64> = (3..50).flat_map(|n| [n, n]).collect();
        assert_eq!(batches.iter().flat_map(values).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_program_that_does_not_read_holds_the_source_up() {
    let count = Arc::default();
    let mut graph = Graph::new("held");
    graph.options.edge_rows = Some(1);
    graph.source("numbers", from_stream(schema(), pulled(1_000, &count)));
    graph.map_batches("pass", |rows: &RecordBatch| Ok(rows.clone()));
    let (sink, mut out) = into_stream();
    graph.sink("out", sink);
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await?).await?;
        engine.env().sleep(Duration::from_hours(1)).await;
        let held = count.load(SeqCst);
        assert!(held < 12, "{held} batches were pulled and none was read");
        assert_eq!(values(&out.next().await.unwrap()?), [0]);
        engine.env().sleep(Duration::from_hours(1)).await;
        assert!(count.load(SeqCst) <= held + 2, "one was read, and {} more were pulled", count.load(SeqCst) - held);
        job.stop();
        let rest: Vec<RecordBatch> = out.try_collect().await?;
        assert!(rest.len() < 14, "a stopped job drains what it has: {}", rest.len());
        job.wait().await
    })
    .unwrap();
}

#[test]
fn an_error_of_the_stream_reaches_who_waits_and_who_reads() {
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the line was cut");
    let items = vec![Ok(numbers([1])), Err(broken), Ok(numbers([2]))];
    let mut graph = Graph::new("cut");
    graph.source("numbers", from_stream(schema(), stream::iter(items)));
    let (sink, out) = into_stream();
    graph.sink("out", sink);
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let seen: Vec<_> = out.collect().await;
        let told = seen.last().unwrap().as_ref().unwrap_err();
        assert_eq!((told.kind(), told.to_string().as_str()), (Kind::Io, "source `numbers`: the line was cut"));
        assert!(seen.iter().flatten().all(|batch| values(batch) == [1]), "nothing behind the error is read");
        // A connection that was reset is worth another try, but not on a stream that has ended with it.
        assert_eq!(job.wait().await.unwrap_err().to_string(), told.to_string());
    });
}

#[test]
fn an_error_of_a_stage_ends_the_stream_with_it_behind_what_was_written() {
    let mut graph = Graph::new("stage");
    graph.source("numbers", Counting::to(20, 1));
    graph.map_batches("until_seven", |rows: &RecordBatch| {
        if values(rows).contains(&7) { Err(Error::validation("seven")) } else { Ok(rows.clone()) }
    });
    let (sink, out) = into_stream();
    graph.sink("out", sink);
    simulate(3, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let mut seen: Vec<_> = out.collect().await;
        let error = seen.pop().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "stage `until_seven`, 0: seven (in the row {\"n\":7})");
        let read: Vec<i64> = seen.into_iter().flat_map(|batch| values(&batch.unwrap())).collect();
        assert_eq!(read, (0..i64::try_from(read.len()).unwrap()).collect::<Vec<_>>());
        assert!(job.wait().await.is_err());
    });
}

#[test]
fn a_reader_that_goes_ends_the_job_and_the_writer_of_the_source_hears_of_it() {
    let (mut write, read) = mpsc::channel::<Result<RecordBatch>>(1);
    let mut graph = Graph::new("gone");
    graph.source("numbers", from_stream(schema(), read));
    let (sink, mut out) = into_stream();
    graph.sink("out", sink);
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        write.send(Ok(numbers([1]))).await.unwrap();
        assert_eq!(values(&out.next().await.unwrap().unwrap()), [1]);
        drop(out);
        while write.send(Ok(numbers([2]))).await.is_ok() {}
        let error = job.wait().await.unwrap_err();
        let told = (error.kind(), error.to_string());
        assert_eq!(told, (Kind::Canceled, "sink `out`: the program reads no more".to_owned()));
    });
}

#[test]
fn a_read_that_is_dropped_loses_no_row() {
    let mut graph = Graph::new("dropped");
    graph.source("numbers", Counting { every: Duration::from_millis(10), ..Counting::to(20, 1) });
    let (sink, mut out) = into_stream();
    graph.sink("out", sink);
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let mut read = Vec::new();
        loop {
            let wait = engine.env().sleep(Duration::from_millis(3));
            match futures::future::select(wait, out.next()).await {
                futures::future::Either::Left(_) => {}
                futures::future::Either::Right((Some(batch), _)) => read.extend(values(&batch.unwrap())),
                futures::future::Either::Right((None, _)) => break,
            }
        }
        assert_eq!(read, (0..20).collect::<Vec<_>>());
        job.wait().await.unwrap();
    });
}

#[test]
fn a_sink_of_the_program_gets_the_rows_and_is_flushed_and_closed() {
    let (write, read) = mpsc::channel(0);
    let mut graph = Graph::new("into");
    graph.source("numbers", Counting::to(30, 3));
    graph.sink("out", into_sink(write));
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let batches: Vec<RecordBatch> = read.collect().await;
        assert_eq!(batches.iter().flat_map(values).collect::<Vec<_>>(), (0..30).collect::<Vec<_>>());
        job.wait().await.unwrap();
    });
}

/// Notes what is asked of it.
struct Noting(Log);

impl futures::Sink<RecordBatch> for Noting {
    type Error = Error;
    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn start_send(self: Pin<&mut Self>, rows: RecordBatch) -> Result<()> {
        self.0.say(format!("{} rows", rows.num_rows()));
        Ok(())
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.say("flush");
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.say("close");
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_sink_of_the_program_is_flushed_with_each_epoch_and_closed_behind_the_last() {
    let log = Log::default();
    let mut graph = Graph::new("noted");
    graph.source("numbers", Counting::to(6, 3));
    graph.sink("out", into_sink(Noting(log.clone())));
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    assert_eq!(log.said(), ["3 rows", "3 rows", "flush", "close"]);
}

#[test]
fn the_batches_of_a_closure_are_made_as_they_can_be_taken() {
    let count = Arc::<AtomicUsize>::default();
    let made = count.clone();
    let mut graph = Graph::new("lazy");
    graph.source("numbers", Counting::to(1, 1));
    graph.flat_map_batches("many", move |_| {
        let made = made.clone();
        Ok((0..200).map(move |_| {
            made.fetch_add(1, SeqCst);
            numbers(0..8_192)
        }))
    });
    let (sink, mut out) = into_stream();
    graph.sink("out", sink);
    simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        assert_eq!(out.next().await.unwrap().unwrap().num_rows(), 8_192);
        engine.env().sleep(Duration::from_hours(1)).await;
        assert!(count.load(SeqCst) < 30, "{} batches were made and one was read", count.load(SeqCst));
        assert_eq!(out.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>().await.len(), 199);
        job.wait().await.unwrap();
    });
}

/// Takes two batches, then fails.
#[derive(Default)]
struct Full {
    taken: usize,
}

impl futures::Sink<RecordBatch> for Full {
    type Error = Error;
    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(if self.taken < 2 { Ok(()) } else { Err(Error::new(Kind::Io, "full").transient()) })
    }
    fn start_send(mut self: Pin<&mut Self>, _: RecordBatch) -> Result<()> {
        self.taken += 1;
        Ok(())
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Err(Error::engine("a failed job closed the sink")))
    }
}

#[test]
fn an_error_of_the_programs_sink_ends_the_job_and_is_not_tried_again() {
    let mut graph = Graph::new("full");
    graph.source("numbers", Counting::to(30, 3));
    graph.sink("out", into_sink(Full::default()));
    let error = simulate(1, async |engine| engine.run(graph).await).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Io, "sink `out`: full"));
}

#[test]
fn the_ends_of_a_program_serve_one_start() {
    let mut graph = Graph::new("once");
    graph.source("numbers", from_stream(schema(), pulled(3, &Arc::default())));
    graph.sink("out", Collect::default());
    let mut other = Graph::new("once");
    other.source("numbers", Counting::to(3, 3));
    let (sink, out) = into_stream();
    other.sink("out", sink);
    simulate(1, async |engine| {
        engine.run(graph.clone()).await.unwrap();
        let error = engine.run(graph).await.unwrap_err();
        assert!(error.to_string().contains("can be started once"), "{error}");
        let job = engine.start(engine.plan(other.clone()).await.unwrap()).await.unwrap();
        assert_eq!(out.collect::<Vec<_>>().await.len(), 1);
        job.wait().await.unwrap();
        let error = engine.run(other).await.unwrap_err();
        assert!(error.to_string().contains("can be started once"), "{error}");
    });
}

#[test]
fn who_reads_hears_that_no_job_was_started() {
    let (sink, out) = into_stream();
    drop(sink);
    let seen: Vec<_> = simulate(1, async |_| out.collect().await);
    assert_eq!(seen[0].as_ref().unwrap_err().message(), "the job of this stream was never started");
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_closure_that_needs_rows_to_know_its_columns_is_told_the_way_out() {
    let mut graph = Graph::new("columns");
    graph.source("numbers", Counting::to(3, 3));
    graph.flat_map_batches("none", |rows: &RecordBatch| Ok((rows.num_rows() > 0).then(|| rows.clone())));
    graph.sink("out", Collect::default());
    let error = simulate(1, async |engine| engine.run(graph).await).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the closure's columns can't be seen from a batch without rows: it made no batch (say them with \
         `flat_map_batches_as`)"
    );
    let sink = Collect::default();
    let mut graph = Graph::new("columns");
    graph.source("numbers", Counting::to(3, 3));
    graph.flat_map_batches_as("some", schema(), |rows: &RecordBatch| Ok((rows.num_rows() > 0).then(|| rows.clone())));
    graph.sink("out", sink.clone());
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    assert_eq!(sink.values(), [0, 1, 2]);
}

#[test]
fn a_row_at_fault_in_a_closure_is_dropped_alone() {
    let sink = Collect::default();
    let mut graph = Graph::new("narrowed");
    graph.source("numbers", Counting::to(20, 20));
    graph
        .map_batches("not_five", |rows: &RecordBatch| {
            assert!(!values(rows).contains(&5), "five");
            Ok(rows.clone())
        })
        .on_error(OnError::Drop);
    graph.sink("out", sink.clone());
    simulate(1, async |engine| engine.run(graph).await).unwrap();
    assert_eq!(sink.values(), (0..20).filter(|n| *n != 5).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_of_one_process_feed_each_other() {
    let (sink, between) = into_stream();
    let mut first = Graph::new("first");
    first.source("numbers", Counting::to(1_000, 10));
    first.sink("between", sink);
    let (sink, out) = into_stream();
    let mut second = Graph::new("second");
    second.source("between", from_stream(schema(), between));
    second.filter_batches("over_two", over_two).lanes(2);
    second.sink("out", sink);
    let engine = Engine::default();
    let first = engine.start(engine.plan(first).await.unwrap()).await.unwrap();
    let second = engine.start(engine.plan(second).await.unwrap()).await.unwrap();
    let mut read: Vec<i64> = out.map(|batch| values(&batch.unwrap())).concat().await;
    read.sort_unstable();
    assert_eq!(read, (3..1_000).collect::<Vec<_>>());
    first.wait().await.unwrap();
    second.wait().await.unwrap();
}
