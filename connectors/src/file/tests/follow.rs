//! What following promises: every line once, in time, whatever becomes of the files.

use std::time::Duration;

use super::*;
use bourn_engine::data::position::Position;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::testing::simulation::files::MemoryFiles;

struct World {
    env: Env,
    files: MemoryFiles,
}

/// Runs `work` in a simulated world.
fn simulate<T: Send + 'static, F: Future<Output = T> + Send + 'static>(work: impl FnOnce(World) -> F) -> T {
    let simulation = Simulation::new(1);
    let world = World { env: simulation.env(), files: simulation.files().clone() };
    simulation.run(work(world)).done()
}

fn lines(pattern: &str) -> File {
    File { follow: true, format: Some(Format::Lines), ..File::new(pattern) }
}

async fn follow(file: &File, env: &Env, position: Option<Position>) -> BoxSource {
    let context = ConnectContext { env: env.clone(), id: "it".into(), lanes: 1 };
    let schema = file.schema(&context).await.unwrap();
    let splits = file.splits(&context).await.unwrap();
    assert_eq!(splits.len(), 1);
    let splits = splits.into_iter().map(|s| (s, position.clone())).collect();
    file.source(SourceContext { env: env.clone(), id: "it".into(), splits, schema }).await.unwrap()
}

/// The next lines of a source: as many as there are within a time.
async fn within(source: &mut BoxSource, env: &Env, time: Duration) -> (Vec<String>, Option<Position>) {
    let (mut texts, mut position) = (Vec::new(), None);
    let end = env.monotonic() + time;
    loop {
        let wait = env.sleep(end.saturating_sub(env.monotonic()));
        match futures::future::select(std::pin::pin!(source.read()), wait).await {
            futures::future::Either::Left((chunk, _)) => {
                let chunk = chunk.unwrap().expect("it never ends");
                texts.extend(rows(std::slice::from_ref(&chunk)).iter().map(|r| r["text"].as_str().unwrap().to_owned()));
                position = Some(chunk.position);
            }
            futures::future::Either::Right(_) => return (texts, position),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_line_is_read_when_its_end_is_there_and_soon() {
    simulate(async |World { env, files }| {
        files.put("a.log", "one\ntw");
        let mut source = follow(&lines("a.log"), &env, None).await;
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["one"]);
        files.append("a.log", "o");
        assert!(within(&mut source, &env, SECOND).await.0.is_empty());
        files.append("a.log", "\nthree\n");
        let began = env.monotonic();
        let chunk = source.read().await.unwrap().unwrap();
        let took = env.monotonic().saturating_sub(began);
        assert!(took <= Duration::from_millis(100), "{took:?}");
        assert_eq!(rows(&[chunk]).iter().map(|r| r["text"].clone()).collect::<Vec<_>>(), ["two", "three"]);
    });
}

#[test]
fn new_files_of_the_pattern_are_picked_up_and_others_are_not() {
    simulate(async |World { env, files }| {
        let mut source = follow(&lines("logs/*.log"), &env, None).await;
        assert!(within(&mut source, &env, SECOND).await.0.is_empty());
        files.append("logs/a.log", "a\n");
        files.append("logs/b.txt", "b\n");
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["a"]);
        files.append("logs/c.log", "c\n");
        files.append("logs/a.log", "d\n");
        let mut texts = within(&mut source, &env, SECOND).await.0;
        texts.sort();
        assert_eq!(texts, ["c", "d"]);
    });
}

#[test]
fn a_file_that_is_renamed_is_read_to_its_end_and_its_successor_from_its_beginning() {
    for pattern in ["a.log", "a.log*"] {
        simulate(async move |World { env, files }| {
            files.put("a.log", "1\n");
            let mut source = follow(&lines(pattern), &env, None).await;
            assert_eq!(within(&mut source, &env, SECOND).await.0, ["1"]);
            env.files().rename(Path::new("a.log"), Path::new("a.log.1")).unwrap();
            // Who writes to it has it still open.
            files.append("a.log.1", "2\n");
            assert_eq!(within(&mut source, &env, Duration::from_millis(300)).await.0, ["2"], "{pattern}");
            files.append("a.log", "3\n");
            files.append("a.log.1", "4\nhalf");
            let mut texts = within(&mut source, &env, Duration::from_millis(300)).await.0;
            texts.sort();
            assert_eq!(texts, ["3", "4"], "{pattern}");
            // Without a name it is given up, and its last line is as whole as it will ever be.
            let last: &[&str] = if pattern == "a.log" { &["half"] } else { &[] };
            assert_eq!(within(&mut source, &env, 5 * SECOND).await.0, last, "{pattern}");
        });
    }
}

#[test]
fn a_file_that_is_cut_short_is_read_from_its_beginning() {
    simulate(async |World { env, files }| {
        files.put("a.log", "first\nsecond\nhalf");
        let mut source = follow(&lines("a.log"), &env, None).await;
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["first", "second"]);
        files.change("a.log", Vec::clear);
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["half"]);
        files.append("a.log", "new\n");
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["new"]);
    });
}

