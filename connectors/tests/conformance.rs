//! Every connector keeps the promises of its trait.

use std::io::Write;
use std::path::Path;

use bourn_connectors::blackhole::Blackhole;
use bourn_connectors::codec::compression::Packing;
use bourn_connectors::console::{Console, ConsoleFormat};
use bourn_connectors::file::{File, Format, Rotate};
use bourn_connectors::generate::Generate;
use bourn_connectors::memory::Memory;
use bourn_connectors::nexmark::{Nexmark, Stream};
use bourn_connectors::output::Output;
use bourn_connectors::stdin::{Stdin, StdinFormat};
use bourn_connectors::stdout::{Stdout, StdoutFormat};
use bourn_engine::Result;
use bourn_engine::api::{BoxSink, ConnectContext, Connector, Sink, SinkContext, Source, SourceContext};
use bourn_engine::data::json::row_value;
use bourn_engine::env::Env;
use bourn_engine::testing::conformance::{Target, sink, source};
use bourn_engine::testing::harness::rows::batch;
use serde_json::{Value, json};
use tempfile::TempDir;

fn write(path: &Path, bytes: &[u8]) {
    let mut file = Env::system().files().create(path).expect("the folder is ours");
    file.write_all(bytes).expect("there is room");
}

fn file(folder: &TempDir, name: &str) -> File {
    File::new(folder.path().join(name).to_string_lossy())
}

/// A thousand lines in each of three files, and a broken one in each.
fn lines(folder: &TempDir, ending: &str) -> File {
    for i in 0..3 {
        let rows: Vec<_> = (0..1_000).map(|n| json!({"n": n, "file": i}).to_string()).collect();
        let text = rows.join("\n") + "\n{\"n\":\n";
        write(&folder.path().join(format!("{i}.{ending}")), text.as_bytes());
    }
    file(folder, &format!("*.{ending}"))
}

#[tokio::test]
async fn files_of_lines_are_sources() {
    let folder = TempDir::new().unwrap();
    source(lines(&folder, "jsonl")).rows(3_003).check(&Env::system()).await;
    source(lines(&folder, "txt")).rows(3_003).check(&Env::system()).await;
}

#[tokio::test]
async fn files_of_csv_are_sources() {
    let folder = TempDir::new().unwrap();
    for i in 0..3 {
        let rows: Vec<_> = (0..10_000).map(|n| format!("{n},\"a text,\nof two lines\",{i}")).collect();
        let text = format!("n,text,file\n{}\n1\nx,\"y\"z,{i}\n", rows.join("\n"));
        write(&folder.path().join(format!("{i}.csv")), text.as_bytes());
    }
    source(file(&folder, "*.csv")).rows(30_006).check(&Env::system()).await;
}

#[tokio::test]
async fn parquet_files_are_sources() {
    let folder = TempDir::new().unwrap();
    let rows: Vec<_> = (0..20_000).map(|n| json!({"n": n, "text": format!("row {n}")})).collect();
    for i in 0..2 {
        write_rows(&file(&folder, &format!("{i}.parquet")), &rows).await;
    }
    source(file(&folder, "*.parquet")).rows(40_000).check(&Env::system()).await;
}

#[tokio::test]
async fn arrow_avro_and_compressed_files_are_sources() {
    for ending in ["arrow", "arrows", "avro", "jsonl.gz", "csv.zst"] {
        let folder = TempDir::new().unwrap();
        let rows: Vec<_> = (0..20_000).map(|n| json!({"n": n, "text": format!("row {n}")})).collect();
        for i in 0..2 {
            write_rows(&file(&folder, &format!("{i}.{ending}")), &rows).await;
        }
        source(file(&folder, &format!("*.{ending}"))).rows(40_000).check(&Env::system()).await;
    }
}

async fn sink_of(target: &impl Connector, like: &[Value]) -> BoxSink {
    let schema = batch(like).schema();
    let context = SinkContext::new(Env::system(), "it", schema);
    target.sink(context).await.expect("there is a place for it")
}

async fn write_rows(target: &File, rows: &[Value]) {
    let mut sink = sink_of(target, rows).await;
    sink.write(&batch(rows)).await.expect("there is room");
    sink.prepare(1).await.expect("there is room");
    sink.finish().await.expect("there is room");
}

