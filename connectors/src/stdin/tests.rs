//! What the standard input promises: read once, nothing lost to planning, bad rows alone.

use super::lines::STEP;
use super::*;
use crate::testing::{chunks, faults, open, open_as, read_all, rows};
use bourn_engine::Kind;
use bourn_engine::api::Source;
use bourn_engine::data::units::Size;
use serde_json::json;

/// Gives a few bytes at a time, as a pipe does.
struct Trickle(io::Cursor<Vec<u8>>);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(7);
        self.0.read(&mut buffer[..most])
    }
}

fn stdin(text: &str) -> Stdin {
    Stdin::of(Trickle(io::Cursor::new(text.as_bytes().to_vec())))
}

#[tokio::test]
async fn what_planning_has_read_is_not_lost() {
    let lines: Vec<_> =
        (0..1_500).map(|i| format!("{{\"a\":{i},\"m\":{}}}", if i % 2 == 0 { "1" } else { "\"x\"" })).collect();
    let read = read_all(&stdin(&lines.join("\n"))).await.unwrap();
    let numbers: Vec<_> = rows(&read).iter().map(|r| r["a"].as_i64().unwrap()).collect();
    assert!(numbers.into_iter().eq(0..1_500));
    assert_eq!(rows(&read)[..2], [json!({"a": 0, "m": "1"}), json!({"a": 1, "m": "x"})]);
}

