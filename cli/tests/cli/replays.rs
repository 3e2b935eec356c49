//! Dead letters run through the spec as it is now, from the stage that rejected them on, and none of them is lost.

use std::fs;
use std::io::Write as _;

use serde_json::Value;

use crate::dlq::{JSONL, ORDERS, answer, counts, folder, ids, spec};
use crate::support::{Folder, ended};

/// The rows of all files of JSON lines whose names begin so, sorted.
#[track_caller]
fn rows(folder: &Folder, begins: &str) -> Vec<String> {
    let (parent, name) = begins.rsplit_once('/').unwrap();
    let files = fs::read_dir(folder.path(parent)).unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|file| {
        let of = file.file_name().into_string().unwrap();
        of.starts_with(name) && file.path().extension().is_some_and(|ending| ending == "jsonl")
    });
    let mut rows: Vec<String> = files
        .flat_map(|file| fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    rows.sort();
    rows
}

/// The spec takes `n/a` and a dash for prices too.
fn mend(folder: &Folder, letters: &str) {
    let mended = spec(letters).replace("cast(price as double)", "try_cast(price as double)");
    fs::write(folder.path("a.yaml"), mended).unwrap();
}

/// The output of a run of the mended spec that nobody has disturbed.
fn calm() -> Vec<String> {
    let calm = Folder::with(&[("in.jsonl", ORDERS)]);
    mend(&calm, JSONL);
    calm.bourn(&["run", "a.yaml", "-q"]);
    rows(&calm, "out/orders")
}

#[test]
fn a_mended_spec_and_a_replay_leave_what_a_calm_run_of_it_leaves() {
    for letters in [
        JSONL,
        "{ file: { path: out/rejected.csv } }",
        "{ file: { path: out/rejected.parquet } }",
        "{ file: { path: 'out/rejected-{number}.jsonl', rotate: { rows: 1 } } }",
        "{ file: { path: out/rejected, format: avro, partition_by: [stage] } }",
        "{ sqlite: { path: rejected.db, table: letters, create: true } }",
    ] {
        let folder = folder(letters);
        mend(&folder, letters);
        let told = folder.bourn(&["dlq", "replay", "a.yaml"]);
        assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
        assert!(
            told.out.starts_with("replayed 2 letters: `priced` 2\n  `sink` got 2 rows in out/orders.replay-"),
            "{}",
            told.out
        );
        assert!(told.err.contains("kept 1 letter of `source`") && told.err.contains("not JSON"), "{}", told.err);
        assert_eq!(rows(&folder, "out/orders"), calm(), "{letters}");
        assert_eq!(counts(&folder, &[]), [("source".to_owned(), 1)], "{letters}");
        // What is settled is not replayed again.
        assert!(folder.bourn(&["dlq", "replay", "a.yaml"]).out.starts_with("replayed 0 letters"));
        assert_eq!(rows(&folder, "out/orders"), calm(), "{letters}");
    }
}

#[test]
fn a_row_that_fails_again_is_a_dead_letter_again_with_its_place() {
    let folder = folder(JSONL);
    let before = answer(&folder, &["dlq", "show", "a.yaml", "--stage", "priced"]);
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]).quietly();
    assert!(told.contains("replayed 2 letters") && told.contains("`priced` rejected 2 rows again"), "{told}");
    let after = answer(&folder, &["dlq", "show", "a.yaml", "--stage", "priced"]);
    for (before, after) in before.as_array().unwrap().iter().zip(after.as_array().unwrap()) {
        for same in ["stage", "reason", "kind", "split", "position", "row"] {
            assert_eq!(before[same], after[same], "{same}");
        }
        assert!(before["id"] != after["id"] && before["time"].as_str() < after["time"].as_str());
    }
    let list = answer(&folder, &["dlq", "list", "a.yaml", "--all", "--stage", "priced"]);
    let sum = |key: &str| list.as_array().unwrap().iter().map(|group| group[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("letters"), sum("replayed")), (2, 2));
    // One that was given up again and again can be chosen by its id.
    mend(&folder, JSONL);
    let one = &ids(&folder, &["--reason", "n/a"])[0];
    assert!(folder.bourn(&["dlq", "replay", "a.yaml", one]).quietly().contains("replayed 1 letter: `priced` 1"));
    assert_eq!(rows(&folder, "out/orders").len(), 3);
}

