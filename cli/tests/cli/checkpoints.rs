//! A job that is cut off goes on where it was, says so, and its checkpoints can be looked at.

use serde_json::Value;

use crate::support::{Folder, ended};

const SPEC: &str = "\
name: counted
source: { generate: { rows: 150000, rate: 100000/s, columns: { id: n, user: n % 10 } } }
stages:
  - count: { by: [user], as: visit }
sink: { file: { path: out.jsonl } }
checkpoint: { every: 100ms }
";
const KEPT: &str = ".bourn/checkpoints/counted";

/// The folder of a job that was killed when its third checkpoint was complete, and nothing of it committed.
fn cut_off(spec: &str) -> Folder {
    let folder = Folder::with(&[("counted.yaml", spec)]);
    let killed = folder.command(&["run", "counted.yaml"]).env("BOURN_KILL_AT", "manifest_stored:3").output().unwrap();
    assert_eq!(ended(killed).code, None);
    folder
}

/// Whether every row is there once, numbered as if the job had never fallen.
fn whole(folder: &Folder) -> bool {
    let mut visits = [0u64; 10];
    let mut rows = 0;
    for line in folder.read("out.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let user = usize::try_from(row["user"].as_u64().unwrap()).unwrap();
        visits[user] += 1;
        if row["id"].as_u64() != Some(rows) || row["visit"].as_u64() != Some(visits[user]) {
            return false;
        }
        rows += 1;
    }
    rows == 150_000
}

#[test]
fn a_job_that_was_cut_off_goes_on_and_says_from_where_and_one_that_ended_begins_anew() {
    let folder = cut_off(SPEC);
    let again = folder.bourn(&["run", "counted.yaml"]);
    assert_eq!((again.code, again.out.as_str()), (Some(0), ""), "{}", again.err);
    assert!(again.err.starts_with("goes on behind checkpoint 3 of 20"), "{}", again.err);
    assert!(again.err.contains(&format!("({KEPT}); `--fresh` begins anew")), "{}", again.err);
    assert!(whole(&folder));
    let list = folder.bourn(&["checkpoints", "list", "counted.yaml"]).quietly();
    assert!(list.lines().last().unwrap().contains(" ended "), "{list}");
    assert_eq!(folder.bourn(&["run", "counted.yaml", "-q"]).quietly(), "");
    assert!(whole(&folder));
}

#[test]
fn checkpoints_are_listed_shown_verified_and_deleted() {
    let folder = cut_off(SPEC);
    let list: Value =
        serde_json::from_str(&folder.bourn(&["checkpoints", "list", "counted.yaml", "-o", "json"]).quietly()).unwrap();
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|c| (c["id"].clone(), c["state"].clone())).collect();
    assert_eq!(ids, [1, 2, 3].map(|id| (Value::from(id), Value::from("complete"))));
    let shown = folder.bourn(&["checkpoints", "show", "counted.yaml"]).quietly();
    assert!(shown.starts_with("checkpoint 3 of counted, "), "{shown}");
    assert!(shown.contains("counts of lane 0: 10 rows"), "{shown}");
    assert_eq!(folder.bourn(&["checkpoints", "verify", KEPT]).quietly(), "1: whole\n2: whole\n3: whole\n");
    let missing = folder.bourn(&["checkpoints", "show", "counted.yaml", "9"]).refused(1);
    assert!(missing.contains("there is no checkpoint 9 in"), "{missing}");
    folder.bourn(&["checkpoints", "delete", "counted.yaml", "1"]).quietly();
    folder.bourn(&["checkpoints", "delete", "counted.yaml", "--all"]).quietly();
    let none = folder.bourn(&["checkpoints", "list", "counted.yaml"]).refused(1);
    assert!(none.contains("there is no checkpoint in"), "{none}");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken() {
    for ending in ["json", "arrow"] {
        let folder = cut_off(SPEC);
        let newest = std::fs::read_dir(folder.path(KEPT)).unwrap().map(|e| e.unwrap().path());
        let newest = newest.filter(|p| p.extension().is_some_and(|e| e == ending)).max().unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&newest, bytes).unwrap();
        let told = folder.bourn(&["checkpoints", "verify", "counted.yaml"]);
        assert_eq!(told.code, Some(1), "{}", told.out);
        assert!(told.out.contains("3: ") && told.out.contains("damaged"), "{}", told.out);
        let again = folder.bourn(&["run", "counted.yaml"]);
        assert_eq!(again.code, Some(0), "{}", again.err);
        assert!(again.err.contains("damaged") && again.err.contains("behind checkpoint 2 of"), "{}", again.err);
        assert!(whole(&folder), "{ending}");
    }
}