/// Gives a row, and then nothing until it is let go.
struct Stalls(Option<std::sync::mpsc::Receiver<&'static str>>);

impl Read for Stalls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let text = self.0.as_ref().and_then(|r| r.recv().ok()).unwrap_or_default();
        buffer[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
}

#[tokio::test]
async fn planning_does_not_wait_for_a_pipe_that_pauses() {
    let (send, receive) = std::sync::mpsc::channel();
    send.send("{\"a\":1}\n").unwrap();
    let mut source = open(&Stdin::of(Stalls(Some(receive))), None).await.unwrap();
    assert_eq!(rows(&[source.read().await.unwrap().unwrap()]), [json!({"a": 1})]);
    send.send("{\"a\":2}\n").unwrap();
    drop(send);
    assert_eq!(rows(&chunks(source).await.unwrap()), [json!({"a": 2})]);
}

#[tokio::test]
async fn a_bad_line_is_rejected_with_its_number() {
    let read = read_all(&stdin("{\"a\":1}\n{\n{\"a\":2}")).await.unwrap();
    assert_eq!(rows(&read).len(), 2);
    assert_eq!(faults(&read), ["stdin:2: not JSON: EOF while parsing an object at column 1"]);
}

#[tokio::test]
async fn an_overlong_line_met_by_planning_is_rejected_by_the_source() {
    let text = format!("{{\"a\":1}}\n{}\n{{\"a\":2}}\n", "x".repeat(crate::codec::lines::LINE_MAX + STEP));
    let read = read_all(&Stdin::of(io::Cursor::new(text.into_bytes()))).await.unwrap();
    assert_eq!((rows(&read).len(), faults(&read).len()), (2, 1));
}

#[tokio::test]
async fn plain_lines_are_counted() {
    let read = read_all(&Stdin { format: StdinFormat::Lines, ..stdin("a\nb") }).await.unwrap();
    assert_eq!(rows(&read)[1], json!({"text": "b", "file": "stdin", "number": 2}));
}

fn csv(text: &str) -> Stdin {
    Stdin { format: StdinFormat::Csv, ..stdin(text) }
}

#[tokio::test]
async fn csv_is_read_with_its_header_and_its_types() {
    let text = "\u{feff}id,\"a \nname\",x\n1,\"a,\nb\",0.5\n2,,\n3\n";
    let read = read_all(&csv(text)).await.unwrap();
    let expected = [json!({"id": 1, "a \nname": "a,\nb", "x": 0.5}), json!({"id": 2, "a \nname": null, "x": null})];
    assert_eq!(rows(&read), expected);
    assert_eq!(faults(&read), ["stdin:6: has 1 field, and the header has 3"]);
    let semicolons = Csv { delimiter: Some(";".into()), header: Some(false), ..Csv::default() };
    let read = read_all(&Stdin { csv: Some(semicolons), ..csv("1;x\n2;y") }).await.unwrap();
    assert_eq!(rows(&read)[1], json!({"column_1": 2, "column_2": "y"}));
    let declared = serde_json::from_str(r#"{"id":"text"}"#).unwrap();
    let read = read_all(&Stdin { schema: Some(declared), ..csv("x,id\n1,2\n") }).await.unwrap();
    assert_eq!(rows(&read), [json!({"id": "2"})]);
}

#[tokio::test]
async fn many_rows_of_csv_that_planning_has_read_are_not_lost() {
    let lines: Vec<_> = (0..1_500).map(|i| format!("{i},{}", if i < 1_200 { "1" } else { "x" })).collect();
    let read = read_all(&csv(&format!("n,m\n{}\n", lines.join("\n")))).await.unwrap();
    // A text in a column of numbers, which is met behind the rows that were looked at, is a bad row.
    assert_eq!((rows(&read).len(), faults(&read).len()), (1_200, 300));
    assert!(rows(&read).iter().map(|r| r["n"].as_i64().unwrap()).eq(0..1_200));
}

#[tokio::test]
async fn csv_that_is_none_is_told_and_an_empty_one_has_no_rows() {
    let Problems(problems) = csv("\"a").schema(&crate::testing::connect()).await.unwrap_err();
    assert!(problems[0].message.contains("the header has a quote without an end"), "{problems:?}");
    assert!(read_all(&csv("")).await.unwrap().is_empty());
    assert!(read_all(&csv("a,b\n")).await.unwrap().is_empty());
    let wrong = Stdin { csv: Some(Csv::default()), ..stdin("{}") };
    let Problems(problems) = wrong.schema(&crate::testing::connect()).await.unwrap_err();
    assert_eq!(problems[0].message, "`csv` is for the format CSV");
}

#[tokio::test]
async fn it_is_read_once() {
    let stdin = stdin("{\"a\":1}");
    let source = open(&stdin, None).await.unwrap();
    assert_eq!(chunks(source).await.unwrap().len(), 1);
    let again = open_as(&stdin, schema(), None).await;
    assert!(again.err().unwrap().message().contains("only once"));
}

fn packed(packing: Packing, parts: &[&[u8]]) -> Vec<u8> {
    let (mut packer, mut out) = (crate::codec::compression::Packer::new(packing), Vec::new());
    for part in parts {
        packer.pack(part, &mut out).unwrap();
        packer.end(&mut out).unwrap();
    }
    out
}

fn stream(rows: std::ops::Range<i64>) -> Vec<u8> {
    let batch =
        crate::testing::batch_of(&rows.map(|n| json!({"n": n, "text": format!("row {n}")})).collect::<Vec<_>>());
    let (mut encoder, mut out) = (crate::codec::ipc::StreamEncoder::new(&batch.schema()).unwrap(), Vec::new());
    encoder.encode(&batch, &mut out).unwrap();
    encoder.end(&mut out).unwrap();
    out
}

const BOTH: [Packing; 2] = [Packing::Gzip, Packing::Zstd];

fn of(format: StdinFormat, packing: Option<Packing>, bytes: Vec<u8>) -> Stdin {
    Stdin { format, compression: packing, ..Stdin::of(Trickle(io::Cursor::new(bytes))) }
}

async fn failure(stdin: &Stdin) -> Error {
    match read_all(stdin).await {
        Ok(read) => panic!("{} chunks were read", read.len()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_is_compressed_is_read_as_it_trickles_in() {
    for packing in BOTH {
        let bytes = packed(packing, &[b"{\"a\":1}\n{\"a\"", b":2}\n", b"{\"a\":3}"]);
        let read = read_all(&of(StdinFormat::Json, Some(packing), bytes)).await.unwrap();
        assert_eq!(rows(&read), [json!({"a": 1}), json!({"a": 2}), json!({"a": 3})]);
        let read = read_all(&of(StdinFormat::Csv, Some(packing), packed(packing, &[b"a,b\n1,x\n", b"2,y\n"]))).await;
        assert_eq!(rows(&read.unwrap()), [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y"})]);
        let read =
            read_all(&of(StdinFormat::Arrow, Some(packing), packed(packing, &[&stream(0..8_000)]))).await.unwrap();
        assert_eq!(rows(&read)[7_999], json!({"n": 7_999, "text": "row 7999"}));
        assert!(read_all(&of(StdinFormat::Json, Some(packing), Vec::new())).await.unwrap().is_empty());
    }
}

/// Gives what it is sent, and an end when nobody sends any more.
struct Sent(std::sync::mpsc::Receiver<Vec<u8>>, Vec<u8>);

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.is_empty() {
            self.1 = self.0.recv().unwrap_or_default();
        }
        let count = self.1.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(count)
    }
}

#[tokio::test]
async fn rows_of_a_whole_frame_are_read_before_more_comes() {
    for packing in BOTH {
        for (format, parts) in [
            (StdinFormat::Json, [b"{\"n\":1}\n".to_vec(), b"{\"n\":2}\n".to_vec()]),
            (StdinFormat::Arrow, {
                // A schema and a batch of a row, then the mark at the end of a stream.
                let one = stream(1..2);
                let (begin, end) = one.split_at(one.len() - 8);
                [begin.to_vec(), end.to_vec()]
            }),
        ] {
            let (send, receive) = std::sync::mpsc::channel();
            send.send(packed(packing, &[&parts[0]])).unwrap();
            let stdin = Stdin { format, compression: Some(packing), ..Stdin::of(Sent(receive, Vec::new())) };
            let mut source = open(&stdin, None).await.unwrap();
            let first = source.read().await.unwrap().unwrap();
            assert_eq!(rows(&[first])[0]["n"], 1, "{packing:?}");
            send.send(packed(packing, &[&parts[1]])).unwrap();
            drop(send);
            assert_eq!(chunks(source).await.unwrap().len(), usize::from(format == StdinFormat::Json));
        }
    }
}

#[tokio::test]
async fn what_is_cut_off_or_something_else_is_told_with_its_place() {
    for packing in BOTH {
        let whole = packed(packing, &[&b"{\"a\":1}\n".repeat(9)]);
        for length in 1..whole.len() {
            let error = failure(&of(StdinFormat::Json, Some(packing), whole[..length].to_vec())).await;
            assert_eq!(error.kind(), Kind::Validation);
            let told = error.to_string();
            assert!(told.contains("stdin") && told.contains("in the middle of its"), "{told}");
        }
        let error = failure(&of(StdinFormat::Json, Some(packing), b"{\"a\":1}\n".repeat(9))).await.to_string();
        assert!(error.contains(&format!("stdin: is no {} at byte", packing.name())), "{error}");
    }
    let whole = stream(0..5);
    for length in 0..whole.len() - 8 {
        // A stream may end between two messages, without a mark.
        let cut = of(StdinFormat::Arrow, None, whole[..length].to_vec());
        let Err(error) = read_all(&cut).await else { continue };
        assert!(error.to_string().contains("stdin") && error.to_string().contains("is no whole Arrow"), "{error}");
    }
    for (bytes, told) in [
        (b"{\"a\":1}\n".repeat(9), "is no whole Arrow file: it ends at byte 72, in the middle of a message"),
        (b"ARROW1\0\0\xFF\xFF\xFF\xFF".to_vec(), "it is a file with a footer, and a stream has none"),
        (Vec::new(), "it is empty, and a stream has a schema"),
        ([0xFF; 64].to_vec(), "a message of 4294967303 bytes, and 1 GiB is the most"),
    ] {
        let error = failure(&of(StdinFormat::Arrow, None, bytes)).await.to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_bomb_ends_the_job_with_the_way_out() {
    let text = format!("{{\"a\":\"{}\"}}\n", "0".repeat(1 << 20)).repeat(20);
    let declared = || serde_json::from_str(r#"{"a":"text"}"#).unwrap();
    for packing in BOTH {
        let bytes = packed(packing, &[text.as_bytes()]);
        let bomb = |decompress| Stdin {
            compression: Some(packing),
            decompress,
            schema: declared(),
            ..Stdin::of(io::Cursor::new(bytes.clone()))
        };
        let error = failure(&bomb(None)).await;
        assert_eq!(error.kind(), Kind::Budget);
        assert!(
            error.to_string().contains("stdin: its") && error.to_string().contains("`decompress: { ratio: … }`"),
            "{error}"
        );
        let meant = Limits { ratio: 1_000_000, size: None };
        assert_eq!(rows(&read_all(&bomb(Some(meant))).await.unwrap()).len(), 20);
        let error = failure(&bomb(Some(Limits { size: Some(Size(1 << 20)), ..meant }))).await;
        assert_eq!(error.kind(), Kind::Budget);
    }
}

#[tokio::test]
async fn settings_that_fit_nothing_are_told() {
    let told = async |stdin: Stdin| {
        let Problems(problems) = stdin.schema(&crate::testing::connect()).await.unwrap_err();
        problems[0].message.clone()
    };
    let limits = Stdin { decompress: Some(Limits::default()), ..stdin("{}") };
    assert_eq!(told(limits).await, "`decompress` is for what is compressed");
    let declared = || serde_json::from_str(r#"{"a":"text"}"#).unwrap();
    let typed = Stdin { schema: Some(declared()), ..of(StdinFormat::Arrow, None, stream(0..1)) };
    assert_eq!(told(typed).await, "an Arrow stream brings its own schema");
}