#[test]
fn a_replay_that_is_killed_loses_nothing() {
    // The first job of each command reads the letters, the second one has two sinks.
    for point in ["prepare:2", "prepare:3", "finish:2", "finish:3", "finished:2", "finished:3"] {
        let folder = folder(JSONL);
        mend(&folder, JSONL);
        let open = ids(&folder, &[]);
        let killed =
            folder.command(&["dlq", "replay", "a.yaml", "--stage", "priced"]).env("BOURN_KILL_AT", point).output();
        assert_eq!(ended(killed.unwrap()).code, None, "{point}");
        assert_eq!(ids(&folder, &[]), open, "{point}");
        assert!(folder.bourn(&["dlq", "show", "a.yaml"]).quietly().contains("a replay was cut off"), "{point}");
        let again = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]);
        assert_eq!(again.code, Some(0), "{point}: {}", again.err);
        assert!(again.err.contains("an earlier replay of 2 letters was cut off"), "{point}: {}", again.err);
        // The file of the same letters has the same name, so files have each row once all the same.
        assert_eq!(rows(&folder, "out/orders"), calm(), "{point}");
        assert_eq!(counts(&folder, &[]), [("source".to_owned(), 1)], "{point}");
    }
}

#[test]
fn a_replay_whose_job_fails_settles_nothing() {
    let folder = folder(JSONL);
    let failing = spec(JSONL).replace("    map:", "    on_error: fail\n    map:");
    fs::write(folder.path("a.yaml"), failing).unwrap();
    let open = ids(&folder, &[]);
    let failed = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]).refused(1);
    assert!(failed.contains("the letters stay as they are") && failed.contains("cannot cast"), "{failed}");
    assert_eq!(ids(&folder, &[]), open);
    assert_eq!(rows(&folder, "out/orders").len(), 2);
}

#[test]
fn a_line_enters_behind_its_source_when_it_fits_by_now() {
    for (ending, line) in
        [("jsonl", "{\"id\":\"x\",\"t\":\"a\"}\n{\"id\":2,\"t\":\"b\"}\n"), ("csv", "id,t\nx,\"a\nb\"\n2,b\n")]
    {
        let spec = "\
source: { file: { path: in.ENDING, schema: { id: bigint, t: text } } }
sink: { file: { path: out/rows.jsonl } }
on_error: dead_letter
dead_letters: { file: { path: rejected.jsonl } }
";
        let spec = spec.replace("ENDING", ending);
        let folder = Folder::with(&[(&format!("in.{ending}"), line), ("a.yaml", &spec)]);
        folder.bourn(&["run", "a.yaml", "-q"]);
        let kept = folder.bourn(&["dlq", "replay", "a.yaml"]);
        assert!(kept.code == Some(1) && kept.err.contains("does not fit bigint"), "{ending}: {}", kept.err);
        fs::write(folder.path("a.yaml"), spec.replace("bigint", "text")).unwrap();
        let told = folder.bourn(&["dlq", "replay", "a.yaml"]).quietly();
        assert!(told.contains("`source` 1\n  `sink` got 1 row"), "{ending}: {told}");
        let written = rows(&folder, "out/rows");
        assert!(written.iter().any(|row| row.contains("\"id\":\"x\"")), "{ending}: {written:?}");
    }
}

#[test]
fn letters_that_can_not_enter_are_told_and_stay() {
    let folder = folder(JSONL);
    let gone = spec(JSONL).replace("id: priced", "id: costed");
    fs::write(folder.path("a.yaml"), gone).unwrap();
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(told.err.contains("no source, stage or sink `priced` any more"), "{}", told.err);
    assert!(folder.bourn(&["dlq", "list", "a.yaml"]).quietly().contains("priced (gone)"));
    let other = spec(JSONL).replace("price: text", "cost: text").replace("cast(price", "cast(cost");
    fs::write(folder.path("a.yaml"), other).unwrap();
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]);
    assert!(told.code == Some(1) && told.err.contains("its row has no column `cost`"), "{}", told.err);
    assert_eq!(ids(&folder, &["--stage", "priced"]).len(), 2);
}

#[test]
fn a_dry_run_tells_what_would_go_where_and_writes_nothing() {
    let folder = folder(JSONL);
    let half = spec(JSONL).replace("cast(price as double)", "\"cast(replace(price, 'n/a', '0') as double)\"");
    fs::write(folder.path("a.yaml"), half).unwrap();
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced", "--dry-run"]).quietly();
    assert!(told.starts_with("would replay 2 letters: `priced` 2\n"), "{told}");
    assert!(
        told.contains("`sink` would get 1 row in out/orders.replay-") && told.contains("`priced` would reject 1 row"),
        "{told}"
    );
    assert_eq!(ids(&folder, &[]).len(), 3);
    assert!(!folder.path(".bourn").exists());
    assert_eq!(rows(&folder, "out/orders").len(), 2);
    // Nobody is asked for a look.
    let asks = half_asking();
    fs::write(folder.path("a.yaml"), asks).unwrap();
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced", "--dry-run"]).quietly();
    assert!(told.contains("not run, because ask would be asked"), "{told}");
}

fn half_asking() -> String {
    spec(JSONL).replace("sink:", "  - { id: ask, http: { url: 'http://127.0.0.1:1/' } }\nsink:")
}

