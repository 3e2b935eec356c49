//! What files of columns promise beside Parquet: Arrow and Avro, whole, from any row on, and never a panic.

use super::*;
use arrow::array::{BooleanArray, Date32Array, DictionaryArray, Float64Array, ListArray, StringViewArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatchOptions;
use bourn_engine::api::Sink;

/// Columns of many types, with nulls.
fn batch(rows: usize) -> RecordBatch {
    let count = i64::try_from(rows).unwrap();
    let some = |i: i64| i % 5 != 0;
    let ids: ArrayRef = Arc::new((0..count).map(Some).collect::<Int64Array>());
    let names: ArrayRef = Arc::new((0..count).map(|i| some(i).then(|| format!("nämé {i}"))).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new((0..count).map(|i| some(i).then_some(i as f64 / 8.0)).collect::<Float64Array>());
    let flags: ArrayRef = Arc::new((0..count).map(|i| some(i).then_some(i % 2 == 0)).collect::<BooleanArray>());
    let days: ArrayRef =
        Arc::new((0..count).map(|i| some(i).then(|| i32::try_from(i).unwrap())).collect::<Date32Array>());
    let lists = (0..count).map(|i| some(i).then(|| vec![Some(i32::try_from(i).unwrap()), None]));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    RecordBatch::try_from_iter([
        ("id", ids),
        ("name", names),
        ("x", numbers),
        ("ok", flags),
        ("day", days),
        ("l", lists),
    ])
    .unwrap()
}

const NAMES: [&str; 5] = ["a.arrow", "a.feather", "a.ipc", "a.arrows", "a.avro"];

#[tokio::test]
async fn rows_of_every_type_come_back_and_from_the_position_of_any_chunk() {
    let folder = Folder::new();
    let batch = batch(9_000);
    for name in NAMES {
        let file = folder.file(name);
        testing::write_all(&file, &[batch.slice(0, 100), batch.slice(100, 8_500), batch.slice(8_600, 400)])
            .await
            .unwrap();
        let whole = read_all(&file).await.unwrap();
        assert_eq!(rows(&whole), testing::rows_of(&batch), "{name}");
        assert!(whole.len() > 1 && whole.iter().all(|c| c.records.num_rows() <= 8_192), "{name}");
        for (i, chunk) in whole.iter().enumerate() {
            let rest = testing::chunks(testing::open(&file, Some(&chunk.position)).await.unwrap()).await.unwrap();
            assert_eq!(rows(&rest), rows(&whole[i + 1..]), "{name} behind {}", chunk.position);
        }
        let chosen = File { columns: Some(vec!["x".into(), "id".into()]), ..folder.file(name) };
        assert_eq!(rows(&read_all(&chosen).await.unwrap())[7], json!({"x": 0.875, "id": 7}), "{name}");
        let progress = whole.last().unwrap().progress.unwrap();
        assert!(progress.0 > 0 && progress.0 <= progress.1, "{name}: {progress:?}");
    }
}

#[tokio::test]
async fn every_compression_of_a_format_is_read_back() {
    let folder = Folder::new();
    let of = |name: &str, compression| File { compression: Some(compression), ..folder.file(name) };
    let cases = [
        ("a.arrow", vec![Compression::None, Compression::Zstd, Compression::Lz4]),
        ("a.avro", vec![Compression::None, Compression::Deflate, Compression::Snappy, Compression::Zstd]),
        ("a.parquet", vec![Compression::None, Compression::Snappy, Compression::Gzip, Compression::Zstd]),
    ];
    for (name, compressions) in cases {
        for compression in compressions {
            testing::write_all(&of(name, compression), &[batch(3_000)]).await.unwrap();
            let read = read_all(&folder.file(name)).await.unwrap();
            assert_eq!(rows(&read), testing::rows_of(&batch(3_000)), "{name} by {compression:?}");
        }
        let Problems(problems) = of(name, Compression::Lz4)
            .check_sink(&batch(1).schema(), &connect())
            .await
            .err()
            .unwrap_or_else(|| Problems(vec![]));
        assert_eq!(problems.is_empty(), name == "a.arrow", "{problems:?}");
    }
}

#[tokio::test]
async fn text_comes_in_one_type_whatever_the_writer_had() {
    let folder = Folder::new();
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(["a", "a text that is longer than a view"]));
    let few: DictionaryArray<Int32Type> = ["x", "y"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([("v", views), ("d", Arc::new(few) as ArrayRef)]).unwrap();
    // As another program writes it, with its own types.
    let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    let mut stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    file.finish().unwrap();
    stream.write(&batch).unwrap();
    for (name, bytes) in [("a.arrow", file.into_inner().unwrap()), ("a.arrows", stream.into_inner().unwrap())] {
        let read = read_all(&folder.write(name, bytes)).await.unwrap();
        assert_eq!(rows(&read), testing::rows_of(&batch), "{name}");
        assert!(read[0].records.schema().fields().iter().all(|f| f.data_type() == &DataType::Utf8), "{name}");
    }
}

#[tokio::test]
async fn files_appear_whole_when_the_job_ends() {
    let folder = Folder::new();
    for name in ["a.arrow", "a.avro"] {
        let mut sink = testing::sink_for(&folder.file(name), batch(10).schema()).await.unwrap();
        sink.write(&batch(10)).await.unwrap();
        sink.prepare(1).await.unwrap();
        assert!(!folder.path(name).exists() && folder.path(&format!("{name}.part")).exists());
        sink.finish().await.unwrap();
        assert!(folder.path(name).exists() && !folder.path(&format!("{name}.part")).exists());
    }
}

#[tokio::test]
async fn a_stream_can_be_read_as_far_as_an_epoch_has_come() {
    let folder = Folder::new();
    let mut sink = testing::sink_for(&folder.file("a.arrows"), batch(10).schema()).await.unwrap();
    for epoch in 1..4 {
        sink.write(&batch(10)).await.unwrap();
        sink.prepare(epoch).await.unwrap();
        let read = read_all(&folder.file("a.arrows")).await.unwrap();
        assert_eq!(rows(&read).len(), 10 * usize::try_from(epoch).unwrap());
    }
}

#[tokio::test]
async fn a_truncated_file_is_an_error_that_names_it_wherever_it_ends() {
    let folder = Folder::new();
    for name in ["a.arrow", "a.arrows", "a.avro"] {
        testing::write_all(&folder.file(name), &[batch(30), batch(30)]).await.unwrap();
        let whole = read_file(&folder.path(name));
        let mut shorter = 0;
        for length in (0..whole.len()).step_by(3) {
            match read_all(&folder.write(name, &whole[..length])).await {
                Err(error) => assert!(error.to_string().contains(name), "{length} of {name}: {error}"),
                // A stream or container may end between two of its messages or blocks; then it holds fewer rows.
                Ok(read) => {
                    assert!(name != "a.arrow" && rows(&read).len() <= 60, "{length} of {name}");
                    shorter += 1;
                }
            }
        }
        assert!(shorter <= 10, "{shorter} lengths of {name} were taken for whole");
    }
}

#[tokio::test]
async fn wrong_bytes_are_rows_or_an_error_and_never_a_panic() {
    let folder = Folder::new();
    for name in ["a.arrow", "a.arrows", "a.avro"] {
        for compression in [Compression::None, Compression::Zstd] {
            let compression = (name != "a.arrows").then_some(compression);
            let file = File { compression, ..folder.file(name) };
            testing::write_all(&file, &[batch(200)]).await.unwrap();
            let good = read_file(&folder.path(name));
            for i in (0..good.len()).step_by(good.len() / 150 + 1) {
                for flip in [0x55, 0x80] {
                    let mut bytes = good.clone();
                    bytes[i] ^= flip;
                    if let Err(error) = read_all(&folder.write(name, &bytes)).await {
                        assert!(error.to_string().contains(name), "{error}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_message_that_claims_more_than_its_bytes_justify_is_refused_before_it_is_believed() {
    let folder = Folder::new();
    // Nothing but nulls: no byte stands for a row.
    let nulls: ArrayRef = Arc::new(arrow::array::NullArray::new(1_000_000_000));
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Null, true)]));
    let options = RecordBatchOptions::new().with_row_count(Some(1_000_000_000));
    let batch = RecordBatch::try_new_with_options(schema.clone(), vec![nulls], &options).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    let file = folder.write("bomb.arrow", writer.into_inner().unwrap());
    let error = read_all(&file).await.unwrap_err();
    assert!(error.kind() == Kind::Budget && error.to_string().contains("bomb.arrow"), "{error}");
    // Zeros without end, which compress to nearly nothing.
    let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 3 << 20]));
    let batch = RecordBatch::try_from_iter([("z", zeros)]).unwrap();
    let options = arrow_ipc::writer::IpcWriteOptions::default()
        .try_with_compression(Some(arrow_ipc::CompressionType::ZSTD))
        .unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    let file = folder.write("bomb.arrow", writer.into_inner().unwrap());
    let error = read_all(&file).await.unwrap_err();
    assert!(error.kind() == Kind::Budget && error.to_string().contains("claims to hold"), "{error}");
    for codec in ["deflate", "zstandard", "snappy"] {
        let file = folder.write("bomb.avro", avro_bomb(codec));
        let error = read_all(&file).await.unwrap_err();
        // Snappy makes no bomb: twenty to one is its most.
        let told = error.to_string();
        assert!(told.contains("bomb.avro"), "{told}");
        assert_eq!(error.kind() == Kind::Budget, codec != "snappy", "{told}");
    }
}

/// A block of many zeros that claims to be one row.
fn avro_bomb(codec: &str) -> Vec<u8> {
    use arrow_avro::compression::CompressionCodec;
    use arrow_avro::writer::{WriterBuilder, format::AvroOcfFormat};
    let compression = match codec {
        "deflate" => CompressionCodec::Deflate,
        "zstandard" => CompressionCodec::ZStandard,
        _ => CompressionCodec::Snappy,
    };
    let text: ArrayRef = Arc::new(StringArray::from(vec!["0".repeat(20 << 20)]));
    let batch = RecordBatch::try_from_iter([("t", text)]).unwrap();
    let builder = WriterBuilder::new(batch.schema().as_ref().clone()).with_compression(Some(compression));
    let mut writer = builder.build::<_, AvroOcfFormat>(Vec::new()).unwrap();
    writer.write(&batch).unwrap();
    let mut bytes = writer.into_inner();
    if codec == "snappy" {
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
    }
    bytes
}

#[tokio::test]
async fn a_block_with_more_or_fewer_rows_than_it_says_is_an_error() {
    let folder = Folder::new();
    let file = File { compression: Some(Compression::None), ..folder.file("a.avro") };
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    testing::write_all(&file, &[batch]).await.unwrap();
    let whole = read_file(&folder.path("a.avro"));
    // The number of rows stands behind the mark of the header, which stands again at the end.
    let mark = &whole[whole.len() - 16..];
    let at = whole.windows(16).position(|w| w == mark).unwrap() + 16;
    assert_eq!(whole[at], 40);
    for (count, told) in [(38, "holds more than its rows"), (42, "goes on behind its block")] {
        let mut bytes = whole.clone();
        bytes[at] = count;
        let error = read_all(&folder.write("b.avro", &bytes)).await.unwrap_err();
        assert!(error.to_string().contains("b.avro") && error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn what_is_for_lines_is_refused_at_planning() {
    let folder = Folder::new();
    testing::write_all(&folder.file("a.arrow"), &[batch(1)]).await.unwrap();
    let wrong = problem(&declared(folder.file("a.arrow"), r#"{"id":"bigint"}"#)).await;
    assert_eq!(wrong.message, "an Arrow file brings its own schema");
    let wrong = problem(&File { compression: Some(Compression::Zstd), ..folder.file("a.arrow") }).await;
    assert_eq!(wrong.message, "`compression` is for lines, and a source of Arrow finds it in the file");
    let wrong = problem(&folder.write("b.avro", "no")).await;
    assert!(
        wrong.message.contains("b.avro: is no whole Avro file: it does not begin with `Obj1`"),
        "{}",
        wrong.message
    );
}
