//! Dead letters are listed, shown and discarded, from wherever their sink has put them.

use serde_json::Value;

use crate::support::{Ended, Folder};

/// A price that is none, two that are, and a line that is no row.
pub const ORDERS: &str = "\
{\"id\":1,\"price\":\"1.5\"}
{\"id\":2,\"price\":\"n/a\"}
{\"id\":3,\"price\":\"-\"}
{\"id\":4,\"price\":
{\"id\":5,\"price\":\"2.5\"}
";

/// Prices become numbers; what does not goes to `letters`.
pub fn spec(letters: &str) -> String {
    format!(
        "\
name: orders
source: {{ file: {{ path: in.jsonl, schema: {{ id: bigint, price: text }} }} }}
stages:
  - id: priced
    map: {{ id: id, price: cast(price as double) }}
sink: {{ file: {{ path: out/orders.jsonl }} }}
on_error: dead_letter
dead_letters: {letters}
"
    )
}

/// Where the job with this sink of dead letters has run.
pub fn folder(letters: &str) -> Folder {
    let folder = Folder::with(&[("in.jsonl", ORDERS), ("a.yaml", &spec(letters))]);
    let ended = folder.bourn(&["run", "a.yaml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    folder
}

pub const JSONL: &str = "{ file: { path: out/rejected.jsonl } }";

/// A JSON answer.
#[track_caller]
pub fn answer(folder: &Folder, args: &[&str]) -> Value {
    let ended = folder.bourn(&[args, &["-o", "json"]].concat());
    assert!(!ended.out.is_empty(), "{}", ended.err);
    serde_json::from_str(&ended.out).unwrap()
}

/// What `list` counts: stage and how many letters.
#[track_caller]
pub fn counts(folder: &Folder, more: &[&str]) -> Vec<(String, u64)> {
    let list = answer(folder, &[&["dlq", "list", "a.yaml"], more].concat());
    let one = |group: &Value| (group["stage"].as_str().unwrap().to_owned(), group["letters"].as_u64().unwrap());
    let mut all: Vec<_> = list.as_array().unwrap().iter().map(one).collect();
    all.sort();
    all
}

pub fn ids(folder: &Folder, more: &[&str]) -> Vec<String> {
    let shown = answer(folder, &[&["dlq", "show", "a.yaml"], more].concat());
    shown.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

fn of(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    counts.iter().map(|(stage, count)| ((*stage).to_owned(), *count)).collect()
}

#[test]
fn letters_are_read_back_from_every_sink_that_can_be() {
    let sinks = [
        JSONL,
        "{ file: { path: 'out/${env.BOURN_NOBODY_SETS_IT:-rejected}.jsonl' } }",
        "{ file: { path: out/rejected.csv } }",
        "{ file: { path: out/rejected.tsv, csv: { header: false, nulls: 'NULL' } } }",
        "{ file: { path: out/rejected.parquet } }",
        "{ file: { path: out/rejected.arrow } }",
        "{ file: { path: out/rejected.arrows } }",
        "{ file: { path: out/rejected.avro } }",
        "{ file: { path: out/rejected.jsonl.gz } }",
        "{ file: { path: 'out/rejected[1]-{lane}.csv.zst' } }",
        "{ file: { path: 'out/rejected-{number}.jsonl', rotate: { rows: 1 } } }",
        "{ file: { path: out/rejected, format: json, partition_by: [stage] } }",
        "{ file: { path: out/rejected, format: parquet, partition_by: [stage, kind] } }",
        "{ sqlite: { path: rejected.db, table: letters, create: true } }",
        "{ console: {}, fallback: [ { file: { path: out/rejected.jsonl } } ] }",
    ];
    for sink in sinks {
        let folder = folder(sink);
        if sink.contains("console") {
            assert_eq!(counts(&folder, &[]), of(&[]), "{sink}");
            continue;
        }
        assert_eq!(counts(&folder, &[]), of(&[("priced", 1), ("priced", 1), ("source", 1)]), "{sink}");
        let shown = answer(&folder, &["dlq", "show", "a.yaml", "--reason", "n/a"]);
        let letter = &shown[0];
        assert_eq!(letter["row"], serde_json::json!({ "id": 2, "price": "n/a" }), "{sink}");
        assert!(letter["time"].as_str().unwrap().ends_with('Z') && letter["position"].is_string(), "{sink}: {letter}");
        let text = answer(&folder, &["dlq", "show", "a.yaml", "--stage", "source"]);
        assert_eq!(text[0]["row"], "{\"id\":4,\"price\":", "{sink}");
    }
}

#[test]
fn letters_are_listed_by_stage_kind_and_reason() {
    let folder = folder(JSONL);
    let list = folder.bourn(&["dlq", "list", "a.yaml"]).quietly();
    let mut lines = list.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        "stage kind letters first last reason"
    );
    assert!(list.contains("priced") && list.contains("cannot cast string 'n/a' to value of double type"), "{list}");
    assert_eq!(lines.count(), 3, "{list}");
    assert_eq!(counts(&folder, &["--stage", "priced", "--reason", "'-'"]), of(&[("priced", 1)]));
    assert_eq!(counts(&folder, &["--kind", "timeout"]), of(&[]));
    assert_eq!(counts(&folder, &["--since", "1h", "--limit", "1"]).len(), 1);
    assert_eq!(counts(&folder, &["--until", "2001-01-01"]), of(&[]));
    let shown = folder.bourn(&["dlq", "show", "a.yaml", &ids(&folder, &["--reason", "n/a"])[0][..8]]).quietly();
    assert!(shown.contains("position  {\"offset\":") && shown.contains("{\n              \"id\": 2,"), "{shown}");
}

#[test]
fn ids_stay_the_same_while_letters_are_added() {
    let folder = folder(JSONL);
    let before = ids(&folder, &[]);
    let letters = folder.read("out/rejected.jsonl");
    let line = letters.lines().next().unwrap();
    std::fs::write(folder.path("out/rejected.jsonl"), format!("{letters}{line}\n{line}")).unwrap();
    let after = ids(&folder, &[]);
    assert_eq!((&after[..3], after.len()), (&before[..], 5));
    let mut all = after.clone();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5, "{after:?}");
    // A job that is running may have written half of one.
    std::fs::write(folder.path("out/rejected.jsonl"), format!("{letters}{{\"stage\":\"pri")).unwrap();
    let torn = folder.bourn(&["dlq", "list", "a.yaml"]);
    assert_eq!(torn.code, Some(0), "{}", torn.err);
    assert!(torn.err.contains("1 row among the dead letters can't be read"), "{}", torn.err);
    assert_eq!(ids(&folder, &[]), before);
}

#[test]
fn there_may_be_no_letters() {
    let folder = Folder::with(&[("in.jsonl", ""), ("a.yaml", &spec(JSONL))]);
    // Before the first run there is no file.
    assert_eq!(folder.bourn(&["dlq", "list", "a.yaml"]).quietly(), "no dead letters\n");
    folder.bourn(&["run", "a.yaml"]).quietly();
    assert_eq!(folder.bourn(&["dlq", "list", "a.yaml"]).quietly(), "no dead letters\n");
    assert_eq!(answer(&folder, &["dlq", "show", "a.yaml"]), serde_json::json!([]));
    assert_eq!(folder.bourn(&["dlq", "replay", "a.yaml"]).quietly(), "replayed 0 letters\n");
    assert_eq!(folder.bourn(&["dlq", "discard", "a.yaml", "--all"]).quietly(), "discarded 0 letters\n");
    assert!(!folder.path(".bourn/checkpoints/orders.letters").exists());
    std::fs::write(folder.path("b.yaml"), spec("{ sqlite: { path: none.db, table: letters, create: true } }")).unwrap();
    assert_eq!(folder.bourn(&["dlq", "list", "b.yaml"]).quietly(), "no dead letters\n");
}

#[test]
fn what_has_no_letters_to_read_is_refused_with_the_way_out() {
    let none = spec(JSONL).replace("on_error: dead_letter\n", "").replace(&format!("dead_letters: {JSONL}\n"), "");
    let steps = "steps:\n  - { id: a, http: { url: 'http://127.0.0.1:1/' } }\n";
    let files = [
        ("console.yaml", spec("{ console: {} }")),
        ("device.yaml", spec("{ file: { path: /dev/null, format: json } }")),
        ("none.yaml", none),
        ("broken.yaml", spec(JSONL).replace("map:", "mapp:")),
        ("steps.yaml", steps.to_owned()),
    ];
    let folder = Folder::with(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let refused = |name: &str, parts: &[&str]| {
        let told = folder.bourn(&["dlq", "list", name]).refused(2);
        assert!(parts.iter().all(|part| told.contains(part)), "{name}: {told}");
    };
    refused("console.yaml", &["go to `console`, from which nothing can be read back", "`file`", "`sqlite`"]);
    refused("device.yaml", &["`/dev/null` is a device"]);
    refused("none.yaml", &["has no `dead_letters`; add"]);
    refused("broken.yaml", &["mapp", "did you mean `map`"]);
    refused("steps.yaml", &["is a workflow"]);
}

#[test]
fn discarded_letters_are_gone_from_the_list_and_stay_in_their_store() {
    let folder = folder(JSONL);
    let letters = folder.read("out/rejected.jsonl");
    let which = folder.bourn(&["dlq", "discard", "a.yaml"]).refused(2);
    assert!(which.contains("say which"), "{which}");
    let asked = folder.bourn(&["dlq", "discard", "a.yaml", "--all"]).refused(2);
    assert!(asked.contains("say `--yes`"), "{asked}");
    let all = ids(&folder, &[]);
    let none = folder.bourn(&["dlq", "discard", "a.yaml", "ffffffff", "--yes"]).refused(1);
    assert!(none.contains("there is no dead letter `ffffffff`"), "{none}");
    assert_eq!(folder.bourn(&["dlq", "discard", "a.yaml", &all[0], "-y"]).quietly(), "discarded 1 letter\n");
    assert_eq!(ids(&folder, &[]), all[1..]);
    let again = folder.bourn(&["dlq", "discard", "a.yaml", &all[0], "-y"]).refused(1);
    assert!(again.contains("is replayed or discarded"), "{again}");
    let done = answer(&folder, &["dlq", "discard", "a.yaml", "--stage", "priced", "--yes"]);
    assert_eq!(done["discarded"].as_u64().unwrap() + 1, 3 - ids(&folder, &[]).len() as u64);
    let listed = answer(&folder, &["dlq", "list", "a.yaml", "--all"]);
    let discarded: u64 = listed.as_array().unwrap().iter().map(|group| group["discarded"].as_u64().unwrap()).sum();
    assert_eq!(discarded, 3 - ids(&folder, &[]).len() as u64);
    assert_eq!(folder.read("out/rejected.jsonl"), letters);
}

#[test]
fn nothing_that_is_told_of_letters_shows_a_secret() {
    let spec = "\
name: canary
source: { file: { path: in.jsonl } }
stages:
  - id: ask
    http: { url: 'http://127.0.0.1:1/${secret.T}/${a}', limits: { retry: { max_attempts: 1 } } }
sink: { file: { path: out/rows.jsonl } }
on_error: dead_letter
dead_letters: { file: { path: rejected.jsonl } }
secrets: { T: { env: CANARY } }
";
    let folder = Folder::with(&[("in.jsonl", "{\"a\":\"c4nary-canary\"}\n{\"a\":\"b\"}\n"), ("a.yaml", spec)]);
    let run = |args: &[&str]| -> Ended {
        let output = folder.command(args).env("CANARY", "c4nary-canary").env("BOURN_LOG", "trace").output().unwrap();
        crate::support::ended(output)
    };
    run(&["run", "a.yaml"]);
    // As if somebody had written it there by hand.
    let letters = folder.read("rejected.jsonl").replace("\"b\"", "\"b c4nary-canary\"");
    assert_eq!(letters.lines().count(), 2, "{letters}");
    std::fs::write(folder.path("rejected.jsonl"), letters).unwrap();
    for args in [
        &["dlq", "list", "a.yaml"][..],
        &["dlq", "show", "a.yaml"],
        &["dlq", "show", "a.yaml", "-o", "json"],
        &["dlq", "replay", "a.yaml", "--dry-run"],
        &["dlq", "replay", "a.yaml", "-o", "json"],
        &["dlq", "discard", "a.yaml", "--all", "--yes"],
    ] {
        let ended = run(args);
        assert!(!ended.out.contains("c4nary") && !ended.err.contains("c4nary"), "{args:?}: {}{}", ended.out, ended.err);
        if args.contains(&"replay") {
            assert!(ended.err.contains("held a secret"), "{args:?}: {}", ended.err);
        }
    }
}