#[tokio::test]
async fn files_that_are_followed_are_sources() {
    let folder = TempDir::new().unwrap();
    source(lines(&folder, "jsonl").followed()).rows(3_003).chunks(3).check(&Env::system()).await;
}

#[tokio::test]
async fn many_files_are_sinks() {
    for ending in ["jsonl", "parquet", "arrow"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_string_lossy().into_owned();
        let rotated = |n: usize| {
            let rotate = Rotate { rows: Some(2), ..Rotate::default() };
            let read = format!("{path}/{n}-*.{ending}");
            Target::new(File::new(format!("{path}/{n}-{{number}}.{ending}")).rotated(rotate))
                .read_back(move || read_back(File::new(&read)))
        };
        sink(rotated).check(&Env::system()).await;
    }
}

#[tokio::test]
async fn what_generates_is_a_source() {
    let env = Env::system();
    source(Generate::rows(20_000)).rows(20_000).check(&env).await;
    source(Generate::default()).check(&env).await;
    for stream in [Stream::Bid, Stream::All] {
        let nexmark = Nexmark { events: Some(20_000), stream, ..Nexmark::default() };
        source(nexmark).rows(20_000).check(&env).await;
    }
    let rows: Vec<_> = (0..10).map(|n| json!({"n": n})).collect();
    source(Memory::rows([batch(&rows), batch(&rows)])).rows(20).check(&env).await;
}

#[tokio::test]
async fn stdin_is_a_source() {
    let text = "{\"a\":1}\n{\n".repeat(5_000);
    source(Stdin::of(std::io::Cursor::new(text.into_bytes()))).rows(10_000).check(&Env::system()).await;
    let rows: Vec<_> = (0..20_000).map(|n| json!({"n": n, "text": format!("row {n}")})).collect();
    for (stdout, format) in pipes() {
        let (output, captured) = Output::captured();
        let mut sink = sink_of(&Stdout { output, ..stdout.clone() }, &rows).await;
        sink.write(&batch(&rows)).await.expect("there is room");
        sink.finish().await.expect("there is room");
        let bytes = std::io::Cursor::new(captured.bytes());
        let stdin = Stdin::of(bytes).with_format(format).compressed(stdout.compression);
        source(stdin).rows(20_000).check(&Env::system()).await;
    }
}

/// What is written to a pipe in each way, and what reads it.
fn pipes() -> Vec<(Stdout, StdinFormat)> {
    let formats = [
        (StdoutFormat::Json, StdinFormat::Json),
        (StdoutFormat::Csv, StdinFormat::Csv),
        (StdoutFormat::Arrow, StdinFormat::Arrow),
    ];
    let packings = [None, Some(Packing::Gzip), Some(Packing::Zstd)];
    let pipe = |(format, read): (_, _), compression| (Stdout { format, compression, ..Stdout::default() }, read);
    packings.into_iter().flat_map(|packing| formats.map(|f| pipe(f, packing))).collect()
}

/// The rows of a file that may not be there, or of a pipe.
async fn read_back(file: impl Connector) -> Result<Vec<Value>> {
    let context = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
    let Ok(schema) = file.schema(&context).await else { return Ok(Vec::new()) };
    let splits = file.splits(&context).await?.into_iter().map(|s| (s, None)).collect();
    let mut source = file.source(SourceContext { env: Env::system(), id: "it".into(), splits, schema }).await?;
    let mut rows = Vec::new();
    while let Some(chunk) = source.read().await? {
        for row in 0..chunk.records.num_rows() {
            rows.push(Value::Object(row_value(&chunk.records, row)?));
        }
    }
    Ok(rows)
}

#[tokio::test]
async fn files_are_sinks() {
    for ending in ["jsonl", "csv", "parquet", "arrow", "arrows", "avro", "jsonl.gz", "csv.zst"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_string_lossy().into_owned();
        let target = |n: usize| {
            let path = format!("{path}/{n}.{ending}");
            Target::new(File::new(&path)).read_back(move || read_back(File::new(&path)))
        };
        sink(target).check(&Env::system()).await;
    }
}

