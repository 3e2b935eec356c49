//! What the standard input promises: read once, nothing lost to planning, bad rows alone.

use super::*;
use crate::testing::{chunks, faults, open, open_as, read_all, rows};
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
