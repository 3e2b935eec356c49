//! The engine's own cost, beside the same work without it.
#![expect(clippy::disallowed_methods, reason = "a bench runs on the real clock and real tasks")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use bourn_benches::{batch, chain, records, work};
use bourn_engine::api::{BuildContext, Operator, StageConfig};
use bourn_engine::data::records::bytes_held;
use bourn_engine::env::Env;
use bourn_engine::graph::OnError;
use bourn_engine::metrics::{EdgeStats, StageStats};
use bourn_engine::runtime::chain::{Chain, Slot, Worker};
use bourn_engine::runtime::channel::channel;
use bourn_expr::{Expression, Predicate};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::sync::Semaphore;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Per fused stage and batch: the slope over the number of stages. `clone` is what a stage that does nothing does itself.
fn fused(c: &mut Criterion) {
    let mut group = c.benchmark_group("fused");
    let rows = batch(1);
    group.bench_function("clone", |b| b.iter(|| black_box(rows.clone())));
    for stages in [1usize, 2, 4, 8, 16] {
        let mut chain = chain(stages);
        group.bench_with_input(BenchmarkId::new("stages", stages), &stages, |b, _| b.iter(|| work(&mut chain, &rows)));
    }
    group.finish();
}

/// One batch over an edge between two tasks, beside the bare channel with the same message, and beside the bare channel
/// with two bare semaphores, which are an edge's permits.
fn hop(c: &mut Criterion) {
    let mut group = c.benchmark_group("hop");
    group.sample_size(20).measurement_time(Duration::from_secs(6));
    for workers in [1usize, 2] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build().expect("threads are to be had");
        group.bench_function(BenchmarkId::new("async-channel", workers), |b| {
            b.iter_custom(|n| {
                runtime.block_on(async move {
                    let (sender, receiver) = async_channel::bounded(64);
                    let message = records(1);
                    let start = Instant::now();
                    let writer = tokio::spawn(async move {
                        for _ in 0..n {
                            sender.send(message.clone()).await.expect("the reader stays");
                        }
                    });
                    let reader = tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
                    writer.await.expect("the writer does not panic");
                    reader.await.expect("the reader does not panic");
                    start.elapsed()
                })
            });
        });
        group.bench_function(BenchmarkId::new("async-channel and permits", workers), |b| {
            b.iter_custom(|n| {
                runtime.block_on(async move {
                    let (sender, receiver) = async_channel::bounded(64);
                    let message = records(1);
                    let permits = Arc::new([Semaphore::new(64 * 1_024), Semaphore::new(16 << 20)]);
                    let bytes = u32::try_from(bytes_held(&message.batch)).expect("one row is small");
                    let taken = permits.clone();
                    let start = Instant::now();
                    let writer = tokio::spawn(async move {
                        for _ in 0..n {
                            taken[0].acquire_many(1_024).await.expect("it stays open").forget();
                            taken[1].acquire_many(bytes).await.expect("it stays open").forget();
                            sender.send(message.clone()).await.expect("the reader stays");
                        }
                    });
                    let reader = tokio::spawn(async move {
                        while receiver.recv().await.is_ok() {
                            permits[0].add_permits(1_024);
                            permits[1].add_permits(bytes as usize);
                        }
                    });
                    writer.await.expect("the writer does not panic");
                    reader.await.expect("the reader does not panic");
                    start.elapsed()
                })
            });
        });
        group.bench_function(BenchmarkId::new("edge", workers), |b| {
            b.iter_custom(|n| {
                runtime.block_on(async move {
                    let stats = Arc::new(EdgeStats::of(16 << 20));
                    let (sender, mut receiver) = channel(64 * 1_024, stats);
                    let message = records(1);
                    let start = Instant::now();
                    let writer = tokio::spawn(async move {
                        for _ in 0..n {
                            if let Some(full) = sender.try_send(message.clone()).expect("the reader stays") {
                                sender.send(full).await.expect("the reader stays");
                            }
                        }
                    });
                    let reader = tokio::spawn(async move {
                        while std::future::poll_fn(|cx| receiver.poll_receive(cx)).await.is_ok() {}
                    });
                    writer.await.expect("the writer does not panic");
                    reader.await.expect("the reader does not panic");
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

const FILTER: &str = "a > 300 and x < 100000.0";
const MAP: [(&str, &str); 3] = [("a", "a"), ("z", "x * y + 1.0"), ("w", "b % 10")];

fn stage_chain(config: &impl StageConfig, rows: &RecordBatch) -> Chain {
    let context = BuildContext::of(Env::system(), "stage", vec![rows.schema()]);
    let Ok(Operator::Stage(stage)) = config.build(&context) else { panic!("filter and map are stages") };
    let slot = Slot::new(
        "stage".into(),
        Worker::Stage(stage),
        (OnError::Fail, config.cardinality()),
        vec![0],
        Arc::new(StageStats::default()),
    );
    Chain::new(vec![slot], Env::system())
}

/// Filter and map through the engine, beside a loop over the same physical expressions and batches.
fn expressions(c: &mut Criterion) {
    let mut group = c.benchmark_group("expressions");
    let rows = batch(8_192);
    let schema = rows.schema();
    group.throughput(Throughput::Elements(8_192));
    let predicate = Predicate::compile(FILTER, &schema).expect("the bench's SQL is right");
    group.bench_function("filter/loop", |b| b.iter(|| black_box(predicate.select(&rows).expect("it evaluates"))));
    let filter: bourn_stages::Filter = serde_json::from_value(FILTER.into()).expect("the bench's filter is right");
    let mut filters = stage_chain(&filter, &rows);
    group.bench_function("filter/engine", |b| b.iter(|| work(&mut filters, &rows)));
    let columns: Vec<Expression> =
        MAP.iter().map(|(_, sql)| Expression::compile(sql, &schema).expect("the bench's SQL is right")).collect();
    let config = serde_json::Value::Object(MAP.iter().map(|(n, s)| ((*n).to_owned(), (*s).into())).collect());
    let map: bourn_stages::Map = serde_json::from_value(config).expect("the bench's map is right");
    let out = StageConfig::schema(&map, std::slice::from_ref(&schema)).expect("the bench's map fits");
    group.bench_function("map/loop", |b| {
        b.iter(|| {
            let arrays = columns.iter().map(|e| e.evaluate(&rows).expect("it evaluates")).collect();
            black_box(RecordBatch::try_new(out.clone(), arrays).expect("the columns fit"))
        });
    });
    let mut maps = stage_chain(&map, &rows);
    group.bench_function("map/engine", |b| b.iter(|| work(&mut maps, &rows)));
    group.finish();
}

criterion_group!(benches, fused, hop, expressions);
criterion_main!(benches);
