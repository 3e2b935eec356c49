//! What many files promise: each whole, none too large, in the folder that says its values.

use super::*;
use crate::generate::Generate;
use bourn_engine::Engine;
use bourn_engine::api::{Registry, Sink};
use bourn_engine::data::units::{Interval, Size};
use bourn_engine::graph::Graph;
use bourn_engine::testing::simulation::Simulation;
use std::time::Duration;

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    batch_of(&range.map(|n| json!({"n": n, "kind": format!("k{}", n % 3)})).collect::<Vec<_>>())
}

fn names(folder: &Folder, pattern: &str) -> Vec<String> {
    let paths = connect().env.glob(&folder.path(pattern).to_string_lossy()).unwrap();
    let root = folder.path("");
    paths.iter().map(|p| p.strip_prefix(&root).unwrap().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_file_has_as_many_rows_as_it_may_and_its_number_in_its_name() {
    let folder = Folder::new();
    for ending in ["jsonl", "csv.gz", "parquet", "arrow", "avro", "arrows"] {
        let rotate = Rotate { rows: Some(400), ..Rotate::default() };
        let file = File { rotate: Some(rotate), ..folder.file(&format!("out/{{lane}}-{{number}}.{ending}")) };
        testing::write_all(&file, &[numbers(0..1_000)]).await.unwrap();
        let expected: Vec<_> = (0..3).map(|i| format!("out/0-0000{i}.{ending}")).collect();
        assert_eq!(names(&folder, &format!("out/*.{ending}")), expected);
        let mut counts = Vec::new();
        for name in &expected {
            counts.push(rows(&read_all(&folder.file(name)).await.unwrap()).len());
        }
        assert_eq!(counts, [400, 400, 200], "{ending}");
        assert!(names(&folder, "out/*.part").is_empty());
    }
}

#[tokio::test]
async fn a_file_appears_when_it_is_whole_and_an_epoch_ends_it() {
    let folder = Folder::new();
    let rotate = Rotate { rows: Some(1_000), ..Rotate::default() };
    let file = File { rotate: Some(rotate), ..folder.file("{number}.parquet") };
    let mut sink = testing::sink_for(&file, numbers(0..1).schema()).await.unwrap();
    sink.write(&numbers(0..10)).await.unwrap();
    assert!(names(&folder, "*.parquet").is_empty());
    assert_eq!(names(&folder, "*.part"), ["00000.parquet.part"]);
    sink.prepare(1).await.unwrap();
    assert_eq!(names(&folder, "*.parquet"), ["00000.parquet"]);
    assert_eq!(rows(&read_all(&folder.file("*.parquet")).await.unwrap()).len(), 10);
    // An epoch without rows makes no file.
    sink.prepare(2).await.unwrap();
    sink.finish().await.unwrap();
    assert_eq!(names(&folder, "*").len(), 1);
}

#[tokio::test]
async fn a_file_is_about_as_large_as_it_may_be() {
    let folder = Folder::new();
    let rotate = Rotate { size: Some(Size(20_000)), ..Rotate::default() };
    let file = File { rotate: Some(rotate), ..folder.file("{number}.jsonl") };
    let mut sink = testing::sink_for(&file, numbers(0..1).schema()).await.unwrap();
    for i in 0..100 {
        sink.write(&numbers(i * 100..i * 100 + 100)).await.unwrap();
    }
    sink.finish().await.unwrap();
    let sizes: Vec<_> = names(&folder, "*").iter().map(|n| read_file(&folder.path(n)).len()).collect();
    assert!(sizes.len() > 5 && sizes[..sizes.len() - 1].iter().all(|s| (20_000..24_000).contains(s)), "{sizes:?}");
    assert_eq!(rows(&read_all(&folder.file("*.jsonl")).await.unwrap()).len(), 10_000);
}

#[test]
fn a_file_that_is_old_enough_is_ended_by_the_next_rows() {
    let simulation = Simulation::new(1);
    let (env, files) = (simulation.env(), simulation.files().clone());
    let work = async move {
        let rotate = Rotate { every: Some(Interval(Duration::from_mins(1))), ..Rotate::default() };
        let file = File { rotate: Some(rotate), ..File::new("{number}.jsonl") };
        let schema = numbers(0..1).schema();
        let mut sink = file.sink(SinkContext::new(env.clone(), "it", schema)).await.unwrap();
        for _ in 0..3 {
            sink.write(&numbers(0..1)).await.unwrap();
            env.sleep(Duration::from_secs(40)).await;
        }
        files.paths()
    };
    let paths = simulation.run(work).done();
    assert_eq!(paths, [PathBuf::from("00000.jsonl"), PathBuf::from("00001.jsonl.part")]);
}

#[test]
fn a_file_that_is_old_enough_is_ended_though_no_rows_come() {
    let simulation = Simulation::new(1);
    let (env, files) = (simulation.env(), simulation.files().clone());
    let engine = Engine::new(Registry::new()).with_env(env.clone());
    let mut graph = Graph::new("it");
    // A row an hour, and one epoch at the end, which is far away.
    let rows: Generate = serde_json::from_value(json!({"rows": 1_000, "rate": "24/d"})).unwrap();
    graph.source("rows", rows);
    graph.sink(
        "files",
        File::new("{number}.jsonl").rotated(Rotate { every: Some("1m".parse().unwrap()), ..Rotate::default() }),
    );
    let work = async move {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        env.sleep(Duration::from_mins(90)).await;
        let paths = files.paths();
        job.stop();
        job.wait().await.unwrap();
        paths
    };
    let paths = simulation.run(work).done();
    assert!(!paths.is_empty() && paths.iter().all(|p| p.extension().is_some_and(|e| e == "jsonl")), "{paths:?}");
}

#[tokio::test]
async fn rows_lie_in_the_folder_of_their_values_and_are_read_back_with_them() {
    let folder = Folder::new();
    let all: Vec<_> = [("de", json!(1)), ("f/r", json!(2)), ("de", json!(null)), ("..", json!(1)), ("", json!(2))]
        .iter()
        .zip(0..)
        .map(|((country, day), n)| json!({"n": n, "country": country, "day": day}))
        .chain([json!({"n": 5, "country": null, "day": 1})])
        .collect();
    for format in [Format::Parquet, Format::Csv, Format::Json, Format::Arrow, Format::Avro, Format::ArrowStream] {
        let root = format!("out-{}", format.ending());
        let file = File {
            partition_by: Some(vec!["country".into(), "day".into()]),
            format: Some(format),
            ..folder.file(&root)
        };
        testing::write_all(&file, &[batch_of(&all)]).await.unwrap();
        let found = names(&folder, &format!("{root}/**/*.{}", format.ending()));
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(found.contains(&format!("{root}/country=de/day=1/part-0-00000.{}", format.ending())), "{found:?}");
        assert!(found.contains(&format!("{root}/country=f%2Fr/day=2/part-0-00001.{}", format.ending())), "{found:?}");
        let read = read_all(&folder.file(&format!("{root}/**/*.{}", format.ending()))).await.unwrap();
        let mut back = rows(&read);
        back.sort_by_key(|r| r["n"].as_i64());
        assert_eq!(back, all, "{format:?}");
    }
}

#[tokio::test]
async fn only_so_many_files_are_open_and_a_file_that_was_ended_has_a_successor() {
    let folder = Folder::new();
    let file = File { partition_by: Some(vec!["n".into()]), format: Some(Format::Json), ..folder.file("out") };
    let mut sink = testing::sink_for(&file, numbers(0..1).schema()).await.unwrap();
    for _ in 0..2 {
        sink.write(&numbers(0..300)).await.unwrap();
        assert_eq!(names(&folder, "out/**/*.part").len(), 200);
    }
    sink.finish().await.unwrap();
    assert_eq!(names(&folder, "out/n=7/*").len(), 2);
    assert_eq!(rows(&read_all(&folder.file("out/**/*.jsonl")).await.unwrap()).len(), 600);
}

#[tokio::test]
async fn a_value_too_long_for_a_folder_is_rejected_alone() {
    let folder = Folder::new();
    let file = File { partition_by: Some(vec!["k".into()]), format: Some(Format::Json), ..folder.file("out") };
    let batch =
        batch_of(&[json!({"n": 1, "k": "a"}), json!({"n": 2, "k": "x".repeat(300)}), json!({"n": 3, "k": "a"})]);
    let mut sink = testing::sink_for(&file, batch.schema()).await.unwrap();
    let written = sink.write(&batch).await.unwrap();
    sink.finish().await.unwrap();
    assert_eq!(written.rejected.len(), 1);
    assert!(written.rejected[0].error.message().contains("a name of 302 bytes"), "{:?}", written.rejected[0].error);
    assert_eq!(rows(&read_all(&folder.file("out/**/*.jsonl")).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn planning_tells_what_many_files_need() {
    let schema = numbers(0..1).schema();
    let told = async |file: File| {
        let checked = file.check_sink(&schema, &connect()).await;
        checked.err().map(|Problems(p)| p.into_iter().map(|p| p.message).collect::<Vec<_>>()).unwrap_or_default()
    };
    let rotate = Some(Rotate { rows: Some(1), ..Rotate::default() });
    assert_eq!(
        told(File { rotate, ..File::new("a.csv") }).await,
        ["`rotate` makes many files, and the path names one"]
    );
    assert_eq!(told(File::new("a-{number}.csv")).await, ["`{number}` counts files, and nothing makes many"]);
    let never = Some(Rotate::default());
    assert_eq!(told(File { rotate: never, ..File::new("{number}.csv") }).await, ["nothing says when a file is full"]);
    let zero = Some(Rotate { rows: Some(0), ..Rotate::default() });
    assert_eq!(told(File { rotate: zero, ..File::new("{number}.csv") }).await, ["a file takes more than nothing"]);
    let by = |names: &[&str]| File {
        partition_by: Some(names.iter().map(|n| (*n).to_owned()).collect()),
        format: Some(Format::Json),
        ..File::new("out")
    };
    assert_eq!(told(by(&["m"])).await, ["there is no column `m`"]);
    assert_eq!(told(by(&["n", "kind"])).await, ["no column is left for the files"]);
    assert_eq!(told(by(&["n", "n"])).await, ["`n` stands there twice"]);
    assert!(told(by(&["n"])).await.is_empty());
}

#[tokio::test]
async fn folders_are_columns_only_where_all_files_have_them_and_the_file_has_not() {
    let folder = Folder::new();
    folder.write("a/k=1/x.jsonl", "{\"n\":1,\"k\":\"own\"}\n");
    let read = read_all(&folder.file("a/**/*.jsonl")).await.unwrap();
    assert_eq!(rows(&read), [json!({"n": 1, "k": "own"})]);
    let wrong = problem(&File { partitions: Some(true), ..folder.file("a/**/*.jsonl") }).await;
    assert_eq!(wrong.message, "column `k` is in the files and said by their folders");
    folder.write("b/k=1/x.jsonl", "{\"n\":1}\n");
    let off = File { partitions: Some(false), ..folder.file("b/**/*.jsonl") };
    assert_eq!(rows(&read_all(&off).await.unwrap()), [json!({"n": 1})]);
    let typed = declared(folder.file("b/**/*.jsonl"), r#"{"k":"text","n":"bigint"}"#);
    assert_eq!(rows(&read_all(&typed).await.unwrap()), [json!({"n": 1, "k": "1"})]);
    folder.write("b/x.jsonl", "{\"n\":1}\n");
    let wrong = problem(&File { partitions: Some(true), ..folder.file("b/**/*.jsonl") }).await;
    assert!(wrong.message.starts_with("no folder such as"), "{}", wrong.message);
}
