//! What files promise: every row once, bad rows alone, clear errors.

use std::path::PathBuf;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Connector, Source};
use bourn_engine::diagnostic::Problems;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::codec::lines::LINE_MAX;
use crate::testing::{self, batch_of, connect, faults, read_all, read_file, rows, write_file};

mod compressed;
mod csv;
mod epochs;
mod follow;
mod spread;
mod tables;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> File {
        write_file(&self.path(name), bytes.as_ref());
        self.file(name)
    }
    fn file(&self, name: &str) -> File {
        File::new(self.path(name).to_string_lossy())
    }
}

async fn problem(file: &File) -> Problem {
    let Problems(mut problems) = file.schema(&connect()).await.unwrap_err();
    assert_eq!(problems.len(), 1);
    problems.remove(0)
}

fn declared(file: File, columns: &str) -> File {
    File { schema: Some(serde_json::from_str(columns).unwrap()), ..file }
}

#[tokio::test]
async fn a_bad_line_is_rejected_alone_with_file_line_and_field() {
    let folder = Folder::new();
    let mut text = b"\xEF\xBB\xBF{\"id\":1,\"name\":\"a\"}\r\n\r\n   \n{\"id\":\n[3]\n{\"id\":\"x\"}\n".to_vec();
    text.extend(b"{\"id\":99999999999999999999,\"name\":\"b\"}\n{\"id\":8,\"name\":\"\xFF\"}\n{\"id\":9,\"other\":[1],\"name\":null}");
    let file = declared(folder.write("a.jsonl", text), r#"{"id":"bigint","name":"text"}"#);
    let read = read_all(&file).await.unwrap();
    assert_eq!(rows(&read), [json!({"id": 1, "name": "a"}), json!({"id": 9, "name": null})]);
    let path = folder.path("a.jsonl");
    let expected = [
        "a.jsonl:4: not JSON: EOF while parsing a value at column 6",
        "a.jsonl:5: a row is an object, and this is a list",
        "a.jsonl:6, field `id`: `\"x\"` does not fit bigint",
        "a.jsonl:7, field `id`: `99999999999999999999` does not fit bigint",
        "a.jsonl:8: not UTF-8: byte 0xff at column 17",
    ];
    let expected: Vec<_> = expected.iter().map(|e| e.replacen("a.jsonl", &path.to_string_lossy(), 1)).collect();
    assert_eq!(faults(&read), expected);
}

#[tokio::test]
async fn an_inferred_column_of_several_types_keeps_every_value() {
    let folder = Folder::new();
    let file = folder.write("a.json", "{\"v\":1}\n{\"v\":\"x\"}\n{\"v\":{\"a\": [1]}}\n{\"v\":true}\n{\"v\":null}\n");
    let read = read_all(&file).await.unwrap();
    let values: Vec<_> = rows(&read).into_iter().map(|r| r["v"].clone()).collect();
    assert_eq!(values, [json!("1"), json!("x"), json!("{\"a\": [1]}"), json!("true"), json!(null)]);
}

#[tokio::test]
async fn a_number_that_its_column_can_not_hold_is_rejected_at_any_depth_and_never_made_another_one() {
    let folder = Folder::new();
    let good = "{\"i\":1,\"o\":{\"n\":2,\"l\":[0.5]}}\n".repeat(1_200);
    let bad = [
        r#"{"i":1.5}"#,
        r#"{"i":-9223372036854775809}"#,
        r#"{"o":{"n":2.5}}"#,
        r#"{"o":{"n":-9223372036854775809}}"#,
        r#"{"o":{"l":[1,1e999]}}"#,
    ];
    let file = folder.write("a.jsonl", format!("{good}{}\n{good}", bad.join("\n")));
    let read = read_all(&file).await.unwrap();
    assert_eq!(rows(&read), vec![json!({"i": 1, "o": {"n": 2, "l": [0.5]}}); 2_400]);
    let told = faults(&read);
    for (line, (field, fault)) in (1_201..).zip(["i", "i", "o", "o", "o"].into_iter().zip(&told)) {
        assert!(fault.contains(&format!("a.jsonl:{line}, field `{field}`: `")), "{fault}");
    }
    assert_eq!(told.len(), bad.len());
}

#[tokio::test]
async fn a_line_beyond_the_limit_is_rejected_and_its_neighbours_are_read() {
    let folder = Folder::new();
    let long = "x".repeat(LINE_MAX + 1);
    let file = folder.write("a.jsonl", format!("{{\"a\":1}}\n{{\"a\":\"{long}\"}}\n{{\"a\":2}}\n"));
    let read = read_all(&file).await.unwrap();
    assert_eq!(rows(&read).len(), 2);
    assert!(faults(&read)[0].contains("a.jsonl:2: longer than 16 MiB"), "{:?}", faults(&read));
}

#[tokio::test]
async fn a_source_goes_on_behind_the_position_of_any_chunk() {
    let folder = Folder::new();
    let lines: Vec<_> =
        (0..20_000).map(|i| if i % 7 == 0 { "{".to_owned() } else { format!("{{\"n\":{i}}}") }).collect();
    let json = folder.write("a.jsonl", lines.join("\n"));
    let text = folder.write("b.txt", lines.join("\r\n"));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let parquet = folder.file("c.parquet");
    testing::write_all(&parquet, &[batch.slice(0, 9_000), batch.slice(9_000, 11_000)]).await.unwrap();
    for file in [json, text, parquet] {
        let whole = read_all(&file).await.unwrap();
        assert!(whole.len() > 1, "{}", file.path);
        for (i, chunk) in whole.iter().enumerate() {
            let rest = testing::chunks(testing::open(&file, Some(&chunk.position)).await.unwrap()).await.unwrap();
            assert_eq!(rows(&rest), rows(&whole[i + 1..]), "{} behind {}", file.path, chunk.position);
            assert_eq!(faults(&rest), faults(&whole[i + 1..]));
        }
    }
}

#[tokio::test]
async fn the_files_of_a_pattern_are_read_in_order_as_splits_of_their_own() {
    let folder = Folder::new();
    for i in [2, 0, 1] {
        folder.write(&format!("{i}.jsonl"), format!("{{\"i\":{i}}}"));
    }
    folder.write("3.other", "no");
    let read = read_all(&folder.file("*.jsonl")).await.unwrap();
    assert_eq!(rows(&read), [json!({"i": 0}), json!({"i": 1}), json!({"i": 2})]);
    let splits: Vec<_> = read.iter().map(|c| c.split.name().rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(splits, ["0.jsonl", "1.jsonl", "2.jsonl"]);
}

#[tokio::test]
async fn a_plain_line_that_is_no_text_is_rejected_alone() {
    let folder = Folder::new();
    let read = read_all(&folder.write("a.log", b"a\nb\xFFc\nd\n")).await.unwrap();
    let texts: Vec<_> = rows(&read).into_iter().map(|r| (r["text"].clone(), r["number"].clone())).collect();
    assert_eq!(texts, [(json!("a"), json!(1)), (json!("d"), json!(3))]);
    let path = folder.path("a.log");
    assert_eq!(faults(&read), [format!("{}:2: not UTF-8: byte 0xff at column 2", path.display())]);
}

#[tokio::test]
async fn plain_lines_come_with_file_and_number() {
    let folder = Folder::new();
    let file = folder.write("a.txt", "x\r\n\n\u{fc}");
    let read = read_all(&file).await.unwrap();
    let name = folder.path("a.txt").to_string_lossy().into_owned();
    let row = |text: &str, number: u64| json!({"text": text, "file": name, "number": number});
    assert_eq!(rows(&read), [row("x", 1), row("", 2), row("ü", 3)]);
}

#[tokio::test]
async fn planning_tells_what_is_missing_and_the_way_out() {
    let folder = Folder::new();
    let missing = problem(&folder.file("none.jsonl")).await;
    assert!(missing.message.starts_with("there is no file `") && missing.help.is_some(), "{missing:?}");
    let none = problem(&folder.file("*.jsonl")).await;
    assert!(none.message.starts_with("no file matches `") && none.path == ["path".into()], "{none:?}");
    let unknown = problem(&folder.file("a.xls")).await;
    assert_eq!(unknown.message, "the ending `.xls` says no format that is known");
    let wrong = File { columns: Some(vec!["idd".into()]), ..folder.write("a.jsonl", "{\"id\":1}") };
    assert_eq!(problem(&wrong).await.help.as_deref(), Some("did you mean `id`?"));
    let wrong = problem(&declared(folder.file("a.jsonl"), r#"{"id":"bigin"}"#)).await;
    assert_eq!(wrong.path, ["schema".into(), "id".into()]);
}

#[tokio::test]
async fn an_empty_json_file_has_no_rows() {
    let folder = Folder::new();
    assert!(read_all(&folder.write("a.jsonl", "")).await.unwrap().is_empty());
    assert!(read_all(&declared(folder.file("a.jsonl"), r#"{"id":"bigint"}"#)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_vanishes_or_shrinks_is_named() {
    let folder = Folder::new();
    let file = folder.write("a.jsonl", "{\"a\":1}\n");
    let mut source = testing::open(&file, None).await.unwrap();
    connect().env.files().remove(&folder.path("a.jsonl")).unwrap();
    let error = source.read().await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().ends_with("a.jsonl was there when the job was planned, and is gone"), "{error}");
    let file = folder.write("a.jsonl", "{\"a\":1}\n{\"a\":2}\n");
    let behind = read_all(&file).await.unwrap().remove(0).position;
    let file = folder.write("a.jsonl", "{\"a\":1}\n");
    let error = testing::open(&file, Some(&behind)).await.unwrap().read().await.unwrap_err();
    assert!(error.to_string().contains("a.jsonl: holds 8 bytes"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_read_is_an_error() {
    let folder = Folder::new();
    let file = folder.write("a.jsonl", "{\"a\":1}\n".repeat(1_000_000));
    let mut source = testing::open(&file, None).await.unwrap();
    source.read().await.unwrap().unwrap();
    // The same file, emptied: not another one of its name.
    folder.write("a.jsonl", "");
    let error = testing::chunks(source).await.unwrap_err();
    assert!(error.to_string().contains("a.jsonl: had 8000000 bytes, and has "), "{error}");
    assert!(error.to_string().ends_with("it was cut off while it was read"), "{error}");
}

fn parquet_batch() -> RecordBatch {
    let (ids, names): (Vec<i64>, Vec<String>) = (0..30_000).map(|i| (i, format!("name {}", i % 100))).unzip();
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(Int64Array::from(ids))), ("name", Arc::new(StringArray::from(names)))];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn parquet_appears_whole_when_the_job_ends_and_is_read_back() {
    let folder = Folder::new();
    let (file, batch) = (folder.file("deep/er/a.parquet"), parquet_batch());
    testing::write_all(&file, &[batch.slice(0, 8_000), batch.slice(8_000, 22_000)]).await.unwrap();
    assert!(!folder.path("deep/er/a.parquet.part").exists());
    let read = read_all(&file).await.unwrap();
    assert!(read.iter().all(|c| c.records.num_rows() <= 8_192));
    let ids: Vec<i64> =
        read.iter().flat_map(|c| c.records.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert!(ids.into_iter().eq(0..30_000));
    let chosen = File { columns: Some(vec!["name".into(), "id".into()]), ..file };
    assert_eq!(rows(&read_all(&chosen).await.unwrap())[7], json!({"name": "name 7", "id": 7}));
}

#[tokio::test]
async fn a_job_that_fails_leaves_no_parquet_file_behind_its_name() {
    let folder = Folder::new();
    let batch = parquet_batch();
    let mut sink = testing::sink_for(&folder.file("a.parquet"), batch.schema()).await.unwrap();
    bourn_engine::api::Sink::write(&mut sink, &batch.slice(0, 10)).await.unwrap();
    drop(sink);
    assert!(!folder.path("a.parquet").exists());
}

#[tokio::test]
async fn a_broken_parquet_file_is_an_error_that_names_it_and_never_a_panic() {
    let folder = Folder::new();
    testing::write_all(&folder.file("good.parquet"), &[parquet_batch()]).await.unwrap();
    let good = read_file(&folder.path("good.parquet"));
    let expect = async |bytes: &[u8], must_fail: bool| {
        let file = folder.write("bad.parquet", bytes);
        match read_all(&file).await {
            Ok(_) => assert!(!must_fail),
            Err(e) => assert!(e.to_string().contains("bad.parquet"), "{e}"),
        }
    };
    for bytes in [b"".as_slice(), b"PAR1", b"PAR1PAR1", b"{\"a\":1}\n{\"a\":2}\n", &good[..good.len() / 2], &good[1..]]
    {
        expect(bytes, true).await;
    }
    for i in (0..good.len()).step_by(good.len() / 300) {
        let mut bytes = good.clone();
        bytes[i] ^= 0x55;
        expect(&bytes, false).await;
    }
}

#[tokio::test]
async fn json_is_written_with_nulls_and_without_the_columns_of_the_engine() {
    let folder = Folder::new();
    let file = folder.file("out/a.jsonl");
    write_file(&folder.path("out/a.jsonl"), b"what was there before\n");
    let batch = batch_of(&[json!({"a": 1, "_bourn_run_id": "r", "t": "x\n\"y\""}), json!({"a": null})]);
    testing::write_all(&file, &[batch.clone(), batch]).await.unwrap();
    let once = "{\"a\":1,\"t\":\"x\\n\\\"y\\\"\"}\n{\"a\":null,\"t\":null}\n";
    assert_eq!(String::from_utf8(read_file(&folder.path("out/a.jsonl"))).unwrap(), once.repeat(2));
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_with_the_file() {
    let batch = parquet_batch();
    let file = File { format: Some(Format::Json), ..File::new("/dev/full") };
    let error = testing::write_all(&file, &[batch]).await.unwrap_err();
    assert!(error.to_string().starts_with("/dev/full: ") && error.kind() == Kind::Io, "{error}");
}

#[tokio::test]
async fn a_parquet_file_takes_the_place_of_no_device_and_no_folder() {
    let folder = Folder::new();
    let schema = parquet_batch().schema();
    for path in ["/dev/null".to_owned(), folder.path("").to_string_lossy().into_owned()] {
        let file = File { format: Some(Format::Parquet), ..File::new(&path) };
        let Problems(problems) = file.check_sink(&schema, &connect()).await.unwrap_err();
        assert_eq!(problems[0].message, format!("`{path}` is a device, a pipe or a folder"));
        let json = File { format: Some(Format::Json), ..file };
        assert_eq!(json.check_sink(&schema, &connect()).await, Ok(()));
    }
}

#[tokio::test]
async fn a_sink_is_refused_what_only_a_source_can_do() {
    let batch = batch_of(&[json!({"a": 1})]);
    let mut problems = Vec::new();
    for file in [File::new("a-*.jsonl"), File::new("a.txt"), declared(File::new("a.jsonl"), "{}")] {
        let Problems(mut found) = file.check_sink(&batch.schema(), &connect()).await.unwrap_err();
        problems.push(found.remove(0).message);
    }
    let expected = [
        "`a-*.jsonl` is a pattern, and a sink writes one file",
        "plain lines are for sources",
        "`schema` is for a source",
    ];
    assert_eq!(problems, expected);
}

/// Lines of every kind; none holds a line end.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (any::<i64>(), "[a-zé\"]{0,6}").prop_map(|(a, b)| json!({"a": a, "b": b}).to_string().into_bytes()),
        1 => Just(b"   ".to_vec()),
        1 => any::<bool>().prop_map(|a| json!({"a": a}).to_string().into_bytes()),
        1 => "[{}:,\"ab0-9.e\\[\\]]{0,12}".prop_map(String::into_bytes),
        1 => Just(b"{\"b\":\"\xC3\"}".to_vec()),
        1 => Just(b"{\"a\":123456789012345678901}".to_vec()),
        1 => (1_usize..3_000).prop_map(|n| json!({"b": "x".repeat(n)}).to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>().prop_filter("a line end", |b| *b != b'\n'), 0..8),
    ]
}

proptest! {
    #[test]
    fn every_line_is_a_row_or_rejected_and_good_rows_keep_their_order(
        lines in proptest::collection::vec(line(), 0..60), ended: bool
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = Folder::new();
        let text = lines.join(&b'\n');
        let file = folder.write("a.jsonl", if ended { [text.as_slice(), b"\n"].concat() } else { text });
        let file = declared(file, r#"{"a":"bigint","b":"text"}"#);
        let read = runtime.block_on(read_all(&file)).unwrap();
        let blank = lines.iter().filter(|l| crate::codec::lines::is_blank(l.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(l))).count();
        prop_assert_eq!(rows(&read).len() + faults(&read).len() + blank, lines.len());
        let sure = lines.iter().filter_map(|l| serde_json::from_slice::<serde_json::Value>(l).ok());
        let sure: Vec<_> = sure.filter(|v| v["a"].is_i64() && v["b"].is_string()).collect();
        let kept: Vec<_> = rows(&read).into_iter().filter(|v| v["a"].is_i64() && v["b"].is_string()).collect();
        prop_assert_eq!(kept, sure);
    }
}

#[tokio::test]
async fn progress_rises_to_the_whole_of_all_files() {
    let folder = Folder::new();
    folder.write("a.jsonl", "{\"n\":1}\n".repeat(20_000));
    folder.write("b.jsonl", "{\"n\":2}\n".repeat(1_000));
    let chunks = read_all(&folder.file("*.jsonl")).await.unwrap();
    let seen: Vec<(u64, u64)> = chunks.iter().map(|c| c.progress.unwrap()).collect();
    let total = 21_000 * 8;
    assert!(seen.windows(2).all(|w| w[0].0 <= w[1].0) && seen.iter().all(|p| p.1 == total), "{seen:?}");
    assert_eq!(seen.last(), Some(&(total, total)));
}