#[test]
fn a_file_that_vanishes_is_no_error_and_comes_back_as_a_new_one() {
    simulate(async |World { env, files }| {
        files.put("a.log", "1\n");
        let mut source = follow(&lines("*.log"), &env, None).await;
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["1"]);
        env.files().remove(Path::new("a.log")).unwrap();
        assert!(within(&mut source, &env, 5 * SECOND).await.0.is_empty());
        files.put("a.log", "2\n");
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["2"]);
    });
}

#[test]
fn a_source_goes_on_behind_the_position_of_any_chunk_under_whatever_name() {
    simulate(async |World { env, files }| {
        files.put("a.log", "1\n2\n");
        files.put("b.log", "3\n");
        let file = lines("*.log");
        let mut source = follow(&file, &env, None).await;
        let (texts, position) = within(&mut source, &env, SECOND).await;
        assert_eq!(texts.len(), 3);
        drop(source);
        files.append("a.log", "4\n");
        env.files().rename(Path::new("a.log"), Path::new("c.log")).unwrap();
        files.put("a.log", "5\n");
        files.put("b.log", "6\n");
        let mut source = follow(&file, &env, position).await;
        let mut texts = within(&mut source, &env, SECOND).await.0;
        texts.sort();
        assert_eq!(texts, ["4", "5", "6"]);
    });
}

#[test]
fn csv_is_followed_with_the_header_of_each_file() {
    simulate(async |World { env, files }| {
        files.put("a.csv", "x,text\n1,a\n");
        let file = File { follow: true, ..File::new("*.csv") };
        let mut source = follow(&file, &env, None).await;
        let (texts, position) = within(&mut source, &env, SECOND).await;
        assert_eq!(texts, ["a"]);
        files.append("b.csv", "text,x\nb,2\n");
        files.append("a.csv", "3,\"c\n");
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["b"]);
        files.append("a.csv", "d\"\n");
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["c\nd"]);
        let mut again = follow(&file, &env, position).await;
        let mut texts = within(&mut again, &env, SECOND).await.0;
        texts.sort();
        assert_eq!(texts, ["b", "c\nd"]);
    });
}

#[test]
fn an_idle_source_looks_ten_times_a_second_and_no_more() {
    simulate(async |World { env, files }| {
        files.put("a.log", "1\n");
        let mut source = follow(&lines("a.log"), &env, None).await;
        within(&mut source, &env, SECOND).await;
        let before = files.calls();
        within(&mut source, &env, 100 * SECOND).await;
        // Each time: what its length is, and which file has its name.
        let calls = files.calls() - before;
        assert!((1_800..2_200).contains(&calls), "{calls} calls in 100 seconds");
    });
}

#[test]
fn planning_tells_what_can_not_be_followed() {
    simulate(async |World { env, files }| {
        files.put("a.jsonl.gz", "");
        let told = async |file: File| {
            let context = ConnectContext { env: env.clone(), id: "it".into(), lanes: 1 };
            let Problems(mut problems) = File { follow: true, ..file }.schema(&context).await.unwrap_err();
            problems.remove(0).message
        };
        assert_eq!(told(File::new("a.parquet")).await, "a file of Parquet does not grow by lines");
        assert_eq!(told(File::new("a.jsonl.gz")).await, "`a.jsonl.gz` is compressed, and does not grow by lines");
        assert_eq!(told(File::new("*.jsonl")).await, "no file matches `*.jsonl` yet, so its columns are unknown");
        let known = declared(File { follow: true, ..File::new("*.jsonl") }, r#"{"text":"text"}"#);
        let mut source = follow(&known, &env, None).await;
        files.append("x.jsonl", "{\"text\":\"a\"}\n");
        assert_eq!(within(&mut source, &env, SECOND).await.0, ["a"]);
    });
}