#[tokio::test]
async fn memory_is_a_sink() {
    let target = |_| {
        let (memory, collected) = Memory::collect();
        Target::new(memory).read_back(move || {
            let rows = collected.rows().map(|rows| rows.into_iter().map(Value::Object).collect());
            async { rows }
        })
    };
    sink(target).check(&Env::system()).await;
}

#[tokio::test]
async fn outputs_are_sinks() {
    let env = Env::system();
    let read = |text: String| text.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>();
    for (stdout, format) in pipes() {
        let target = |_| {
            let (output, captured) = Output::captured();
            let compression = stdout.compression;
            Target::new(Stdout { output, ..stdout.clone() }).read_back(move || {
                let bytes = std::io::Cursor::new(captured.bytes());
                read_back(Stdin::of(bytes).with_format(format).compressed(compression))
            })
        };
        sink(target).check(&env).await;
    }
    let json = |_| {
        let (output, captured) = Output::captured();
        let mut console = Console::to(output);
        console.format = ConsoleFormat::Json;
        Target::new(console).read_back(move || {
            let rows = read(captured.text());
            async { Ok(rows?) }
        })
    };
    sink(json).check(&env).await;
    sink(|_| Target::new(Console::to(Output::captured().0))).check(&env).await;
    sink(|_| Target::new(Blackhole::default())).check(&env).await;
}

#[tokio::test]
async fn a_file_without_an_ending_says_its_format() {
    let folder = TempDir::new().unwrap();
    write(&folder.path().join("rows"), b"{\"a\":1}\n");
    let rows = file(&folder, "rows").with_format(Format::Json);
    source(rows).rows(1).check(&Env::system()).await;
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use bourn_connectors::sqlite::{Mode, Sqlite};

    #[tokio::test]
    async fn tables_of_sqlite_are_sources() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("it.db").to_string_lossy().into_owned();
        let connection = rusqlite::Connection::open(&path).unwrap();
        let rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)";
        let table = "create table t (id integer primary key, name text, half real);";
        connection
            .execute_batch(&format!("{table} insert into t {rows} select i, 'row ' || i, i / 2.0 from n"))
            .unwrap();
        let env = Env::system();
        source(Sqlite::new(&path, "t")).rows(20_000).check(&env).await;
        let query = Some("select half, name from t where id > 10000 -- the later half".to_owned());
        let query = Sqlite { table: None, query, cursor: Some("half".into()), ..Sqlite::new(&path, "t") };
        source(query).rows(10_000).check(&env).await;
        let every = Some("1s".parse().unwrap());
        source(Sqlite { every, ..Sqlite::new(&path, "t") }).rows(20_000).chunks(3).check(&env).await;
    }

    #[tokio::test]
    async fn tables_of_sqlite_are_sinks() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("it.db").to_string_lossy().into_owned();
        let target = |n: usize| {
            let table = Sqlite { create: true, ..Sqlite::new(&path, format!("t{n}")) };
            Target::new(table.clone()).read_back(move || read_table(table.clone()))
        };
        sink(target).check(&Env::system()).await;
        let upserted = |n: usize| {
            let key = vec!["name".to_owned(), "weight".to_owned()];
            let table = Sqlite { mode: Mode::Upsert, key, create: true, ..Sqlite::new(&path, format!("u{n}")) };
            Target::new(table.clone()).read_back(move || read_table(table.clone()))
        };
        let rows: Vec<_> = (0..8).map(|n| json!({"name": format!("n{n}"), "weight": n, "column": n})).collect();
        sink(upserted).rows(batch(&rows)).check(&Env::system()).await;
    }

    async fn read_table(table: Sqlite) -> Result<Vec<Value>> {
        let context = ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 };
        let Ok(schema) = table.schema(&context).await else { return Ok(Vec::new()) };
        let splits = table.splits(&context).await?.into_iter().map(|s| (s, None)).collect();
        let mut source = table.source(SourceContext { env: Env::system(), id: "it".into(), splits, schema }).await?;
        let mut rows = Vec::new();
        while let Some(chunk) = source.read().await? {
            for row in 0..chunk.records.num_rows() {
                rows.push(Value::Object(row_value(&chunk.records, row)?));
            }
        }
        Ok(rows)
    }
}