#[test]
fn stages_that_keep_something_by_key_are_run_with_nothing_in_them_only_when_that_is_said() {
    let folder = folder(JSONL);
    let keeps = spec(JSONL)
        .replace("cast(price", "try_cast(price")
        .replace("sink:", "  - dedupe: { by: [price], within: 1h }\nsink:");
    fs::write(folder.path("a.yaml"), keeps).unwrap();
    let refused = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]).refused(2);
    assert!(refused.contains("`dedupe`") && refused.contains("--empty-state"), "{refused}");
    assert_eq!(ids(&folder, &[]).len(), 3);
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced", "--empty-state"]).quietly();
    assert!(told.contains("`sink` got 1 row"), "{told}");
}

#[test]
fn letters_of_a_stage_and_of_one_behind_it_enter_each_where_it_was_rejected() {
    let two =
        spec(JSONL).replace("sink:", "  - { id: halved, map: { id: id, half: 10 / cast(id - 5 as bigint) } }\nsink:");
    let folder = Folder::with(&[("in.jsonl", ORDERS), ("a.yaml", &two)]);
    folder.bourn(&["run", "a.yaml", "-q"]);
    assert_eq!(counts(&folder, &["--stage", "halved"]), [("halved".to_owned(), 1)]);
    let mended = two.replace("cast(price as double)", "try_cast(price as double)").replace("id - 5", "id - 6");
    fs::write(folder.path("a.yaml"), mended).unwrap();
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced", "--stage", "halved"]).quietly();
    assert!(told.contains("replayed 3 letters: `halved` 1, `priced` 2\n  `sink` got 3 rows"), "{told}");
    let all: Vec<Value> = rows(&folder, "out/orders").iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let mut of: Vec<_> = all.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    of.sort_unstable();
    assert_eq!(of, [1, 2, 3, 5]);
}

#[test]
fn two_replays_at_once_are_one_too_many() {
    let folder = folder(JSONL);
    let slow = spec(JSONL)
        .replace("cast(price", "try_cast(price")
        .replace("sink:", "  - { id: slow, process: { command: [sleep, '3'] } }\nsink:");
    fs::write(folder.path("a.yaml"), slow).unwrap();
    let mut first = folder.command(&["dlq", "replay", "a.yaml", "--stage", "priced"]).spawn().unwrap();
    while !folder.path(".bourn/checkpoints/orders.letters").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it could be met");
        std::thread::yield_now();
    }
    let second = folder.bourn(&["dlq", "replay", "a.yaml"]).refused(1);
    assert!(second.contains("another `bourn dlq`"), "{second}");
    // To look is always allowed.
    assert_eq!(folder.bourn(&["dlq", "list", "a.yaml"]).code, Some(0));
    first.kill().unwrap();
    first.wait().unwrap();
}

fn append(folder: &Folder, line: &str) {
    let mut file = fs::File::options().append(true).open(folder.path("in.jsonl")).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

#[test]
fn a_job_that_runs_is_not_disturbed() {
    let following = "\
name: orders
source: { file: { path: in.jsonl, follow: true, schema: { id: bigint, price: text } } }
stages:
  - { id: priced, map: { id: id, price: cast(price as double) } }
sink: { file: { path: out/orders.jsonl } }
on_error: dead_letter
dead_letters: { file: { path: out/rejected.jsonl } }
checkpoint: { every: 50ms }
delivery: exactly_once
";
    let folder = Folder::with(&[("in.jsonl", ORDERS), ("a.yaml", following)]);
    let mut job = folder.command(&["run", "a.yaml", "-q"]).spawn().unwrap();
    let mut has = |name: &str, lines: usize| {
        let path = folder.path(name);
        while fs::read_to_string(&path).unwrap_or_default().lines().count() < lines {
            assert!(job.try_wait().unwrap().is_none(), "the job has ended");
            std::thread::yield_now();
        }
    };
    has("out/rejected.jsonl", 3);
    has("out/orders.jsonl", 2);
    let mended = following.replace("cast(price", "try_cast(price");
    fs::write(folder.path("a.yaml"), &mended).unwrap();
    let told = folder.bourn(&["dlq", "replay", "a.yaml", "--stage", "priced"]).quietly();
    assert!(told.contains("`sink` got 2 rows"), "{told}");
    append(&folder, "{\"id\":6,\"price\":\"3\"}\n");
    has("out/orders.jsonl", 3);
    job.kill().unwrap();
    job.wait().unwrap();
    // Nor is one that goes on from a checkpoint.
    let mut again = folder.command(&["run", "a.yaml", "-q"]).spawn().unwrap();
    append(&folder, "{\"id\":7,\"price\":\"4\"}\n");
    let path = folder.path("out/orders.jsonl");
    while !fs::read_to_string(&path).unwrap_or_default().contains("\"id\":7") {
        assert!(again.try_wait().unwrap().is_none(), "the job has ended");
        std::thread::yield_now();
    }
    again.kill().unwrap();
    again.wait().unwrap();
    let all = rows(&folder, "out/orders");
    let of: Vec<_> =
        all.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["id"].as_i64().unwrap()).collect();
    assert_eq!(of, [1, 2, 3, 5, 6, 7]);
}