#[test]
fn a_spec_that_has_changed_is_told_stage_by_stage_and_what_has_no_place_is_refused() {
    let folder = cut_off(SPEC);
    let other = SPEC.replace("  - count: { by: [user], as: visit }\n", "  - filter: user < 5\n");
    std::fs::write(folder.path("counted.yaml"), other).unwrap();
    let refused = folder.bourn(&["run", "counted.yaml"]).refused(1);
    assert!(refused.contains("`count`, a `count`, is gone") && refused.contains("--drop-state"), "{refused}");
    let dropped = folder.bourn(&["run", "counted.yaml", "--drop-state", "count"]);
    assert_eq!(dropped.code, Some(0), "{}", dropped.err);
    assert!(dropped.err.contains("`count` begins anew: what it had is dropped"), "{}", dropped.err);
    assert!(dropped.err.contains("`filter` is new and begins with nothing"), "{}", dropped.err);
}

#[test]
fn an_older_checkpoint_or_a_new_beginning_can_be_asked_for() {
    let folder = cut_off(SPEC);
    let older = folder.bourn(&["run", "counted.yaml", "--from-checkpoint", "1"]);
    assert!(older.err.contains("behind checkpoint 1 of"), "{}", older.err);
    assert!(whole(&folder));
    let folder = cut_off(SPEC);
    assert_eq!(folder.bourn(&["run", "counted.yaml", "--fresh"]).quietly(), "");
    assert!(whole(&folder));
    let none = folder.bourn(&["run", "counted.yaml", "--from-checkpoint", "77"]).refused(1);
    assert!(none.contains("there is no checkpoint 77"), "{none}");
    let off = SPEC.replace("checkpoint: { every: 100ms }", "checkpoint: false");
    std::fs::write(folder.path("off.yaml"), off).unwrap();
    let off = folder.bourn(&["run", "off.yaml", "--from-checkpoint", "1"]).refused(2);
    assert!(off.contains("keeps no checkpoints"), "{off}");
}

#[test]
fn a_wish_that_a_pair_can_not_keep_is_refused_and_one_that_it_can_turns_checkpoints_on() {
    let wishes = |sink: &str, more: &str| {
        let spec = format!("source: {{ generate: {{ rows: 3 }} }}\nsink: {sink}\ndelivery: exactly_once\n{more}");
        Folder::with(&[("wish.yaml", &spec)])
    };
    let plain = wishes("{ stdout: {} }", "").bourn(&["validate", "wish.yaml"]).refused(2);
    let said = "`sink` gets the rows of `source` at least once, and `delivery` wants exactly once: the sink's rows are visible before their epoch ends";
    assert!(plain.contains(said) && plain.contains("wish.yaml:2"), "{plain}");
    let off = wishes("{ file: { path: out.jsonl } }", "checkpoint: false").bourn(&["plan", "wish.yaml"]).refused(2);
    assert!(off.contains("no checkpoint is kept") && off.contains("leave out `checkpoint: false`"), "{off}");
    let kept = wishes("{ file: { path: out.jsonl } }", "");
    let pairs = kept.bourn(&["plan", "wish.yaml"]).quietly();
    assert!(pairs.contains("source -> sink: exactly once"), "{pairs}");
    kept.bourn(&["run", "-q", "wish.yaml"]).quietly();
    assert!(kept.bourn(&["checkpoints", "list", "wish.yaml"]).quietly().contains("ended"));
}
