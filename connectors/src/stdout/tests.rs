//! What the standard output promises: rows as they come, in a form that other programs read.

use super::*;
use crate::testing::{batch_of, connect, read_all, rows, rows_of, sink_for, write_all};
use crate::{Stdin, stdin::StdinFormat};
use bourn_engine::Kind;
use bourn_engine::api::Source;
use serde_json::json;
use std::io::{self, Write};

#[tokio::test]
async fn rows_are_lines_of_json() {
    let (output, captured) = Output::captured();
    let batch = batch_of(&[json!({"a": 1, "b": "x"}), json!({"a": null})]);
    write_all(&Stdout { output, ..Stdout::default() }, &[batch]).await.unwrap();
    assert_eq!(captured.text(), "{\"a\":1,\"b\":\"x\"}\n{\"a\":null,\"b\":null}\n");
}

#[tokio::test]
async fn csv_has_its_header_once() {
    let (output, captured) = Output::captured();
    let batch = batch_of(&[json!({"a": 1, "b": "x,y"})]);
    let stdout = Stdout { output, format: StdoutFormat::Csv, ..Stdout::default() };
    write_all(&stdout, &[batch.clone(), batch]).await.unwrap();
    assert_eq!(captured.text(), "a,b\n1,\"x,y\"\n1,\"x,y\"\n");
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_cancels_the_job() {
    let stdout = Stdout { output: Output::to(Closed), ..Stdout::default() };
    let error = write_all(&stdout, &[batch_of(&[json!({"a": 1})])]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Canceled);
}

const PACKINGS: [Option<Packing>; 3] = [None, Some(Packing::Gzip), Some(Packing::Zstd)];

/// Each format with what reads it.
fn pairs(output: &Output) -> Vec<(Stdout, StdinFormat)> {
    let formats = [
        (StdoutFormat::Json, StdinFormat::Json),
        (StdoutFormat::Csv, StdinFormat::Csv),
        (StdoutFormat::Arrow, StdinFormat::Arrow),
    ];
    let pair = |(format, read): (_, _), compression| {
        (Stdout { format, compression, output: output.clone(), ..Stdout::default() }, read)
    };
    PACKINGS.into_iter().flat_map(|packing| formats.map(|f| pair(f, packing))).collect()
}

/// What reads `bytes` as they were written by `stdout`.
fn reader(stdout: &Stdout, format: StdinFormat, bytes: Vec<u8>) -> Stdin {
    Stdin::of(io::Cursor::new(bytes)).with_format(format).compressed(stdout.compression)
}

fn times(batch: &RecordBatch, count: usize) -> Vec<serde_json::Value> {
    std::iter::repeat_n(rows_of(batch), count).flatten().collect()
}

#[tokio::test]
async fn a_reader_sees_each_batch_as_soon_as_it_was_written() {
    for n in 0..9 {
        let (output, captured) = Output::captured();
        let (stdout, format) = pairs(&output).swap_remove(n);
        let batch = batch_of(&[json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y"})]);
        let mut sink = sink_for(&stdout, batch.schema()).await.unwrap();
        for count in 1..=3 {
            sink.write(&batch).await.unwrap();
            // Nothing follows yet, and what was written can be read to its last row.
            let written = reader(&stdout, format, captured.bytes());
            let read = read_all(&written).await.unwrap_or_else(|e| panic!("{stdout:?}: {e}"));
            assert_eq!(rows(&read), times(&batch, count), "{stdout:?}");
        }
        sink.finish().await.unwrap();
        let whole = read_all(&reader(&stdout, format, captured.bytes())).await.unwrap();
        assert_eq!(rows(&whole), times(&batch, 3));
    }
}

#[tokio::test]
async fn arrow_keeps_every_type_and_the_columns_of_no_rows() {
    let (output, captured) = Output::captured();
    let stdout = Stdout { format: StdoutFormat::Arrow, output, ..Stdout::default() };
    let text = batch_of(&[json!({"a": 1, "_bourn_run": "x", "s": "x"})]);
    let small = arrow::compute::cast(text.column(0), &arrow::datatypes::DataType::Int8).unwrap();
    let name = |i: usize| text.schema_ref().field(i).name().clone();
    let columns = [(name(0), small), (name(1), text.column(1).clone()), (name(2), text.column(2).clone())];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut sink = sink_for(&stdout, batch.schema()).await.unwrap();
    assert!(captured.bytes().is_empty());
    // The schema goes out with the first epoch, so that a reader can plan before there are rows.
    sink.prepare(1).await.unwrap();
    let open = || reader(&stdout, StdinFormat::Arrow, captured.bytes());
    let found = open().schema(&connect()).await.unwrap();
    assert_eq!(found, without_reserved(&batch.schema()).0);
    sink.write(&batch).await.unwrap();
    sink.finish().await.unwrap();
    let read = read_all(&open()).await.unwrap();
    assert_eq!(read[0].records, batch.project(&without_reserved(&batch.schema()).1).unwrap());
}

#[tokio::test]
async fn no_rows_are_still_something_that_others_read() {
    for n in 0..9 {
        let (output, captured) = Output::captured();
        let (stdout, format) = pairs(&output).swap_remove(n);
        let mut sink = sink_for(&stdout, batch_of(&[json!({"a": 1})]).schema()).await.unwrap();
        sink.finish().await.unwrap();
        let begins: &[u8] = match stdout.compression {
            None => &[],
            Some(Packing::Gzip) => &[0x1F, 0x8B],
            Some(Packing::Zstd) => &[0x28, 0xB5, 0x2F, 0xFD],
        };
        assert!(captured.bytes().starts_with(begins), "{stdout:?}");
        let mut source = crate::testing::open(&reader(&stdout, format, captured.bytes()), None).await.unwrap();
        assert!(source.read().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn what_has_one_beginning_is_not_written_by_two_lanes() {
    let batch = batch_of(&[json!({"a": 1})]);
    let context = ConnectContext { lanes: 2, ..connect() };
    for format in [StdoutFormat::Csv, StdoutFormat::Arrow] {
        let stdout = Stdout { format, ..Stdout::default() };
        let Problems(found) = stdout.check_sink(&batch.schema(), &context).await.unwrap_err();
        assert_eq!(found[0].message, "2 lanes can't write what has one beginning", "{format:?}");
    }
    assert!(Stdout::default().check_sink(&batch.schema(), &context).await.is_ok());
}
