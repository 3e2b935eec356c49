//! CSV files: their columns, rows, positions and bad rows.

use super::*;
use crate::codec::csv::Nulls;
use crate::codec::lines::BLOCK;

#[tokio::test]
async fn a_csv_file_is_read_with_its_types_and_a_bad_row_is_rejected_with_its_place() {
    let folder = Folder::new();
    let file =
        folder.write("a.csv", b"\xEF\xBB\xBFid,name,at\r\n1,a,2024-01-01\r\n2,\"b\r\nc\",\r\nx,d,2024-01-02\r\n3\r\n");
    let typed = declared(file, r#"{"id":"bigint","name":"text"}"#);
    let read = read_all(&typed).await.unwrap();
    assert_eq!(rows(&read), [json!({"id": 1, "name": "a"}), json!({"id": 2, "name": "b\r\nc"})]);
    let path = folder.path("a.csv").to_string_lossy().into_owned();
    let expected = [
        format!("{path}:5, field `id`: `x` does not fit bigint"),
        format!("{path}:6: has 1 field, and the header has 3"),
    ];
    assert_eq!(faults(&read), expected);
    let inferred = read_all(&folder.file("a.csv")).await.unwrap();
    assert_eq!(rows(&inferred)[2], json!({"id": "x", "name": "d", "at": "2024-01-02"}));
}

#[tokio::test]
async fn a_csv_source_goes_on_behind_the_position_of_any_chunk() {
    let folder = Folder::new();
    let row = |i: usize| match i % 7 {
        0 => "x,\"".to_owned(),
        1 => format!("{i},\"two\nlines, \"\"of\"\" {i}\""),
        _ => format!("{i},text"),
    };
    let lines: Vec<_> = (1..20_000).map(row).collect();
    let named = folder.write("a.csv", format!("id,t\n{}", lines.join("\n")));
    let bare = folder.write("b.csv", lines.join("\r\n"));
    let bare = File { csv: Some(Csv { header: Some(false), ..Csv::default() }), ..bare };
    for file in [declared(named, r#"{"t":"text","id":"bigint"}"#), declared(bare, r#"{"id":"bigint","t":"text"}"#)] {
        let whole = read_all(&file).await.unwrap();
        assert!(whole.len() > 2);
        for (i, chunk) in whole.iter().enumerate() {
            let rest = testing::chunks(testing::open(&file, Some(&chunk.position)).await.unwrap()).await.unwrap();
            assert_eq!(rows(&rest), rows(&whole[i + 1..]));
            assert_eq!(faults(&rest), faults(&whole[i + 1..]));
        }
    }
}

#[tokio::test]
async fn a_quote_that_is_never_closed_costs_one_row_however_long_the_file_is() {
    let folder = Folder::new();
    let many = BLOCK * 10 / 8;
    let file = folder.write("a.csv", format!("n,t\n0,\"a\n{}", "1234,abc\n".repeat(many)));
    let file = declared(file, r#"{"n":"bigint","t":"text"}"#);
    let mut source = testing::open(&file, None).await.unwrap();
    let (mut count, mut bad) = (0, Vec::new());
    while let Some(chunk) = source.read().await.unwrap() {
        count += chunk.records.num_rows();
        bad.extend(chunk.rejected.iter().map(|r| r.error.to_string()));
    }
    assert_eq!(count, many);
    assert_eq!(bad, [format!("{}:2, field `t`: a quote without an end", folder.path("a.csv").display())]);
}

#[tokio::test]
async fn files_of_a_pattern_are_read_by_the_names_of_their_own_headers() {
    let folder = Folder::new();
    folder.write("0.tsv", "");
    folder.write("1.tsv", "a\tb\n1\tx\n");
    folder.write("2.tsv", "c\tb\ta\n?\ty\t2\n");
    let read = read_all(&folder.file("*.tsv")).await.unwrap();
    assert_eq!(rows(&read), [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y"})]);
    folder.write("3.tsv", "a\n1\n");
    let error = read_all(&folder.file("*.tsv")).await.unwrap_err().to_string();
    assert!(error.contains("3.tsv: has no column `b`; its columns are a"), "{error}");
}

#[tokio::test]
async fn planning_tells_what_is_wrong_with_csv() {
    let folder = Folder::new();
    let file = folder.write("a.csv", "id,name\n1,a\n");
    let unknown = problem(&declared(folder.file("a.csv"), r#"{"idd":"bigint"}"#)).await;
    assert_eq!(
        (unknown.message.as_str(), unknown.help.as_deref()),
        ("there is no column `idd`", Some("did you mean `id`?"))
    );
    let csv = Csv { delimiter: Some("ab".into()), ..Csv::default() };
    let wrong = problem(&File { csv: Some(csv.clone()), ..file }).await;
    assert_eq!(wrong.path, ["csv".into(), "delimiter".into()]);
    let other = problem(&File { csv: Some(csv), ..folder.write("a.jsonl", "{}") }).await;
    assert_eq!(other.message, "`csv` is for the format CSV");
    let list = problem(&declared(folder.file("a.csv"), r#"{"id":"text[]"}"#)).await;
    assert_eq!(
        (list.message.as_str(), list.path.as_slice()),
        ("CSV can't be read into a column of text[]", ["schema".into(), "id".into()].as_slice())
    );
    let header = problem(&folder.write("b.csv", "a,\"b\n1,2\n")).await;
    assert!(header.message.ends_with("b.csv: the header has a quote without an end"), "{header:?}");
}

#[tokio::test]
async fn csv_is_written_with_a_header_and_read_back() {
    let folder = Folder::new();
    let file = folder.file("out/a.csv");
    let batch =
        batch_of(&[json!({"a": 1, "_bourn_run_id": "r", "t": "x,\"y\"\n", "l": [1, 2]}), json!({"a": null, "t": ""})]);
    testing::write_all(&file, &[batch.clone(), batch]).await.unwrap();
    let rows_written = "1,\"x,\"\"y\"\"\n\",\"[1,2]\"\n,\"\",\n";
    let text = String::from_utf8(read_file(&folder.path("out/a.csv"))).unwrap();
    assert_eq!(text, format!("a,t,l\n{}", rows_written.repeat(2)));
    let read = read_all(&file).await.unwrap();
    let once = [json!({"a": 1, "t": "x,\"y\"\n", "l": "[1,2]"}), json!({"a": null, "t": "", "l": null})];
    assert_eq!(rows(&read), [once.clone(), once].concat());
}

#[tokio::test]
async fn a_csv_sink_is_refused_what_it_can_not_write() {
    let folder = Folder::new();
    let schema = batch_of(&[json!({"a": 1})]).schema();
    let bare = Csv { quote: Some(String::new()), nulls: Some(Nulls::One("x".into())), ..Csv::default() };
    let Problems(problems) =
        File { csv: Some(bare), ..folder.file("a.csv") }.check_sink(&schema, &connect()).await.unwrap_err();
    assert_eq!(problems[0].path, ["csv".into(), "quote".into()]);
    let none = Arc::new(Schema::empty());
    let Problems(problems) = folder.file("a.csv").check_sink(&none, &connect()).await.unwrap_err();
    assert_eq!(problems[0].message, "a CSV file needs at least one column");
}
