//! How fast JSON lines are read and written, beside arrow-json: `cargo run --release -p bourn-connectors --example json_speed`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_json::ReaderBuilder;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use bourn_connectors::codec::json::{Columns, Decoder, Encoder};
use bourn_connectors::codec::lines::BLOCK;
use bourn_connectors::codec::types::Declared;
use bourn_connectors::nexmark::Nexmark;
use bourn_engine::Result;
use bourn_engine::api::{ConnectContext, Connector, Source, SourceContext};
use bourn_engine::env::Env;

const ROWS: u64 = 1_000_000;
const RUNS: usize = 7;
const TEXT: &str = r#"{"auction":"bigint","bidder":"bigint","price":"bigint","channel":"text","url":"text","date_time":"text","extra":"text"}"#;

fn main() -> Result<()> {
    let env = Env::system();
    let begun = env.monotonic();
    let batches = run(bids(&env))?;
    report("generate nexmark bids", env.monotonic().saturating_sub(begun), 0);

    let encoder = Encoder::new(&batches[0].schema())?;
    let mut text = Vec::new();
    batches.iter().try_for_each(|b| encoder.encode(b, &mut text))?;
    println!("{} rows, {:.1} bytes a row\n", ROWS, text.len() as f64 / ROWS as f64);

    let as_text =
        serde_json::from_str::<Declared>(TEXT)?.schema().map_err(|p| bourn_engine::Error::engine(format!("{p:?}")))?;
    for (name, schema) in [("date_time as text", as_text), ("date_time as timestamp", nullable(&batches[0]))] {
        println!("{name}:");
        let length = text.len();
        report("  decode, ours", best(&env, || decode(&schema, &text, false)), length);
        report("  decode, each line in arrow-json's care", best(&env, || decode(&schema, &text, true)), length);
        report(
            "  decode, arrow-json alone, without a look at lines",
            best(&env, || arrow_json(&schema, &text)),
            length,
        );
    }
    println!("encode:");
    let mut out = Vec::with_capacity(text.len() / batches.len() * 2);
    let ours = best(&env, || {
        for batch in &batches {
            out.clear();
            encoder.encode(batch, &mut out).expect("bids have a JSON form");
            black_box(&out);
        }
    });
    report("  ours", ours, text.len());
    let theirs = best(&env, || {
        for batch in &batches {
            out.clear();
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut out);
            writer.write(batch).expect("bids have a JSON form");
        }
    });
    report("  arrow-json", theirs, text.len());
    Ok(())
}

/// Nothing in here ever waits.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

async fn bids(env: &Env) -> Result<Vec<RecordBatch>> {
    let nexmark = Nexmark { events: Some(ROWS), ..Nexmark::default() };
    let context = ConnectContext { env: env.clone(), id: "bids".into(), lanes: 1 };
    let schema = nexmark.schema(&context).await.map_err(|p| bourn_engine::Error::engine(format!("{p:?}")))?;
    let splits = nexmark.splits(&context).await?.into_iter().map(|s| (s, None)).collect();
    let mut source = nexmark.source(SourceContext { env: env.clone(), id: "bids".into(), splits, schema }).await?;
    let mut batches = Vec::new();
    while let Some(chunk) = source.read().await? {
        batches.push(chunk.records);
    }
    Ok(batches)
}

fn nullable(batch: &RecordBatch) -> SchemaRef {
    let fields: Vec<_> = batch.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// Reads the text as a file is read: whole lines of a block, 8,192 rows at a time.
fn decode(schema: &SchemaRef, text: &[u8], general: bool) {
    let columns = Columns::new(schema.clone(), &[]);
    let decoder = if general { Decoder::general(columns) } else { Decoder::new(columns) };
    let mut decoder = decoder.expect("the schema is flat");
    let mut rest = text;
    let mut rows = 0;
    while !rest.is_empty() {
        let block = &rest[..BLOCK.min(rest.len())];
        let whole = block.iter().rposition(|b| *b == b'\n').map_or(block.len(), |i| i + 1);
        let part = decoder.decode(&block[..whole]).expect("lines are read whatever they hold");
        rows += black_box(part.batch).num_rows();
        rest = &rest[part.bytes..];
    }
    assert_eq!(rows as u64, ROWS);
}

fn arrow_json(schema: &SchemaRef, text: &[u8]) {
    let reader = ReaderBuilder::new(schema.clone()).with_batch_size(8_192).build(text).expect("the schema is flat");
    let rows: usize = reader.map(|batch| black_box(batch).expect("every line is a bid").num_rows()).sum();
    assert_eq!(rows as u64, ROWS);
}

fn best(env: &Env, mut work: impl FnMut()) -> Duration {
    let once = |work: &mut dyn FnMut()| {
        let begun = env.monotonic();
        work();
        env.monotonic().saturating_sub(begun)
    };
    (0..RUNS).map(|_| once(&mut work)).min().unwrap_or_default()
}

fn report(what: &str, took: Duration, bytes: usize) {
    let (rows, seconds) = (ROWS as f64 / 1e6, took.as_secs_f64());
    println!("{what:<55} {:>6.2} M rows/s {:>7.0} MB/s", rows / seconds, bytes as f64 / 1e6 / seconds);
}
