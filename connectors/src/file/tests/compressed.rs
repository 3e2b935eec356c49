//! What compressed lines promise: the same rows, whole epochs, no bombs, clear errors.

use super::*;
use bourn_engine::api::Sink;
use bourn_engine::env::Env;
use bourn_engine::testing::simulation::Simulation;

const ENDINGS: [&str; 4] = ["jsonl.gz", "jsonl.zst", "csv.gz", "csv.zst"];

fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
    batch_of(&rows.map(|n| json!({"n": n, "text": format!("row {n}")})).collect::<Vec<_>>())
}

#[tokio::test]
async fn compressed_lines_are_read_back_and_from_the_position_of_any_chunk() {
    let folder = Folder::new();
    for ending in ENDINGS {
        let file = folder.file(&format!("a.{ending}"));
        testing::write_all(&file, &[batch(0..5_000), batch(5_000..9_000)]).await.unwrap();
        let whole = read_all(&file).await.unwrap();
        assert_eq!(rows(&whole)[..5_000], testing::rows_of(&batch(0..5_000)), "{ending}");
        assert_eq!(rows(&whole)[5_000..], testing::rows_of(&batch(5_000..9_000)), "{ending}");
        assert!(whole.len() > 1);
        for (i, chunk) in whole.iter().enumerate() {
            let rest = testing::chunks(testing::open(&file, Some(&chunk.position)).await.unwrap()).await.unwrap();
            assert_eq!(rows(&rest), rows(&whole[i + 1..]), "{ending} behind {}", chunk.position);
        }
    }
}

#[tokio::test]
async fn what_an_epoch_has_prepared_can_be_read_while_the_job_goes_on() {
    let folder = Folder::new();
    for ending in ENDINGS {
        let file = folder.file(&format!("a.{ending}"));
        let mut sink = testing::sink_for(&file, batch(0..1).schema()).await.unwrap();
        for (epoch, expected) in (1..).zip([300, 600, 900]) {
            sink.write(&batch(0..300)).await.unwrap();
            sink.prepare(epoch).await.unwrap();
            assert_eq!(rows(&read_all(&file).await.unwrap()).len(), expected, "{ending}");
        }
    }
}

#[tokio::test]
async fn a_job_without_rows_leaves_a_file_that_other_programs_can_read() {
    let folder = Folder::new();
    for (ending, begins) in [("jsonl.gz", &[0x1F, 0x8B][..]), ("jsonl.zst", &[0x28, 0xB5, 0x2F, 0xFD])] {
        let file = folder.file(&format!("a.{ending}"));
        testing::sink_for(&file, batch(0..1).schema()).await.unwrap().finish().await.unwrap();
        assert!(read_file(&folder.path(&format!("a.{ending}"))).starts_with(begins), "{ending}");
        assert!(read_all(&file).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_compression_that_is_said_goes_before_the_ending() {
    let folder = Folder::new();
    let said = |name: &str, compression| File { compression: Some(compression), ..folder.file(name) };
    testing::write_all(&said("a.jsonl", Compression::Gzip), &[batch(0..900)]).await.unwrap();
    assert_eq!(rows(&read_all(&said("a.jsonl", Compression::Gzip)).await.unwrap()).len(), 900);
    assert!(read_file(&folder.path("a.jsonl")).starts_with(&[0x1F, 0x8B]));
    let plain = File { compression: Some(Compression::None), ..folder.write("b.jsonl.gz", "{\"a\":1}\n") };
    assert_eq!(rows(&read_all(&plain).await.unwrap()), [json!({"a": 1})]);
    let wrong = problem(&said("a.jsonl", Compression::Snappy)).await;
    assert_eq!(wrong.message, "lines are not compressed by `snappy`");
}

#[tokio::test]
async fn what_is_cut_off_is_told_with_the_file_and_the_place() {
    let folder = Folder::new();
    for ending in ENDINGS {
        let name = format!("a.{ending}");
        let whole = File { schema: None, ..folder.file(&name) };
        testing::write_all(&whole, &[batch(0..900)]).await.unwrap();
        let bytes = read_file(&folder.path(&name));
        let file = folder.write(&name, &bytes[..bytes.len() - 9]);
        let Err(error) = read_all(&file).await else { panic!("{ending} is not whole") };
        let told = error.to_string();
        assert!(
            told.contains(&name) && told.contains("ends at byte") && told.contains("in the middle of its"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_bomb_ends_the_job_with_its_name_and_the_way_out() {
    let folder = Folder::new();
    let text = format!("{{\"a\":\"{}\"}}\n", "0".repeat(1 << 20)).repeat(20);
    let mut bytes = Vec::new();
    let mut packer = crate::codec::compression::Packer::new(crate::codec::compression::Packing::Gzip);
    packer.pack(text.as_bytes(), &mut bytes).unwrap();
    packer.end(&mut bytes).unwrap();
    let file = declared(folder.write("bomb.jsonl.gz", bytes), r#"{"a":"text"}"#);
    let error = read_all(&file).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Budget);
    let told = error.to_string();
    assert!(told.contains("bomb.jsonl.gz") && told.contains("decompress: { ratio: … }"), "{told}");
    let meant = File { decompress: Some(Limits { ratio: 2_000, size: None }), ..file };
    assert_eq!(rows(&read_all(&meant).await.unwrap()).len(), 20);
}

#[test]
fn rows_are_visible_as_they_are_written() {
    let simulation = Simulation::new(1);
    let (env, files): (Env, _) = (simulation.env(), simulation.files().clone());
    let work = async move {
        let batch = batch_of(&[json!({"a": 1})]);
        let context = SinkContext::new(env, "it", batch.schema());
        let mut sink = File::new("a.jsonl").sink(context).await.unwrap();
        sink.write(&batch).await.unwrap();
        files.get("a.jsonl")
    };
    assert_eq!(simulation.run(work).done().unwrap(), b"{\"a\":1}\n");
}
